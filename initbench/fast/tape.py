"""Notes which calls of a forward pass give what is measured, so that the same pass need not be followed again.

Following a signal takes some 60 microseconds a call, as much as a small layer; counting calls takes 5. It is for models whose forward
pass makes the same calls each time, those without users' code (`is_plain`). Another function, or another parameter given to one
that is measured, is noticed, and the pass is followed anew; not every change that users' code could make is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initbench.fast.onednn import linear
from initbench.nn import operations as ops

KNOWN = ("torch.nn.modules.", "torchvision.", "initbench.models.", "initbench.nn.")
"""Modules whose forward pass makes the same calls each time."""


@dataclass(frozen=True)
class Measurement:
    """What is measured at a tensor: the activation of the layer of a row, or its output; `alone` if that is its activation too.

    Or the residual `stream` behind the block that the layer ends.
    """

    row: int
    unit_dim: int
    activation: bool
    alone: bool = False
    stream: bool = False


@dataclass
class Tape:
    """The calls of one forward pass in order; by their numbers what is measured, (which output, measurement), and the parameters given."""

    calls: list[Callable[..., Any]] = field(default_factory=list)
    measurements: dict[int, list[tuple[int, Measurement]]] = field(default_factory=dict)
    given: dict[int, set[int]] = field(default_factory=dict)
    complete: bool = False


class PassChanged(Exception):
    """The pass differs from the one on the tape."""


class Replay(TorchFunctionMode):
    """Within, every call is checked against the tape, and `measure` is called where the tape says so. Raises: PassChanged."""

    def __init__(self, tape: Tape, measure: Callable[[Measurement, Tensor], None]) -> None:
        super().__init__()
        self._tape, self._measure, self._number = tape, measure, 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        number, self._number = self._number, self._number + 1
        if number >= len(self._tape.calls) or self._tape.calls[number] != func:
            raise PassChanged
        if func is F.multi_head_attention_forward:
            inside = ops.opened(func)
            with self:
                return inside(*args, **kwargs)
        measurements = self._tape.measurements.get(number)
        if measurements is None:
            return func(*args, **kwargs)
        if parameters_in(args, kwargs) != self._tape.given[number]:
            raise PassChanged
        result = (linear if func is F.linear else func)(*args, **kwargs)
        outputs = tuple(ops.tensors_in(result))
        for which, measurement in measurements:
            self._measure(measurement, outputs[which])
        return result

    def finished(self) -> bool:
        """Whether all calls on the tape were made."""
        return self._number == len(self._tape.calls)


def parameters_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
    """Which parameters are among the arguments of a call."""
    return {id(tensor) for tensor in (*ops.tensors_in(args), *ops.tensors_in(kwargs)) if isinstance(tensor, nn.Parameter)}


def is_plain(model: nn.Module) -> bool:
    """Whether all modules are torch's, torchvision's or our own, none with a forward of its instance: no user's code is run."""
    return all(type(module).__module__.startswith(KNOWN) and "forward" not in vars(module) for module in model.modules())

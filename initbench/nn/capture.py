"""Statistics of the signal in one forward and backward pass; the model, its buffers and all random state stay as they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from initbench.nn.follow import Follower
from initbench.nn.layers import WeightLayer
from initbench.nn.marks import Use
from initbench.nn.onednn import linear
from initbench.nn.watch import followed, untouched

MEASURED = ("pre_activation", "activation", "gradient", "weight", "weight_gradient")
"""The tensors of a layer that are summed up; `captured` fills the first three."""

CHUNK = 2**18
"""Elements that are summed at once on a CPU: 2 MB in float64, which stays in the cache."""

ROUNDING = 1e-13
"""A variance below this share of the mean square is rounding of a constant."""


SAFE = (1e-12, 1e15)
"""Norms whose squares float32 can hold, also those of single elements that matter."""

CLOSE_TO_ZERO = 0.01
"""Share of the mean square up to which the square of the mean takes no digit from the variance."""


class Scratch:
    """Memory that sums are made in, kept from one tensor to the next: on a CPU, fresh pages cost more than the sums."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def wide(self, values: Tensor) -> Tensor:
        """At most `CHUNK` values in float64."""
        return self._part(values.numel(), torch.float64).view(values.shape).copy_(values)

    def signs(self, values: Tensor) -> Tensor:
        """1 where a value is not zero, else 0."""
        if values.device.type != "cpu" or values.dtype != torch.float32 or values.numel() > CHUNK:
            return values.sign().abs_()
        return torch.sign(values, out=self._part(values.numel(), torch.float32).view(values.shape)).abs_()

    def _part(self, count: int, dtype: torch.dtype) -> Tensor:
        if self._memory is None:
            self._memory = torch.empty(CHUNK, dtype=torch.float64)
        return self._memory.view(dtype)[:count]


def sums(values: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """The sum of all elements and their Euclidean norm as float64 scalars on the device (float32 on MPS), and their number.

    Float64 sums keep every magnitude that float32 can hold, so an exploding signal is still a number; two plain sums
    are several times faster on one core than `torch.var_mean`.
    """
    values, count = values.detach(), values.numel()
    if values.device.type != "cpu" or values.dtype == torch.float64 or not count:
        wide = wide_type(values)
        return values.sum(dtype=wide), torch.linalg.vector_norm(values, dtype=wide), count
    if count <= CHUNK:
        wide_values = scratch.wide(values)
        return wide_values.sum(), torch.linalg.vector_norm(wide_values), count
    flat = values.movedim(1, -1) if values.dim() == 4 and not values.is_contiguous() else values
    parts: tuple[Tensor, ...] = flat.reshape(-1).split(CHUNK)  # type: ignore[no-untyped-call]
    pieces = [(part.sum(), torch.linalg.vector_norm(part)) for part in map(scratch.wide, parts)]
    totals = [torch.stack(column) for column in zip(*pieces, strict=True)]
    return totals[0].sum(), torch.linalg.vector_norm(totals[1]), count


def matrix_sums(values: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """As `sums`, four times as fast where rows can be summed in float32: on a CPU, within its range, with a mean close to zero."""
    values = values.detach()
    if values.device.type == "cpu" and values.dtype == torch.float32 and values.dim() > 1 and values.numel():
        rows = values.flatten(1)
        total = rows.sum(1).sum(dtype=torch.float64)
        norm = torch.linalg.vector_norm(torch.linalg.vector_norm(rows, dim=1), dtype=torch.float64)
        if SAFE[0] < float(norm) < SAFE[1] and float(total) ** 2 < CLOSE_TO_ZERO * rows.numel() * float(norm) ** 2:
            return total, norm, rows.numel()
    return sums(values, scratch)


def moments(sum_: Tensor, norm: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance from what `sums` gives, for any number of tensors at once."""
    mean, square = sum_ / count, norm.square() / count
    variance = square - mean.square()
    return mean, torch.where(variance < ROUNDING * square, 0.0, variance)


def alive(values: Tensor, unit_dim: int, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """The number of elements that are not exactly zero, the number of units that are zero throughout, and that of all units.

    A unit is an index along `unit_dim`: a neuron, or a channel, dead when zero in every image at every position.
    """
    values = values.detach()
    unit_dim %= max(1, values.dim())
    others = [dim for dim in range(values.dim()) if dim != unit_dim]
    counts = scratch.signs(values)
    counts = counts.sum(others, dtype=torch.float32) if others else counts.to(torch.float32)
    wide = wide_type(values)
    return counts.sum(dtype=wide), counts.eq(0).sum(dtype=wide), counts.numel()


def wide_type(values: Tensor) -> torch.dtype:
    """The type that sums run in: float64 where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


class Signal:
    """The sums of one layer's signal: scalars on the device, and how many elements went into each."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self.scalars: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Takes up the moments of a tensor under a name."""
        self.scalars[f"{name} sum"], self.scalars[f"{name} norm"], self.counts[name] = sums(values, self._scratch)

    def add_matrix(self, name: str, values: Tensor) -> None:
        """As `add`, for weights and their gradients."""
        self.scalars[f"{name} sum"], self.scalars[f"{name} norm"], self.counts[name] = matrix_sums(values, self._scratch)

    def add_alive(self, values: Tensor, unit_dim: int) -> None:
        """Takes up how many elements and units of an activation are not zero."""
        self.scalars["alive"], self.scalars["dead"], self.counts["units"] = alive(values, unit_dim, self._scratch)

    def same(self, name: str, other: str) -> None:
        """Says that `name` is the tensor that is known as `other`."""
        for kind in ("sum", "norm"):
            self.scalars[f"{name} {kind}"] = self.scalars[f"{other} {kind}"]
        self.counts[name] = self.counts[other]


def columns(signals: list[Signal], like: Tensor) -> dict[str, Tensor]:
    """All that was taken up, as one vector (layers,) a quantity on the device of `like`; NaN where there is nothing."""
    names = [f"{name} {kind}" for kind in ("sum", "norm") for name in MEASURED] + ["alive", "dead"]
    wide, size = wide_type(like), len(MEASURED)
    missing = torch.full((), torch.nan, dtype=wide, device=like.device)
    cells = torch.stack([signal.scalars.get(name, missing) for name in names for signal in signals]).view(len(names), len(signals))
    counts = torch.tensor([[max(1, signal.counts.get(name, 1)) for signal in signals] for name in (*MEASURED, "units")], dtype=wide)
    counts = counts.to(like.device)
    means, variances = moments(cells[:size], cells[size : 2 * size], counts[:size])
    found: dict[str, Tensor] = {}
    for row, name in enumerate(MEASURED):
        found[f"{name}_mean"], found[f"{name}_variance"], found[f"{name}_norm"] = means[row], variances[row], cells[size + row]
    found["zero_fraction"] = 1 - cells[-2] / counts[MEASURED.index("activation")]
    found["dead_fraction"] = cells[-1] / counts[-1]
    return found


@dataclass(frozen=True)
class Captured:
    """One forward pass: what the model gave, and the sums of each layer's signal so far."""

    output: Any
    signals: list[Signal]


@contextmanager
def captured(model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Tensor) -> Iterator[Captured]:
    """Runs the model on a batch; a backward pass within completes the statistics with those of the gradients.

    Norms use batch statistics and dropout is off. Everything is measured the moment it is there, so that functions that
    work in place change nothing. A weight that is used several times is measured at its first use; the products inside
    a recurrent module are hidden, its last layer's weights have its states as their activation.
    """
    watch = _Capture(model, layers)
    try:
        with untouched(model, "batch"):
            yield Captured(followed(model, watch, inputs), watch.signals)
    finally:
        for handle in watch.handles:
            handle.remove()


class _Capture(Follower):
    """Takes the statistics of each layer as the signal comes by."""

    def __init__(self, model: nn.Module, layers: tuple[WeightLayer, ...]) -> None:
        super().__init__({id(parameter): name for name, parameter in model.named_parameters()})
        scratch = Scratch()
        self.signals = [Signal(scratch) for _ in layers]
        self.handles: list[RemovableHandle] = []
        self._layers = layers
        self._rows = {layer.parameter: row for row, layer in enumerate(layers)}
        self._first: dict[str, int] = {}

    def result(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return (linear if func is functional.linear else func)(*args, **kwargs)

    def on_output(self, use: Use, output: Tensor) -> None:
        row = self._row(use)
        if row is None:
            return
        signal = self.signals[row]
        signal.add("pre_activation", output)
        layer = self._layers[row]
        if layer.activation is None or not layer.surroundings.uses:
            signal.same("activation", "pre_activation")
            signal.add_alive(output, self._unit_dim(use, output))
        if output.requires_grad:

            def take(gradient: Tensor) -> None:
                signal.add("gradient", gradient)

            self.handles.append(output.register_hook(take))  # type: ignore[no-untyped-call]

    def on_activation(self, uses: frozenset[int], output: Tensor) -> None:
        for index in uses:
            row = self._row(self.uses[index])
            if row is not None:
                self.signals[row].add("activation", output)
                self.signals[row].add_alive(output, self._unit_dim(self.uses[index], output))

    def _row(self, use: Use) -> int | None:
        """The layer's row at its first use."""
        name = use.view.name
        first = self._first.setdefault(name, use.index)
        return self._rows.get(name) if first == use.index else None

    def _unit_dim(self, use: Use, output: Tensor) -> int:
        return 1 if "conv" in use.function and output.dim() == len(use.output_shape) else -1

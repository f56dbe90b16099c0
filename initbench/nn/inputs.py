"""What a model is called with: one tensor, or several arguments by position or by name; a batch counts along dimension 0.

Whatever a person gives becomes `Inputs` once, by `as_inputs`; from then on a model is called by `called` alone. One tensor
stays that tensor. A tuple or list holds arguments by position, a mapping (a tokenizer's output too) by name; where
`forward` does not take so many, or not these names, but one argument, it is given the whole. What is no tensor (None, a flag, a
number) is passed on as it is.
"""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from initbench.errors import ConfigError, a_or_an, enumerated
from initbench.nn.operations import tensors_in

ALLOWED = (
    "It is a tensor (N, ...), an array, a tuple or list of these (the arguments of forward, in their order), or a dict of them "
    "(its keyword arguments)"
)

MOST_NAMED = 4
"""Arguments that a message names."""
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """Several arguments: `given` is the tuple, list or mapping that holds them. `whole`: no part of the batch can be taken alone."""

    given: Any
    whole: bool = False

    def __len__(self) -> int:
        """The number of inputs: the length that most of the tensors have along dimension 0, the first of them where two are as common."""
        lengths = Counter(len(tensor) for tensor in tensors_in(self.given) if tensor.dim())
        return lengths.most_common(1)[0][0] if lengths else 0

    def __getitem__(self, places: slice | Tensor) -> "ModelInputs":
        """Some of the inputs, of every tensor that counts them; all where the batch is one `whole`."""
        count = len(self)
        return self if self.whole else self._each(lambda tensor: tensor[places] if tensor.dim() and len(tensor) == count else tensor)

    def to(self, device: torch.device) -> "ModelInputs":
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def usual(self) -> "ModelInputs":
        """The same in the types that models take, as `from_array` says."""
        return self._each(usual)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "ModelInputs":
        return ModelInputs(changed(self.given, change), self.whole)


Inputs = Tensor | ModelInputs


def as_inputs(given: object) -> Inputs:
    """A batch in whatever form, as models are called with it; arrays become tensors (`from_array`), tensors lose their gradients.

    Raises: ConfigError for what holds no tensor.
    """
    if isinstance(given, ModelInputs):
        return given
    if isinstance(given, np.ndarray):
        return as_inputs(from_array(given))
    if isinstance(given, Tensor) and given.dim():
        return given.detach()
    while isinstance(given, tuple | list) and len(given) == 1 and isinstance(given[0], Tensor | np.ndarray):
        return as_inputs(given[0])
    converted = changed(given, lambda tensor: tensor.detach()) if isinstance(given, tuple | list | Mapping) else None
    if not any(tensor.dim() for tensor in tensors_in(converted)):
        what = a_or_an(type(given).__name__)
        if isinstance(given, tuple | list | Mapping):
            what += " without a tensor that has a batch dimension"
        raise ConfigError(f"The batch of inputs is {what}. {ALLOWED}.")
    return ModelInputs(converted)


def from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """An array as a tensor: floats in torch's default precision, whole numbers as int64, byte images (more than 2-D) as floats / 255.

    Raises: ConfigError for arrays of texts or objects.
    """
    if array.dtype.kind not in "fiubc":
        raise ConfigError(f"The batch of inputs has an array of {array.dtype}. It must hold numbers.")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return usual(torch.from_numpy(np.ascontiguousarray(array)))


def usual(tensor: Tensor) -> Tensor:
    """The numbers of a file or an array in the types that models take, as `from_array` says."""
    if tensor.dtype == torch.uint8 and tensor.dim() > 2:
        return tensor.to(torch.get_default_dtype()) / 255
    if tensor.is_floating_point():
        return tensor.to(torch.get_default_dtype())
    return tensor if tensor.is_complex() or tensor.dtype == torch.bool else tensor.long()


def called(model: nn.Module, inputs: Inputs) -> Any:
    """What the model gives for a batch."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    args, kwargs = arguments(model, inputs)
    return model(*args, **kwargs)


def arguments(model: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments by position and by name that the model is called with."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    given = inputs.given
    if isinstance(given, Tensor):
        return (given,), {}
    by_name = isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
    spread: tuple[tuple[Any, ...], dict[str, Any]] = ((), dict(given)) if by_name else (tuple(given), {})
    signature = _signature(model)
    if signature is None or _fits(signature, *spread) or not _fits(signature, (given,), {}):
        return spread
    return (given,), {}


def first_tensor(inputs: Inputs) -> Tensor:
    """The first tensor of floats with a batch dimension, else the first of whole numbers."""
    tensors = [tensor for tensor in tensors_in(inputs.given) if tensor.dim()] if isinstance(inputs, ModelInputs) else [inputs]
    return next((tensor for tensor in tensors if tensor.is_floating_point()), tensors[0])


def joined(first: Inputs, second: Inputs) -> Inputs:
    """Two batches one after the other."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    if not isinstance(first, ModelInputs) or not isinstance(second, ModelInputs):
        raise TypeError("one batch is a tensor, and the other holds several arguments")
    others: list[Tensor] = []
    changed(second.given, lambda tensor: others.append(tensor) or tensor)  # type: ignore[func-returns-value]
    left, count = iter(others), len(first)

    def both(tensor: Tensor) -> Tensor:
        other = next(left)
        return torch.cat([tensor, other]) if tensor.dim() and len(tensor) == count else tensor

    return ModelInputs(changed(first.given, both))


def repeated(inputs: Inputs, times: int) -> Inputs:
    """The batch so many times, one after the other; tensors of floats are new ones that want gradients."""
    count = len(inputs)

    def again(tensor: Tensor) -> Tensor:
        if times > 1 and tensor.dim() and len(tensor) == count:
            tensor = tensor.repeat(times, *[1] * (tensor.dim() - 1))
        return tensor.detach().clone().requires_grad_() if tensor.is_floating_point() else tensor

    return again(inputs) if isinstance(inputs, Tensor) else ModelInputs(changed(inputs.given, again), inputs.whole)


def described(model: nn.Module, inputs: Inputs) -> str:
    """The shapes and types in words: `a batch of shape 16 x 20 (float32)`, `a batch of ids 16 x 9 (int64) and mask 16 x 9 (bool)`."""
    given = inputs if isinstance(inputs, Tensor) else inputs.given
    if isinstance(given, Tensor):
        return f"a batch of shape {_shape(given)}"
    args, kwargs = arguments(model, inputs)
    names = parameters_of_forward(model)
    if len(args) == 1 and args[0] is given and not isinstance(given, Mapping):
        tensors = list(tensors_in(given))
        return f"a {type(given).__name__} of {len(tensors)} tensors, the first {_shape(tensors[0])}"
    named = given if isinstance(given, Mapping) else {_name(names, place): value for place, value in enumerate(args)} | kwargs
    parts = [f"{name} {' and '.join(map(_shape, tensors))}" for name, value in named.items() if (tensors := list(tensors_in(value)))]
    if len(parts) > MOST_NAMED:
        parts = [*parts[:MOST_NAMED], f"{len(parts) - MOST_NAMED} more"]
    return f"a batch of {enumerated(parts, 'and') if len(parts) > 1 else parts[0]}"


def parameters_of_forward(model: nn.Module) -> list[str]:
    """The names of the arguments that `forward` takes, as far as they can be told."""
    signature = _signature(model)
    return [] if signature is None else [name for name, entry in signature.parameters.items() if entry.kind not in VARIABLE]


def _name(names: list[str], place: int) -> str:
    return names[place] if place < len(names) else f"argument {place + 1}"


def shape_words(inputs: Inputs) -> str:
    """The shape of one input, as `--input` writes it: `3x224x224`; of several arguments each, with its name where it has one."""
    if isinstance(inputs, Tensor):
        return "x".join(map(str, inputs.shape[1:])) or "1"
    given = inputs.given
    named = (
        given.items() if isinstance(given, Mapping) else [("", value) for value in (given if isinstance(given, tuple | list) else [given])]
    )
    shapes = [(name, "x".join(map(str, tensor.shape[1:])) or "1") for name, value in named for tensor in tensors_in(value)]
    return ", ".join(f"{name} {shape}".strip() for name, shape in shapes)


def _shape(tensor: Tensor) -> str:
    lengths = " x ".join(str(length) for length in tensor.shape) or "()"
    return f"{lengths} ({str(tensor.dtype).removeprefix('torch.')})"


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _fits(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed, arrays taken for tensors; other things stay themselves."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, np.ndarray):
        return change(from_array(value))
    if isinstance(value, ModelInputs):
        return ModelInputs(changed(value.given, change), value.whole)
    if isinstance(value, PackedSequence):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(changed(part, change) for part in value))
    if isinstance(value, tuple | list):
        return type(value)(changed(part, change) for part in value)
    if isinstance(value, Mapping):
        parts = {key: changed(part, change) for key, part in value.items()}
        return parts if type(value) is dict else _as_mapping(value, parts)
    return value


def _as_mapping(value: Mapping[Any, Any], parts: dict[Any, Any]) -> Mapping[Any, Any]:
    """The parts in a mapping of the same kind, where one can be made; else in a dict."""
    try:
        made: Any = copy.copy(value)
        for key, part in parts.items():
            made[key] = part
    except (TypeError, AttributeError, NotImplementedError):  # a mapping that cannot be copied or set: its parts in a dict
        return parts
    return made if isinstance(made, Mapping) and made is not value else parts


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

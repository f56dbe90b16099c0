"""A device that is not there: tensors that say they are on `meta`, with numbers that are computed on the CPU.

What would fail on a GPU fails here too: an operation on tensors of both devices, a generator of the other device, numpy. (They cannot
say that they are on `cuda`: torch then asks the driver for a stream.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("meta")
MOVES = ("_to_copy", "copy_", "_copy_from")
INDEXED = ("index", "index_put", "index_put_", "_unsafe_index")
"""Indices may be on the CPU."""


class DevicesMet(RuntimeError):
    """An operation has tensors of two devices."""


class There(Tensor):
    """A tensor on the device that is not there; `numbers` is what it holds."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    is_meta = False  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, numbers: Tensor) -> There:
        return Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype, device=THERE
        )

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    @property
    def data(self) -> There:  # type: ignore[override]
        """The same numbers without a history; setting it exchanges them."""
        return self.detach()  # type: ignore[return-value]

    @data.setter
    def data(self, values: There) -> None:
        self.numbers = values.numbers

    def __deepcopy__(self, memo: dict[int, Any]) -> There:
        copied = There(self.numbers.clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True  # type: ignore[attr-defined]
        return memo.setdefault(id(self), copied)  # type: ignore[return-value]

    def tolist(self) -> Any:
        """The numbers on the host."""
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Computes on the CPU."""
        kwargs = kwargs or {}
        name, target = func.__name__.split(".")[0], kwargs.get("device")
        _refuse(name, [args, kwargs])
        inside = {key: torch.device("cpu") if key == "device" and value is not None else value for key, value in kwargs.items()}
        result = func(*tree_map(_numbers, args), **tree_map(_numbers, inside))
        to_cpu = target is not None and torch.device(target).type == "cpu"
        wrapped = result if to_cpu else tree_map(lambda each: There(each) if isinstance(each, Tensor) else each, result)
        return wrapped if to_cpu else return_and_correct_aliasing(func, args, kwargs, wrapped)


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, There) else value


def _refuse(name: str, values: Any) -> None:
    leaves = tree_leaves(values)
    here = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, There) and leaf.dim()]
    if here and name not in (*MOVES, *INDEXED):
        raise DevicesMet(f"Expected all tensors to be on the same device: {name} of there and here, {[tuple(each.shape) for each in here]}")
    if any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise DevicesMet(f"{name}: a generator of the CPU for a tensor there")


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return There(x.detach().clone(memory_format=torch.preserve_format))

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _numbers(gradient)


class _Factories(TorchFunctionMode):
    """Sends what is made on, or moved to, the device that is not there to `There`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "new_tensor" and isinstance(args[0], There):
            return There(torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)))
        if name in {"to", "cuda"} and args and isinstance(args[0], Tensor):
            return _moved(func, args, kwargs)
        if not any(_is_there(value) for value in kwargs.values() if not isinstance(value, Tensor)):
            return func(*args, **kwargs)
        if any(isinstance(leaf, There) for leaf in tree_leaves(args)):
            return func(*args, **{key: value for key, value in kwargs.items() if key != "device"})
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise DevicesMet(f"{name}: a generator of the CPU for a tensor there")
        made = func(*args, **(kwargs | {"device": "cpu", "pin_memory": False} if name != "as_tensor" else {**kwargs, "device": "cpu"}))
        return _Move.apply(made)


class _MadeInside(TorchDispatchMode):
    """Sends what torch itself makes on the device to `There`, such as the number of a `where`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(leaf, There) for leaf in tree_leaves([args, kwargs])):
            return There.__torch_dispatch__(func, types, args, kwargs)
        if _is_there(kwargs.get("device")):
            return There(func(*args, **{**kwargs, "device": torch.device("cpu")}))
        return func(*args, **kwargs)


def _is_there(value: object) -> bool:
    return (isinstance(value, torch.device) and value.type == THERE.type) or (isinstance(value, str) and value.startswith(THERE.type))


def _moved(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    like = next((each for each in rest if isinstance(each, Tensor)), None)
    if like is not None:
        rest = [THERE if isinstance(like, There) else like.device, like.dtype, *[each for each in rest if each is not like]]
    wanted = any(_is_there(each) for each in [*rest, *kwargs.values()]) or func.__name__ == "cuda"
    if not wanted:
        return func(tensor, *rest, **kwargs)
    others = [each for each in rest if isinstance(each, torch.dtype)]
    left = {key: value for key, value in kwargs.items() if key not in {"device", "non_blocking"}}
    tensor = tensor.to(*others, **left) if others or left else tensor
    return tensor if isinstance(tensor, There) else _Move.apply(tensor)


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Within, the device can be used."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter of another type cannot be changed in place
    try:
        with _MadeInside(), _Factories():
            yield THERE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)

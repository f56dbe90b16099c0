"""Lends a model: whatever is done to it within is undone afterwards, in place, also after an error or Ctrl-C.

No copy is made of the model itself: closures, ties, weight norms and activations that a module keeps would not survive one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from initbench.nn.seeds import random_states, set_random_states


@contextmanager
def restored(model: nn.Module, device: torch.device | None = None, *, weights: bool = True) -> Iterator[None]:
    """Within, the model may be changed at will, and is on `device` where one is given; afterwards it is as it was.

    That is, to the bit: parameters and their gradients, buffers, tensors, lists, dicts, sets and plain values that a module
    has as attributes, submodules, hooks, training flags, requires_grad, and the random state of torch, Python and numpy.
    Parameters stay the same objects, and what hooks keep of the signal is as it was. What the model's own code changes elsewhere
    (a global, inside another object) is not seen. Without `weights`, parameters, their gradients and buffers are not copied: for who
    leaves them alone.
    """
    tensors = _tensors(model, weights=weights)
    with ExitStack() as stack:
        # so that a backward pass that the user has yet to do finds the tensors as its forward pass saw them
        stack.enter_context(_unsafe_preserve_version_counter(tuple(tensor for tensor in tensors if not tensor.is_inference())))
        stack.callback(set_random_states, random_states())
        stack.callback(_put_attributes, [(vars(module), dict(vars(module))) for module in model.modules()])
        stack.callback(_put_contents, list(_contents(model)))
        stack.callback(_put_cells, [(cell, cell.cell_contents) for hook in _hooks(model) for cell in _cells(hook)])
        stack.callback(_put_tensors, [_Memory(tensor) for tensor in tensors])
        if device is not None and any(tensor.device != device for tensor in chain(model.parameters(), model.buffers())):
            model.to(device)
        yield


class _Memory:
    """What a tensor was: its memory, values, gradient and requires_grad."""

    __slots__ = ("gradient", "memory", "tensor", "values", "wanted")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.memory, self.wanted = tensor, tensor.data, tensor.requires_grad
        self.values = self.memory.clone()
        self.gradient = tensor.grad if tensor.is_leaf else None

    def put_back(self) -> None:
        """Makes the tensor that again."""
        tensor, memory = self.tensor, self.memory
        if memory.layout is not torch.strided:
            tensor.data = self.values
        elif any(step == 0 and size > 1 for size, step in zip(memory.shape, memory.stride(), strict=True)):  # as `expand` gives it
            tensor.data = memory if torch.equal(memory, self.values) else self.values
        else:
            memory.copy_(self.values)
            if tensor.data_ptr() != memory.data_ptr() or tensor.device != memory.device or tensor.dtype != memory.dtype:
                tensor.data = memory
        if tensor.is_leaf:
            tensor.grad = self.gradient
            tensor.requires_grad_(self.wanted)


def _tensors(model: nn.Module, *, weights: bool) -> list[Tensor]:
    """Every tensor of the model once: parameters and buffers (`weights`), and attributes that are tensors; and their gradients."""
    found: dict[int, Tensor] = {}
    for module in model.modules():
        registered = (module._parameters.values(), module._buffers.values()) if weights else ()
        for tensor in chain(*registered, vars(module).values()):
            if isinstance(tensor, Tensor):
                found[id(tensor)] = tensor
                if tensor.is_leaf and tensor.grad is not None:
                    found[id(tensor.grad)] = tensor.grad
    return list(found.values())


def _put_tensors(memories: list[_Memory]) -> None:
    for memory in memories:
        memory.put_back()


def _contents(model: nn.Module) -> Iterator[tuple[Any, Any]]:
    """What modules keep things in (parameters, hooks, submodules, a user's own lists), with what is in it: None for nothing."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, dict | list | set):
                yield value, value.copy() if value else None
    for value in chain.from_iterable(map(_reached, _hooks(model))):
        if type(value) in {dict, list, set}:
            yield value, value.copy() if value else None


def _hooks(model: nn.Module) -> Iterator[Any]:
    """The hooks of all modules, which may keep what they see."""
    for module in model.modules():
        for name, value in vars(module).items():
            if name.endswith("_hooks") and isinstance(value, dict):
                yield from value.values()


def _cells(hook: Any) -> list[CellType]:
    """The variables around a function that it uses."""
    return [cell for cell in getattr(hook, "__closure__", None) or () if _is_filled(cell)]


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty one raises
    except ValueError:
        return False
    return True


def _reached(hook: Any) -> Iterator[Any]:
    """What a hook can keep things in: variables around it, defaults, globals that it names, attributes of its object."""
    if isinstance(hook, partial):
        yield from (*hook.args, *hook.keywords.values())
        yield from _reached(hook.func)
    elif isinstance(hook, MethodType):
        yield from getattr(hook.__self__, "__dict__", {}).values()
        yield from _reached(hook.__func__)
    elif isinstance(hook, FunctionType):
        yield from (cell.cell_contents for cell in _cells(hook))
        yield from (*(hook.__defaults__ or ()), *(hook.__kwdefaults__ or {}).values())
        yield from (hook.__globals__[name] for name in hook.__code__.co_names if name in hook.__globals__)
    else:
        yield from getattr(hook, "__dict__", {}).values()


def _put_cells(cells: list[tuple[CellType, Any]]) -> None:
    for cell, value in cells:
        cell.cell_contents = value


def _put_contents(contents: list[tuple[Any, Any]]) -> None:
    for container, before in contents:
        if not container and before is None:
            continue
        container.clear()
        if before is not None:
            (container.extend if isinstance(container, list) else container.update)(before)


def _put_attributes(attributes: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for now, before in attributes:
        if now.keys() != before.keys() or any(now[name] is not value for name, value in before.items()):
            now.clear()
            now.update(before)

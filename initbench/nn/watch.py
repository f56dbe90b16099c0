"""Runs a model once under watch and leaves it as it was: flags, buffers, gradients, hooks and all random state."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from initbench.nn import operations as ops
from initbench.nn.activation import is_elementwise, snake
from initbench.nn.follow import Follower
from initbench.nn.marks import Chain, Entry, Node, Use, View

Norms = Literal["batch", "stored"]
"""Which statistics batch norms use within: the batch's own, as in training, or the stored ones."""


@contextmanager
def untouched(model: nn.Module, norms: Norms) -> Iterator[None]:
    """Within, all is in evaluation mode (dropout off) but for the norms; what changes within is put back."""
    modules = list(model.modules())
    flags = [module.training for module in modules]
    buffers = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None]
    copies: dict[int, Tensor] = {}
    with torch.random.fork_rng(devices=_cuda_devices(model)):
        try:
            for module, name, buffer in buffers:
                module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            for module in modules:
                _set_training(module, norms == "batch" and isinstance(module, nn.modules.batchnorm._NormBase))
            yield
        finally:
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            for module, flag in zip(modules, flags, strict=True):
                _set_training(module, flag)


def _set_training(module: nn.Module, wanted: bool) -> None:  # noqa: FBT001 - the attribute itself
    if module.training != wanted:
        module.training = wanted


def _cuda_devices(model: nn.Module) -> list[int]:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return sorted({tensor.device.index or 0 for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"})


def followed(model: nn.Module, follower: Follower, inputs: Tensor) -> Any:
    """What the model gives for `inputs`, with its forward pass followed; within `untouched`."""
    with ExitStack() as stack:
        for prefix, module in model.named_modules():
            for handle in _hooks(model, prefix, module, follower):
                stack.callback(handle.remove)
        stack.callback(follower.forget, inputs)
        follower.start(inputs)
        with follower:
            return model(inputs)


def _hooks(model: nn.Module, prefix: str, module: nn.Module, follower: Follower) -> Iterator[RemovableHandle]:
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield module.register_forward_hook(_Recurrent(prefix, follower))
        return
    own = not type(module).__module__.startswith(("torch.", "torchvision."))
    if own and module is not model and all(parameter.dim() < 2 for parameter in module.parameters()):
        watch = _OwnActivation(follower)
        yield module.register_forward_pre_hook(watch.enter)
        yield module.register_forward_hook(watch.leave)


class _Recurrent:
    """Adds the weights of a recurrent module: their products are hidden inside, only the last layer's states are seen."""

    def __init__(self, prefix: str, follower: Follower) -> None:
        self._prefix, self._follower = f"{prefix}." if prefix else "", follower

    def __call__(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        """Called after the module's forward."""
        follower = self._follower
        nodes = [node for tensor in ops.tensors_in(args) if (node := follower.node(tensor)) is not None]
        entry = Entry(nodes[0].sources, nodes[0].last, nodes[0].path) if nodes else Entry()
        for layer in range(getattr(module, "num_layers", 1)):
            added = [self._use(module, name, entry) for name in _matrices(module, layer)]
            sources = entry.sources
            for use in added:
                sources |= 1 << (use.index + 1)
            entry = Entry(sources, frozenset(use.index for use in added))
        for output in ops.tensors_in(result):
            follower.mark(output, Node(entry.sources, Chain(object()), entry.last))
        first = next(ops.tensors_in(result), None)
        if first is not None:
            with follower.aside():
                follower.on_activation(entry.last, first)

    def _use(self, module: nn.Module, name: str, entry: Entry) -> Use:
        kind = type(module).__name__.removeprefix("Parametrized").removesuffix("Cell")
        nonlinearity = getattr(module, "nonlinearity", None) if kind == "RNN" else None
        bias = name.replace("weight", "bias")
        use = Use(
            index=len(self._follower.uses),
            view=View(self._follower.name_of(getattr(module, name), self._prefix + name)),
            function=kind.lower(),
            entry=entry,
            bias=self._prefix + bias if getattr(module, bias, None) is not None else None,
            label=nonlinearity,
            stopped=None if nonlinearity else f"the gates of {kind}",
        )
        self._follower.uses.append(use)
        return use


def _matrices(module: nn.Module, layer: int) -> list[str]:
    """The names of the weights of one layer of a recurrent module (of a cell, all)."""
    found = []
    for name, parameter in module.named_parameters(recurse=False):
        tail = name.removesuffix("_reverse").rpartition("_l")[2]
        if parameter.dim() == 2 and (not tail.isdigit() or int(tail) == layer):
            found.append(name)
    return found


class _OwnActivation:
    """Where a user's module without weights acts on each element, it is the activation as a whole, by its class's name."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._entry: tuple[Node, tuple[int, ...], frozenset[int]] | None = None

    def enter(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        """Called before the module's forward."""
        with self._follower.aside():
            entries = [(tensor, node) for tensor in ops.tensors_in(args) if (node := self._follower.node(tensor)) is not None]
            self._entry = None
            if len(entries) == 1:
                tensor, node = entries[0]
                waiting = frozenset(index for index in node.pending if self._follower.uses[index].activation is None)
                self._entry = node, tuple(tensor.shape), waiting

    def leave(self, module: nn.Module, _: tuple[Any, ...], result: Any) -> None:
        """Called after the module's forward."""
        follower = self._follower
        if self._entry is None or not isinstance(result, Tensor):
            return
        node, shape, waiting = self._entry
        found, label = follower.node(result), snake(type(module).__name__)
        with follower.aside():
            if found is not None and found.chain.base is node.chain.base:
                named = replace(found.chain, label=label)
                follower.mark(result, replace(found, chain=named, path=(*found.path[:-1], named) if found.chain.bent else found.path))
                for index in found.chain.owners & waiting:
                    follower.uses[index].activation = named
            elif tuple(result.shape) == shape and is_elementwise(module.forward):
                inner, forward = node.chain.function, module.forward
                chain = Chain(node.chain.base, lambda x: forward(inner(x)), bent=True, owners=waiting, label=label)
                follower.mark(result, Node(node.sources, chain, node.last, {}, (*node.path, chain)))
                follower.activate(chain, node.pending, result)
            elif found is None:
                follower.mark(result, Node(node.sources, Chain(object()), node.last, {}, (*node.path, label)))

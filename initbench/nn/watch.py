"""Runs a model under watch and leaves it as it was: flags, buffers, gradients, hooks, random state and number of threads."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from initbench.errors import ConfigError
from initbench.nn import operations as ops
from initbench.nn.activation import is_elementwise, snake
from initbench.nn.graph import Graph, Kind, Node, Origin, ParameterTensor, Use
from initbench.nn.inputs import Inputs, ModelInputs, arguments, described, parameters_of_forward
from initbench.nn.trace import Tracer

Norms = Literal["batch", "stored"]
"""Which statistics batch norms use within: the batch's own, as in training, or the stored ones."""
FAILURES = (
    RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, NotImplementedError, ArithmeticError,
)  # fmt: skip
"""What a forward pass raises when the input does not fit the model."""


def trace(model: nn.Module, inputs: Inputs) -> Graph:
    """The graph of `inputs` (a batch) through the model, in evaluation mode and without gradients.

    Raises: ConfigError when the model cannot be run on them.
    """
    try:
        with _LookUps():
            return graph_of(model, inputs, "stored")
    except FAILURES as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(f"The model cannot be run on {described(model, inputs)}: {said}. {_remedy(model, inputs)}") from error


def _remedy(model: nn.Module, inputs: Inputs) -> str:
    given = inputs.given if isinstance(inputs, ModelInputs) else inputs
    names = ", ".join(parameters_of_forward(model))
    if isinstance(given, Tensor):
        return f"Give it a batch of the shape that it takes{f', or all arguments of its forward ({names})' if ', ' in names else ''}."
    if isinstance(given, list):
        return "A list holds the arguments of forward, in their order; samples are made a batch of with torch.stack."
    return f"Give it the arguments that its forward takes{f' ({names})' if names else ''}, in the shapes that it takes."


class _LookUps(TorchFunctionMode):
    """Within, numbers that an embedding has no row for are an error in words, before torch (on a GPU: for good) fails on them."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Raises: ConfigError for numbers outside of the table."""
        kwargs = kwargs or {}
        if func in (functional.embedding, functional.embedding_bag):
            places, table = (ops.argument(args, kwargs, place, name, None) for place, name in enumerate(("input", "weight")))
            _refuse_outside(places, table)
        return func(*args, **kwargs)


def _refuse_outside(places: object, table: object) -> None:
    if not isinstance(places, Tensor) or not isinstance(table, Tensor) or places.is_floating_point() or not places.numel():
        return
    low, high = int(places.min()), int(places.max())
    if low < 0 or high >= len(table):
        raise ConfigError(
            f"The model looks up the numbers {low} to {high} in an embedding of {len(table)} rows. Give it a batch of whole numbers from 0 "
            f"to {len(table) - 1}."
        )


def graph_of(model: nn.Module, inputs: Inputs, norms: Norms) -> Graph:
    """The graph, without gradients. Raises: what the model raises."""
    tracer = Tracer(model)
    with torch.no_grad(), untouched(model, norms):
        result = run_traced(model, tracer, inputs, note_modules=True)
    graph = tracer.graph(result)
    tracer.unmark(result)
    return graph


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


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Within, torch computes on so many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def uncached_weights(*, forget: bool = True) -> Iterator[None]:
    """Within and afterwards, no pass uses what autocast or `parametrize.cached()` kept of weights that have changed since.

    Without `forget` only within: what was kept is there again afterwards.
    """
    cached, parametrized = torch.is_autocast_cache_enabled(), parametrize._cache_enabled
    torch.set_autocast_cache_enabled(False)
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        if forget:
            torch.clear_autocast_cache()
            parametrize._cache.clear()
        torch.set_autocast_cache_enabled(cached)
        parametrize._cache_enabled = parametrized


def _set_training(module: nn.Module, wanted: bool) -> None:  # noqa: FBT001 - the attribute itself
    if module.training != wanted:
        module.training = wanted


def _cuda_devices(model: nn.Module) -> list[int]:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return sorted({tensor.device.index or 0 for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"})


def run_traced(model: nn.Module, tracer: Tracer, inputs: Inputs, *, note_modules: bool = False) -> Any:
    """What the model gives for `inputs`, with its forward pass traced; within `untouched`.

    With `note_modules` the tracer is told which module made what, which takes time.
    """
    args, kwargs = arguments(model, inputs)
    with ExitStack() as stack:
        for prefix, module in model.named_modules():
            for handle in _hooks(model, prefix, module, tracer):
                stack.callback(handle.remove)
            if note_modules:  # before the hooks that a module has, and after all of them
                for first in (True, False):
                    stack.callback(module.register_forward_hook(_Left(prefix, tracer), prepend=first).remove)
        stack.callback(tracer.unmark, (args, kwargs))
        tracer.start((args, kwargs))
        with tracer:
            return model(*args, **kwargs)


def _hooks(model: nn.Module, prefix: str, module: nn.Module, tracer: Tracer) -> Iterator[RemovableHandle]:
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield module.register_forward_hook(_Recurrent(prefix, tracer), with_kwargs=True)
        return
    own = not type(module).__module__.startswith(("torch.", "torchvision."))
    if own and module is not model and all(parameter.dim() < 2 for parameter in module.parameters()):
        watch = _OwnActivation(tracer)
        yield module.register_forward_pre_hook(watch.enter)
        yield module.register_forward_hook(watch.leave)


class _Left:
    """Tells the tracer what a module has made of its first argument."""

    def __init__(self, name: str, tracer: Tracer) -> None:
        self._name, self._tracer = name, tracer

    def __call__(self, _: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        """Called after the module's forward."""
        self._tracer.left(self._name, args[0] if args else None, result)


class _Recurrent:
    """Adds the weights of a recurrent module: their products are hidden inside, only the last layer's states are seen."""

    def __init__(self, prefix: str, tracer: Tracer) -> None:
        self._prefix, self._tracer = f"{prefix}." if prefix else "", tracer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Called after the module's forward."""
        tracer = self._tracer
        nodes = [node for tensor in ops.tensors_in((args, kwargs)) if (node := tracer.node(tensor)) is not None]
        origin = Origin(nodes[0].origin.sources, nodes[0].origin.last, path=nodes[0].path) if nodes else Origin()
        for layer in range(getattr(module, "num_layers", 1)):
            uses = [self._use(module, name, origin) for name in _matrices(module, layer)]
            sources = origin.sources
            for use in uses:
                sources |= 1 << (use.index + 1)
            origin = Origin(sources, frozenset(use.index for use in uses))
        outputs = list(ops.tensors_in(result))
        with tracer.paused():
            for output in outputs:
                hidden = tracer.node(output)
                tracer.add(output, Kind.OTHER, hidden.name if hidden else type(module).__name__, origin, inputs=tuple(nodes))
            if outputs:
                tracer.on_activation(origin.last, outputs[0])

    def _use(self, module: nn.Module, name: str, origin: Origin) -> Use:
        kind = type(module).__name__.removeprefix("Parametrized").removesuffix("Cell")
        nonlinearity = getattr(module, "nonlinearity", None) if kind == "RNN" else None
        bias = name.replace("weight", "bias")
        use = Use(
            index=len(self._tracer.uses),
            weight=ParameterTensor(self._tracer.name_of(getattr(module, name), self._prefix + name)),
            function=kind.lower(),
            origin=origin,
            bias=self._prefix + bias if getattr(module, bias, None) is not None else None,
            nonlinearity=nonlinearity,
            stopped=None if nonlinearity else f"the gates of {kind}",
        )
        self._tracer.uses.append(use)
        return use


def _matrices(module: nn.Module, layer: int) -> list[str]:
    """The names of the weights of one layer of a recurrent module (of a cell, all)."""
    names = []
    for name, parameter in module.named_parameters(recurse=False):
        tail = name.removesuffix("_reverse").rpartition("_l")[2]
        if parameter.dim() == 2 and (not tail.isdigit() or int(tail) == layer):
            names.append(name)
    return names


class _OwnActivation:
    """Where a user's module without weights acts on each element, it is the activation as a whole, by its class's name."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._entering: tuple[Node, frozenset[int]] | None = None

    def enter(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        """Called before the module's forward."""
        with self._tracer.paused():
            nodes = [node for tensor in ops.tensors_in(args) if (node := self._tracer.node(tensor)) is not None]
        self._entering = (nodes[0], self._tracer.without_activation(nodes[0].origin)) if len(nodes) == 1 else None

    def leave(self, module: nn.Module, _: tuple[Any, ...], result: Any) -> None:
        """Called after the module's forward."""
        tracer = self._tracer
        if self._entering is None or not isinstance(result, Tensor):
            return
        before, waiting = self._entering
        after, label = tracer.node(result), snake(type(module).__name__)
        with tracer.paused():
            if after is not None and after.base == before.base:
                if after is not before:
                    after.label = label
                for index in after.activation_of & waiting:
                    tracer.uses[index].activation = after
            elif tuple(result.shape) == before.shape and _is_elementwise(module):
                origin = before.origin
                node = tracer.add(
                    result,
                    Kind.MODULE,
                    label,
                    Origin(origin.sources, origin.last, path=before.path),
                    inputs=(before,),
                    base=before.base,
                    function=lambda x: _evaluated(module, before.function(x)),
                    nonlinear=True,
                    activation_of=waiting,
                    label=label,
                )
                tracer.activate(node, origin.waiting, result)
            elif after is None:
                origin = Origin(before.origin.sources, before.origin.last, path=(*before.path, label))
                tracer.add(result, Kind.OTHER, label, origin, inputs=(before,))


def _is_elementwise(module: nn.Module) -> bool:
    with _as_it_was(module):
        return is_elementwise(module.forward)


def _evaluated(module: nn.Module, x: Tensor) -> Any:
    """What a module gives in evaluation mode, in which it was traced."""
    with _as_it_was(module):
        return module.forward(x)


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """As `untouched`; attributes too are put back, what is in lists, dicts, sets and tensors as well."""
    before = [(vars(part), dict(vars(part))) for part in module.modules()]
    values = [value for _, attributes in before for value in attributes.values()]
    kept = [(value, copy.copy(value)) for value in values if type(value) in {list, dict, set}]
    held = [value for content in (values, *(content.values() for content, _ in kept if isinstance(content, dict))) for value in content]
    tensors = [(value, value._version, value.detach().clone()) for value in held if isinstance(value, Tensor)]
    try:
        with untouched(module, "stored"):
            yield
    finally:
        for live, attributes in before:
            live.clear()
            live.update(attributes)
        for live, content in kept:
            live.clear()
            (live.extend if isinstance(live, list) else live.update)(content)
        with torch.no_grad():
            for tensor, version, numbers in tensors:
                if tensor._version != version:
                    tensor.copy_(numbers)

"""Follows one forward pass and writes down the network as theory sees it: weights, activations, norms, pooling, sums."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initbench.errors import ConfigError
from initbench.nn import operations as ops
from initbench.nn.activation import called, is_elementwise, recognized
from initbench.nn.layers import WeightLayer
from initbench.nn.watch import untouched
from initbench.theory.activations import Activation, find, from_function
from initbench.theory.network import INPUT, Add, Apply, Flatten, LayerSpec, NetworkSpec, Node, Norm, Pool, Scale, Unknown, Weight, sources

SILENT = ops.DROPOUTS | (ops.LAYOUT - ops.FLIPS) | {"identity"}
"""Functions that leave the values as they are in a probe (dropout is off)."""
IMAGES = 4
"""Images that the model is run on."""
NO_SOURCE = -2
"""The node of a tensor that nothing is known of."""


@dataclass(frozen=True)
class Traced:
    """The network, and the inputs in the shape in which they enter its first weight layer."""

    network: NetworkSpec
    entering: Tensor | None


def trace_network(model: nn.Module, layers: tuple[WeightLayer, ...], specs: dict[str, LayerSpec], inputs: Tensor) -> Traced:
    """Runs the model once, with batch statistics in norms and dropout off, and leaves it as it was.

    `specs` maps the parameter name of a weight to what theory knows of it.
    """
    watch = _Watch({id(layer.weight): specs[layer.parameter] for layer in layers})
    few = inputs[:IMAGES]
    with torch.no_grad(), untouched(model, "batch"):
        watch.begin(few)
        with watch:
            output = model(few)
    last = watch.at(output) if isinstance(output, Tensor) else NO_SOURCE
    nodes = _used(watch.nodes, last) if last >= 0 else (*watch.nodes, Unknown((), "the output of the model cannot be followed"))
    entering = None if watch.entering is None else inputs.reshape(len(inputs), *watch.entering.shape[1:])
    return Traced(NetworkSpec(nodes), entering)


@dataclass(frozen=True)
class Chain:
    """A tensor as an elementwise function of what node `base` gives; `bent` where it is not a straight line."""

    base: int
    function: Callable[[Tensor], Tensor]
    bent: bool = False


@dataclass
class _Watch(TorchFunctionMode):
    """Sees every call of the forward pass; `places` maps a tensor to the node that made it."""

    specs: dict[int, LayerSpec]
    nodes: list[Node] = field(default_factory=list)
    entering: Tensor | None = None
    places: dict[int, tuple[int, Tensor]] = field(default_factory=dict)
    chains: dict[int, Chain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def begin(self, inputs: Tensor) -> None:
        """Marks the model's input."""
        self.places[id(inputs)] = (INPUT, inputs)

    def at(self, tensor: Tensor) -> int:
        """The node that made a tensor."""
        return self.places.get(id(tensor), (NO_SOURCE, tensor))[0]

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        given = [*ops.tensors_in(args), *ops.tensors_in(kwargs)]
        known = [tensor for tensor in given if id(tensor) in self.places]
        spec = next((self.specs[id(tensor)] for tensor in given if id(tensor) in self.specs), None)
        shapes = [tuple(tensor.shape) for tensor in known]
        result = func(*args, **kwargs)
        if known and isinstance(result, Tensor) and result.is_floating_point():
            place = self._place(ops.plain_name(func), func, args, kwargs, known, shapes, spec, result)
            self.places[id(result)] = (place, result)
        elif known:
            for output in ops.tensors_in(result):
                self.places[id(output)] = (self._add(Unknown(self._sources(known), f"'{ops.plain_name(func)}' has no formula")), output)
        return result

    def _sources(self, known: list[Tensor]) -> tuple[int, ...]:
        return tuple(self.at(tensor) for tensor in known)

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _place(
        self,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        known: list[Tensor],
        shapes: list[tuple[int, ...]],
        spec: LayerSpec | None,
        result: Tensor,
    ) -> int:
        source, shape = self.at(known[0]), shapes[0]
        unknown = Unknown(self._sources(known), f"'{name}' has no formula")
        chain = self._chain(name, func, args, kwargs, known, result) if spec is None else None
        if chain is not None:
            self.chains[id(result)] = chain
            if chain.bent:
                return self._bent(chain, name, args, kwargs, known)
        if spec is not None:
            return self._weight(source, spec, known[0]) if len(known) == 1 and name in ops.WEIGHTED else self._add(unknown)
        if len(known) == 2 and name in {"add", "radd", "iadd"}:
            return self._sum(self.at(known[0]), self.at(known[1]), unknown, plain=shapes[0] == shapes[1] and kwargs.get("alpha", 1) == 1)
        if len(known) > 1:
            return self._add(unknown)
        if name in SILENT:
            if shape == tuple(result.shape) and id(known[0]) in self.chains:
                self.chains[id(result)] = self.chains[id(known[0])]
            return self._reshaped(source, shape, tuple(result.shape), unknown)
        if name in ops.NORMALIZATIONS:
            return self._norm(name, source, shape, args, kwargs, unknown)
        if name in ops.POOLINGS:
            pool = _pool(name, source, shape, args, kwargs)
            return self._add(pool or unknown)
        if name in ops.SCALINGS | ops.SUMS:
            factor = _factor(name, args, kwargs)
            return source if factor == 1 else self._add(unknown if factor is None else Scale(source, factor))
        return self._add(unknown)

    def _chain(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], known: list[Tensor], result: Tensor
    ) -> Chain | None:
        """The result as an elementwise function of one earlier signal; None where it is none."""
        found = [self.chains.get(id(tensor), Chain(self.at(tensor), torch.clone)) for tensor in known]
        elementwise = name in ops.BENT | ops.SCALINGS | ops.SUMS or (len(known) == 1 and name not in SILENT | ops.PASSING | ops.PIECES)
        if len({chain.base for chain in found}) > 1 or result.shape != known[0].shape or not elementwise:
            return None
        by_id = {id(tensor): chain for tensor, chain in zip(known, found, strict=True)}

        def function(x: Tensor) -> Tensor:
            filled = [by_id[id(item)].function(x) if id(item) in by_id else item for item in args]
            named = {key: by_id[id(item)].function(x) if id(item) in by_id else item for key, item in kwargs.items()}
            return func(*filled, **named)  # type: ignore[no-any-return]

        if called(name, args, kwargs) or is_elementwise(function):
            return Chain(found[0].base, function, bent=True)
        return Chain(found[0].base, function) if len(known) == 1 and name in ops.SCALINGS else None

    def _bent(self, chain: Chain, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], known: list[Tensor]) -> int:
        """The node of an activation: named where it is a known one, else the function itself."""
        simple = len(known) == 1 and not (id(known[0]) in self.chains and self.chains[id(known[0])].bent)
        named = called(name, args, kwargs) if simple else recognized(chain.function)
        if named is not None and not named.startswith("glu"):
            return self._apply(self.at(known[0]) if simple else chain.base, named)
        try:
            return self._apply(chain.base, from_function(lambda x: chain.function(torch.from_numpy(x)).numpy(), name))
        except ConfigError as error:
            return self._add(Unknown((chain.base,), str(error)))

    def _sum(self, first: int, second: int, unknown: Unknown, *, plain: bool) -> int:
        """A sum of two signals, of which one comes from weights that the other has not seen."""
        if not plain or first == NO_SOURCE or second == NO_SOURCE:
            return self._add(unknown)
        if self._origins(first) & self._origins(second):
            return self._add(Unknown(unknown.sources, "it adds two functions of one signal"))
        return self._add(Add(first, second))

    def _origins(self, place: int) -> frozenset[int]:
        """The weight layers (and the input) that a signal comes from without another weight between."""
        if place < 0 or isinstance(self.nodes[place], Weight):
            return frozenset([place])
        return frozenset[int]().union(*(self._origins(source) for source in sources(self.nodes[place])))

    def _weight(self, source: int, spec: LayerSpec, tensor: Tensor) -> int:
        if source == INPUT:
            if self.entering is not None and self.entering is not tensor:
                return self._add(Unknown((), f"'{spec.name}' is a second layer that takes the model's input"))
            self.entering = tensor
        return self._add(Weight(source, spec))

    def _reshaped(self, source: int, before: tuple[int, ...], after: tuple[int, ...], unknown: Unknown) -> int:
        if before == after or source == INPUT:
            return source
        if len(before) == 4 and len(after) == 2 and before[0] == after[0]:
            return self._add(Flatten(source))
        return self._add(unknown)

    def _norm(self, name: str, source: int, shape: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any], unknown: Unknown) -> int:
        whole = name != "layer_norm" or len(ops.argument(args, kwargs, 1, "normalized_shape", ())) == len(shape) - 1
        if name not in {"batch_norm", "layer_norm", "group_norm"} or not whole or source == INPUT:
            return self._add(unknown)
        positions = {"batch_norm": (3, 4), "layer_norm": (2, 3), "group_norm": (2, 3)}[name]
        weight = ops.argument(args, kwargs, positions[0], "weight", None)
        bias = ops.argument(args, kwargs, positions[1], "bias", None)
        if bias is not None and bool(bias.any()):
            return self._add(Unknown(unknown.sources, "the shift of a norm is not zero"))
        place = self._add(Norm(source, "batch" if name == "batch_norm" else "layer"))
        scale = 1.0 if weight is None else float(weight.flatten()[0])
        if weight is not None and not bool((weight == scale).all()):
            return self._add(Unknown((place,), "the scales of a norm differ"))
        return place if scale == 1 else self._add(Scale(place, scale))

    def _apply(self, source: int, activation: str | Activation) -> int:
        """An activation; one that never decreases trades places with a maximum before it, which changes nothing."""
        node = self.nodes[source] if source >= 0 else None
        used = [index for index, other in enumerate(self.nodes) if source in sources(other)]
        if isinstance(node, Pool) and node.kind == "max" and not used and isinstance(activation, str) and _rises(activation):
            self.nodes[source] = Apply(node.source, activation)
            return self._add(Pool(source, node.kind, node.kernel, node.stride, node.padding))
        return self._add(Apply(source, activation))


def _used(nodes: list[Node], last: int) -> tuple[Node, ...]:
    """The nodes that the last one depends on, renumbered."""
    wanted, waiting = set[int](), [last]
    while waiting:
        place = waiting.pop()
        if place >= 0 and place not in wanted:
            wanted.add(place)
            waiting += sources(nodes[place])
    order = {place: number for number, place in enumerate(sorted(wanted))}
    return tuple(_renumbered(nodes[place], order) for place in sorted(wanted))


def _renumbered(node: Node, order: dict[int, int]) -> Node:
    if isinstance(node, Unknown):
        return replace(node, sources=tuple(order.get(source, source) for source in node.sources))
    if isinstance(node, Add):
        return replace(node, first=order.get(node.first, node.first), second=order.get(node.second, node.second))
    return replace(node, source=order.get(node.source, node.source))


def _rises(name: str) -> bool:
    steps: list[float] = np.diff(find(name).value(np.linspace(-12, 12, 2001))).tolist()
    return min(steps) >= 0


def _factor(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """The number that a signal is multiplied by; 1 where zero is added; None where it is not one number."""
    others = [value for value in (*args, *kwargs.values()) if not (isinstance(value, Tensor) and value.numel() > 1)]
    numbers = [float(value) for value in others if isinstance(value, int | float | Tensor)]
    if name in {"neg", "negative"}:
        return -1.0
    if len(numbers) != 1:
        return None
    if name in ops.SUMS:
        return 1.0 if numbers[0] == 0 else None
    if "div" in name:
        return None if name.startswith("r") or numbers[0] == 0 else 1 / numbers[0]
    return numbers[0]


def _pool(name: str, source: int, shape: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool | None:
    if len(shape) != 4:
        return None
    size = shape[2:]
    if name == "mean":
        dims = ops.argument(args, kwargs, 1, "dim", None)
        return Pool(source, "avg", size, size, (0, 0)) if dims in ((2, 3), [2, 3], (-2, -1), [-2, -1], (-1, -2)) else None
    if name == "adaptive_avg_pool2d":
        out = _pair(ops.argument(args, kwargs, 1, "output_size", 1))
        if any(given % wanted for given, wanted in zip(size, out, strict=True)):
            return None
        window = (size[0] // out[0], size[1] // out[1])
        return Pool(source, "avg", window, window, (0, 0))
    kernel = _pair(ops.argument(args, kwargs, 1, "kernel_size", None))
    stride, padding = (ops.argument(args, kwargs, place, key, None) for place, key in ((2, "stride"), (3, "padding")))
    step, pad = _pair(stride) if stride not in (None, [], ()) else kernel, _pair(padding or 0)
    if name in {"max_pool2d", "max_pool2d_with_indices", "boolean_dispatch"}:
        return Pool(source, "max", kernel, step, pad)
    return Pool(source, "avg", kernel, step, pad) if name == "avg_pool2d" else None


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[-1])) if isinstance(value, tuple | list) else (int(value), int(value))

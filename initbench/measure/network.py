"""A traced graph as theory sees it: weights, activations, norms, pooling, sums."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from initbench.errors import ConfigError
from initbench.nn import graph as traced
from initbench.nn import operations as ops
from initbench.nn.activation import called
from initbench.nn.graph import Graph, Kind
from initbench.theory.activations import find, from_function
from initbench.theory.network import INPUT, Add, Apply, Flatten, LayerSpec, NetworkSpec, Node, Norm, Pool, Scale, Unknown, Weight, sources


@dataclass(frozen=True)
class Translation:
    """The network, and the shape (without the batch) in which inputs enter its first weight layer, None where they enter none."""

    network: NetworkSpec
    entering: tuple[int, ...] | None


def translate(graph: Graph, specs: dict[str, LayerSpec]) -> Translation:
    """The network of a graph that was traced with batch statistics in norms.

    `specs` maps the parameter name of a weight to what theory knows of it. The activation after a layer is the very one
    that the weight layers name: both read it from the graph.
    """
    translator = _Translator(graph, specs)
    for node in graph.nodes:
        translator.take(node)
    last = INPUT if graph.output is None else translator.places[graph.output.index]
    if last == INPUT:
        nodes = (*translator.nodes, Unknown((), "the output of the model cannot be followed"))
    else:
        nodes = _maxima_last(_needed(translator.nodes, last))
    return Translation(NetworkSpec(nodes), None if translator.entering is None else translator.entering.shape[1:])


class _Translator:
    """Writes down one node of the graph after the other.

    `places` says where the network gives what a node of the graph stands for, `starts` where it gives the beginning of the
    node's elementwise run, brought into the node's shape: what an activation is a function of.
    """

    def __init__(self, graph: Graph, specs: dict[str, LayerSpec]) -> None:
        self.nodes: list[Node] = []
        self._from: list[frozenset[int]] = []
        self.places: dict[int, int] = {}
        self.starts: dict[int, int] = {}
        self.entering: traced.Node | None = None
        self._uses, self._specs = graph.uses, specs
        self._wanted = set() if graph.output is None else {graph.output.index}
        for node in graph.nodes:
            self._wanted |= {given.index for given in node.inputs if not (_is_activation(node) and node.base == given.base)}

    def take(self, node: traced.Node) -> None:
        """Takes up the next node."""
        if node.base == node.index:
            place = start = INPUT if node.kind is Kind.INPUT else self._beginning(node)
        elif node.kind is Kind.LAYOUT:
            place, start = self._reshaped(node)
        elif node.kind is Kind.BIAS:
            place = start = self._unknown(node)
        else:
            start = self.starts[node.inputs[0].index]
            if not _is_activation(node):
                place = self._straight(node)
            else:  # within an activation that is made of several functions only the last one counts
                place = self._activation(node, start) if node.index in self._wanted else start
        self.places[node.index], self.starts[node.index] = place, start

    def _add(self, node: Node) -> int:
        own = [len(self.nodes)] if isinstance(node, Weight) else ()
        self._from.append(frozenset(own or (origin for source in sources(node) for origin in self._origins(source))))
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _source(self, node: traced.Node) -> int:
        return self.places[node.inputs[0].index]

    def _unknown(self, node: traced.Node) -> int:
        return self._add(Unknown(tuple(self.places[given.index] for given in node.inputs), f"'{node.name}' has no formula"))

    def _beginning(self, node: traced.Node) -> int:
        """The place of what begins an elementwise run: a weight, a norm, a pooling, a sum, ..."""
        name = node.name
        if node.kind is Kind.WEIGHT:
            return self._weight(node)
        if len(node.inputs) == 2 and name in {"add", "radd", "iadd"}:
            return self._sum(node)
        if len(node.inputs) != 1:
            return self._unknown(node)
        if name in ops.DROPOUTS:
            return self._source(node)
        if name in ops.NORMALIZATIONS:
            return self._norm(node)
        if name in ops.POOLINGS:
            pool = _pool(node, self._source(node))
            return self._unknown(node) if pool is None else self._add(pool)
        return self._straight(node)

    def _straight(self, node: traced.Node) -> int:
        """The place of a signal times a number; of anything else that is no activation there is no formula."""
        if len(node.inputs) == 2 and node.name in {"add", "radd", "iadd"}:
            return self._sum(node)
        factor = _factor(node) if len(node.inputs) == 1 and node.name in ops.SCALINGS | ops.SUMS else None
        if factor is None:
            return self._unknown(node)
        return self._source(node) if factor == 1 else self._add(Scale(self._source(node), factor))

    def _activation(self, node: traced.Node, start: int) -> int:
        """The place of an activation: by its name where it is a known one, also of a multiple of the signal, else the function itself."""
        if node.known_activation is not None:
            return self._add(Apply(start, node.known_activation))
        last = called(node.name, node.args, node.kwargs) if len(node.inputs) == 1 and not node.inputs[0].nonlinear else None
        source = self._source(node)
        if last is not None and source >= 0 and isinstance(self.nodes[source], Scale):
            return self._add(Apply(source, last))
        try:
            return self._add(Apply(start, from_function(lambda x: node.function(torch.from_numpy(x)).detach().numpy(), node.activation)))
        except ConfigError as error:
            return self._add(Unknown((start,), str(error)))

    def _sum(self, node: traced.Node) -> int:
        """The place of a sum of two signals, of which one comes from weights that the other has not seen."""
        first, second = (self.places[given.index] for given in node.inputs)
        if node.inputs[0].shape != node.inputs[1].shape or node.kwargs.get("alpha", 1) != 1:
            return self._unknown(node)
        if self._origins(first) & self._origins(second):
            return self._add(Unknown((first, second), "it adds two functions of one signal"))
        return self._add(Add(first, second))

    def _origins(self, place: int) -> frozenset[int]:
        """The weight layers (and the input) that a signal comes from without another weight between."""
        return frozenset([place]) if place < 0 else self._from[place]

    def _weight(self, node: traced.Node) -> int:
        assert node.output_of is not None
        use = self._uses[node.output_of]
        weight, spec = use.weight, self._specs.get(use.weight.name)
        if len(node.inputs) != 1 or spec is None or use.function not in ops.LAYERS or weight.computed or weight.flipped or weight.piece:
            return self._unknown(node)
        entering, source = node.inputs[0], self._source(node)
        if source == INPUT:
            if self.entering is not None and self.entering is not entering:
                return self._add(Unknown((), f"'{spec.name}' is a second layer that takes the model's input"))
            self.entering = entering
        return self._add(Weight(source, spec))

    def _reshaped(self, node: traced.Node) -> tuple[int, int]:
        """Place and start of a signal in another layout; only images that become features are more than themselves."""
        before, after = node.inputs[0], node
        place, start = self.places[before.index], self.starts[before.index]
        if node.name in ops.FLIPS or len(node.inputs) != 1:
            place = self._unknown(node)
            return place, place
        if before.shape == after.shape:
            return place, start
        flat = len(before.shape) == 4 and len(after.shape) == 2 and before.shape[0] == after.shape[0]

        def flattened(source: int) -> int:
            if source == INPUT:
                return source
            return self._add(Flatten(source)) if flat else self._unknown(node)

        new = flattened(place)
        return new, new if start == place else flattened(start)

    def _norm(self, node: traced.Node) -> int:
        name, args, kwargs, shape, source = node.name, node.args, node.kwargs, node.inputs[0].shape, self._source(node)
        whole = name != "layer_norm" or len(ops.argument(args, kwargs, 1, "normalized_shape", ())) == len(shape) - 1
        if name not in {"batch_norm", "layer_norm", "group_norm"} or not whole or source == INPUT:
            return self._unknown(node)
        positions = {"batch_norm": (3, 4), "layer_norm": (2, 3), "group_norm": (2, 3)}[name]
        weight = ops.argument(args, kwargs, positions[0], "weight", None)
        bias = ops.argument(args, kwargs, positions[1], "bias", None)
        if bias is not None and bool(bias.any()):
            return self._add(Unknown((source,), "the shift of a norm is not zero"))
        place = self._add(Norm(source, "batch" if name == "batch_norm" else "layer"))
        scale = 1.0 if weight is None else float(weight.detach().flatten()[0])
        if weight is not None and not bool((weight == scale).all()):
            return self._add(Unknown((place,), "the scales of a norm differ"))
        return place if scale == 1 else self._add(Scale(place, scale))


def _is_activation(node: traced.Node) -> bool:
    return node.nonlinear and node.kind in {Kind.FUNCTION, Kind.MODULE} and node.name != "glu"


def _maxima_last(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """An activation that never decreases trades places with a maximum before it, which changes nothing."""
    swapped = list(nodes)
    taken = Counter(source for node in nodes for source in sources(node))
    for index, node in enumerate(nodes):
        if not isinstance(node, Apply) or not isinstance(node.activation, str) or taken[node.source] != 1:
            continue
        pool = swapped[node.source] if node.source >= 0 else None
        if isinstance(pool, Pool) and pool.kind == "max" and _rises(node.activation):
            swapped[node.source] = Apply(pool.source, node.activation)
            swapped[index] = replace(pool, source=node.source)
    return tuple(swapped)


def _needed(nodes: list[Node], last: int) -> tuple[Node, ...]:
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


def _factor(node: traced.Node) -> float | None:
    """The number that a signal is multiplied by; 1 where zero is added; None where it is not one number."""
    name = node.name
    others = [value for value in (*node.args, *node.kwargs.values()) if not (isinstance(value, Tensor) and value.numel() > 1)]
    numbers = [float(value.item() if isinstance(value, Tensor) else value) for value in others if isinstance(value, int | float | Tensor)]
    if name in {"neg", "negative"}:
        return -1.0
    if len(numbers) != 1:
        return None
    if name in ops.SUMS:
        return 1.0 if numbers[0] == 0 else None
    if "div" in name:
        return None if name.startswith("r") or numbers[0] == 0 else 1 / numbers[0]
    return numbers[0]


def _pool(node: traced.Node, source: int) -> Pool | None:
    name, args, kwargs, shape = node.name, node.args, node.kwargs, node.inputs[0].shape
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

"""Follows one forward pass and writes down the network as theory sees it: weights, activations, norms, pooling, sums."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initbench.errors import ConfigError
from initbench.nn import operations as ops
from initbench.nn.activation import called, is_elementwise
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
    if last != len(watch.nodes) - 1:
        watch.nodes.append(Unknown((), "the output of the model does not come from its last operation"))
    entering = None if watch.entering is None else inputs.reshape(len(inputs), *watch.entering.shape[1:])
    return Traced(NetworkSpec(tuple(watch.nodes)), entering)


@dataclass
class _Watch(TorchFunctionMode):
    """Sees every call of the forward pass; `places` maps a tensor to the node that made it."""

    specs: dict[int, LayerSpec]
    nodes: list[Node] = field(default_factory=list)
    entering: Tensor | None = None
    places: dict[int, tuple[int, Tensor]] = field(default_factory=dict)

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
        if spec is not None:
            return self._weight(source, spec, known[0]) if len(known) == 1 and name in ops.WEIGHTED else self._add(unknown)
        if len(known) == 2 and name in {"add", "radd", "iadd"} and self.at(known[1]) != source:
            return self._add(Add(*self._sources(known))) if shapes[0] == shapes[1] and not _alpha(kwargs) else self._add(unknown)
        if len(known) > 1:
            return self._add(unknown)
        if name in SILENT:
            return self._reshaped(source, shape, tuple(result.shape), unknown)
        if name in ops.NORMALIZATIONS:
            return self._norm(name, source, shape, args, kwargs, unknown)
        if name in ops.POOLINGS:
            pool = _pool(name, source, shape, args, kwargs)
            return self._add(pool or unknown)
        if name in ops.SCALINGS | ops.SUMS:
            factor = _factor(name, args, kwargs)
            return source if factor == 1 else self._add(unknown if factor is None else Scale(source, factor))
        activation = _activation(name, func, args, kwargs)
        return self._add(unknown) if activation is None else self._apply(source, activation)

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


def _alpha(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("alpha", 1) != 1)


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


def _activation(name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | Activation | None:
    """The activation behind a call: named, or any elementwise function of one tensor."""
    named = called(name, args, kwargs)
    if named is not None and named.partition(":")[0] != "glu":
        return named
    rest = args[1:]
    if not args or not isinstance(args[0], Tensor) or not is_elementwise(lambda x: func(x, *rest, **kwargs)):
        return None
    try:
        return from_function(lambda x: func(torch.from_numpy(x), *rest, **kwargs).numpy(), name)
    except ConfigError:
        return None

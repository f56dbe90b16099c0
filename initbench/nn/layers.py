"""The weight layers of any module: fans from the module, roles, the activation that follows, in execution order."""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from torch import Tensor, nn

from initbench.nn.activation import Function
from initbench.nn.explain import activation_of, behind, called_module, notes_on, path_of, recurrent_activation
from initbench.nn.fans import Fans, of_use
from initbench.nn.marks import Use
from initbench.nn.registered import NORMS as NORMS
from initbench.nn.registered import Registered, activation_after, is_weight, registered
from initbench.nn.trace import Trace, trace


class Role(StrEnum):
    """Where a layer stands in the network."""

    STEM = "stem"
    HIDDEN = "hidden"
    BRANCH = "branch"
    BRANCH_END = "branch end"
    HEAD = "head"


@dataclass(frozen=True)
class Surroundings:
    """How the signal reaches a layer and what happens to it afterwards; empty where the model has not been run.

    `sources` are the layers whose signal comes in (none: the model's input), `path` the functions that it passes on the
    way (activations, `batch_norm`, `dropout:p=0.1`, `max_pool2d:kernel_size=2`, `add`, ...), `between` those from this
    layer to its activation. Shapes are without the batch dimension. `uses` counts how often a forward pass uses the weight.
    """

    sources: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    uses: int = 0


@dataclass(frozen=True)
class WeightLayer:
    """One weight of a model, with what a scheme must know of it.

    `weight` is stored as torch stores it; `fan_in` and `fan_out` are those of one of its `parts` (the gates of a
    recurrent layer, q, k and v of a packed attention) and of one of its `groups`; `transposed` weights are stored
    (in, out). `activation` is the name of the function that the layer's output goes through (norm, dropout, pooling and
    one residual sum are looked through), with its parameters (`leaky_relu:negative_slope=0.2`), `activation_fn` the
    function itself, also where only the user's code has a name for it; None where nothing follows or it cannot be told.
    `length` is the parameter that a weight norm scales the weight to.
    `block` is the index of the residual block the layer belongs to, None outside of any.
    """

    name: str
    parameter: str
    module: nn.Module
    weight: nn.Parameter
    fan_in: int
    fan_out: int
    receptive_field: int = 1
    position: int = 0
    parts: int = 1
    groups: int = 1
    transposed: bool = False
    bias: str | None = None
    length: str | None = None
    activation: str | None = None
    role: Role = Role.HIDDEN
    block: int | None = None
    activation_fn: Function | None = field(default=None, compare=False)
    surroundings: Surroundings = Surroundings()


@dataclass(frozen=True)
class Explanation:
    """The weight layers of a model, and in sentences what could not be told about them."""

    layers: tuple[WeightLayer, ...]
    notes: tuple[str, ...] = ()


def weight_layers(model: nn.Module, inputs: Tensor | None = None, in_out: tuple[str, ...] = ()) -> tuple[WeightLayer, ...]:
    """The weight layers, in execution order when `inputs` (a batch) is given, else in order of registration.

    `in_out` are globs of weights stored (in, out) instead of (out, in). The model is run once and left as it was.
    Raises: ConfigError when the model cannot be run on `inputs`.
    """
    return explain(model, inputs, in_out).layers


def explain(model: nn.Module, inputs: Tensor | None = None, in_out: tuple[str, ...] = ()) -> Explanation:
    """What `weight_layers` finds, with notes on what it could not tell. Raises: ConfigError as there."""
    known = registered(model)
    if inputs is None:
        return _guessed(model, known, in_out)
    return _traced(trace(model, inputs), known, in_out)


def _guessed(model: nn.Module, known: dict[str, Registered], in_out: tuple[str, ...]) -> Explanation:
    after = dict(activation_after(model))
    entries = [entry for entry in known.values() if is_weight(entry) or _told(entry, in_out)]
    notes = ["The model has not been run: layers are in order of registration, activations and roles are guessed from it."]
    layers = []
    for position, entry in enumerate(entries):
        if entry.fans is None and not _told(entry, in_out):
            notes.append(f"'{entry.parameter}' is taken to be stored (out, in); say init.in_out if it is (in, out).")
        role = Role.HEAD if position == len(entries) - 1 else Role.STEM if position == 0 else Role.HIDDEN
        following = after.get(entry.module)
        name = called_module(following) if following is not None else recurrent_activation(entry.module)
        layers.append(replace(_layer(entry, None, in_out), position=position, role=role, activation=name, activation_fn=behind(name)))
    return Explanation(tuple(layers), tuple(notes))


def _traced(found: Trace, known: dict[str, Registered], in_out: tuple[str, ...]) -> Explanation:
    first: dict[str, Use] = {}
    for use in found.uses:
        first.setdefault(use.view.name, use)
    names = {index: known[use.view.name].name for index, use in enumerate(found.uses) if use.view.name in known}
    layers = [_placed(known[name], use, found, names, in_out) for name, use in first.items() if name in known]
    missed = [entry for name, entry in known.items() if name not in first and is_weight(entry)]
    layers += [_layer(entry, None, in_out) for entry in missed]
    placed = tuple(replace(layer, position=position) for position, layer in enumerate(layers))
    scaled = frozenset(layer.parameter for layer in placed if layer.length is not None)
    return Explanation(placed, notes_on(found, {layer.parameter: layer.name for layer in placed}, missed, scaled))


def _placed(entry: Registered, use: Use, found: Trace, names: dict[int, str], in_out: tuple[str, ...]) -> WeightLayer:
    name, function = activation_of(use)
    same = [other.index for other in found.uses if other.view.name == entry.parameter]
    if use.end or use.branch:
        role = Role.BRANCH_END if use.end else Role.BRANCH
    elif found.heads.intersection(same):
        role = Role.HEAD
    else:
        role = Role.STEM if not use.entry.last else Role.HIDDEN
    return replace(
        _layer(entry, use, in_out),
        activation=name,
        activation_fn=function,
        role=role,
        block=use.block,
        surroundings=Surroundings(
            sources=tuple(dict.fromkeys(names[index] for index in sorted(use.entry.last) if index in names)),
            path=path_of(use),
            between=use.between,
            input_shape=use.input_shape[1:],
            output_shape=use.output_shape[1:],
            uses=len(same),
        ),
    )


def _layer(entry: Registered, use: Use | None, in_out: tuple[str, ...]) -> WeightLayer:
    shape = tuple(entry.weight.shape)
    if _told(entry, in_out):
        fan_in, fan_out = _out_in(shape)
        fans = Fans(fan_in, fan_out, math.prod(shape[2:]), transposed=True)
    elif entry.fans is not None:
        fans = entry.fans
    elif use is not None:
        fans = of_use(use, shape)
    else:
        fan_out, fan_in = _out_in(shape)
        fans = Fans(fan_in, fan_out, math.prod(shape[2:]))
    return WeightLayer(
        name=entry.name,
        parameter=entry.parameter,
        module=entry.module,
        weight=entry.weight,
        fan_in=fans.fan_in,
        fan_out=fans.fan_out,
        receptive_field=fans.receptive_field,
        parts=fans.parts,
        groups=fans.groups,
        transposed=fans.transposed,
        bias=entry.bias or (use.bias if use else None),
        length=entry.length,
    )


def _told(entry: Registered, in_out: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in (entry.parameter, entry.name) for pattern in in_out)


def _out_in(shape: tuple[int, ...]) -> tuple[int, int]:
    field = math.prod(shape[2:])
    return shape[0] * field, shape[1] * field

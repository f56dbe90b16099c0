"""The weight layers of any module: fans from the module, roles, the activation that follows, in execution order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

from initbench.errors import ConfigError
from initbench.nn.activation import Function, called_module, known_function
from initbench.nn.contraction import Axes
from initbench.nn.fans import Fans, of_module, of_use
from initbench.nn.graph import NO_ENDS, Ends, Graph, Use
from initbench.nn.inputs import Inputs
from initbench.nn.operations import ENDS
from initbench.nn.parametrized import computed, main_original, shape_of
from initbench.nn.watch import trace

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
NOT_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.AdaptiveLogSoftmaxWithLoss)
PARAMETRIZED = ".parametrizations."
NAMED = 3
"""So many names are in a note, the rest is counted."""


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
    layer to its activation; `ends` are the modules at the end of the residual branch that the layer ends. Shapes are without
    the batch dimension. `uses` counts how often a forward pass uses the weight.
    """

    sources: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    uses: int = 0
    ends: Ends = NO_ENDS


@dataclass(frozen=True)
class WeightLayer:
    """One weight of a model, with what a scheme must know of it.

    `weight` is stored as torch stores it; `fan_in` and `fan_out` are those of one of its `parts` (the gates of a
    recurrent layer, q, k and v of a packed attention) and of one of its `groups`; `transposed` weights are stored
    (in, out). `activation` is the name of the function that the layer's output goes through (norm, dropout, pooling and
    one residual sum are looked through), with its parameters (`leaky_relu:negative_slope=0.2`), `activation_fn` the
    function itself, also where only the user's code has a name for it; None where nothing follows or it cannot be told.
    A raw parameter may hold many matrices (stacked experts, heads): `axes` are then its stacked axes, those of the outputs,
    of the inputs and of the kernel, `stacked` is the number of matrices, fans and `shape` are those of one; of a raw
    parameter with several axes of inputs or outputs, too. No `axes`: stored as torch's modules store it.
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
    axes: Axes = ()

    @property
    def stacked(self) -> int:
        """How many matrices (or kernels) a raw parameter holds along its stacked axes."""
        return math.prod(self.weight.shape[axis] for axis in self.axes[0]) if self.axes else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight (of one that is stacked): (out, in / groups, *kernel), with in and out swapped if `transposed`."""
        if not self.axes:
            return tuple(self.weight.shape)
        outputs, inputs = (math.prod(self.weight.shape[axis] for axis in axes) for axes in self.axes[1:3])
        return (*((inputs, outputs) if self.transposed else (outputs, inputs)), *(self.weight.shape[axis] for axis in self.axes[3]))


@dataclass(frozen=True)
class Explanation:
    """The weight layers of a model, and in sentences what could not be told about them.

    `guesses` are those of the notes by which numbers depend on a guess: how a weight is stored.
    """

    layers: tuple[WeightLayer, ...]
    notes: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Registered:
    """One weight as registered: `name` of the layer, `parameter` (its first name), bias, fans where known, length in a weight norm."""

    name: str
    parameter: str
    module: nn.Module
    weight: nn.Parameter
    bias: str | None
    fans: Fans | None
    length: str | None = None


def weight_layers(model: nn.Module, inputs: Inputs | None = None, in_out: tuple[str, ...] = ()) -> tuple[WeightLayer, ...]:
    """The weight layers, in execution order when `inputs` (a batch) is given, else in order of registration.

    `in_out` are globs of weights stored (in, out) instead of (out, in). The model is run once and left as it was.
    Raises: ConfigError when the model cannot be run on `inputs`.
    """
    return explain(model, inputs, in_out).layers


def explain(model: nn.Module, inputs: Inputs | None = None, in_out: tuple[str, ...] = ()) -> Explanation:
    """What `weight_layers` finds, with notes on what it could not tell. Raises: ConfigError as there."""
    known = _registered(model)
    if inputs is None:
        return _guessed(model, known, in_out)
    return _traced(trace(model, inputs), known, in_out)


def _guessed(model: nn.Module, known: dict[str, _Registered], in_out: tuple[str, ...]) -> Explanation:
    after = dict(_activation_after(model))
    entries = [entry for entry in known.values() if _is_weight(entry) or _stored_in_out(entry, in_out)]
    unrun = "The model has not been run: layers are in order of registration, activations and roles are guessed from it."
    guesses = _storage_guesses([entry for entry in entries if entry.fans is None and not _stored_in_out(entry, in_out)])
    layers = []
    for position, entry in enumerate(entries):
        role = Role.HEAD if position == len(entries) - 1 else Role.STEM if position == 0 else Role.HIDDEN
        following = after.get(entry.module)
        name = called_module(following) if following is not None else _recurrent_activation(entry.module)
        layer = _layer(entry, None, in_out)
        layers.append(replace(layer, position=position, role=role, activation=name, activation_fn=known_function(name)))
    return Explanation(tuple(layers), (unrun, *guesses), guesses)


def _storage_guesses(entries: list[_Registered]) -> tuple[str, ...]:
    """How raw parameters are taken to be stored, where it makes a difference."""
    matrices = [entry.parameter for entry in entries if entry.weight.dim() == 2 and entry.weight.shape[0] != entry.weight.shape[1]]
    kernels = [entry.parameter for entry in entries if entry.weight.dim() > 2]
    guesses = []
    if matrices:
        guesses.append(
            f"{_few(matrices)} taken to be stored (out, in); say init.in_out if {'they are' if len(matrices) > 1 else 'it is'} (in, out), "
            "or give inputs."
        )
    if kernels:
        guesses.append(f"{_few(kernels)} taken for the kernel of a convolution (out, in, *kernel); give inputs, which show what is what.")
    return tuple(guesses)


def _few(names: list[str]) -> str:
    """The first of several names, with the verb that follows."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more + (" are" if len(names) > 1 else " is")


def _recurrent_activation(module: nn.Module) -> str | None:
    """The nonlinearity of a plain recurrent module."""
    return str(module.nonlinearity) if isinstance(module, nn.RNN | nn.RNNCell) else None


def _traced(graph: Graph, known: dict[str, _Registered], in_out: tuple[str, ...]) -> Explanation:
    uses: dict[str, list[Use]] = {}
    for use in graph.uses:
        uses.setdefault(use.weight.name, []).append(use)
    names = {use.index: known[use.weight.name].name for use in graph.uses if use.weight.name in known}
    layers = [_placed(known[name], of_weight, graph, names, in_out) for name, of_weight in uses.items() if name in known]
    missed = [entry for name, entry in known.items() if name not in uses and _is_weight(entry)]
    layers += [_layer(entry, None, in_out) for entry in missed]
    placed = tuple(replace(layer, position=position) for position, layer in enumerate(layers))
    raw = {name for name, entry in known.items() if entry.fans is None}
    return Explanation(placed, _notes(placed, uses, graph.heads, missed, raw))


def _placed(entry: _Registered, uses: list[Use], graph: Graph, names: dict[int, str], in_out: tuple[str, ...]) -> WeightLayer:
    """The layer as its first use shows it, the first that the input reaches if it reaches any."""
    use = _first(uses)
    if use.end or use.branch:
        role = Role.BRANCH_END if use.end else Role.BRANCH
    elif any(other.index in graph.heads for other in uses):
        role = Role.HEAD
    else:
        role = Role.STEM if not use.origin.last else Role.HIDDEN
    activation = use.nonlinearity if use.activation is None else use.activation.activation
    function = known_function(activation)
    if function is None and use.activation is not None:
        function = use.activation.function
    return replace(
        _layer(entry, use, in_out),
        activation=activation,
        activation_fn=function,
        role=role,
        block=use.block,
        surroundings=Surroundings(
            sources=tuple(dict.fromkeys(names[index] for index in sorted(use.origin.last) if index in names)),
            path=tuple(part if isinstance(part, str) else part.activation for part in use.origin.path),
            between=use.between,
            input_shape=use.input_shape[1:],
            output_shape=use.output_shape[1:],
            uses=len(uses),
            ends=graph.ends[use.block] if use.end and use.block is not None else NO_ENDS,
        ),
    )


def _first(uses: list[Use]) -> Use:
    return next((use for use in uses if use.origin.sources), uses[0])


def _layer(entry: _Registered, use: Use | None, in_out: tuple[str, ...]) -> WeightLayer:
    shape = tuple(entry.weight.shape)
    if _stored_in_out(entry, in_out):
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
        axes=fans.axes,
        bias=entry.bias or (use.bias if use else None),
        length=entry.length,
    )


def _stored_in_out(entry: _Registered, in_out: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in (entry.parameter, entry.name) for pattern in in_out)


def _out_in(shape: tuple[int, ...]) -> tuple[int, int]:
    field = math.prod(shape[2:])
    return shape[0] * field, shape[1] * field


def _notes(
    layers: tuple[WeightLayer, ...], uses: dict[str, list[Use]], heads: frozenset[int], missed: list[_Registered], raw: set[str]
) -> tuple[str, ...]:
    """What a reader should know: weights that were not met, shared, computed, or whose activation or storage cannot be told."""
    stopped: dict[str, list[str]] = {}
    shared: dict[tuple[int, bool], list[str]] = {}
    notes = [f"'{entry.name}' is not met in a forward pass in evaluation mode." for entry in missed]
    by_parameter = {layer.parameter: layer for layer in layers}
    for parameter, of_weight in uses.items():
        use, layer = _first(of_weight), by_parameter.get(parameter)
        name = layer.name if layer else parameter
        if len(of_weight) > 1:
            shared.setdefault((len(of_weight), use.weight.piece), []).append(name)
        through = computed(layer.module, layer.weight) if layer else None
        if use.weight.computed and (layer is None or layer.length is None):
            how = f", through {through.words}." if through else ": what is set is the parameter, not the weight itself."
            notes.append(f"'{name}' is computed from '{parameter}' in every pass{how}")
        if layer is not None and parameter in raw and (use.kinds is None or (layer.weight.dim() > 2 and use.weight.axes is None)):
            notes.append(f"How '{name}' ({' x '.join(map(str, layer.weight.shape))}) is stored cannot be told from {use.function}.")
        if not use.origin.sources and use.learned is None:
            notes.append(f"'{name}' is fed by something that cannot be followed back to the model's input.")
        if use.activation is None and use.stopped is not None and use.stopped not in ENDS and use.index not in heads:
            stopped.setdefault(use.stopped, []).append(name)
    for (count, in_pieces), named in shared.items():
        how = f"used in {count} pieces" if in_pieces else f"used {count} times"
        notes.append(f"{_few(named)} {how}; place, activation and what is measured of the signal are those of the first.")
    for reason, named in stopped.items():
        notes.append(
            f"No activation can be told after {_few(named).removesuffix(' is').removesuffix(' are')}: the output goes into {reason}."
        )
    return tuple(notes)


def _registered(model: nn.Module) -> dict[str, _Registered]:
    """All parameters with two or more dimensions outside of norms, by their first name; those without known fans too.

    Raises: ConfigError for lazy parameters.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    everything, modules = set(names.values()), dict(model.named_modules(remove_duplicate=False))
    entries: dict[str, _Registered] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if isinstance(parameter, UninitializedParameter):
            raise ConfigError(f"'{name}' is lazy and has no shape yet. Call the model once on a batch first.")
        owner, _, short = name.rpartition(".")
        base, inner, tensor = f".{owner}".partition(PARAMETRIZED)
        shape = tuple(parameter.shape)
        if inner and isinstance(steps := modules[owner], ParametrizationList):
            if main_original(steps) is not parameter:
                continue
            owner, short, shape = base.removeprefix("."), tensor, shape_of(steps)
        elif inner:
            owner = base.removeprefix(".")
        elif short in {"weight_v", "weight_orig"}:
            short = "weight"
        module = modules[owner]
        if len(shape) < 2 or isinstance(module, NORMS) or short == "weight_g":
            continue
        fans = None if isinstance(module, EMBEDDINGS) else of_module(module, short, shape)
        first = names[id(parameter)]
        if first in entries and (entries[first].fans is not None or fans is None):
            continue
        layer = owner if short == "weight" and owner else f"{owner}.{short}" if owner else short
        through = computed(module, parameter)
        length = (
            {"original1": "original0", "weight_v": "weight_g"}.get(name.rpartition(".")[2]) if through and through.is_weight_norm else None
        )
        length = f"{name.rpartition('.')[0]}.{length}".lstrip(".") if length else None
        entries[first] = _Registered(
            layer, first, module, parameter, _bias_of(module, owner, short), fans, length if length in everything else None
        )
    order = {name: place for place, name in enumerate(names.values())}
    return dict(sorted(entries.items(), key=lambda item: order[item[0]]))


def _bias_of(module: nn.Module, owner: str, short: str) -> str | None:
    """The name of the bias that belongs to a weight of one of torch's own modules or of one built like them."""
    if isinstance(module, nn.MultiheadAttention):
        wanted = "in_proj_bias" if short in {"in_proj_weight", "q_proj_weight"} else ""
    else:
        wanted = short.replace("weight", "bias") if "weight" in short else ""
    if not wanted or wanted == short or not isinstance(getattr(module, wanted, None), nn.Parameter):
        return None
    return f"{owner}.{wanted}" if owner else wanted


def _is_weight(entry: _Registered) -> bool:
    """Whether a parameter counts as a weight where no forward pass shows it: known modules, or named like a weight."""
    if entry.fans is not None:
        return True
    short = entry.parameter.rpartition(".")[2].lower()
    return not isinstance(entry.module, EMBEDDINGS) and ("weight" in short or short in {"w", "kernel"} or short.startswith("w_"))


def _activation_after(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Each weight-bearing module of torch with the next registered activation module before the next such one."""
    waiting: list[nn.Module] = []
    for module in model.modules():
        bears = any(of_module(module, name, tuple(p.shape)) for name, p in module.named_parameters(recurse=False) if p.dim() > 1)
        if bears:
            for one in waiting:
                yield one, None
            waiting = [module]
        elif type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, NOT_ACTIVATIONS):
            for one in waiting:
                yield one, module
            waiting = []
    for one in waiting:
        yield one, None

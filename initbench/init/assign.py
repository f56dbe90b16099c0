"""Sets every parameter of a model from per-weight functions and rules, and reports on each one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from initbench.errors import ConfigError
from initbench.nn.layers import NORMS, WeightLayer
from initbench.nn.naming import Parameters, matches, parameters_of, refuse_unused, refuse_without_storage
from initbench.nn.parametrized import SAME, Computed, computed, originals_of
from initbench.nn.seeds import generator
from initbench.question.config import InitRules
from initbench.results.record import InitReport, ParameterInit, Setter


@dataclass(frozen=True)
class Law:
    """The distribution that a filler drew from: its name, mean and standard deviation."""

    name: str
    std: float
    mean: float = 0.0


BLOCK = 2**20
"""Numbers whose squares are added up in float32: of 2**24 in one go, the fourth digit is wrong."""
Filler = Callable[[Tensor, WeightLayer, torch.Generator], Law]
"""Writes one weight: a float32 CPU tensor (out, in / groups, *kernel), one part of it where the weight is packed."""
BiasFiller = Callable[[Tensor, WeightLayer, torch.Generator], Law]
"""Writes the bias of a weight layer: a float32 CPU tensor (parts * out,)."""
RestFiller = Callable[[str, Tensor, nn.Module, torch.Generator], Law | None]
"""Writes any other parameter (its short name, its values in float32 on the CPU, its module); None leaves it to the rules."""


@dataclass(frozen=True)
class Recipe:
    """What a scheme does to each parameter: `fill` to weights, and where it has an opinion to biases and to the rest.

    With `whole` a packed weight is handed over in one piece, all gates together.
    """

    name: str
    fill: Filler
    fill_bias: BiasFiller | None = None
    fill_rest: RestFiller | None = None
    whole: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Override:
    """A glob on parameter or layer names, and the recipe that holds there.

    One that matches weights sets those (and their biases, where the recipe has an opinion); one that matches none sets
    the very parameters it matches, with `fill`: `"*.gamma": zeros`.
    """

    pattern: str
    recipe: Recipe


class _Outcome(NamedTuple):
    """What was done to a parameter: `filled` is the value that all of it has where one is known, `moments` are those of the weight
    that is computed from it.
    """

    setter: Setter
    by: str
    law: Law | None = None
    layer: WeightLayer | None = None
    filled: float | None = None
    moments: tuple[float, float] | None = None


def assign(
    model: nn.Module,
    layers: tuple[WeightLayer, ...],
    recipe: Recipe,
    *,
    rules: InitRules = InitRules(),
    overrides: tuple[Override, ...] = (),
    seed: int = 0,
) -> InitReport:
    """Initializes `model` in place; every parameter draws from its own generator, keyed by (seed, its name).

    In this order the first that applies decides: excluded by name, frozen, weight of a layer (override, else `fill`),
    bias (override, constant, else `fill_bias`, else zero), any other parameter that an override names, `fill_rest`,
    norm (1 and 0), embedding and PReLU (kept), else untouched.
    Raises: ConfigError for lazy and meta parameters, for patterns that match nothing, and, under `rules.strict`, for
    untouched parameters; nothing is changed then (with `strict`: everything but those is set).
    """
    parameters = parameters_of(model)
    refuse_without_storage(parameters.first)
    for override in overrides:
        refuse_unused(override.pattern, "init.layers", [*parameters.by_name, *(layer.name for layer in layers)])
    job = _Assignment(parameters, layers, recipe, rules, overrides, seed)
    with torch.no_grad():
        entries = {name: job.set(name, parameters.first[name]) for name in sorted(parameters.first, key=job.comes_late)}
        entries |= job.normed(entries)
    report = InitReport(scheme=recipe.name, parameters=tuple(entries[name] for name in parameters.first), notes=tuple(job.notes))
    if rules.strict and report.untouched:
        named = ", ".join(report.untouched)
        raise ConfigError(f"Nothing initializes {named}. Name them under init.layers or init.exclude, or leave out --strict.")
    return report


def describe(
    name: str,
    parameter: Tensor,
    setter: Setter,
    by: str,
    law: Law | None = None,
    layer: WeightLayer | None = None,
    moments: tuple[float, float] | None = None,
) -> ParameterInit:
    """The report's entry for a parameter as it is now; mean and std (population) are measured unless given.

    Of a complex one the mean is that of the real parts and the std is the root of the mean of |w - mean|^2.
    """
    mean, std = moments or (moments_of(parameter.detach()) if parameter.numel() else (None, None))
    return ParameterInit(
        parameter=name,
        shape=tuple(parameter.shape),
        setter=setter,
        by=by,
        law=law.name if law else None,
        fan_in=layer.fan_in if layer else None,
        fan_out=layer.fan_out if layer else None,
        target_mean=law.mean if law else None,
        target_std=law.std if law else None,
        mean=mean,
        std=std,
    )


def moments_of(values: Tensor) -> tuple[float, float]:
    """Mean and population deviation to six digits or better: plain sums, in float64 where float32 is not sure of them."""
    if values.is_complex():
        return values.mean().real.item(), (values - values.mean()).abs().square().mean().sqrt().item()
    values, count = values.reshape(-1), values.numel()
    if values.dtype == torch.float32:
        mean, square = values.sum().item() / count, sum(part.dot(part).item() for part in torch.split(values, BLOCK)) / count
        if 1e-20 < square < 1e20 and mean**2 < 0.9 * square:
            return mean, math.sqrt(square - mean**2)
    values = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
    mean, square = values.sum().item() / count, torch.linalg.vector_norm(values).item() ** 2 / count
    variance = square - mean**2  # of equal values: rounding
    return mean, math.sqrt(variance) if variance > 1e-12 * square else 0.0


def draw(parameter: Tensor, layer: WeightLayer, recipe: Recipe, source: torch.Generator) -> Law:
    """Fills a weight in place: drawn in float32 on the CPU as (out, in / groups, *kernel), then turned, cast and copied
    where it is not such a tensor itself.

    A complex weight gets independent real and imaginary parts of half the variance each. Of a stack each matrix is
    drawn for itself.
    """
    if layer.axes:
        return _stack(parameter, layer, recipe, source)
    if parameter.dtype is torch.float32 and parameter.is_cpu and not layer.transposed and parameter.is_contiguous():
        return _filled(parameter.detach(), layer, recipe, source)
    shape = tuple(parameter.shape)
    if layer.transposed:
        shape = (shape[1] * layer.groups, shape[0] // layer.groups, *shape[2:])
    values = torch.empty(shape, dtype=torch.float32, device="cpu")
    law = _filled(values, layer, recipe, source)
    if parameter.is_complex():
        imaginary = torch.empty(shape, dtype=torch.float32, device="cpu")
        _filled(imaginary, layer, recipe, source)
        values = torch.complex(values, imaginary) / math.sqrt(2.0)
        law = Law(f"complex {law.name}", law.std, law.mean / math.sqrt(2.0))
    if layer.transposed:
        values = values.reshape(layer.groups, shape[0] // layer.groups, *shape[1:]).transpose(1, 2).flatten(0, 1)
    parameter.copy_(values)
    return law


def _stack(parameter: Tensor, layer: WeightLayer, recipe: Recipe, source: torch.Generator) -> Law:
    """Fills each matrix (out, in, *kernel) of a parameter that holds several, or one in an order of its own."""
    order = [axis for axes in layer.axes for axis in axes]
    turned = parameter.permute(order)
    one = replace(layer, axes=(), transposed=False, weight=nn.Parameter(parameter.new_empty(_drawn_shape(layer)), requires_grad=False))
    drawn = torch.empty((layer.stacked, *one.weight.shape), dtype=parameter.dtype, device="cpu")
    laws = [draw(values, one, recipe, source) for values in drawn]
    turned.copy_(drawn.reshape(turned.shape))
    return laws[0]


def _drawn_shape(layer: WeightLayer) -> tuple[int, ...]:
    first, second, *kernel = layer.shape
    return (second, first, *kernel) if layer.transposed else (first, second, *kernel)


def _filled(values: Tensor, layer: WeightLayer, recipe: Recipe, source: torch.Generator) -> Law:
    if recipe.whole or layer.parts == 1:
        return recipe.fill(values, layer, source)
    laws = [recipe.fill(part, layer, source) for part in values.chunk(layer.parts)]
    return together(laws)


def together(laws: Sequence[Law]) -> Law:
    """The law of several parts of equal size as one."""
    if len(set(laws)) == 1:
        return laws[0]
    mean = sum(law.mean for law in laws) / len(laws)
    square = sum(law.std**2 + law.mean**2 for law in laws) / len(laws)
    return Law(f"{laws[0].name}, by part", math.sqrt(max(0.0, square - mean**2)), mean)


class _Assignment:
    """One call of `assign`: the lookup tables that deciding about a parameter needs."""

    def __init__(
        self,
        parameters: Parameters,
        layers: tuple[WeightLayer, ...],
        recipe: Recipe,
        rules: InitRules,
        overrides: tuple[Override, ...],
        seed: int,
    ) -> None:
        self.recipe, self.rules, self.overrides, self.seed = recipe, rules, overrides, seed
        self.names, self.module_of, named = parameters.names, parameters.owner, parameters.by_name
        self.layer_of = {id(layer.weight): layer for layer in layers}
        biases = {_bias_name(layer): layer for layer in layers}
        self.layer_of_bias = {id(named[bias]): layer for bias, layer in biases.items() if bias in named}
        self.layer_of_length = {id(named[layer.length]): layer for layer in layers if layer.length in named}
        self.through = {layer.parameter: through for layer in layers if (through := computed(layer.module, layer.weight)) is not None}
        self.parts = {id(part): layer for layer in layers for part in _parts(layer, self.through.get(layer.parameter))}
        self.late = {*self.layer_of_length, *self.parts}
        self.named = named
        self.notes: list[str] = []
        self.direct = [
            override for override in overrides if not any(matches(override.pattern, layer, self._names(layer)) for layer in layers)
        ]

    def comes_late(self, name: str) -> bool:
        """Whether a parameter follows from another: the length in a weight norm, from the weight that a scheme draws."""
        return id(self.named[name]) in self.late

    def set(self, name: str, parameter: nn.Parameter) -> ParameterInit:
        """Sets one parameter and gives its entry."""
        names = self.names[id(parameter)]
        outcome = self._outcome(name, names, parameter)
        others = names[1:] and [other for other in names if other != name]
        by = outcome.by + (f", tied with {', '.join(others)}" if others else "")
        known = (outcome.filled, 0.0) if outcome.filled is not None and parameter.numel() else outcome.moments
        return describe(name, parameter, outcome.setter, by, outcome.law, outcome.layer, known)

    def _names(self, layer: WeightLayer) -> list[str]:
        return self.names.get(id(layer.weight), [])

    def _outcome(self, name: str, names: list[str], parameter: nn.Parameter) -> _Outcome:
        """The rules in their order: carries out the first that holds."""
        key = id(parameter)
        if why := self.rules.left_alone(names):
            return _Outcome(Setter.EXCLUDED, why, layer=self.layer_of.get(key))
        if not parameter.requires_grad:
            return _Outcome(Setter.FROZEN, "frozen (requires_grad is False)", layer=self.layer_of.get(key))
        if key in self.layer_of:
            return self._weight(self.layer_of[key], parameter, names, generator(self.seed, "init", name))
        if key in self.parts:
            return _Outcome(Setter.RULE, f"set along with '{self.parts[key].parameter}'")
        if key in self.layer_of_length and self.layer_of_length[key].weight.requires_grad:
            return _length(parameter, self.layer_of_length[key].weight)
        for override in self.direct:
            if matches(override.pattern, None, names):
                plain = _as_layer(name, parameter, self.module_of[key])
                law = draw(parameter, plain, override.recipe, generator(self.seed, "init", name))
                return _Outcome(Setter.RULE, f"{override.recipe.name} ('{override.pattern}')", law)
        if key in self.layer_of_bias:
            return self._bias(self.layer_of_bias[key], name, parameter)
        return self._rest(name, parameter)

    def normed(self, entries: dict[str, ParameterInit]) -> dict[str, ParameterInit]:
        """The entries of weight-normed weights that are not what was drawn, as their length was not to be set; with notes."""
        changed = {}
        for layer in self.layer_of.values():
            through, entry = self.through.get(layer.parameter), entries.get(layer.parameter)
            if through is None or not through.is_weight_norm or entry is None or not layer.weight.numel():
                continue
            through.refresh()
            mean, std = moments_of(through.value())
            if entry.setter in {Setter.SCHEME, Setter.RULE} and abs(std - (entry.std or 0.0)) > SAME * std:
                by = f"{entry.by}, through {through.words}"
                changed[entry.parameter] = entry.model_copy(
                    update={"law": None, "target_mean": None, "target_std": None, "mean": mean, "std": std, "by": by}
                )
                self.notes.append(_changed(layer, through, std, entry.std or 0.0))
        return changed

    def _weight(self, layer: WeightLayer, parameter: nn.Parameter, names: list[str], source: torch.Generator) -> _Outcome:
        override = next((override for override in self.overrides if matches(override.pattern, layer, names)), None)
        recipe = override.recipe if override else self.recipe
        setter, by = (Setter.RULE, f"{recipe.name} ('{override.pattern}')") if override else (Setter.SCHEME, recipe.name)
        through = self.through.get(layer.parameter)
        if through is None or through.is_weight_norm:
            return _Outcome(setter, by, draw(parameter, layer, recipe, source), layer)
        values = torch.empty_like(through.value(), memory_format=torch.contiguous_format)
        law = draw(values, layer, recipe, source)
        written = through.write(values)
        if not written and values.shape == parameter.shape:
            parameter.copy_(values)
        elif not written:
            law = draw(parameter, layer, recipe, generator(self.seed, "init", layer.parameter))
        as_drawn, used = through.gives(values), through.value()
        moments = moments_of(used) if used.numel() else None
        if not moments or as_drawn:
            return _Outcome(setter, by, law, layer, moments=moments)
        self.notes.append(_changed(layer, through, moments[1], moments_of(values)[1], written=written))
        return _Outcome(setter, f"{by}, through {through.words}", None, layer, moments=moments)

    def _bias(self, layer: WeightLayer, name: str, parameter: nn.Parameter) -> _Outcome:
        override = next((override for override in self.overrides if matches(override.pattern, layer, self._names(layer))), None)
        recipe = override.recipe if override else self.recipe
        if self.rules.bias != "scheme" or recipe.fill_bias is None:
            return _constant(parameter, 0.0 if self.rules.bias == "scheme" else self.rules.bias, "bias rule")
        values = torch.zeros(parameter.shape, dtype=torch.float32, device="cpu")
        law = recipe.fill_bias(values, layer, generator(self.seed, "init", name))
        parameter.copy_(values)
        if override:
            return _Outcome(Setter.RULE, f"{recipe.name} ('{override.pattern}')", law)
        return _Outcome(Setter.SCHEME, recipe.name, law)

    def _rest(self, name: str, parameter: nn.Parameter) -> _Outcome:
        module, short = self.module_of[id(parameter)], name.rpartition(".")[2]
        if self.recipe.fill_rest is not None:
            values = (
                parameter.detach().to("cpu", torch.float32, copy=True)
                if not parameter.is_complex()
                else torch.zeros(parameter.shape, dtype=torch.float32, device="cpu")
            )
            law = self.recipe.fill_rest(short, values, module, generator(self.seed, "init", name))
            if law is not None:
                parameter.copy_(values)
                return _Outcome(Setter.SCHEME, self.recipe.name, law)
        if isinstance(module, NORMS):
            return _constant(parameter, 0.0 if short == "bias" else 1.0, "norm rule")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return _Outcome(Setter.KEPT, "an embedding keeps its values")
        if isinstance(module, nn.PReLU):
            return _Outcome(Setter.KEPT, "a PReLU slope keeps its value")
        if isinstance(module, nn.MultiheadAttention) and short in {"bias_k", "bias_v"}:
            return _Outcome(Setter.KEPT, "an added key or value keeps its values")
        if short == "bias" or short.startswith("bias_") or short.endswith("_bias"):
            return _constant(parameter, 0.0 if self.rules.bias == "scheme" else self.rules.bias, "bias rule")
        return _Outcome(Setter.UNTOUCHED, "nothing")


def _parts(layer: WeightLayer, through: Computed | None) -> list[Tensor]:
    """What a weight is computed from beside `layer.weight`, and is set along with it."""
    if through is None or through.is_weight_norm or not isinstance(through.by, ParametrizationList):
        return []
    return [part for part in originals_of(through.by) if part is not layer.weight]


def _changed(layer: WeightLayer, through: Computed, std: float, drawn: float, *, written: bool = True) -> str:
    """The note on a weight that is not what was drawn."""
    way = "" if written else f" and cannot be set through it, so that what is set is '{layer.parameter}'"
    return f"'{layer.name}' goes through {through.words}{way}: the std of its weight is {std:.4g}, not the {drawn:.4g} that was drawn."


def _bias_name(layer: WeightLayer) -> str:
    """The layer's bias; where it was not told, what torch would call it (`in_proj_weight` has `in_proj_bias`)."""
    prefix, dot, short = layer.parameter.rpartition(".")
    return layer.bias or prefix + dot + short.replace("weight", "bias")


def _constant(parameter: nn.Parameter, value: float, rule: str) -> _Outcome:
    parameter.fill_(value)
    return _Outcome(Setter.RULE, f"{rule}: {value:g}", Law("constant", 0.0, value), filled=value if value in {0.0, 1.0} else None)


def _length(parameter: nn.Parameter, weight: Tensor) -> _Outcome:
    """Weight norm uses length times direction: with the length of what was drawn, the layer's weight is what was drawn."""
    shared = [dim for dim in range(weight.dim()) if parameter.dim() == 0 or parameter.shape[dim] == 1]
    parameter.copy_(torch.linalg.vector_norm(weight.float(), dim=shared, keepdim=parameter.dim() > 0))
    return _Outcome(Setter.RULE, "weight norm: the length of the weight drawn")


def _as_layer(name: str, parameter: nn.Parameter, module: nn.Module) -> WeightLayer:
    """A parameter that is no weight of a layer, seen as one: vectors multiply one number (fan 1), the rest is (out, in, ...)."""
    shape, field = tuple(parameter.shape), math.prod(parameter.shape[2:])
    fans = (shape[1] * field, shape[0] * field) if len(shape) >= 2 else (1, 1)
    return WeightLayer(name=name, parameter=name, module=module, weight=parameter, fan_in=fans[0], fan_out=fans[1], receptive_field=field)

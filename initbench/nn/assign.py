"""Sets every parameter of a model from per-weight functions and rules, and reports on each one."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from initbench.config import InitRules
from initbench.errors import ConfigError
from initbench.nn.layers import NORMS, WeightLayer
from initbench.nn.seeds import generator
from initbench.results import InitReport, ParameterInit, Setter


@dataclass(frozen=True)
class Law:
    """The distribution that a filler drew from: its name, mean and standard deviation."""

    name: str
    std: float
    mean: float = 0.0


Filler = Callable[[Tensor, WeightLayer, torch.Generator], Law]
"""Writes one weight: a float32 CPU tensor (out, in, *kernel), one part of it where the weight is packed."""
BiasFiller = Callable[[Tensor, WeightLayer, torch.Generator], Law]
"""Writes the bias of a weight layer: a float32 CPU tensor (out,)."""
Override = tuple[str, str, Filler]
"""A glob on parameter or layer names, the name of the scheme that holds there, and its filler."""


def assign(
    model: nn.Module,
    layers: tuple[WeightLayer, ...],
    *,
    name: str,
    fill: Filler,
    fill_bias: BiasFiller | None = None,
    rules: InitRules = InitRules(),
    overrides: tuple[Override, ...] = (),
    seed: int = 0,
) -> InitReport:
    """Initializes `model` in place; every parameter draws from its own generator, keyed by (seed, its name).

    In this order the first that applies decides: excluded by name, frozen, weight of a layer (pattern, else `fill`),
    bias of a layer (constant, else `fill_bias`, else zero), norm (1 and 0), embedding (kept), else untouched.
    Raises: ConfigError for parameters on the meta device and, under `rules.strict`, for untouched ones.
    """
    by_weight = {layer.parameter: layer for layer in layers}
    by_bias = {layer.bias: layer for layer in layers if layer.bias is not None}
    owners = {id(parameter): module for module in model.modules() for parameter in module.parameters(recurse=False)}
    entries: list[ParameterInit] = []
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.is_meta:
                raise ConfigError(f"'{parameter_name}' is on the meta device and has no storage. Call model.to_empty(device=...) first.")
            setter, by, law, layer = _set(
                parameter_name, parameter, owners[id(parameter)], by_weight, by_bias, name, fill, fill_bias, rules, overrides, seed
            )
            entries.append(describe(parameter_name, parameter, setter, by, law, layer))
    report = InitReport(scheme=name, parameters=tuple(entries))
    if rules.strict and report.untouched:
        raise ConfigError(
            f"Nothing initializes {', '.join(report.untouched)}. Name them under init.layers or init.exclude, or leave out --strict."
        )
    return report


def describe(
    name: str, parameter: Tensor, setter: Setter, by: str, law: Law | None = None, layer: WeightLayer | None = None
) -> ParameterInit:
    """The report's entry for a parameter as it is now; mean and std (population) are measured in float32."""
    values = parameter.detach().float()
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
        mean=values.mean().item() if values.numel() else None,
        std=values.std(correction=0).item() if values.numel() else None,
    )


def draw(parameter: Tensor, layer: WeightLayer, fill: Filler, source: torch.Generator) -> Law:
    """Fills a weight in place: drawn in float32 on the CPU as (out, in, *kernel), then turned, cast and copied."""
    shape = tuple(parameter.shape)
    if layer.transposed:
        shape = (shape[1] * layer.groups, shape[0] // layer.groups, *shape[2:])
    values = torch.empty(shape)
    laws = [fill(part, layer, source) for part in values.chunk(layer.parts)]
    if layer.transposed:
        grouped = values.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        values = grouped.flatten(0, 1)
    parameter.copy_(values)
    return laws[0]


def _set(
    name: str,
    parameter: nn.Parameter,
    module: nn.Module,
    by_weight: dict[str, WeightLayer],
    by_bias: dict[str, WeightLayer],
    scheme: str,
    fill: Filler,
    fill_bias: BiasFiller | None,
    rules: InitRules,
    overrides: tuple[Override, ...],
    seed: int,
) -> tuple[Setter, str, Law | None, WeightLayer | None]:
    excluded = next((part for part in rules.exclude if part in name), None)
    if excluded is not None:
        return Setter.EXCLUDED, f"excluded by '{excluded}'", None, None
    if not parameter.requires_grad:
        return Setter.FROZEN, "frozen (requires_grad is False)", None, None
    layer = by_weight.get(name)
    if layer is not None:
        for pattern, other, other_fill in overrides:
            if fnmatchcase(name, pattern) or fnmatchcase(layer.name, pattern):
                return Setter.RULE, f"{other} ('{pattern}')", draw(parameter, layer, other_fill, generator(seed, "init", name)), layer
        return Setter.SCHEME, scheme, draw(parameter, layer, fill, generator(seed, "init", name)), layer
    layer = by_bias.get(name)
    if layer is not None:
        if rules.bias == "scheme" and fill_bias is not None:
            values = torch.empty(parameter.shape)
            law = fill_bias(values, layer, generator(seed, "init", name))
            parameter.copy_(values)
            return Setter.SCHEME, scheme, law, None
        value = 0.0 if rules.bias == "scheme" else rules.bias
        parameter.fill_(value)
        return Setter.RULE, f"bias rule: {value:g}", Law("constant", 0.0, value), None
    if isinstance(module, NORMS):
        value = 0.0 if name.endswith("bias") else 1.0
        parameter.fill_(value)
        return Setter.RULE, f"norm rule: {value:g}", Law("constant", 0.0, value), None
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return Setter.KEPT, "an embedding keeps its values", None, None
    if isinstance(module, nn.PReLU):
        return Setter.KEPT, "a PReLU slope keeps its value", None, None
    return Setter.UNTOUCHED, "nothing", None, None

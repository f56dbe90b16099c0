"""The scheme `edge_of_chaos`."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.arguments import choose, number
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise
from initbench.init.gains import LINEAR, fed_by
from initbench.init.sampling import Distribution, fill_delta, fill_orthogonal, sample, scaled
from initbench.init.structural import SchemePlan, Structural
from initbench.init.suitability import channels, leaves_holes, no_centre, refuse_where
from initbench.nn.layers import WeightLayer
from initbench.theory import activations, meanfield

FAMILY = "critical"
EXAMPLE_MODEL = "mlp:activation=tanh"
ALIASES: dict[str, dict[str, object]] = {"eoc": {}, "mean_field": {}, "critical": {}}

Weights = Literal["normal", "uniform", "trunc_normal", "orthogonal", "delta_orthogonal"]
FirstLayer = Literal["same", "on_q"]


def build(*, q: float = 1.0, nonlinearity: str = "auto", distribution: Weights = "normal", first_layer: FirstLayer = "same") -> Structural:
    """Between order and chaos: gradients keep their size, and the pre-activation variance stays at q.

    sigma_w^2 = 1 / E[phi'(u)^2], sigma_b^2 = q - sigma_w^2 E[phi(u)^2] with u ~ N(0, q); W ~ N(0, sigma_w^2 / fan_in) (or
    orthogonal times sigma_w, scaled like `scaled_orthogonal`), b ~ N(0, sigma_b^2). `nonlinearity` is an activation's
    name or `auto`, the one that feeds each layer. Every q is a choice (Xiao et al. use 1 / depth); `first_layer=on_q`
    brings inputs of unit mean square to q at once.

    Applies to: networks whose activations are known, such as `mlp:activation=tanh`, at a q with sigma_b^2 >= 0 (not sigmoid at q = 1).
    Needs: nothing.

    Source: Poole et al. 2016, eq. 3; Schoenholz et al. 2017, eq. 5 (chi_1 = 1).
    """
    choose("distribution", distribution, Weights)
    choose("first_layer", first_layer, FirstLayer)
    variance = number("q", q, above=0.0)
    if nonlinearity != "auto":
        activations.find(nonlinearity)

    def plan(_: nn.Module, context: InitContext) -> SchemePlan:
        feeding = fed_by("edge_of_chaos", context.layers) if nonlinearity == "auto" else {}
        names = {layer.parameter: feeding.get(layer.parameter, nonlinearity) for layer in context.layers}
        points = {name: _critical_variances(name, variance) for name in set(names.values())}
        first = context.layers[0].parameter if context.layers else ""

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            weight_variance, bias_variance = points[names[layer.parameter]]
            if first_layer == "on_q" and layer.parameter == first:
                weight_variance = variance - bias_variance
            return _draw(weight, layer, generator, distribution, math.sqrt(weight_variance))

        def fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
            return sample(bias, "normal", math.sqrt(points[names[layer.parameter]][1]), generator)

        check = refuse_where("edge_of_chaos", lambda layer: no_centre(layer) or leaves_holes(layer))
        return SchemePlan(Layerwise("edge_of_chaos", fill, fill_bias, check=check if distribution == "delta_orthogonal" else None))

    return Structural("edge_of_chaos", plan)


def _critical_variances(nonlinearity: str, q: float) -> tuple[float, float]:
    """sigma_w^2 and sigma_b^2 with chi_1 = 1 at the fixed point q. Raises: DoesNotApply where there are none."""
    phi = activations.find("identity" if nonlinearity in LINEAR else nonlinearity)
    try:
        return meanfield.edge_of_chaos(phi, q)
    except ConfigError as error:
        raise DoesNotApply(f"'edge_of_chaos' does not apply: {str(error)[0].lower()}{str(error)[1:]}") from error


def _draw(weight: Tensor, layer: WeightLayer, generator: torch.Generator, distribution: Weights, sigma: float) -> Law:
    if distribution == "orthogonal" or distribution == "delta_orthogonal":
        inputs, outputs = channels(layer)
        flat = distribution == "orthogonal"
        wide = max(1, inputs * layer.receptive_field if flat else inputs)
        gain = sigma * math.sqrt(max(1.0, outputs / wide))
        return Law(distribution, (fill_orthogonal if flat else fill_delta)(weight, layer, generator, gain))
    drawn: Distribution = distribution
    return scaled(weight, layer, generator, gain=sigma, distribution=drawn)

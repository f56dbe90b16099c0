"""The rule `wrong_gain`."""

from collections.abc import Iterator
from typing import NamedTuple

from initbench.errors import ConfigError
from initbench.init.gains import gain_after
from initbench.linting import scale
from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject
from initbench.nn.layers import Role, WeightLayer
from initbench.nn.operations import NORMALIZATIONS

FAMILY = "law"
CODE = "IB202"
NEEDS = ("inputs",)
OFF = 1.2
"""A factor of the variance a layer that is nearer to 1 is close enough."""
FEWEST = 3
"""Layers over which a factor adds up."""
NOT_LOOKED_AT = {Role.HEAD, Role.STEM}
NOT_ODD = ("sigmoid", "softplus", "hardsigmoid", "softmax", "logsigmoid")
"""Activations that are far from zero at zero: a gain alone cannot keep their signal."""


def check(subject: Subject) -> Iterator[Finding]:
    """The gain does not fit the activation that follows: kaiming's 2 before a linear sum, xavier's 1 before a ReLU.

    Measured: of layers whose std is that of a known law, the variance of the weights times the fan in, beside 1/E[phi^2] of the
    activation phi that follows (1 for none), for the layers without a norm behind; and what that makes over all of them.
    Expected: a product within a power of ten over the network.
    Remedy:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    Source: He et al. 2015, equation 10: Var W = 2 / n keeps the variance through a ReLU; Glorot & Bengio 2010: 1 / n through a linear
    layer.
    """
    factors: dict[str, list[tuple[WeightLayer, float]]] = {}
    for layer in subject.layers:
        if layer.role in NOT_LOOKED_AT or layer.name in subject.normed or not scale.explainable(subject, layer):
            continue
        if layer.block is not None and _normed(subject, layer):
            continue
        if not scale.right(subject, layer) or scale.is_round(subject, layer):
            continue
        factor = _factor(subject, layer)
        if factor is not None and max(factor, 1 / factor) > OFF:
            factors.setdefault(layer.activation or "nothing", []).append((layer, factor))
    for activation, found in factors.items():
        row = _longest_row(subject, {layer.name: factor for layer, factor in found})
        if row.layers >= FEWEST:
            yield _finding(subject, activation, found, row)


class Row(NamedTuple):
    """Layers that the signal passes one after the other, and the product of their factors."""

    layers: int = 0
    product: float = 1.0


def _longest_row(subject: Subject, factors: dict[str, float]) -> Row:
    """The most of the layers with a factor that stand in a row; experts side by side do not."""
    rows: dict[str, Row] = {}
    for layer in subject.layers:
        before = max((rows.get(source, Row()) for source in layer.surroundings.sources), key=lambda row: row.layers, default=Row())
        factor = factors.get(layer.name)
        rows[layer.name] = before if factor is None else Row(before.layers + 1, before.product * factor)
    return max(rows.values(), key=lambda row: row.layers, default=Row())


def _factor(subject: Subject, layer: WeightLayer) -> float | None:
    """The variance behind the layer and its activation over that before; None where the activation has no such gain."""
    std = subject.laws[layer.parameter].std or 0.0
    if layer.activation and layer.activation.partition(":")[0] in NOT_ODD:
        return None
    try:
        gain = gain_after(layer)
    except ConfigError:
        return None
    return std**2 * layer.fan_in / gain**2


def _normed(subject: Subject, layer: WeightLayer) -> bool:
    """Whether a norm stands anywhere in the layer's residual block."""
    own = [other for other in subject.layers if other.block == layer.block]
    return any(
        step.partition(":")[0] in NORMALIZATIONS for other in own for step in (*other.surroundings.path, *other.surroundings.between)
    )


def _finding(subject: Subject, activation: str, found: list[tuple[WeightLayer, float]], row: Row) -> Finding:
    first, factor = found[0]
    ratios = [ratio for ratio in (subject.health.activations, subject.health.gradients) if ratio]
    gain = gain_after(first)
    end = {layer.parameter for layer, _ in found}
    seen = f"; measured from the first hidden layer to the last: {ratios[0]:.3g}x" if ratios else ""
    return Finding(
        severity=Severity.WARNING if subject.health.lost and not subject.has_norms else Severity.INFO,
        parameters=tuple(name for name in subject.layer_of if name in end),
        message=f"the gain does not fit what follows, {activation}",
        measured=f"Var W x fan in = {factor * gain**2:.3g}, where {activation} needs {gain**2:.3g}",
        effect=f"each layer multiplies the variance by {factor:.3g}, {row.layers} in a row by {row.product:.3g}{seen}",
    )

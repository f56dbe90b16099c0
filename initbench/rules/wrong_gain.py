"""The rule `wrong_gain`."""

from collections.abc import Iterator
from itertools import pairwise

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
KEPT = 10.0
"""A change of the variance over a row that is worth no word."""
AGREES = 10.0
"""So near theory is to what was measured where it is told."""
NOT_LOOKED_AT = {Role.HEAD, Role.STEM}
NOT_ODD = ("sigmoid", "softplus", "hardsigmoid", "softmax", "logsigmoid")
"""Activations that are far from zero at zero: a gain alone cannot keep their signal."""


def check(subject: Subject) -> Iterator[Finding]:
    """The gain does not fit the activation that follows: kaiming's 2 before a linear sum, xavier's 1 before a ReLU.

    Measured: of layers whose std is that of a known law, the variance of the weights times the fan in, beside 1/E[phi^2] of the
    activation phi that follows (1 for none), for the layers without a norm behind; and how the variance changes over those of them that
    stand in a row, measured on the batch, beside what mean-field theory gives from the first of them on: phi at the variance that is
    there, as tanh is nearly linear for a small one.
    Expected: a variance that changes by less than a power of ten over the row.
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
        row = _longest_row(subject, {layer.name for layer, _ in found})
        change = _measured(subject, row)
        if len(row) >= FEWEST and change is not None and not 1 / KEPT < change < KEPT:
            yield _finding(subject, activation, found, row, change)


def _longest_row(subject: Subject, names: set[str]) -> tuple[WeightLayer, ...]:
    """The most of some layers that the signal passes one after the other; experts side by side do not stand in a row."""
    rows: dict[str, tuple[WeightLayer, ...]] = {}
    for layer in subject.layers:
        before = max((rows.get(source, ()) for source in layer.surroundings.sources), key=len, default=())
        rows[layer.name] = (*before, layer) if layer.name in names else before
    return max(rows.values(), key=len, default=())


def _measured(subject: Subject, row: tuple[WeightLayer, ...]) -> float | None:
    """The variance of the pre-activations at the end of a row over that at its beginning."""
    ends = [subject.measured[layer.parameter].value("pre_activation_variance") for layer in (row[0], row[-1])] if row else []
    return ends[1] / ends[0] if len(ends) == 2 and ends[0] and ends[1] is not None else None


def _expected(subject: Subject, row: tuple[WeightLayer, ...]) -> float | None:
    """The same by theory, of layers that follow one another directly: q = Var W x fan in x E[phi^2] at the variance before."""
    begin = subject.measured[row[0].parameter].value("pre_activation_variance") or 0.0
    q = begin
    for before, layer in pairwise(row):
        if before.name not in layer.surroundings.sources or not q:
            return None
        q *= (subject.laws[layer.parameter].std or 0.0) ** 2 * layer.fan_in / gain_after(before, q) ** 2
    return q / begin if begin else None


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


def _finding(
    subject: Subject, activation: str, found: list[tuple[WeightLayer, float]], row: tuple[WeightLayer, ...], change: float
) -> Finding:
    first, factor = found[0]
    gain = gain_after(first)
    end = {layer.parameter for layer, _ in found}
    expected = _expected(subject, row)
    agrees = expected is not None and change / AGREES < expected < change * AGREES
    theory = f", {expected:.3g} times by theory" if agrees else ""
    return Finding(
        severity=Severity.WARNING if subject.health.lost and not subject.has_norms else Severity.INFO,
        parameters=tuple(name for name in subject.layer_of if name in end),
        message=f"the gain does not fit what follows, {activation}",
        measured=f"Var W x fan in = {factor * gain**2:.3g}, where {activation} needs {gain**2:.3g} to keep a variance of 1",
        effect=f"from {row[0].name} to {row[-1].name}, {len(row)} in a row, the variance becomes {change:.3g} times what it was{theory}",
    )

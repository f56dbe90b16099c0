"""The rule `misplaced_scaling`."""

import math
from collections.abc import Iterator

from initbench.linting.chance import deviations, error_of_std
from initbench.linting.finding import Finding, Severity, kind_of
from initbench.linting.subject import Subject
from initbench.nn.layers import WeightLayer
from initbench.nn.residual import Branch

FAMILY = "signal"
CODE = "IB302"
NEEDS = ("inputs",)
FEWEST_BRANCHES = 4
"""Below so many branches 1/sqrt(branches) is too near to 1 to be told from another scale."""


def check(subject: Subject) -> Iterator[Finding]:
    """The residual scaling sits on a weight inside the branch, and the weight that enters the stream goes without.

    Measured: the standard deviations of the weights of each residual branch. A weight that is not the last of its branch is
    smaller by 1/sqrt(number of branches), or the square root of half of them, and the last one is not.
    Expected: the scaling is on the weight whose output is added to the stream, so that N branches together add as much as one.
    In a gated MLP that is w2 (down), not w3 (up), whose output is multiplied by the gate's.
    Remedy:
        nn.init.normal_(block.mlp.w2.weight, std=0.02 / math.sqrt(2 * depth))

    Source: Radford et al. 2019 (GPT-2), section 2.3: the weights of residual layers are scaled at initialization by 1/sqrt(N),
    where N is the number of residual layers.
    """
    branches = subject.branches
    count = len(branches)
    if count < FEWEST_BRANCHES:
        return
    factors = {f"sqrt({count})": math.sqrt(count), f"sqrt({count // 2})": math.sqrt(count / 2)}
    found: dict[tuple[str, str], list[tuple[WeightLayer, WeightLayer]]] = {}
    for branch in branches:
        for layer in branch.layers[:-1]:
            factor = _scaled_by(subject, layer, branch, factors)
            if factor is not None:
                found.setdefault((factor, kind_of(layer.name)), []).append((layer, branch.last))
    for (factor, _), pairs in found.items():
        if 2 * len(pairs) >= _of_this_kind(branches, pairs[0][0]):
            yield _finding(subject, factor, pairs, count)


def _scaled_by(subject: Subject, layer: WeightLayer, branch: Branch, factors: dict[str, float]) -> str | None:
    """The factor by which a weight is smaller than the last of its branch, where that is one of the residual ones."""
    inner, end = subject.laws[layer.parameter].std, subject.laws[branch.last.parameter].std
    if not inner or not end:
        return None
    error = deviations(len(subject.layers)) * math.hypot(error_of_std(layer.weight.numel()), error_of_std(branch.last.weight.numel()))
    return next((name for name, factor in factors.items() if abs(end / inner / factor - 1) < error), None)


def _of_this_kind(branches: tuple[Branch, ...], layer: WeightLayer) -> int:
    return sum(kind_of(other.name) == kind_of(layer.name) for branch in branches for other in branch.layers)


def _finding(subject: Subject, factor: str, pairs: list[tuple[WeightLayer, WeightLayer]], count: int) -> Finding:
    inner, end = pairs[0]
    laws = subject.laws
    stream = [point.value for point in subject.health.forward if point.stream]
    grown = stream[-1] / stream[0] if len(stream) > 1 and stream[0] else None
    return Finding(
        severity=Severity.WARNING,
        parameters=tuple(layer.parameter for layer, _ in pairs),
        message="residual scaling sits on the wrong matrix",
        measured=f"std {laws[inner.parameter].std:.3g} here, smaller by {factor}, and {laws[end.parameter].std:.3g} on {end.parameter}, "
        "whose output is added to the stream",
        effect="" if grown is None else f"the stream's variance grows {grown:.3g}x from the first to the last of {count} branches",
        fix=f"nn.init.normal_(model.{end.parameter}, std={laws[end.parameter].std:.3g} / math.{factor})",
    )

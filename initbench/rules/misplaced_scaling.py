"""The rule `misplaced_scaling`."""

import math
from collections.abc import Iterator

from initbench.linting import scale
from initbench.linting.finding import Finding, Severity, kind_of
from initbench.linting.subject import Subject
from initbench.nn.layers import WeightLayer

FAMILY = "signal"
CODE = "IB302"
NEEDS = ("inputs",)
FEWEST_OF_A_KIND = 2
FEWEST_BY_LAW = 8
"""Branches from which on a scale is told from one that other fans give."""
FEWEST_BRANCHES = 4
"""Below so many branches 1/sqrt(branches) is too near to 1 to be told from another scale."""


def check(subject: Subject) -> Iterator[Finding]:
    """The residual scaling sits on a weight inside the branch, and the weight that enters the stream goes without.

    Measured: the standard deviations of the weights of each residual branch. A weight that is not the last of its branch is smaller,
    by 1/sqrt(number of branches) or the root of half of them, than the constant that most weights of the model share or than the law
    that fits its fans; the last one is as large as these.
    Expected: the scaling is on the weight whose output is added to the stream, so that N branches together add as much as one. In a
    product that is linear in both the sum comes to the same, and only the gradients are shifted from one to the other.
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
    factors = {f"sqrt({count})": math.sqrt(count), f"sqrt({count // 2})": math.sqrt(count // 2)}
    usual = scale.usual_std(subject)
    found: dict[tuple[str, str], list[tuple[WeightLayer, WeightLayer]]] = {}
    for branch in branches:
        if not _is_plain(subject, branch.last, usual):
            continue
        for layer in branch.layers[:-1]:
            factor = _scaled_by(subject, layer, branch.last, factors, usual)
            if factor is not None:
                found.setdefault((factor, kind_of(layer.name)), []).append((layer, branch.last))
    for (factor, kind), pairs in found.items():
        every = sum(kind_of(other.name) == kind for branch in branches for other in branch.layers)
        if 4 * len(pairs) >= 3 * every and len(pairs) >= FEWEST_OF_A_KIND:
            yield _finding(subject, factor, pairs)


def _is_plain(subject: Subject, layer: WeightLayer, usual: float | None) -> bool:
    """Whether a weight is not scaled: as large as most, or as a law with its fans."""
    return subject.has_std(layer, usual) if usual is not None else bool(scale.right(subject, layer))


def _scaled_by(subject: Subject, layer: WeightLayer, end: WeightLayer, factors: dict[str, float], usual: float | None) -> str | None:
    """The factor by which a weight is smaller than it would be without scaling: than the usual one, or than the law of the branch's end."""
    own = subject.laws[layer.parameter].std
    if not own or layer.weight.numel() < scale.FEWEST or layer.parameter in subject.queries:
        return None
    if usual is not None:
        return next((name for name, factor in factors.items() if subject.has_std(layer, usual / factor)), None)
    if scale.right(subject, layer) or len(subject.branches) < FEWEST_BY_LAW or layer.parts > 1:
        return None
    lawful = [math.sqrt(law.gain / layer.fan_in) for law in scale.right(subject, end) if law.of == "the fan in"]
    return next((name for name, factor in factors.items() for std in lawful if subject.has_std(layer, std / factor)), None)


def _finding(subject: Subject, factor: str, pairs: list[tuple[WeightLayer, WeightLayer]]) -> Finding:
    inner, end = pairs[0]
    laws = subject.laws
    times = f"{float(factor[5:-1]) ** 0.5:.3g}x"
    return Finding(
        severity=Severity.WARNING,
        parameters=tuple(layer.parameter for layer, _ in pairs),
        message="residual scaling sits on the wrong matrix",
        measured=f"std {laws[inner.parameter].std:.3g} here, smaller by {factor}, and {laws[end.parameter].std:.3g} on {end.parameter}, "
        "whose output is added to the stream",
        effect=f"where the branch is linear in both, what it adds is as small as was meant, but gradients are {times} larger here and "
        f"{times} smaller on {end.parameter}; through an activation between them it adds more",
    )

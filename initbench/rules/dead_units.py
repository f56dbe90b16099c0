"""The rule `dead_units`."""

from collections.abc import Iterator

from initbench.linting import symptoms
from initbench.linting.finding import CannotTell, Finding, Link, Severity
from initbench.linting.subject import Subject
from initbench.linting.symptoms import Kind

FAMILY = "signal"
CODE = "IB306"
NEEDS = ("inputs",)
NEARLY_ALL = 0.97
"""The share of the units of a layer that is an error."""


def check(subject: Subject) -> Iterator[Finding]:
    """Most units of a layer give zero for every input of the batch: they get no gradient, and learn only if what reaches them changes.

    Measured: the share of units (neurons, channels) that are zero on the whole batch, at every position; on 8 inputs or more. A weight
    of zeros is left to the rules on zeros. Where a bias, a norm or a zero looks spoiled, the pass is measured again without it: it is
    named where the units live then. Layers that are dead because all that reaches them is, are not named.
    Expected: few: a ReLU that is on for half of the inputs is off on all n of them with a chance of 1/2^n, where inputs differ.
    Remedy:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)

    Source: Lu et al. 2020, Dying ReLU and initialization; He et al. 2015.
    """
    shares = symptoms.dead(subject)
    if not shares:
        return
    if symptoms.is_without_signal(subject):
        raise CannotTell(symptoms.NO_SIGNAL)
    for causes, weights in subject.causes.parted(Kind.DEAD, shares).items():
        first = [name for name in weights if not _is_behind(subject, name, shares)]
        if first:
            yield _finding(subject, causes, weights, first, shares)


def _is_behind(subject: Subject, name: str, shares: dict[str, float]) -> bool:
    """Whether all that reaches a layer comes from units that are dead."""
    sources = subject.layer_of[name].surroundings.sources
    dead = {subject.layer_of[other].name for other, share in shares.items() if share == 1}
    return bool(sources) and set(sources) <= dead


def _finding(subject: Subject, causes: tuple[str, ...], weights: list[str], first: list[str], shares: dict[str, float]) -> Finding:
    worst = max(first, key=shares.__getitem__)
    behind = f"; {len(weights) - len(first)} more behind" if len(weights) > len(first) else ""
    later = bool(causes) and all(_learns(subject, name) for name in causes)
    inputs = 0 if subject.given is None else len(subject.given.inputs)
    return Finding(
        severity=Severity.ERROR if shares[worst] > NEARLY_ALL and not later else Severity.WARNING,
        parameters=causes or tuple(first),
        message=f"{shares[worst]:.0%} of the units" + (f" of {subject.layer_of[worst].name}" if causes else "") + " are dead at the start",
        measured=f"zero on all {inputs} inputs: {shares[worst]:.1%} of the units of {worst}{behind}"
        + subject.causes.without(causes, "they live"),
        effect="they get no gradient before what is zero has moved" if later else "they get no gradient; the layer is as much narrower",
        link=Link.SYMPTOM if causes else None,
    )


def _learns(subject: Subject, name: str) -> bool:
    """Whether a parameter is zero and gets a gradient, at once or when other zeros have moved."""
    return name not in subject.stuck.silent and not subject.parameters.first[name].any()

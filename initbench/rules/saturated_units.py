"""The rule `saturated_units`."""

from collections.abc import Iterator

from initbench.linting import symptoms
from initbench.linting.finding import Finding, Link, Severity
from initbench.linting.subject import Subject
from initbench.linting.symptoms import Kind

FAMILY = "signal"
CODE = "IB307"
NEEDS = ("inputs",)


def check(subject: Subject) -> Iterator[Finding]:
    """Most activations of a bounded function are at its ends, where its slope is next to zero: a unit or a gate that is shut or open.

    Measured: the share of activations within 1 % of an end of the function (tanh beyond 0.98). Where a bias or a norm looks spoiled, the
    pass is measured again without it: it is named where the activations come off their ends then.
    Expected: few.
    Remedy:
        nn.init.xavier_normal_(layer.weight)

    Source: Glorot & Bengio 2010, section 3.
    """
    shares = symptoms.saturated(subject)
    if not shares:
        return
    for causes, weights in subject.causes.parted(Kind.SATURATED, shares).items():
        worst = max(weights, key=shares.__getitem__)
        layer = subject.layer_of[worst]
        size = "" if causes else f"; weights of std {subject.laws[worst].std or 0.0:.3g}, fan in {layer.fan_in}"
        yield Finding(
            severity=Severity.WARNING,
            parameters=causes or tuple(weights),
            message=f"{shares[worst]:.0%} of the activations" + (f" of {layer.name}" if causes else "") + " are saturated at the start",
            measured=f"within 1 % of an end of {layer.activation}: {shares[worst]:.1%} of the activations of {worst}{size}"
            + subject.causes.without(causes, "they are not"),
            effect="the slope there is at most a few percent of the steepest: gradients shrink by as much in each such layer",
            link=Link.SYMPTOM if causes else None,
        )

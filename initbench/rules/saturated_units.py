"""The rule `saturated_units`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject

FAMILY = "signal"
CODE = "IB307"
NEEDS = ("inputs",)
MANY = 0.5
SMOOTH = {"tanh", "sigmoid", "erf", "softsign", "hardtanh", "hardsigmoid"}
"""Those that are at their ends for no input that is of size one; ReLU6 and its like are zero for half of them."""


def check(subject: Subject) -> Iterator[Finding]:
    """Most activations of a bounded function are at its ends, where its slope is next to zero.

    Measured: the share of activations within 1 % of an end of the function (tanh beyond 0.98).
    Expected: few.
    Remedy:
        nn.init.xavier_normal_(layer.weight)

    Source: Glorot & Bengio 2010, section 3.
    """
    shares: dict[str, float] = {}
    for name, measured in subject.measured.items():
        share, activation = measured.saturated_fraction or 0.0, (subject.layer_of[name].activation or "").partition(":")[0]
        if share > MANY and activation in SMOOTH:
            shares[name] = share
    if shares:
        worst = max(shares, key=lambda name: shares[name])
        layer = subject.layer_of[worst]
        yield Finding(
            severity=Severity.WARNING,
            parameters=tuple(shares),
            message=f"{shares[worst]:.0%} of the activations are saturated at the start",
            measured=f"within 1 % of an end of {layer.activation}: {shares[worst]:.1%} of the activations of {worst}; weights of std "
            f"{subject.laws[worst].std or 0.0:.3g}, fan in {layer.fan_in}",
            effect="the slope there is at most a few percent of the steepest: gradients shrink by as much in each such layer",
            fix=f"nn.init.xavier_normal_(model.{worst})",
        )

"""The rule `dead_units`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject
from initbench.nn.layers import Role

FAMILY = "signal"
CODE = "IB306"
NEEDS = ("inputs",)
MANY, NEARLY_ALL = 0.75, 0.97
"""Shares of the units of a layer."""
FEWEST_INPUTS, FEWEST_UNITS = 8, 8


def check(subject: Subject) -> Iterator[Finding]:
    """Most units of a layer give zero for every input of the batch: they get no gradient, and learn only if what reaches them changes.

    Measured: the share of units (neurons, channels) that are zero on the whole batch, at every position; on 8 inputs or more. A weight
    of zeros is left to the rules on zeros.
    Expected: few: a ReLU that is on for half of the inputs is off on all n of them with a chance of 1/2^n, where inputs differ.
    Remedy:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)

    Source: Lu et al. 2020, Dying ReLU and initialization; He et al. 2015.
    """
    inputs = 0 if subject.given is None else len(subject.given.inputs)
    if inputs < FEWEST_INPUTS:
        return
    shares: dict[str, float] = {}
    for name, layer in subject.measured.items():
        share = layer.dead_fraction or 0.0
        own = subject.layer_of[name]
        if share > MANY and own.fan_out >= FEWEST_UNITS and own.role is not Role.HEAD and own.weight.any():
            shares[name] = share
    if shares:
        worst = max(shares, key=lambda name: shares[name])
        bias = subject.layer_of[worst].bias
        yield Finding(
            severity=Severity.ERROR if shares[worst] > NEARLY_ALL else Severity.WARNING,
            parameters=tuple(shares),
            message=f"{shares[worst]:.0%} of the units are dead at the start",
            measured=f"zero on all {inputs} inputs: {shares[worst]:.1%} of the units of {worst}",
            effect="they get no gradient; the layer is as much narrower",
            fix=f"nn.init.kaiming_normal_(model.{worst})" + (f"\nnn.init.zeros_(model.{bias})" if bias else ""),
        )

"""The rule `unscaled_branches`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Severity
from initbench.linting.scale import usual_std
from initbench.linting.subject import Subject

FAMILY = "signal"
CODE = "IB303"
NEEDS = ("inputs",)
DEEP = 12
"""Branches from which on the sum of so many unscaled ones matters."""
HARMFUL = 10.0
"""A growth of the stream's variance that is a warning's worth."""


def check(subject: Subject) -> Iterator[Finding]:
    """A deep stack whose branches end in weights as large as all others: the stream grows with every block.

    Measured: the std of the weights that end residual branches beside the constant that most weights of the model share; the variance
    of the stream behind the last block over that in front of the first.
    Expected: ends smaller by the root of the number of branches, or a zero or small gate on each branch; then N branches add what one does.
    Remedy:
        nn.init.normal_(block.mlp.w2.weight, std=0.02 / math.sqrt(2 * depth))

    Source: Radford et al. 2019 (GPT-2), section 2.3; Hugging Face's GPT-2 promises it in its configuration.
    """
    branches, usual = subject.branches, usual_std(subject)
    if len(branches) < DEEP or usual is None:
        return
    ends = [branch.last for branch in branches if not branch.last.weight.is_meta]
    plain = [layer for layer in ends if subject.has_std(layer, usual)]
    growth = subject.growth
    if 2 * len(plain) <= len(ends) or growth is None:
        return
    name = plain[0].parameter
    yield Finding(
        severity=Severity.WARNING if growth.times > HARMFUL else Severity.INFO,
        parameters=tuple(dict.fromkeys(layer.parameter for layer in plain)),
        message="the ends of residual branches are not scaled",
        measured=f"std {subject.laws[name].std:.3g} as all others, on {len(plain)} of {len(ends)} branches",
        effect=f"the stream's variance grows {growth.times:.3g}x over {growth.branches} branches, "
        f"about {1 + (growth.times - 1) / growth.branches:.3g}x with scaled ends",
    )

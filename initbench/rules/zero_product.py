"""The rule `zero_product`."""

from collections.abc import Iterator

from initbench.linting.finding import CannotTell, Finding, Link, Severity
from initbench.linting.subject import Subject
from initbench.linting.zero import factors

FAMILY = "state"
CODE = "IB105"


def check(subject: Subject) -> Iterator[Finding]:
    """Both factors of a product are zero, so that neither ever gets a gradient: nothing there learns.

    Measured: weights that are zero as a whole. With an input, those whose gradient is exactly zero, stays so when every other zero
    that gets one has moved, and does not when the other factor has. Without one, pairs of low rank that stand side by side.
    Expected: one zero factor at most, as in a low-rank adapter (A random, B zero) or at the end of a residual branch.
    Remedy:
        nn.init.kaiming_uniform_(adapter.lora_A, a=math.sqrt(5))
        nn.init.zeros_(adapter.lora_B)

    Source: Hu et al. 2022 (LoRA), section 4.1: random Gaussian for A and zero for B, so that BA is zero at the beginning.
    """
    try:
        found, passed = subject.stuck.products, True
    except CannotTell:
        found, passed = factors(subject), False
    if not found:
        return
    yield Finding(
        severity=Severity.ERROR,
        parameters=found,
        message="zero, as is what it is multiplied with",
        measured=f"all numbers of {len(found)} weights are zero"
        + (", and so is their gradient, also once every zero that gets one has moved" if passed else ", of low rank and side by side"),
        effect="the product stays zero and neither factor gets a gradient: they never learn",
        link=Link.CAUSE,
    )

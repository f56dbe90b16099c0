"""The rule `norm_start`."""

from collections.abc import Iterator

from torch import Tensor, nn

from initbench.linting.finding import CannotTell, Finding, Severity, alike
from initbench.linting.subject import Subject
from initbench.nn.layers import NORMS
from initbench.nn.naming import modules_of

FAMILY = "state"
CODE = "IB112"
NEAR = 0.1


def check(subject: Subject) -> Iterator[Finding]:
    """A norm whose weight does not start at 1, or whose bias does not start at 0, without a reason in the structure.

    Measured: weight and bias of every norm of torch.nn, which normalizes and then multiplies by the weight itself.
    Expected: weight 1 and bias 0. A weight of zero has a reason where the norm ends a residual branch: the block then starts as the
    identity.
    Remedy:
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)

    Source: Ioffe & Szegedy 2015, Ba et al. 2016: gain 1 and shift 0; Goyal et al. 2017, section 5.1: zero at the end of branches.
    """
    ends = _branch_ends(subject)
    found: dict[tuple[str, Severity, str], list[str]] = {}
    for name, module in modules_of(subject.model):
        if not isinstance(module, NORMS):
            continue
        for short, meant in (("weight", 1.0), ("bias", 0.0)):
            value = getattr(module, short, None)
            if not isinstance(value, nn.Parameter) or value.is_meta:
                continue
            told = _told(value.detach(), meant)
            if told is None or (told == "all 0" and short == "weight" and (ends is None or id(module) in ends)):
                continue
            found.setdefault((short, _severity(value.detach(), meant), told), []).append(f"{name}.{short}".lstrip("."))
    for (short, severity, told), names in found.items():
        for same in alike(names):
            zero = short == "weight" and told == "all 0"
            yield Finding(
                severity=severity,
                parameters=same,
                message=f"a norm's {short} does not start at {1 if short == 'weight' else 0}",
                measured=f"{told}, expected all {1 if short == 'weight' else 0}",
                effect="nothing passes the norm at first; where it ends a residual branch that is meant"
                if zero
                else "what the norm gives is scaled or shifted from the first step on",
                fix=f"nn.init.{'ones_' if short == 'weight' else 'zeros_'}(model.{same[0]})",
            )


def _told(values: Tensor, meant: float) -> str | None:
    """What the values are; None where they are as meant."""
    if not values.numel() or bool((values == meant).all()):
        return None
    low, high = values.min().item(), values.max().item()
    return (
        f"all {low:.4g}" if low == high else f"mean {values.double().mean().item():.3g}, std {values.double().std(correction=0).item():.3g}"
    )


def _severity(values: Tensor, meant: float) -> Severity:
    """Zero weights are those of blocks that start as the identity; numbers that are all near to what is meant hardly matter."""
    if not values.any() or float((values - meant).double().square().mean()) < NEAR**2:
        return Severity.INFO
    return Severity.WARNING


def _branch_ends(subject: Subject) -> set[int] | None:
    """The norms that may start at zero: behind the last weight of a residual branch; None where that cannot be told."""
    try:
        return {id(branch.last_norm) for branch in subject.branches if branch.last_norm is not None}
    except CannotTell:
        return None

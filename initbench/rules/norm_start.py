"""The rule `norm_start`."""

from collections.abc import Iterator

from torch import Tensor, nn

from initbench.linting.finding import CannotTell, Finding, Link, Severity, alike
from initbench.linting.samples import spread
from initbench.linting.subject import Subject
from initbench.nn.layers import NORMS, Role
from initbench.nn.naming import modules_of

FAMILY = "state"
CODE = "IB112"
MEANT = {"weight": 1.0, "bias": 0.0}
FAR = 2.0
"""A factor of the scale from which on a start is a weakness; a shift is one from the scale itself on."""
ZERO_GAIN = "a norm's weight is zero; whether it ends a residual branch, where it should be, needs an input"


def check(subject: Subject) -> Iterator[Finding]:
    """A norm whose weight does not start at 1, or whose bias does not start at 0, without a reason in the structure.

    Measured: weight and bias of every norm of torch.nn, which normalizes and then multiplies by the weight itself.
    Expected: weight 1 and bias 0; near them is worth knowing only. A weight of zero has a reason where the norm ends a residual branch:
    the block then starts as the identity. Elsewhere the pass is measured again with 1: it is a warning where that brings back the signal,
    or most of the gradient. It has a reason, too, in a norm with a forward of its own, which may multiply by 1 + weight.
    Remedy:
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)

    Source: Ioffe & Szegedy 2015, Ba et al. 2016: gain 1 and shift 0; Goyal et al. 2017, section 5.1: zero at the end of branches.
    """
    ends = _branch_ends(subject)
    found: dict[tuple[str, Severity, str], list[str]] = {}
    open_question = False
    for module in dict.fromkeys(module for _, module in modules_of(subject.model) if isinstance(module, NORMS)):
        for short, meant in MEANT.items():
            value = getattr(module, short, None)
            names = subject.parameters.names.get(id(value), [])
            if (
                not isinstance(value, nn.Parameter)
                or not names
                or value.is_meta
                or not value.numel()
                or not value.isfinite().all()
                or bool((value == meant).all())
            ):
                continue
            zero = short == "weight" and not value.detach().any()
            if zero and (_is_own(module) or (ends is not None and id(module) in ends)):
                continue
            shuts = zero and _shuts(subject, names[0])
            if zero and ends is None and not shuts:
                open_question = True
                continue
            far = _is_far(value.detach(), meant, module.weight) and (shuts or not zero)
            severity = Severity.WARNING if far else Severity.INFO
            found.setdefault((short, severity, _told(value.detach())), []).append(names[0])
    for (short, severity, told), listed in found.items():
        for same in alike(listed):
            zero = told == "all 0"
            yield Finding(
                severity=severity,
                parameters=same,
                message=f"a norm's {short} does not start at {MEANT[short]:.0f}",
                measured=f"{told}, expected all {MEANT[short]:.0f}",
                effect="nothing passes the norm at first" if zero else "what the norm gives is scaled or shifted from the first step on",
                link=Link.CAUSE,
            )
    if open_question:
        raise CannotTell(ZERO_GAIN)


def _told(values: Tensor) -> str:
    one = values.min() == values.max()
    return spread(values) if one else f"mean {values.double().mean().item():.3g}, {spread(values)}"


def _is_far(values: Tensor, meant: float, weight: object) -> bool:
    """Whether the scale is off by a factor, or the shift is as large as the scale."""
    size = values.double().square().mean().sqrt().item()
    if meant:
        return not 1 / FAR < size < FAR
    return size > (weight.detach().double().square().mean().sqrt().item() if isinstance(weight, Tensor) else 1.0)


def _is_own(module: nn.Module) -> bool:
    """Whether a class that comes from torch's norm has a forward of its own."""
    return not type(module).forward.__module__.startswith("torch.")


def _shuts(subject: Subject, name: str) -> bool:
    """Whether the signal, or most of the gradient, is lost by this gain: one that ends a branch loses none."""
    try:
        return subject.causes.shuts(name)
    except CannotTell:
        return False


def _branch_ends(subject: Subject) -> set[int] | None:
    """The norms that may start at zero: behind the last weight of a residual branch; None where that cannot be told."""
    try:
        return {id(branch.last_norm) for branch in subject.branches if branch.last_norm is not None}
    except CannotTell:  # also where one branch can carry no number of its own: its norms are known all the same
        traced = [layer.surroundings.ends.norms for layer in subject.layers if layer.role is Role.BRANCH_END]
        return {id(subject.model.get_submodule(norms[-1])) for norms in traced if norms} or None

"""The rule `no_gradient`."""

from collections.abc import Iterator

from initbench.linting import symptoms
from initbench.linting.finding import CannotTell, Finding, Link, Severity
from initbench.linting.subject import Subject
from initbench.linting.symptoms import Kind
from initbench.linting.zero import zero_parameters

FAMILY = "signal"
CODE = "IB310"
NEEDS = ("inputs",)


def check(subject: Subject) -> Iterator[Finding]:
    """Parameters that are trained and get no gradient: they are not part of the loss, or something in front shuts them off.

    Measured: the gradient of the loss by every parameter that wants one: none at all (not used in the pass), or exactly zero; and again
    when every zero that gets one has moved. What is zero then, too, is told with the parameter that shuts it off.
    Expected: a gradient. Zero has a reason where another parameter is zero on purpose: the end of a residual branch, a gate, a head.
    Remedy:
        # use the parameter in forward, or freeze it: parameter.requires_grad_(False)

    Source: torch.nn.parallel.DistributedDataParallel on unused parameters; Zhang et al. 2019 (Fixup) on zero branches.
    """
    gradients = subject.gradients
    if not any(gradients.values()):
        if not gradients:
            return
        if subject.health.lost is None:
            raise CannotTell("no parameter gets a gradient of this loss")
    if symptoms.is_without_signal(subject):
        raise CannotTell(symptoms.NO_SIGNAL)
    unused = tuple(name for name, norm in gradients.items() if norm is None)
    used = {name for layer in subject.layers if layer.surroundings.uses for name in (layer.parameter, layer.bias)}
    cut = tuple(name for name in unused if name in used)
    if cut:
        yield Finding(
            severity=Severity.WARNING,
            parameters=cut,
            message="used in the forward pass, and cut off from the loss",
            measured=f"{len(cut)} parameters of layers that run in the pass have no gradient of the loss at all",
            effect="they never change",
            fix="# look for detach(), .data, torch.no_grad() or an output that nobody uses behind them",
        )
    if set(unused) - set(cut):
        left = tuple(name for name in unused if name not in cut)
        yield Finding(
            severity=Severity.INFO,
            parameters=left,
            message="not part of the loss",
            measured=f"{len(left)} of {len(gradients)} parameters that are trained have no gradient on this input",
            effect="they never change; with DistributedDataParallel they are an error",
            fix=f"model.{left[0]}.requires_grad_(False)      # or use it",
        )
    shut = subject.stuck.silent
    later = tuple(name for name, norm in gradients.items() if norm == 0 and name not in shut)
    if later:
        zero = next((name for name in _zeros(subject) if name not in shut), None)
        yield Finding(
            severity=Severity.INFO,
            parameters=later,
            message="the gradient is exactly zero",
            measured=f"{len(later)} of {len(gradients)} parameters that are trained get a zero gradient from every input"
            + (f", behind {zero}, which is zero" if zero else ""),
            effect="they begin to learn when what is zero has moved",
            fix=f"# nothing, where {f'model.{zero} is' if zero else 'zeros are'} meant to be zero; else draw it at random",
        )
    if shut:
        yield _shut(subject, shut)


def _shut(subject: Subject, shut: tuple[str, ...]) -> Finding:
    """Parameters that get no gradient, also when zeros have moved, told at what shuts them off where that is known."""
    count, zeros = len(subject.gradients), subject.stuck.names
    causes = zeros or subject.causes.of(Kind.SHUT, shut)
    return Finding(
        severity=Severity.WARNING if causes or 2 * len(shut) > count else Severity.INFO,
        parameters=causes or shut,
        message=f"{len(shut)} of {count} parameters that are trained get no gradient" if causes else "the gradient is exactly zero",
        measured=f"{len(shut)} of {count} parameters that are trained get a zero gradient from every input, also when zeros that get one "
        "have moved" + (f"; {zeros[0]} is zero" if zeros else subject.causes.without(causes, "they get one")),
        effect="they do not learn",
        fix=f"# find what cuts the gradient of model.{shut[0]}: a dead unit, a rounding function, a state of zeros",
        link=Link.EFFECT if causes else None,
    )


def _zeros(subject: Subject) -> Iterator[str]:
    """Parameters that are zero as a whole, and multiply."""
    for name in zero_parameters(subject):
        if _scales(subject, name):
            yield name


def _scales(subject: Subject, name: str) -> bool:
    """Whether a parameter multiplies: a weight, a norm's weight, a gate; no bias."""
    layer = subject.layer_of.get(name)
    return layer is not None or not name.rpartition(".")[2].startswith("bias")

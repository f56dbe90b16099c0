"""The rule `no_gradient`."""

from collections.abc import Iterator

from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.subject import Subject

FAMILY = "signal"
CODE = "IB310"
NEEDS = ("inputs",)


def check(subject: Subject) -> Iterator[Finding]:
    """Parameters that are trained and get no gradient: they are not part of the loss, or something in front shuts them off.

    Measured: the gradient of the loss by every parameter that wants one: none at all (not used in the pass), or exactly zero.
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
    unused = tuple(name for name, norm in gradients.items() if norm is None)
    silent = tuple(name for name, norm in gradients.items() if norm == 0)
    zero = tuple(
        name for name, value in subject.parameters.first.items() if value.numel() and not value.detach().any() and _scales(subject, name)
    )
    used = {layer.parameter for layer in subject.layers if layer.surroundings.uses}
    cut = tuple(name for name in unused if name in used)
    if cut:
        yield Finding(
            severity=Severity.WARNING,
            parameters=cut,
            message="used in the forward pass, and cut off from the loss",
            measured=f"{len(cut)} weights that the signal passes have no gradient of the loss at all",
            effect="they never change",
            fix="# look for detach(), .data, torch.no_grad() or numbers without a gradient behind them",
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
    if silent:
        reason = f", behind {zero[0]}, which is zero" if zero else ""
        most = 2 * len(silent) > len(gradients)
        yield Finding(
            severity=Severity.WARNING if most and not zero else Severity.INFO,
            parameters=silent,
            message="the gradient is exactly zero",
            measured=f"{len(silent)} of {len(gradients)} parameters that are trained get a zero gradient from every input{reason}",
            effect="they begin to learn when what is zero has moved" if zero else "they do not learn at the start",
            fix="" if zero else f"# find what cuts the gradient of model.{silent[0]}: a dead unit, a rounding function, a state of zeros",
        )


def _scales(subject: Subject, name: str) -> bool:
    """Whether a parameter multiplies: a weight, a norm's weight, a gate; no bias."""
    layer = subject.layer_of.get(name)
    return layer is not None or not name.rpartition(".")[2].startswith("bias")

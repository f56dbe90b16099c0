"""The rule `lost_signal`."""

from collections.abc import Iterator
from dataclasses import replace

from initbench.linting import symptoms
from initbench.linting.finding import Finding, Link, Severity
from initbench.linting.subject import UNSEEN, Subject
from initbench.linting.symptoms import Kind
from initbench.probing.health import SchemeHealth
from initbench.probing.verdicts import in_words, judge
from initbench.results.propagation import LossKind, Point, SignalLoss

FAMILY = "signal"
CODE = "IB301"
NEEDS = ("inputs",)
DRAWN = 'initbench.init_network(model, "gaussian_gain", inputs=batch)      # or see: initbench probe --as-is'


def check(subject: Subject) -> Iterator[Finding]:
    """The signal, or the gradient, is lost on its way: zero, no finite number, or more than four powers of ten from where it entered.

    Measured: the variance of the activations through the hidden layers (or along the residual stream), and the squared length of
    the gradient on the way back, on the batch. Where a bias, a norm or a zero looks spoiled, the pass is measured again without it: it
    is named where the signal is kept then. Where there is none from the start, the first layer whose output is zero is told.
    Expected: both within a power of ten; where norms hold the branches, growth by one branch's size a block. With norms it is an
    info: the scale of a weight before one does not matter, and small batches make gradients grow.
    Remedy:
        initbench.init_network(model, "kaiming", inputs=batch)

    Source: Glorot & Bengio 2010; He et al. 2015; Schoenholz et al. 2017 on how deep signals reach.
    """
    health = subject.health
    if health.lost is None:
        return
    if symptoms.is_without_signal(subject):
        yield _without_signal(subject)
        return
    loss, causes = health.lost, subject.causes.of(Kind.LOST)
    by_name = {layer.name: layer.parameter for layer in subject.layers}
    way = health.forward if loss.what == "activations" else health.back
    there = next((point.value for point in way if point.layer == loss.layer), 0.0)
    unseen = bool(causes) and there < UNSEEN * way[0].value
    gone = unseen or loss.how in {LossKind.CONSTANT, LossKind.OVERFLOWS}
    what = "variance of the activations" if loss.what == "activations" else "squared length of the gradient"
    measured = f"{what} {way[0].value:.3g} at {way[0].layer}, {there:.3g} at {loss.layer}"
    if not way[0].value:
        measured = f"there is no signal from the start: {_first_zero(subject) or way[0].layer} is the first layer whose output is zero"
    yield Finding(
        severity=Severity.ERROR if gone else Severity.INFO if subject.has_norms else Severity.WARNING,
        parameters=causes or (by_name.get(loss.layer, loss.layer),),
        message=str(loss),
        measured=measured + subject.causes.without(causes, "it is kept"),
        effect=_effect(subject, health, loss, way[0], there),
        fix=DRAWN,
        link=Link.EFFECT if causes or _is_not_finite(subject, loss.layer) else None,
    )


def _is_not_finite(subject: Subject, name: str) -> bool:
    """Whether the weight itself has numbers that are not finite, which is rule IB102's."""
    return any(layer.name == name and not layer.weight.isfinite().all() for layer in subject.layers)


def _effect(subject: Subject, health: SchemeHealth, loss: SignalLoss, entry: Point, there: float) -> str:
    """How fast the signal goes; of one that is zero what gets none."""
    if loss.how is LossKind.CONSTANT:
        silent = len(symptoms.silent(subject))
        return f"{silent} of {len(subject.gradients)} parameters that are trained get no gradient"
    verdict = replace(judge(health, []), remarks=())
    pace = verdict.pace
    if pace is not None and entry.value and loss.how is (LossKind.VANISHES if pace.grows else LossKind.EXPLODES):
        return f"{there / entry.value:.2g} times what it is at {entry.layer}"
    return in_words(verdict)


def _first_zero(subject: Subject) -> str | None:
    """The first layer whose output, or what an activation or a norm makes of it, is zero on the whole batch."""
    for layer in subject.layers:
        measured = subject.measured.get(layer.parameter)
        if measured is not None and 0 in {measured.value("pre_activation_variance"), measured.value("activation_variance")}:
            return layer.name
    return None


def _without_signal(subject: Subject) -> Finding:
    first = _first_zero(subject)
    return Finding(
        severity=Severity.WARNING,
        parameters=(),
        message="no signal enters: every number of the input is zero",
        measured=f"{first} is the first layer whose output is zero" if first else "all numbers of the batch are zero",
        effect="nothing can be said about what the model does to a signal",
        fix="# give a batch as the model is trained on",
        link=Link.EFFECT,
    )

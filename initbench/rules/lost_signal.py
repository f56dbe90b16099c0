"""The rule `lost_signal`."""

from collections.abc import Iterator
from dataclasses import replace

from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject
from initbench.probing.verdicts import in_words, judge
from initbench.results.propagation import LossKind

FAMILY = "signal"
CODE = "IB301"
NEEDS = ("inputs",)


def check(subject: Subject) -> Iterator[Finding]:
    """The signal, or the gradient, is lost on its way: zero, no finite number, or more than four powers of ten from where it entered.

    Measured: the variance of the activations through the hidden layers (or along the residual stream), and the squared length of
    the gradient on the way back, on the batch.
    Expected: both within a power of ten; where norms hold the branches, growth by one branch's size a block. With norms it is an
    info: the scale of a weight before one does not matter, and small batches make gradients grow.
    Remedy:
        initbench.init_network(model, "kaiming", inputs=batch)

    Source: Glorot & Bengio 2010; He et al. 2015; Schoenholz et al. 2017 on how deep signals reach.
    """
    health = subject.health
    if health.lost is None:
        return
    loss = health.lost
    by_name = {layer.name: layer.parameter for layer in subject.layers}
    gone = loss.how in {LossKind.CONSTANT, LossKind.OVERFLOWS}
    way = health.forward if loss.what == "activations" else health.back
    there = next((point.value for point in way if point.layer == loss.layer), 0.0)
    verdict = replace(judge(health, []), remarks=())
    pace = verdict.pace
    aside = pace is not None and way[0].value and loss.how is (LossKind.VANISHES if pace.grows else LossKind.EXPLODES)
    what = "variance of the activations" if loss.what == "activations" else "squared length of the gradient"
    yield Finding(
        severity=Severity.ERROR if gone else Severity.INFO if subject.has_norms else Severity.WARNING,
        parameters=(by_name.get(loss.layer, loss.layer),),
        message=str(loss),
        measured=f"{what} {way[0].value:.3g} at {way[0].layer}, {there:.3g} at {loss.layer}",
        effect=f"{there / way[0].value:.2g} times what it is at {way[0].layer}" if aside else in_words(verdict),
        fix='initbench.init_network(model, "gaussian_gain", inputs=batch)      # or see: initbench probe --as-is',
    )

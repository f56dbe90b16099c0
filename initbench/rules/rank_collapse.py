"""The rule `rank_collapse`."""

from collections.abc import Iterator

from initbench.linting import symptoms
from initbench.linting.finding import CannotTell, Finding, Link, Severity
from initbench.linting.subject import Subject
from initbench.linting.symptoms import Kind

FAMILY = "signal"
CODE = "IB309"
NEEDS = ("inputs",)
DRAWN = 'initbench.init_network(model, "edge_of_chaos", inputs=batch)      # and fewer layers, skips or norms'


def check(subject: Subject) -> Iterator[Finding]:
    """On their way the inputs become one: from some layer on the network cannot tell them apart.

    Measured: the mean cosine of the pre-activations of pairs of inputs, layer by layer. Where a bias, a norm or a constant looks
    spoiled, the pass is measured again without it: it is named where inputs stay apart then.
    Expected: below 0.999; a deep ReLU network brings inputs together slowly, a plain attention without skips at a doubly exponential rate.
    Remedy:
        initbench.init_network(model, "edge_of_chaos", inputs=batch)

    Source: Schoenholz et al. 2017 (ordered phase); Dong, Cordonnier & Loukas 2021, Attention is not all you need.
    """
    first = symptoms.first_alike(subject)
    if first is None:
        return
    if symptoms.is_without_signal(subject):
        raise CannotTell(symptoms.NO_SIGNAL)
    causes = subject.causes.of(Kind.ALIKE)
    by_name = {layer.name: layer.parameter for layer in subject.layers}
    begin, enters = subject.input_correlation, symptoms.on_the_way(subject)[0]
    entered = enters.correlation if begin is None else begin
    at_first = "" if begin is None and enters == first else f"{entered:.3g} at the beginning, "
    yield Finding(
        severity=Severity.WARNING,
        parameters=causes or (by_name.get(first.layer, first.layer),),
        message=f"from {first.layer} on all inputs look alike",
        measured=f"mean cosine of two inputs {at_first}{first.correlation:.5f} at {first.layer}"
        + subject.causes.without(causes, "they stay apart"),
        effect="outputs differ by almost nothing from input to input: the gradient says little about each",
        fix=DRAWN,
        link=Link.EFFECT if causes else None,
    )

"""The rule `rank_collapse`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject
from initbench.probing.verdicts import ALIKE
from initbench.results.propagation import INSIDE

FAMILY = "signal"
CODE = "IB309"
NEEDS = ("inputs",)
APART = 0.9
"""A correlation below which inputs are different to begin with."""
FEWEST_INPUTS = 8


def check(subject: Subject) -> Iterator[Finding]:
    """On their way the inputs become one: from some layer on the network cannot tell them apart.

    Measured: the mean cosine of the pre-activations of pairs of inputs, layer by layer.
    Expected: below 0.999; a deep ReLU network brings inputs together slowly, a plain attention without skips at a doubly exponential rate.
    Remedy:
        initbench.init_network(model, "edge_of_chaos", inputs=batch)

    Source: Schoenholz et al. 2017 (ordered phase); Dong, Cordonnier & Loukas 2021, Attention is not all you need.
    """
    if subject.given is None or len(subject.given.inputs) < FEWEST_INPUTS:
        return
    once = {layer.name for layer in subject.layers if layer.surroundings.uses == 1}
    layers = [
        layer for layer in subject.health.hidden if layer.place not in INSIDE and layer.correlation is not None and layer.layer in once
    ]
    begin = subject.input_correlation
    if len(layers) < 2 or (layers[0].correlation or 0.0 if begin is None else begin) > APART:
        return
    first = next((layer for layer in layers if (layer.correlation or 0.0) > ALIKE), None)
    if first is None:
        return
    by_name = {layer.name: layer.parameter for layer in subject.layers}
    yield Finding(
        severity=Severity.WARNING,
        parameters=(by_name.get(first.layer, first.layer),),
        message=f"from {first.layer} on all inputs look alike",
        measured=f"mean cosine of two inputs {layers[0].correlation if begin is None else begin:.3g} at the beginning, "
        f"{first.correlation:.5f} at {first.layer}",
        effect="outputs differ by almost nothing from input to input: the gradient says little about each",
        fix='initbench.init_network(model, "edge_of_chaos", inputs=batch)      # and fewer layers, skips or norms',
    )

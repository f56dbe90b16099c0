"""The rule `zero_product`."""

from collections.abc import Iterator

from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.subject import Subject
from initbench.nn.layers import WeightLayer

FAMILY = "state"
CODE = "IB105"


def check(subject: Subject) -> Iterator[Finding]:
    """Both factors of a product are zero, so that neither ever gets a gradient: nothing there learns.

    Measured: weights that are zero as a whole. With an input, those of them that get no gradient though they are trained, and lie on
    the way of another zero weight; without one, two zero weights of which the one feeds the other by shape, in one module.
    Expected: one zero factor at most, as in a low-rank adapter (A random, B zero) or at the end of a residual branch.
    Remedy:
        nn.init.kaiming_uniform_(adapter.lora_A, a=math.sqrt(5))
        nn.init.zeros_(adapter.lora_B)

    Source: Hu et al. 2022 (LoRA), section 4.1: random Gaussian for A and zero for B, so that BA is zero at the beginning.
    """
    zero = [layer for layer in subject.layers if not layer.weight.detach().any() and layer.weight.requires_grad]
    if len(zero) < 2:
        return
    stuck = _without_gradient(subject, zero) if subject.given is not None else _paired(zero)
    if not stuck:
        return
    names = tuple(layer.parameter for layer in stuck)
    yield Finding(
        severity=Severity.ERROR,
        parameters=names,
        message="zero, as is what it is multiplied with",
        measured="all numbers are zero" + (", and the gradient is exactly zero" if subject.given is not None else ""),
        effect="the product stays zero and neither factor gets a gradient: they never learn",
        fix=f"nn.init.kaiming_uniform_(model.{names[0]}, a=math.sqrt(5))      # and leave the other factor at zero",
    )


def _without_gradient(subject: Subject, zero: list[WeightLayer]) -> list[WeightLayer]:
    """Zero weights without a gradient, where at least two are shut off by each other: undoing one alone gives none of the others a way."""
    try:
        gradients = subject.gradients
    except CannotTell:
        return _paired(zero)
    silent = [layer for layer in zero if gradients.get(layer.parameter) == 0]
    names = {layer.name for layer in silent}
    feeding = {source for layer in silent for source in layer.surroundings.sources}
    linked = [layer for layer in silent if layer.name in feeding or names.intersection(layer.surroundings.sources)]
    return linked or _paired(silent)


def _paired(zero: list[WeightLayer]) -> list[WeightLayer]:
    """Zero weights of one module, of which one makes as many outputs as the other takes."""
    found: list[WeightLayer] = []
    for place, first in enumerate(zero):
        for second in zero[place + 1 :]:
            together = first.name.rpartition(".")[0] == second.name.rpartition(".")[0]
            (out_1, in_1), (out_2, in_2) = (_sizes(layer) for layer in (first, second))
            if together and (out_1 == in_2 or out_2 == in_1):
                found += [layer for layer in (first, second) if layer not in found]
    return found


def _sizes(layer: WeightLayer) -> tuple[int, int]:
    """Outputs and inputs."""
    first, second = layer.shape[:2]
    return (second, first) if layer.transposed else (first, second)

"""The rule `attention_start`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Severity, alike
from initbench.linting.subject import Subject
from initbench.measure.attention import AttentionStart
from initbench.nn.attention import projection
from initbench.nn.layers import WeightLayer

FAMILY = "signal"
CODE = "IB308"
NEEDS = ("inputs",)
ONE_HOT, LARGEST = 0.3, 0.7
"""An entropy below this share of that of equal weights, and a mean largest weight above, is a choice made before training."""
UNIFORM = 1e-6
"""Weights that stray by less from equal ones do not depend on what is looked at."""


def check(subject: Subject) -> Iterator[Finding]:
    """Attention that has chosen before it has learned anything (one-hot), or does not depend on its inputs at all (uniform).

    Measured: the weights of every softmax over keys, those inside fused kernels worked out from queries and keys: the entropy over
    that of equal weights, the mean of the largest weight.
    Expected: an entropy near that of equal weights, that differs from input to input.
    Remedy:
        nn.init.normal_(attention.query.weight, std=0.02)

    Source: Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy collapse.
    """
    starts = {f"{place}.{start.module}": start for place, start in enumerate(subject.attention)}
    hot = {name: start for name, start in starts.items() if start.entropy < ONE_HOT and start.largest > LARGEST}
    flat = {name: start for name, start in starts.items() if start.spread < UNIFORM}
    for found, what, severity, effect in (
        (hot, "starts one-hot", Severity.WARNING, "hardly any gradient passes the softmax, and what each token looks at is random"),
        (flat, "starts uniform to the last digit", Severity.INFO, "queries and keys get no gradient before values differ"),
    ):
        for same in alike({start.module: name for name, start in found.items()}):
            start = _worst([each for each in found.values() if each.module in same])
            yield Finding(
                severity=severity,
                parameters=_projections(subject, same) or tuple(filter(None, same)),
                message=f"attention {what}",
                measured=f"entropy {start.entropy:.2g} of that of equal weights over {start.keys} keys, largest weight {start.largest:.2g} "
                "on average",
                effect=effect,
                fix=f"# draw what makes the queries and keys of {same[0] or 'the model'} {'smaller' if found is hot else 'at random'}",
            )


def _worst(starts: list[AttentionStart]) -> AttentionStart:
    return min(starts, key=lambda start: start.entropy)


def _projections(subject: Subject, modules: tuple[str, ...]) -> tuple[str, ...]:
    """The weights of queries and keys of these modules, as far as their names tell."""
    found = [each for each in subject.attentions if each.name in modules]
    layers = [layer for each in found for layer in (each.query, each.key, each.packed) if layer is not None]
    layers = layers or [layer for layer in subject.layers if _makes_scores(layer, modules)]  # stacked heads, or no output projection
    return tuple(layer.parameter for layer in layers)


def _makes_scores(layer: WeightLayer, modules: tuple[str, ...]) -> bool:
    module, part = projection(layer.name)
    return module in modules and part in {"query", "key", "packed"}

"""What the plots of a probe show, as data for `draw`: the signal through the layers, with the prediction behind it."""

from collections.abc import Callable, Sequence
from typing import Literal

from initbench.probing.health import LayerHealth, SchemeHealth
from initbench.report.figures import LONGEST_NAME, Band, Curve, Panel, Plot, Points
from initbench.results.record import RunStatus

MOST_SHOWN = 18
"""Schemes in one plot: as many as there are different lines; the best and the worst are shown."""


def plots(found: Sequence[SchemeHealth]) -> tuple[Plot, ...]:
    """All plots of a probe; those without anything to show are left out."""
    done = [each for each in found if each.status is RunStatus.COMPLETED and len(each.layers) > 1]
    shown = done if len(done) <= MOST_SHOWN else [*done[: MOST_SHOWN // 2], *done[-MOST_SHOWN // 2 :]]
    note = "" if shown == done else f"The {MOST_SHOWN // 2} best and the {MOST_SHOWN // 2} worst of {len(done)} schemes. "
    made = (
        _predicted("pre_activations", "Variance of the pre-activations", shown, "pre_activation", "forward", note),
        _predicted("gradients", "Variance of the gradients", shown, "gradient", "backward", note),
        _measured("activations", "Variance of the activations", shown, lambda layer: layer.activation_variance, "log", "variance", note),
        _measured(
            "correlation",
            "How alike two inputs become",
            shown,
            lambda layer: layer.correlation,
            "percent",
            "correlation of two inputs",
            note,
        ),
        _singular(shown, note),
        _measured("dead_units", "Units that are zero on the whole batch", shown, _dead, "percent", "dead units", note),
    )
    return tuple(plot for plot in made if any(panel.lines for panel in plot.panels))


def _dead(layer: LayerHealth) -> float | None:
    return layer.dead_fraction


def _short(scheme: str) -> str:
    return scheme if len(scheme) <= LONGEST_NAME else scheme[: LONGEST_NAME - 1] + "…"


def _points(found: SchemeHealth, value: Callable[[LayerHealth], float | None]) -> Points:
    return tuple((float(index), value(layer)) for index, layer in enumerate(found.layers, 1))


def _measured(
    name: str,
    title: str,
    found: Sequence[SchemeHealth],
    value: Callable[[LayerHealth], float | None],
    scale: Literal["log", "percent"],
    label: str,
    note: str,
) -> Plot:
    lines = []
    for index, each in enumerate(found):
        points = _points(each, value)
        points = points[:-1] if name == "dead_units" else points
        if scale == "percent":
            points = tuple(point for point in points if point[1] is not None)
        if any(y is not None for _, y in points):
            lines.append(Curve(index, points, label=_short(each.scheme)))
    return Plot(
        name, f"{title}, before the first step", (Panel("", "weight layer", label, tuple(lines), scale=scale, layers="forward", note=note),)
    )


def _predicted(
    name: str,
    title: str,
    found: Sequence[SchemeHealth],
    quantity: Literal["pre_activation", "gradient"],
    way: Literal["forward", "backward"],
    note: str,
) -> Plot:
    lines: list[Curve] = []
    bands: list[Band] = []
    for index, each in enumerate(found):
        points = _points(each, lambda layer: layer.pre_activation_variance if quantity == "pre_activation" else layer.gradient_variance)
        if any(y is not None for _, y in points):
            lines.append(Curve(index, points[::-1] if way == "backward" else points, label=_short(each.scheme)))
        theory: list[tuple[float, float | None]] = []
        limits: list[tuple[float, float, float]] = []
        for place, layer in enumerate(each.layers, 1):
            line, low, high = (getattr(layer.expected, f"predicted_{quantity}_variance{end}") for end in ("", "_low", "_high"))
            if line is not None:
                theory.append((float(place), line))
            if low is not None and high is not None:
                limits.append((float(place), low, high))
        lines += [Curve(index, tuple(theory), "theory")] if theory else []
        bands += [Band(index, tuple(limits))] if limits else []
    said = note + "Dashed line and band: what theory predicts for one network of this width (95 %)." * bool(bands)
    label = "pre-activation variance" if quantity == "pre_activation" else "gradient variance"
    x_label = "weight layer" if way == "forward" else "weight layer, from the output back to the input"
    panel = Panel("", x_label, label, tuple(lines), tuple(bands), scale="log", layers=way, note=said)
    return Plot(name, f"{title}, before the first step", (panel,))


def _singular(found: Sequence[SchemeHealth], note: str) -> Plot:
    lines, bands = [], []
    for index, each in enumerate(found):
        points = _points(each, lambda layer: layer.jacobian_mean)
        if not any(y is not None for _, y in points):
            continue
        lines.append(Curve(index, points[::-1], label=_short(each.scheme)))
        limits = [
            (float(place), layer.jacobian_min, layer.jacobian_max)
            for place, layer in enumerate(each.layers, 1)
            if layer.jacobian_min is not None and layer.jacobian_max is not None
        ]
        bands += [Band(index, tuple(limits))] if limits else []
    said = note + "Line: mean singular value of the derivative of the outputs by the layer; band: smallest to largest."
    panel = Panel(
        "", "weight layer, from the output back to the input", "singular value", tuple(lines), tuple(bands), layers="backward", note=said
    )
    return Plot("jacobian", "How the outputs depend on each layer", (panel,))

"""What the plots show, as data: lines, dots and labels; `draw` turns them into pictures."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import Literal

from initbench.metrics import Metric
from initbench.quantities import QUANTITIES, Figure, Quantity
from initbench.results.outcome import Outcome, outcome, was_evaluated
from initbench.results.propagation import layer_value
from initbench.results.record import LayerStats, RunResult, RunStatus
from initbench.statistics.estimates import estimate_text
from initbench.statistics.findings import Summary
from initbench.statistics.inference import median
from initbench.statistics.summary import Runs

MOST_POINTS = 100
"""Longer curves are drawn as means over equal stretches, so that files stay small and lines readable."""

LONGEST_NAME = 28
"""Longer names of schemes are cut in plots."""

Layers = list[tuple[RunResult, LayerStats]]
"""Measurements, each with the run that it is of."""
Points = tuple[tuple[float, float | None], ...]
"""(x, y) pairs; y is None where the value overflowed."""


@dataclass(frozen=True)
class Curve:
    """A line of one scheme. `weight` is a thin line for one seed, a thick one for the middle of the seeds, or dashed theory."""

    scheme: int
    points: Points
    weight: Literal["seed", "middle", "theory"] = "middle"
    label: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Band:
    """A shaded range around a prediction: (x, low, high)."""

    scheme: int
    points: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Strip:
    """A row of dots, one a seed, with the estimate and its interval; `note` says what has no dot."""

    scheme: int
    label: str
    values: tuple[float, ...]
    middle: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    The scale `accuracy` is that of the error, reversed, where the values are far apart.
    `ticks`: places on the x axis and their labels, where numbers would not do.
    `layers`: x counts weight layers, from the input on or, as gradients go, from the output back.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Curve, ...] = ()
    bands: tuple[Band, ...] = ()
    strips: tuple[Strip, ...] = ()
    scale: Literal["log", "percent", "accuracy"] = "log"
    layers: Literal["", "forward", "backward"] = ""
    note: str = ""
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Plot:
    """One picture: a file name without ending, what it shows in a sentence, and its panels from top to bottom."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def plots(summary: Summary, runs: Runs) -> tuple[Plot, ...]:
    """All plots of a comparison; those without anything to show are left out."""
    drawn = [(quantity, quantity.comparison_plot) for quantity in QUANTITIES if quantity.comparison_plot is not None]
    numbers, shares = ([_layer_plot(*each, runs) for each in drawn if (each[0].unit == "share") is wanted] for wanted in (False, True))
    curves = _accuracy_curves(summary.metric_of("final_test_accuracy"), runs)
    made = [_loss_plot(runs), _accuracy_plot(summary, runs), curves, *numbers, _prediction_plot(runs), *shares]
    return tuple(plot for plot in made if any(panel.lines or panel.strips for panel in plot.panels))


def _loss_plot(runs: Runs) -> Plot:
    lines: list[Curve] = []
    longest = max((len(run.train_losses) for own in runs.values() for run in own), default=0)
    stretch = -(-longest // MOST_POINTS) or 1
    for scheme, own in enumerate(runs.values()):
        tried = [run for run in own if run.train_losses or run.status is RunStatus.DIVERGED]
        curves = [_thinned(run.train_losses, stretch) for run in tried]
        broken = [run.status is RunStatus.DIVERGED for run in tried]
        lines += _with_middle(scheme, curves, broken, _label(list(runs)[scheme], own), worst=math.inf)
    each = f", mean of every {stretch} steps" if stretch > 1 else ""
    note = "x: diverged. " * any(line.broken for line in lines)
    panel = Panel("", "step", f"training loss{each}", tuple(lines), scale="log", note=note + _without(runs, "loss curve", lines))
    return Plot("loss_curves", f"Training loss{_thin_and_thick(runs)}", (panel,))


def _thin_and_thick(runs: Runs) -> str:
    return ": each seed (thin) and the median (thick)" if any(len(own) > 1 for own in runs.values()) else ""


def _thinned(losses: Sequence[float], stretch: int) -> Points:
    parts = [losses[start : start + stretch] for start in range(0, len(losses), stretch)]
    return tuple((index * stretch + (len(part) + 1) / 2, sum(part) / len(part)) for index, part in enumerate(parts))


def _with_middle(scheme: int, curves: list[Points], broken: list[bool], label: str, *, worst: float) -> list[Curve]:
    """Thin lines for the seeds, and the median over all of them until it is a run that has diverged, which counts as `worst` from there."""
    thin = [Curve(scheme, points, "seed", broken=end) for points, end in zip(curves, broken, strict=True) if points]
    at: dict[float, list[float]] = {}
    for points in curves:
        for x, y in points:
            at.setdefault(x, []).append(worst if y is None else y)
    padded = ((x, median([*ys, *[worst] * (len(curves) - len(ys))])) for x, ys in sorted(at.items()))
    middle = _finite(takewhile(lambda point: math.isfinite(point[1]), padded))
    return [*thin, Curve(scheme, middle, "middle", label)] if middle else [*thin[:-1], replace(thin[-1], label=label)] if thin else []


def _finite(points: Iterable[tuple[float, float]]) -> Points:
    return tuple((x, y if math.isfinite(y) else None) for x, y in points)


def _label(scheme: str, own: list[RunResult]) -> str:
    lost = sum(run.status is RunStatus.DIVERGED for run in own)
    return f"{_short(scheme)} ({lost}/{len(own)} x)" if lost else _short(scheme)


def _short(scheme: str) -> str:
    return scheme if len(scheme) <= LONGEST_NAME else scheme[: LONGEST_NAME - 1] + "…"


def _without(runs: Runs, what: str, lines: Iterable[Curve]) -> str:
    """Names the schemes that have nothing to show, so that none disappears silently."""
    shown = {line.scheme for line in lines}
    missing = [(name, own) for index, (name, own) in enumerate(runs.items()) if index not in shown]
    return "; ".join(f"{name}: no {what} ({_kinds(own)})" for name, own in missing)


def _kinds(own: list[RunResult]) -> str:
    return ", ".join(sorted({outcome(run).value for run in own}))


def _accuracy_plot(summary: Summary, runs: Runs) -> Plot:
    metric = summary.metric_of("final_test_accuracy")
    strips = []
    for index, (name, own) in enumerate(runs.items()):
        values = tuple(value for run in own if (value := metric.value(run)) is not None)
        estimate = summary.scheme(name).estimate(metric.name)
        unusual = (Outcome.STUCK, Outcome.DIVERGED, Outcome.FAILED, Outcome.SKIPPED)
        missing = [f"{count} {kind}" for kind in unusual if (count := sum(outcome(run) is kind for run in own))]
        middle = estimate_text(metric, estimate) if estimate.n > 1 and estimate.value is not None else ""
        note = ", ".join([*([middle] if middle else []), *missing])
        centre = estimate.value if estimate.n > 1 else None
        strips.append(Strip(index, _short(name), values, centre, estimate.low, estimate.high, note))
    most = max((len(strip.values) for strip in strips), default=0)
    what = f": each seed, median{' and 95 % interval' * (most > 5)}" if most > 1 else ""
    title = f"Final {metric.label}{what}"
    return Plot("accuracy", title, (Panel("", metric.label, "", strips=tuple(strips), scale="accuracy"),))


def _accuracy_curves(metric: Metric, runs: Runs) -> Plot:
    lines: list[Curve] = []
    for scheme, (name, own) in enumerate(runs.items()):
        tried = [run for run in own if was_evaluated(run)]
        curves: list[Points] = [tuple((item.step, item.test_accuracy) for item in run.evaluations) for run in tried]
        broken = [run.status is RunStatus.DIVERGED for run in tried]
        lines += _with_middle(scheme, curves, broken, _label(name, own), worst=metric.worst)
    note = "x: diverged. " * any(line.broken for line in lines)
    label = metric.label
    panel = Panel("", "step", label, tuple(lines), scale="accuracy", note=note + _without(runs, label, lines))
    return Plot("accuracy_curves", f"{label[:1].upper()}{label[1:]} while training{_thin_and_thick(runs)}", (panel,))


def _layer_plot(quantity: Quantity, figure: Figure, runs: Runs) -> Plot:
    panels = (
        _layer_panel("At initialization", quantity, figure, runs, _first_step),
        _layer_panel("At the end of training", quantity, figure, runs, _last_step),
    )
    return Plot(figure.name, figure.title, panels if any(_last_step(run) for own in runs.values() for run in own) else panels[:1])


def _first_step(run: RunResult) -> int | None:
    return 0 if run.layers else None


def _last_step(run: RunResult) -> int | None:
    """The step of the last probe of a run that came to its end, when there was one after the start."""
    last = max((stats.step for stats in run.layers), default=0)
    return last if last and run.status is RunStatus.COMPLETED else None


def _layer_panel(title: str, quantity: Quantity, figure: Figure, runs: Runs, step_of: Callable[[RunResult], int | None]) -> Panel:
    lines: list[Curve] = []
    bands: list[Band] = []
    for scheme, (name, of_scheme) in enumerate(runs.items()):
        layers = _at(of_scheme, step_of)
        points = _over_seeds(layers, quantity.name)
        points = points[:-1] if quantity.hidden else points
        if points:
            lines.append(Curve(scheme, points[::-1] if quantity.backward else points, label=_short(name)))
        if quantity.backward:
            theory, band = _theory(scheme, layers, quantity.name)
            lines, bands = [*lines, *theory], [*bands, *band]
    words = ["Dashed line and band: theory for this width"] if bands else []
    words += [text for text in (_only_some(runs, lines, step_of), _without(runs, "measurement", lines)) if text]
    return Panel(
        title,
        "weight layer, from the output back to the input" if quantity.backward else "weight layer",
        figure.label,
        tuple(lines),
        tuple(bands),
        scale="log" if quantity.unit == "number" else "percent",
        layers="backward" if quantity.backward else "forward",
        note=". ".join(words),
    )


def _only_some(runs: Runs, lines: Iterable[Curve], step_of: Callable[[RunResult], int | None]) -> str:
    """Names the schemes whose lines are of a part of their runs, with what became of the others: `normal: 5 of 8 runs (3 diverged)`."""
    shown, parts = {line.scheme for line in lines}, []
    for index, (name, own) in enumerate(runs.items()):
        left = [run for run in own if step_of(run) is None]
        if index in shown and left:
            counts = Counter(outcome(run).value for run in left)
            others = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
            parts.append(f"{name}: {len(own) - len(left)} of {len(own)} runs ({others})")
    return "; ".join(parts)


def _at(runs: list[RunResult], step_of: Callable[[RunResult], int | None]) -> Layers:
    """The measurements of one step of each run, in the order of the layers."""
    measured = [(run, stats) for run in runs for stats in run.layers if stats.step == step_of(run)]
    return sorted(measured, key=lambda pair: pair[1].position)


def _over_seeds(layers: Layers, quantity: str) -> Points:
    """The median over seeds at each layer that was measured, counted from 1; None where most seeds overflowed."""
    points: list[tuple[float, float]] = []
    for index, (_, layer) in enumerate(groupby(layers, key=lambda pair: pair[1].position), start=1):
        values = [value for run, stats in layer if (value := layer_value(run, stats, quantity)) is not None]
        if values:
            points.append((float(index), median(values)))
    return _finite(points)


def _prediction_plot(runs: Runs) -> Plot:
    lines, bands = [], []
    for scheme, (name, own) in enumerate(runs.items()):
        layers = _at(own, _first_step)
        theory, band = _theory(scheme, layers, "pre_activation_variance")
        if theory:
            lines += [Curve(scheme, _over_seeds(layers, "pre_activation_variance"), label=_short(name)), *theory]
            bands += band
    note = "Dashed line and band: theory for this width"
    panel = Panel("", "weight layer", "pre-activation variance", tuple(lines), tuple(bands), scale="log", layers="forward", note=note)
    return Plot("prediction", "Variance of the pre-activations at initialization: measured and predicted", (panel,))


def _theory(scheme: int, layers: Layers, quantity: str) -> tuple[list[Curve], list[Band]]:
    """The predicted line and band of a scheme, where there is a prediction; the same for every seed."""
    by_position = {stats.position: stats for _, stats in reversed(layers)}
    ordered = [by_position[position] for position in sorted(by_position)]
    predictions = [(float(index), stats.prediction(quantity)) for index, stats in enumerate(ordered, start=1)]
    known = tuple((x, expected.value) for x, expected in predictions if expected.value is not None)
    band = tuple((x, low, high) for x, (_, low, high) in predictions if low is not None and high is not None)
    return [Curve(scheme, known, "theory")] if known else [], [Band(scheme, band)] if band else []

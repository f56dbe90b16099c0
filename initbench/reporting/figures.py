"""What the plots of a comparison show, as data: the lines, dots and labels of its runs."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from itertools import groupby, takewhile
from typing import Literal, Protocol

from initbench.metrics import Metric
from initbench.quantities import BY_NAME, QUANTITIES, Figure, Quantity
from initbench.reporting.panels import MOST_TOGETHER, STREAM, Band, Curve, Lost, Panel, Plot, Points, Strip, few, in_rows
from initbench.reporting.roles import OTHERS, layer_roles
from initbench.results.columns import at_step, column
from initbench.results.outcome import Outcome, has_accuracy, outcome
from initbench.results.propagation import layer_value
from initbench.results.record import LayerStats, Place, RunResult, RunStatus
from initbench.statistics.curves import thinned
from initbench.statistics.estimates import estimate_text
from initbench.statistics.findings import Summary
from initbench.statistics.inference import median
from initbench.statistics.summary import Runs

MOST_POINTS = 100
"""Longer curves are drawn as means over equal stretches, so that files stay small and lines readable."""
ENDS = {Outcome.STUCK: "at chance"}
"""Outcomes that people have another word for."""
MOST_SEEDS = 8
"""Of more seeds not each is a line: the range from the lowest to the highest that did not diverge is shaded."""
Layers = list[tuple[RunResult, LayerStats]]
"""Measurements, each with the run that it is of."""


class Streamed(Protocol):
    """A layer that a residual stream may have been measured behind."""

    @property
    def layer(self) -> str:
        """Its name."""

    @property
    def stream_variance(self) -> float | None:
        """The variance of the stream; None where there is none."""


def plots(summary: Summary, runs: Runs) -> tuple[Plot, ...]:
    """All plots of a comparison; those without anything to show are left out."""
    drawn = [(quantity, quantity.comparison_plot) for quantity in QUANTITIES if quantity.comparison_plot is not None]
    numbers, shares = ([_layer_plot(*each, runs) for each in drawn if (each[0].unit == "share") is wanted] for wanted in (False, True))
    curves = _accuracy_curves(summary.metric_of("final_test_accuracy"), runs)
    accuracy = [_accuracy_plot(summary, runs), curves] if summary.has_accuracy else []
    made = [_loss_plot(runs), *accuracy, *numbers, _prediction_plot(runs), *shares]
    ranking = summary.ranking
    shown = (plot for plot in made if any(panel.lines or panel.strips for panel in plot.panels))
    race = summary.recommendation
    of_round = f" (round {race.reported} of the race)" if race is not None and race.reported else ""
    return tuple(replace(plot, title=plot.title + of_round, schemes=ranking) for plot in shown)


def _loss_plot(runs: Runs) -> Plot:
    lines: list[Curve] = []
    bands: list[Band] = []
    longest = max((len(run.train_losses) for own in runs.values() for run in own), default=0)
    stretch = -(-longest // MOST_POINTS) or 1
    for scheme, own in runs.items():
        tried = [run for run in own if run.train_losses or run.status is RunStatus.DIVERGED]
        curves: list[Points] = [thinned(run.train_losses, stretch) for run in tried]
        more, shade = _with_middle(scheme, tried, curves, worst=math.inf)
        lines, bands = [*lines, *more], [*bands, *shade]
    each = f", mean of every {stretch} steps" if stretch > 1 else ""
    notes = _without(runs, "loss curve", lines)
    label, lost = f"training loss{each}", _lost(runs)
    below = any(loss < 0 for own in runs.values() for run in own for loss in run.train_losses)
    scale: Literal["log", "number"] = "number" if below else "log"
    panel = Panel("", "step", label, tuple(lines), tuple(bands), lost=lost, gone=_gone(runs), scale=scale, notes=notes)
    return Plot("loss", f"Training loss{_how_seeds_are_shown(runs)}", ((panel,),))


def _how_seeds_are_shown(runs: Runs) -> str:
    most = max((len(own) for own in runs.values()), default=0)
    each = "lowest to highest seed (shaded)" if most > MOST_SEEDS else "each seed (thin)"
    return f": {each} and the median (thick)" if most > 1 else ""


def _lost(runs: Runs) -> tuple[Lost, ...]:
    """The schemes of which runs diverged, with the steps at which they did."""
    found = []
    for scheme, own in runs.items():
        gone = [run for run in own if run.status is RunStatus.DIVERGED]
        steps = tuple(sorted(run.first_bad_step for run in gone if run.first_bad_step is not None))
        if gone:
            found.append(Lost(scheme, steps, len(gone), len(own)))
    return tuple(found)


def _gone(runs: Runs) -> frozenset[str]:
    """The schemes of which every run diverged."""
    return frozenset(scheme for scheme, own in runs.items() if all(run.status is RunStatus.DIVERGED for run in own))


def _with_middle(scheme: str, runs: list[RunResult], curves: list[Points], *, worst: float) -> tuple[list[Curve], list[Band]]:
    """Thin lines for the seeds, or of many their range, and the median over all, of which a diverged run counts as `worst` from there.

    The median ends where it is itself a run that has diverged.
    """
    broken = [run.status is RunStatus.DIVERGED for run in runs]
    thin = [Curve(scheme, points, "seed", broken=end) for points, end in zip(curves, broken, strict=True) if points]
    at: dict[float, list[float]] = {}
    for points in curves:
        for x, y in points:
            at.setdefault(x, []).append(worst if y is None else y)
    padded = ((x, median([*ys, *[worst] * (len(curves) - len(ys))])) for x, ys in sorted(at.items()))
    middle = _finite(takewhile(lambda point: math.isfinite(point[1]), padded))
    if len(curves) > MOST_SEEDS:
        band = Band(scheme, _range([points for points, end in zip(curves, broken, strict=True) if not end]), "seeds")
        return [Curve(scheme, middle, named=True)] if middle else [], [band] if band.points else []
    if middle:
        return [*thin, Curve(scheme, middle, named=True)], []
    return [*thin[:-1], replace(thin[-1], named=True)] if thin else [], []


def _range(curves: Iterable[Points]) -> tuple[tuple[float, float, float], ...]:
    """The lowest and the highest of the curves at each place."""
    at: dict[float, list[float]] = {}
    for points in curves:
        for x, y in points:
            if y is not None:
                at.setdefault(x, []).append(y)
    return tuple((x, min(at[x]), max(at[x])) for x in sorted(at))


def _finite(points: Iterable[tuple[float, float]]) -> Points:
    return tuple((x, y if math.isfinite(y) else None) for x, y in points)


def _without(runs: Runs, what: str, lines: Iterable[Curve]) -> tuple[str, ...]:
    """Names the schemes that have nothing to show, so that none disappears silently; a sentence for those that ended alike."""
    shown = {line.scheme for line in lines}
    missing: dict[str, list[str]] = {}
    for name, own in runs.items():
        if name not in shown:
            missing.setdefault(_kinds(own), []).append(name)
    return tuple(f"{few(names)}: no {what} ({kinds})" for kinds, names in missing.items())


def _kinds(own: list[RunResult]) -> str:
    return ", ".join(sorted({outcome(run).value for run in own}))


def _accuracy_plot(summary: Summary, runs: Runs) -> Plot:
    metric = summary.metric_of("final_test_accuracy")
    strips = []
    for name, own in runs.items():
        values = tuple(value for run in own if (value := metric.value(run)) is not None)
        estimate = summary.scheme(name).estimate(metric.name)
        unusual = (Outcome.STUCK, Outcome.DIVERGED, Outcome.FAILED, Outcome.SKIPPED)
        missing = [f"{count} {ENDS.get(kind, kind)}" for kind in unusual if (count := sum(outcome(run) is kind for run in own))]
        middle = estimate_text(metric, estimate) if estimate.n > 1 and estimate.value is not None else ""
        note = ", ".join([*([middle] if middle else []), *missing])
        centre = estimate.value if estimate.n > 1 else None
        strips.append(Strip(name, values, centre, estimate.low, estimate.high, note))
    if len(strips) > MOST_TOGETHER:
        strips.sort(key=lambda strip: summary.ranking.index(strip.scheme))
    most = max((len(strip.values) for strip in strips), default=0)
    what = f": each seed, median{' and 95 % interval' * (most > 5)}" if most > 1 else ""
    title = f"Final {metric.label}{what}"
    return Plot("accuracy", title, ((Panel("", metric.label, "", strips=tuple(strips), scale="accuracy"),),))


def _accuracy_curves(metric: Metric, runs: Runs) -> Plot:
    lines: list[Curve] = []
    bands: list[Band] = []
    for scheme, own in runs.items():
        tried = [run for run in own if has_accuracy(run)]
        curves: list[Points] = [tuple((item.step, item.test_accuracy) for item in run.evaluations) for run in tried]
        more, shade = _with_middle(scheme, tried, curves, worst=metric.worst)
        lines, bands = [*lines, *more], [*bands, *shade]
    label = metric.label
    notes = _without(runs, label, lines)
    panel = Panel("", "step", label, tuple(lines), tuple(bands), lost=_lost(runs), gone=_gone(runs), scale="accuracy", notes=notes)
    title = f"{label[:1].upper()}{label[1:]} while training{_how_seeds_are_shown(runs)}"
    return Plot("accuracy_curves", title, ((panel,),))


StepOf = Callable[[RunResult], int | None]
"""The step of a run whose measurements are meant; None where it has none."""


def _layer_plot(quantity: Quantity, figure: Figure, runs: Runs) -> Plot:
    ended = any(_last_step(run) for own in runs.values() for run in own)
    times: list[tuple[str, StepOf]] = [("At initialization", _first_step), *([("At the end of training", _last_step)] if ended else [])]
    roles = layer_roles(layer for own in runs.values() for run in own for layer in column(run.layers, "layer"))
    if not roles:
        row = tuple(_layer_panel(title, quantity, figure, runs, step_of, None) for title, step_of in times)
        return Plot(figure.name, figure.title, (row,))
    together = len(times)

    def panels(name: str, each: Quantity, only: tuple[str, ...]) -> list[Panel]:
        made = [_layer_panel(name, each, figure, runs, step_of, only) for _, step_of in times]
        corners = ("start", "end") if together > 1 else ("",)
        return [replace(panel, corner=corner, title=name * (corner != "end")) for panel, corner in zip(made, corners, strict=True)]

    rows: list[tuple[Panel, ...]] = []
    stream = BY_NAME[quantity.stream] if quantity.stream else None
    if stream and (ends := stream_ends(stats for own in runs.values() for run in own for stats in run.layers)):
        rows.append(tuple(replace(panel, x_label="residual block", head=None) for panel in panels(STREAM, stream, ends)))
    parts = [panel for name, role in roles.items() for panel in panels(name, quantity, role)]
    return Plot(figure.name, figure.title, (*rows, *in_rows(parts, 2 * together)), parts=True)


def stream_ends(layers: Iterable[Streamed]) -> tuple[str, ...]:
    """The layers behind which a residual stream was measured; none for fewer than two."""
    found = tuple(dict.fromkeys(stats.layer for stats in layers if stats.stream_variance is not None))
    return found if len(found) > 1 else ()


def _first_step(run: RunResult) -> int | None:
    return 0 if run.layers else None


def _last_step(run: RunResult) -> int | None:
    """The step of the last probe of a run that came to its end, when there was one after the start."""
    last = max(column(run.layers, "step"), default=0)
    return last if last and run.status is RunStatus.COMPLETED else None


def _layer_panel(title: str, quantity: Quantity, figure: Figure, runs: Runs, step_of: StepOf, only: tuple[str, ...] | None) -> Panel:
    """The quantity through the layers, or through `only` those."""
    lines: list[Curve] = []
    bands: list[Band] = []
    names: dict[float, str] = {}
    head: float | None = None
    seen: list[LayerStats] = []
    for scheme, own in runs.items():
        layers = _at(own, step_of, only)
        positions = _counted(layers)
        last = max((position for run in own for position in column(run.layers, "position")), default=0)
        layers = [each for each in layers if not (quantity.hidden and each[1].position == last)]
        names |= {positions[stats.position]: stats.layer for _, stats in layers}
        seen += [stats for _, stats in layers]
        apart = {positions[stats.position] for _, stats in layers if stats.place is Place.HEAD} if stands_apart(positions, only) else set()
        head = max(apart, default=head)
        points = _over_seeds(layers, quantity.name)
        if points:
            lines.append(Curve(scheme, points[::-1] if quantity.backward else points, named=True))
            spread = _spread(layers, quantity.name)
            bands += [Band(scheme, spread, "seeds")] if spread else []
        if quantity.backward:
            theory, band = _theory(scheme, layers, quantity.name)
            lines, bands = [*lines, *theory], [*bands, *band]
    notes = ["Dashed line and band: theory for this width"] if any(band.of == "theory" for band in bands) else []
    notes += ["Bars and shade: lowest to highest seed"] if any(band.of == "seeds" for band in bands) else []
    notes += [*_only_some(runs, lines, step_of), *(missing := not_measured(seen, quantity))]
    if lines or not seen:
        notes += _without(runs, "measurement", lines)
    elif not missing:
        notes.append("nothing was measured")
    what = "weight layer" if only is None else "layer of this kind"
    return Panel(
        title,
        f"{what}, from the output back to the input" if quantity.backward else what,
        figure.label,
        tuple(lines),
        tuple(bands),
        gone=_gone(runs) if len({line.scheme for line in lines}) > MOST_TOGETHER else frozenset(),
        scale="log" if quantity.unit == "number" else "percent",
        layers="backward" if quantity.backward else "forward",
        head=head,
        notes=tuple(notes),
        ticks=name_ticks(names, None if only is None else title),
    )


def stands_apart(layers: Collection[object], only: tuple[str, ...] | None) -> bool:
    """Whether the head, one of so many layers of a panel (of `only` those), can stand apart: a line of two is a line."""
    return len(layers) > (2 if only is None else 1)


def name_ticks(names: dict[float, str], kind: str | None) -> tuple[tuple[float, str], ...]:
    """The names of layers at their places; none in the panel of one kind of them, whose title says what they have in common."""
    return tuple(sorted(names.items())) if kind in {None, OTHERS} else ()


class Told(Protocol):
    """A layer that may say why something of it was not measured."""

    @property
    def layer(self) -> str:
        """Its name."""

    @property
    def not_measured(self) -> str | None:
        """Why; None where nothing is missing."""

    def value(self, quantity: str) -> float | None:
        """A quantity; None where it was not measured."""


def not_measured(layers: Iterable[Told], quantity: Quantity) -> tuple[str, ...]:
    """Names the layers that have no point, with why; a sentence a reason."""
    found: dict[str, dict[str, None]] = {}
    for layer in layers:
        if layer.not_measured and layer.value(quantity.name) is None:
            found.setdefault(layer.not_measured, {})[layer.layer] = None
    return tuple(f"{few(list(names))}: not measured, {why}" for why, names in found.items())


def _only_some(runs: Runs, lines: Iterable[Curve], step_of: StepOf) -> tuple[str, ...]:
    """Names the schemes whose lines are of a part of their runs, with what became of the others: `normal: 5 of 8 runs (3 diverged)`."""
    shown, parts = {line.scheme for line in lines}, []
    for name, own in runs.items():
        left = [run for run in own if step_of(run) is None]
        if name in shown and left:
            counts = Counter(outcome(run).value for run in left)
            others = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
            parts.append(f"{name}: {len(own) - len(left)} of {len(own)} runs ({others})")
    return ("; ".join(parts),) if parts else ()


def _at(runs: list[RunResult], step_of: StepOf, only: tuple[str, ...] | None = None) -> Layers:
    """The measurements of one step of each run, in the order of the layers."""
    steps = ((run, step_of(run)) for run in runs)
    there = ((run, stats) for run, step in steps if step is not None for stats in at_step(run.layers, step))
    measured = [(run, stats) for run, stats in there if only is None or stats.layer in only]
    return sorted(measured, key=lambda pair: pair[1].position)


def _counted(layers: Layers) -> dict[int, float]:
    """The places on the axis of the layers' positions, counted from 1."""
    return {position: float(place) for place, position in enumerate(sorted({stats.position for _, stats in layers}), start=1)}


def _by_layer(layers: Layers, quantity: str) -> list[tuple[float, list[float]]]:
    """At each layer that was measured the values of the seeds; infinite where one overflowed."""
    positions = _counted(layers)
    groups = ((positions[position], list(layer)) for position, layer in groupby(layers, key=lambda pair: pair[1].position))
    measured = ((x, [value for run, stats in layer if (value := layer_value(run, stats, quantity)) is not None]) for x, layer in groups)
    return [(x, values) for x, values in measured if values]


def _over_seeds(layers: Layers, quantity: str) -> Points:
    """The median over seeds at each layer that was measured; None where most seeds overflowed."""
    return _finite((x, median(values)) for x, values in _by_layer(layers, quantity))


def _spread(layers: Layers, quantity: str) -> tuple[tuple[float, float, float], ...]:
    """The lowest and the highest seed at each layer, where there are several."""
    finite = ((x, [value for value in values if math.isfinite(value)]) for x, values in _by_layer(layers, quantity))
    return tuple((x, min(values), max(values)) for x, values in finite if len(values) > 1)


def _prediction_plot(runs: Runs) -> Plot:
    lines, bands = [], []
    for scheme, own in runs.items():
        layers = _at(own, _first_step)
        theory, band = _theory(scheme, layers, "pre_activation_variance")
        if theory:
            lines += [Curve(scheme, _over_seeds(layers, "pre_activation_variance"), named=True), *theory]
            bands += band
    notes = ("Dashed line and band: theory for this width",)
    panel = Panel("", "weight layer", "pre-activation variance", tuple(lines), tuple(bands), scale="log", layers="forward", notes=notes)
    return Plot("prediction", "Variance of the pre-activations at initialization: measured and predicted", ((panel,),))


def _theory(scheme: str, layers: Layers, quantity: str) -> tuple[list[Curve], list[Band]]:
    """The predicted line and band of a scheme, where there is a prediction; the same for every seed."""
    by_position = {stats.position: stats for _, stats in reversed(layers)}
    ordered = [by_position[position] for position in sorted(by_position)]
    predictions = [(float(index), stats.prediction(quantity)) for index, stats in enumerate(ordered, start=1)]
    known = tuple((x, expected.value) for x, expected in predictions if expected.value is not None)
    band = tuple((x, low, high) for x, (_, low, high) in predictions if low is not None and high is not None)
    return [Curve(scheme, known, "theory")] if known else [], [Band(scheme, band)] if band else []

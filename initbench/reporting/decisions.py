"""How comparisons were decided where seeds were added until they were: the interval of each difference over the seeds, as data."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate

from initbench.metrics import Metric
from initbench.reporting.panels import Band, Curve, Panel, Plot, few, in_rows, short_names
from initbench.results.outcome import is_outcome_of_scheme
from initbench.statistics.findings import Summary
from initbench.statistics.inference import difference, median
from initbench.statistics.sequential import median_sequence
from initbench.statistics.summary import Runs
from initbench.statistics.verdicts import Comparison, seeds_of_verdict

MOST_TICKS = 6
ROOM, CUT = 25, 18
"""Letters of a title for which three panels stand side by side, and of each name where there are two as titles are longer."""
MOST = 12
"""Comparisons that are drawn, those with the most seeds first."""


def plots(summary: Summary, runs: Runs) -> tuple[Plot, ...]:
    """The picture of the comparisons that were asked for; none where the number of seeds was fixed beforehand."""
    if not summary.anytime:
        return ()
    asked = [pair for pair in summary.comparisons if pair.metric == summary.metric] if summary.only_reference else summary.pairs
    longest = sorted((pair for pair in asked if pair.n), key=lambda pair: -pair.n)
    wide = max((len(f"{pair.scheme} - {pair.other}") for pair in longest[:MOST]), default=0) > ROOM
    names = short_names([scheme.scheme for scheme in summary.schemes], CUT if wide else ROOM)
    panels = [panel for pair in longest[:MOST] if (panel := _panel(summary, pair, runs, names)).bands]
    if not panels:
        return ()
    title = f"Difference in {summary.primary.label} after each seed: median and interval that holds at every look"
    unlimited = few([_title(pair, names) for pair in longest[:MOST] if not _panel(summary, pair, runs, names).bands])
    notes = [f"No limits yet, or runs without a number: {unlimited}"] if unlimited else []
    notes += [f"{len(longest) - MOST} more comparisons are in the tables"] if len(longest) > MOST else []
    notes.append("Dashed: no difference" + ("" if summary.margin is None else f", and the margin of {summary.margin:g}"))
    panels[-1] = replace(panels[-1], notes=(*panels[-1].notes, *notes))
    return (Plot("decisions", title, in_rows(panels, 2 if wide else 3), schemes=summary.ranking),)


def _title(pair: Comparison, names: Mapping[str, str]) -> str:
    return f"{names[pair.scheme]} - {names[pair.other]}"


def _panel(summary: Summary, pair: Comparison, runs: Runs, names: Mapping[str, str]) -> Panel:
    metric = summary.primary
    gaps = list(_differences(metric, pair, runs))
    found = enumerate(median_sequence(gaps), 1)
    limits = [(float(count), metric.scale * each.low, metric.scale * each.high) for count, each in found]
    band = tuple(point for point in limits if all(map(math.isfinite, point)))
    middles = [median(some) for some in accumulate(([gap] for gap in gaps), lambda before, more: before + more)]
    line = tuple((float(count), metric.scale * middle) for count, middle in enumerate(middles, 1) if math.isfinite(middle))
    ahead = pair.scheme if (pair.effect or 0) >= 0 else pair.other
    levels = (0.0,) if summary.margin is None else (-summary.margin, 0.0, summary.margin)
    last, step = float(max(len(gaps), 2)), next(each for each in (1, 2, 5, 10, 20, 50, 100, 10**6) if len(gaps) / each <= MOST_TICKS)
    return Panel(
        _title(pair, names),
        "seeds",
        f"difference, {metric.amount.partition(' of ')[0]}" if metric.scale != 1 else f"difference in {metric.label}",
        (Curve(ahead, line, "steps"), *(Curve(ahead, ((1.0, level), (last, level)), "theory") for level in levels)),
        (Band(ahead, band, "steps"),) if band else (),
        scale="number",
        notes=(f"{pair.verdict.value.capitalize()} after {seeds_of_verdict(pair)} seeds",),
        ticks=tuple((float(count), str(count)) for count in range(step, len(gaps) + 1, step)),
    )


def _differences(metric: Metric, pair: Comparison, runs: Runs) -> Iterable[float]:
    """The paired differences in the order of the seeds."""
    sides = [
        {run.job.seed: metric.ranked(run) for run in runs.get(name, []) if is_outcome_of_scheme(run) and metric.measured(run)}
        for name in pair.names
    ]
    for seed in sorted(sides[0].keys() & sides[1].keys()):
        yield difference(sides[0][seed], sides[1][seed])

"""How comparisons were decided where seeds were added until they were: the interval of each difference over the seeds, as data."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate

from initbench.metrics import Metric
from initbench.reporting.panels import Band, Curve, Panel, Plot, few, in_rows
from initbench.results.outcome import is_outcome_of_scheme
from initbench.statistics.findings import Summary
from initbench.statistics.inference import difference, median
from initbench.statistics.sequential import median_sequence
from initbench.statistics.summary import Runs
from initbench.statistics.verdicts import Comparison

MOST_TICKS = 6
MOST = 12
"""Comparisons that are drawn, those with the most seeds first."""


def plots(summary: Summary, runs: Runs) -> tuple[Plot, ...]:
    """The picture of the comparisons that were asked for; none where the number of seeds was fixed beforehand."""
    if not summary.anytime:
        return ()
    asked = [pair for pair in summary.comparisons if pair.metric == summary.metric] if summary.only_reference else summary.pairs
    longest = sorted((pair for pair in asked if pair.n), key=lambda pair: -pair.n)
    panels = [panel for pair in longest[:MOST] if (panel := _panel(summary, pair, runs)).bands]
    if not panels:
        return ()
    title = f"Difference in {summary.primary.label} after each seed: median and interval that holds at every look"
    unlimited = few([f"{pair.scheme} - {pair.other}" for pair in longest[:MOST] if not _panel(summary, pair, runs).bands])
    notes = [f"no limits yet, or runs without a number: {unlimited}"] if unlimited else []
    notes += [f"{len(longest) - MOST} more comparisons are in the tables"] if len(longest) > MOST else []
    panels[-1] = replace(panels[-1], notes=(*panels[-1].notes, *notes))
    return (Plot("decisions", title, in_rows(panels), schemes=summary.ranking),)


def _panel(summary: Summary, pair: Comparison, runs: Runs) -> Panel:
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
        f"{pair.scheme} - {pair.other}",
        "seeds",
        f"difference, {metric.amount.partition(' of ')[0]}" if metric.scale != 1 else f"difference in {metric.label}",
        (Curve(ahead, line), *(Curve(ahead, ((1.0, level), (last, level)), "theory") for level in levels)),
        (Band(ahead, band),) if band else (),
        scale="number",
        notes=(f"{pair.verdict.value} after {pair.n} seeds",),
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

"""A sweep as tables, plots and a page: its cells over its axes."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError
from initbench.metrics import Metric
from initbench.question import config_file
from initbench.question.config import ExperimentConfig, value_text
from initbench.question.grid import cells as cells_of
from initbench.question.keys import short, split
from initbench.question.plan import job_ids, jobs_of, resolve_config
from initbench.reporting.panels import Band, Contour, Curve, Heat, Panel, Plot, in_rows
from initbench.reporting.paper import booktabs, escaped
from initbench.reporting.tables import Table, harmless, markdown
from initbench.reporting.templates import template
from initbench.reporting.tidy import write
from initbench.reporting.why import why_of_cells
from initbench.results.outcome import outcome
from initbench.results.record import RunResult
from initbench.statistics.estimates import estimate_text, seeds_text
from initbench.statistics.findings import SchemeSummary, Summary, Sweep, SweepCell
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.summary import ends_text
from initbench.statistics.sweep import Axis, axis_of, is_ordered

MOST_TABLED = 60
"""Cells that the console and summary.md list; all are in tables/cells.csv and on the page."""
MARKS = {"x": "diverged", "-": "failed or skipped"}
"""What stands in a cell without a number."""
MOST_IN_A_ROW = 4
"""Schemes that stand beside each other, where each value of a third axis has a row of its own."""
ACCURACY = "final_test_accuracy"
SIGMA_W, SIGMA_B, DEPTH = "scheme.sigma_w", "scheme.sigma_b", "model.depth"
"""The axes of the phase diagram."""
FINE = 60
"""Points of a line of theory along an axis."""


def table(summary: Summary, most: int | None = MOST_TABLED) -> Table:
    """A row a cell and scheme: its values, the metric of the sweep, how its runs ended, and what the cell's comparison shows."""
    sweep = _sweep(summary)
    metric = summary.primary
    keys = split(sweep.axes)
    shown = sweep.cells if most is None else sweep.cells[: max(1, most // max(1, len(summary.schemes)))]
    rows = tuple(
        (*(value_text(cell.values[key]) for key in keys), *_row(metric, cell, scheme)) for cell in shown for scheme in cell.schemes
    )
    left = f", {len(shown)} of {len(sweep.cells)} cells (all are in tables/cells.csv)" if len(shown) < len(sweep.cells) else ""
    columns = (*(short(key) for key in keys), "scheme", metric.label, "above chance", "against the reference")
    levels = {estimate.level is not None for cell in shown for each in cell.schemes if (estimate := each.estimate(metric.name)).n > 1}
    spreads = [words for level, words in ((True, "[95 % interval]"), (False, "(lowest to highest)")) if level in levels]
    return Table(
        f"Each cell: median of its seeds{''.join(f' {words}' for words in spreads)}{left}",
        columns,
        rows,
        frozenset({*range(len(keys)), len(keys) + 1}),
    )


def paper_table(summary: Summary, ending: str) -> str:
    """A row a cell and scheme of a sweep, in one of the `FORMATS`."""
    drawn = table(summary, most=None)
    seeds = max((len(scheme.seeds) for scheme in summary.schemes), default=0)
    caption = (
        f"Each cell: median of {seeds_text(seeds)}. Against {summary.reference}: exact two-sided sign-flip tests on signed ranks of paired "
        "seeds, p after Benjamini and Hochberg over all cells."
    )
    if ending == "csv":
        return cells_csv(summary)
    if ending == "markdown":
        return f"{markdown(drawn)}\n{caption}\n"
    if ending == "json":
        rows = [dict(zip(drawn.columns, row, strict=True)) for row in drawn.rows]
        return json.dumps({"caption": caption, "rows": rows}, indent=2, ensure_ascii=False) + "\n"
    return booktabs(caption, drawn.columns, (tuple(map(escaped, row)) for row in drawn.rows))


def _row(metric: Metric, cell: SweepCell, scheme: SchemeSummary) -> tuple[str, ...]:
    comparison = next((each for each in cell.comparisons if each.scheme == scheme.scheme), None)
    p = cell.p_fdr.get(scheme.scheme)
    said = "" if comparison is None or p is None else _shown(comparison.effect, p)
    return scheme.scheme, estimate_text(metric, scheme.estimate(metric.name)), ends_text(scheme, ""), said


def _shown(effect: float | None, p: float) -> str:
    from initbench.statistics.inference import ALPHA

    how = "better" if (effect or 0) > 0 else "worse"
    return f"{how}, p = {p:.3f}" if p <= ALPHA and effect else f"not shown to differ, p = {p:.2f}"


def cells_csv(summary: Summary) -> str:
    """A row a cell and scheme, with what `table` shows as numbers."""
    sweep = _sweep(summary)
    keys = split(sweep.axes)
    counts = ("trained", "stuck", "diverged", "failed", "skipped")
    figures = ("value", "low", "high", "n")
    test = ("difference", "effect", "p", "p_fdr", "other")
    rows = []
    for cell in sweep.cells:
        against = {each.scheme: each for each in cell.comparisons}
        for scheme in cell.schemes:
            estimate, compared = scheme.estimate(summary.metric), against.get(scheme.scheme)
            tested: list[object] = [None] * len(test)
            if compared is not None:
                tested = [compared.difference.value, compared.effect, compared.p, cell.p_fdr.get(scheme.scheme), compared.other]
            rows.append(
                [
                    *(value_text(cell.values[key]) for key in keys),
                    *(scheme.scheme, *(getattr(scheme, count) for count in counts), scheme.trained_share.value, summary.metric),
                    *(getattr(estimate, name) for name in figures),
                    *tested,
                ]
            )
    return write((*keys, "scheme", *counts, "trained_share", "metric", *figures, *test), rows)


def runs_csv(config: ExperimentConfig, runs: Iterable[RunResult]) -> str:
    """A row a run with the values of its cell: a tidy frame over all axes."""
    done = {run.job_id: run for run in runs}
    names = [str(scheme) for scheme in resolve_config(config).schemes]
    loss, accuracy = find_metric("final_test_loss"), find_metric(ACCURACY)
    keys: list[str] = []
    rows: list[list[object]] = []
    for cell in cells_of(config):
        keys = [key for key, _ in cell.values]
        jobs = jobs_of(cell.config)
        for place, (name, job) in enumerate(zip(job_ids(jobs), jobs, strict=True)):
            run = done.get(name)
            if run is not None:
                values = [value_text(value) for _, value in cell.values]
                ended = (run.status.value, outcome(run).value, run.first_bad_step, loss.value(run), accuracy.value(run))
                rows.append([*values, names[place % len(names)], job.seed, *ended, run.job_id])
    return write((*keys, "scheme", "seed", "status", "outcome", "first_bad_step", "test_loss", "test_accuracy", "job_id"), rows)


def plots(summary: Summary) -> tuple[Plot, ...]:
    """Over one axis lines with intervals, over two heat maps a scheme, over more small ones for each value of the others."""
    sweep = _sweep(summary)
    metric = summary.metric_of(ACCURACY)
    if not sweep.cells or not any(scheme.estimate(ACCURACY).n for cell in sweep.cells for scheme in cell.schemes):
        return ()
    if len(sweep.axes) == 1:
        return (_lines(summary, sweep, metric),)
    title = f"Final {metric.label}, median of the seeds, in percent"
    return (
        _heat_maps(sweep, "accuracy", title, _middle),
        _heat_maps(sweep, "trained", "Seeds that end above chance, in percent", _trained),
    )


def _lines(summary: Summary, sweep: Sweep, metric: Metric) -> Plot:
    (axis,) = _axes(sweep)
    places, scale = _positions(axis)
    lines: list[Curve] = []
    bands: list[Band] = []
    for scheme in summary.schemes:
        own = [(places[axis.place(cell)], cell.scheme(scheme.scheme)) for cell in sweep.cells]
        found = [(x, each.estimate(ACCURACY)) for x, each in own if each is not None]
        last = max((place for place, (_, each) in enumerate(found) if each.value is not None), default=-1)
        points = tuple((x, each.value) for x, each in found[: last + 1])
        lines += [Curve(scheme.scheme, points, named=True)] if points else []
        ranged = [(x, each.lowest if each.low is None else each.low, each.highest if each.high is None else each.high) for x, each in found]
        band = tuple((x, low, high) for x, low, high in ranged if low is not None and high is not None)
        bands += [Band(scheme.scheme, band, "seeds")] if band else []
    without = [each for cell in sweep.cells for each in cell.schemes if each.estimate(ACCURACY).value is None]
    ends = ["diverged"] if any(each.diverged for each in without) else []
    ends += ["failed or were skipped"] if any(not each.estimate(ACCURACY).n for each in without) else []
    shade = "Shade: 95 % interval of the median, of fewer than 6 seeds lowest to highest; none where it reaches diverged runs"
    panel = Panel(
        "",
        axis.name + scale,
        f"final {metric.label}",
        tuple(lines),
        tuple(bands),
        scale="accuracy",
        notes=(shade, *([f"No point: most seeds {' or '.join(ends)}"] if ends else [])),
        ticks=tuple(zip(places, axis.texts, strict=True)),
    )
    return Plot("accuracy", f"Final {metric.label} by {axis.name}", ((panel,),), tuple(scheme.scheme for scheme in summary.schemes))


def _positions(axis: Axis) -> tuple[list[float], str]:
    """Where the values of an axis stand on a line, numbers by their size or its logarithm, whichever sets them more evenly; and how."""
    if not is_ordered(axis.values) or len(axis.values) < 3:
        return [float(place) for place in range(len(axis.values))], ""
    linear = [float(value) for value in axis.values]
    logs = [math.log10(value) for value in linear] if linear[0] > 0 else []
    even, uneven = (max(gaps) / min(gaps) if (gaps := [b - a for a, b in pairwise(places)]) else math.inf for places in (logs, linear))
    return (logs, " (logarithmic)") if even < uneven else (linear, "")


def _heat_maps(sweep: Sweep, name: str, title: str, value_of: Any) -> Plot:
    """A panel a scheme and, of more than two axes, a combination of values of the further ones; the first axis goes up."""
    y, x, *rest = _axes(sweep)
    groups: dict[tuple[int, ...], list[SweepCell]] = {}
    for cell in sweep.cells:
        groups.setdefault(tuple(axis.place(cell) for axis in rest), []).append(cell)
    schemes = list(dict.fromkeys(scheme.scheme for cell in sweep.cells for scheme in cell.schemes))
    there = {mark for cell in sweep.cells for scheme in cell.schemes for value, mark in [value_of(scheme)] if value is None}
    marks = ["; ".join(f"{mark}: {words}" for mark, words in MARKS.items() if mark in there)] if there else []
    panels = []
    for others, cells in groups.items():
        at = {(y.place(cell), x.place(cell)): cell for cell in cells}
        contours, said = _theory(sweep, y.key, x.key, {axis.key: axis.values[place] for axis, place in zip(rest, others, strict=True)})
        empty = ["empty: left out by a condition, or not run yet"] if len(at) < len(x.texts) * len(y.texts) else []
        where = "".join(f", {axis.name} {axis.texts[place]}" for axis, place in zip(rest, others, strict=True))
        for scheme in schemes:
            rows = [[_cell(at.get((up, along)), scheme, value_of) for along in range(len(x.texts))] for up in range(len(y.texts))]
            values = tuple(tuple(value for value, _ in row) for row in rows)
            heat = Heat(x.texts, y.texts, values, tuple(tuple(mark for _, mark in row) for row in rows), contours)
            panels.append(Panel(f"{scheme}{where}", x.name, y.name, heat=heat, scale="percent", notes=(*marks, *empty, *said)))
    columns = len(schemes) if rest and len(schemes) <= MOST_IN_A_ROW else 3
    return Plot(name, title, in_rows(panels, columns), tuple(schemes))


def _theory(sweep: Sweep, y_key: str, x_key: str, others: dict[str, Any]) -> tuple[tuple[Contour, ...], tuple[str, ...]]:
    """Where both axes are of the phase diagram, its critical line and the depth to which networks train; and what the lines are.

    `others`: the values of further axes in this panel, such as the activation.
    """
    import numpy as np

    from initbench.theory.phase import TRAINS_TO, phase_grid

    fixed = sweep.fixed | {key.removeprefix("model."): value for key, value in others.items() if key.startswith("model.")}
    phi, names = fixed.get("activation"), {y_key, x_key}
    known = {SIGMA_W, SIGMA_B, DEPTH}
    if not isinstance(phi, str) or not names <= known or SIGMA_W not in names or len(names) < 2:
        return (), ()
    places = {key: np.linspace(0, len(sweep.axes[key]) - 1, FINE) for key in (y_key, x_key)}
    values = {key: np.interp(own, np.arange(len(sweep.axes[key])), np.array(sweep.axes[key], dtype=float)) for key, own in places.items()}
    grid = dict(zip((x_key, y_key), np.meshgrid(values[x_key], values[y_key]), strict=True))
    sigma_w = grid[SIGMA_W]
    try:
        phase = phase_grid(phi, sigma_w, grid.get(SIGMA_B, np.zeros_like(sigma_w)))
    except ConfigError:
        return (), ()
    depth = grid.get(DEPTH, np.full_like(sigma_w, float(fixed.get("depth") or 0)))

    def line(level: Any, *, dashed: bool) -> Contour:
        return Contour(tuple(places[x_key]), tuple(places[y_key]), tuple(map(tuple, level.tolist())), dashed)

    lines = (line(phase.chi_1, dashed=False), line(depth / (TRAINS_TO * phase.xi_c), dashed=True))
    trains = f"depth = {TRAINS_TO:g} correlation lengths, about as deep as networks train"
    words = f"Line: critical, chi_1 = 1; dashed: {trains} (theory of infinite width)"
    return lines, (words,)


def _axes(sweep: Sweep) -> list[Axis]:
    return [axis_of(key, given) for key, given in sweep.axes.items()]


def _cell(cell: SweepCell | None, scheme: str, value_of: Any) -> tuple[float | None, str]:
    found = cell.scheme(scheme) if cell is not None else None
    return (None, "") if found is None else value_of(found)


def _middle(scheme: SchemeSummary) -> tuple[float | None, str]:
    value = scheme.estimate(ACCURACY).value
    return value, "" if value is not None else "x" if scheme.diverged else "-"


def _trained(scheme: SchemeSummary) -> tuple[float | None, str]:
    value = scheme.trained_share.value
    return value, "" if value is not None else "-"


def _sweep(summary: Summary) -> Sweep:
    assert summary.sweep is not None
    return summary.sweep


def summary_markdown(summary: Summary, question: str) -> str:
    """The whole of summary.md."""
    notes = "".join(f"- {harmless(note)}\n" for note in summary.notes)
    return f"# {harmless(question)}\n\n**{harmless(summary.headline)}.**\n\n{markdown(table(summary))}\n{notes}"


def page(
    config: ExperimentConfig,
    summary: Summary,
    question: str,
    pictures: Sequence[tuple[Plot, str]],
    provenance: Sequence[tuple[str, str]],
    typed: str = "",
) -> str:
    """The self-contained page as HTML; `pictures`: each plot with its SVG element; `typed`: the command line that asked."""
    from markupsafe import Markup

    return template(Path(__file__).with_name("sweep.html.jinja")).render(
        title=question,
        summary=summary,
        cells=table(summary, None),
        plots=[(plot, Markup(svg)) for plot, svg in pictures],
        typed=typed,
        why=why_of_cells(summary),
        command="initbench sweep -c config.yaml",
        config=config_file.dump_config(config),
        provenance=provenance,
    )

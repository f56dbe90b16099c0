"""Tables for people, as data: the console draws them, summary.md and the page hold the same text."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from initbench.metrics import Metric
from initbench.quantities import QUANTITIES, Quantity
from initbench.results.columns import at_step
from initbench.results.propagation import layer_value
from initbench.results.record import LayerStats, RunResult
from initbench.statistics.estimates import Estimate, estimate_text, interval_text, number_text, seeds_text, share_text
from initbench.statistics.findings import SchemeSummary, Summary
from initbench.statistics.inference import ALPHA, median
from initbench.statistics.summary import trained_text
from initbench.statistics.verdicts import Comparison, Verdict

RATIOS = ("activation_ratio", "gradient_ratio")
"""The metrics of the columns about the signal."""
BOLD = "Bold: the best, and what is not shown to differ from it.\n"
TAG = re.compile(r"<(?=[A-Za-z/!?])")
"""Where HTML begins; "p < 0.01" is none."""


@dataclass(frozen=True)
class Table:
    """A title, column names and rows of text, one text a column; the columns in `right` hold numbers, the rows in `marked` stand out.

    `best`: the row of the best scheme; `level`: those of schemes that are not shown to differ from it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    best: frozenset[int] = frozenset()
    level: frozenset[int] = frozenset()


def scheme_table(summary: Summary) -> Table:
    """A row a scheme, the best first: accuracy, loss, how many runs ended above chance, and the signal through the untrained network."""
    chosen = _shown_metrics(summary)
    ratios = [summary.metric_of(name) for name in RATIOS]
    ranked = summary.ranking
    rows = tuple(_scheme_row(summary.scheme(name), chosen, ratios) for name in ranked)
    place = "block" if any(scheme.stream for scheme in summary.schemes) else "layer"
    signal = (f"activations, last/first {place}", f"gradients, first/last {place}")
    columns = ("scheme", *(metric.label for metric in chosen), "above chance", *signal)
    return with_best(Table(_title(summary), columns, rows, frozenset(range(1, len(columns)))), summary.best)


def with_best(table: Table, best: Sequence[str]) -> Table:
    """A table of a row a scheme with the first of the `best` marked, and those that tie with it."""
    rows = [row[0] for row in table.rows]
    places = [rows.index(name) for name in best if name in rows]
    return replace(table, best=frozenset(places[:1]), level=frozenset(places[1:]))


def pair_table(summary: Summary) -> Table:
    """A row a pair of schemes: difference, wins, effect, chance of improvement, p; all pairs are one family."""
    metric = summary.primary
    rows: tuple[tuple[str, ...], ...] = tuple(_pair_row(metric, pair) for pair in summary.pairs)
    columns: tuple[str, ...] = (
        "pair",
        f"difference ({metric.amount})",
        "seeds",
        "won, lost, tied",
        "effect",
        "P(improvement)",
        "anytime p" if summary.anytime else "p",
        "after e-Holm" if summary.anytime else "p after Holm",
        "verdict",
    )
    if any(pair.mean for pair in summary.pairs):
        rows = tuple((*row[:2], _mean_text(metric, pair), *row[2:]) for row, pair in zip(rows, summary.pairs, strict=True))
        columns = (*columns[:2], "mean difference", *columns[2:])
    return Table(f"All pairs: {metric.label}, scheme minus other", columns, rows, frozenset(range(1, len(columns) - 1)))


def _mean_text(metric: Metric, pair: Comparison) -> str:
    return "" if pair.mean is None or pair.mean.value is None else number_text(metric, pair.mean.value) + interval_text(metric, pair.mean)


def outcome_table(summary: Summary) -> Table:
    """A row a scheme: how many runs ended in which way, and the share that trained with its 95 % Wilson interval."""
    rows = tuple(
        (
            scheme.scheme,
            share_text(scheme.trained_share),
            *(str(count) for count in (scheme.stuck, scheme.diverged, scheme.failed, scheme.skipped)),
            ", ".join(str(step) for step in scheme.first_bad_steps),
        )
        for scheme in summary.schemes
    )
    columns = ("scheme", "above chance", "at chance", "diverged", "failed", "skipped", "first bad steps")
    return Table("How the runs ended", columns, rows, frozenset(range(2, 6)))


def metric_table(summary: Summary) -> Table:
    """A row a scheme, a column a metric."""
    rows = tuple(
        (scheme.scheme, *(estimate_text(metric, scheme.estimate(metric.name)) for metric in summary.metrics)) for scheme in summary.schemes
    )
    columns = ("scheme", *(metric.label + " (decades)" * (metric.unit == "decades") for metric in summary.metrics))
    return Table("All metrics", columns, rows, frozenset(range(1, len(columns))))


def layer_table(runs: Sequence[RunResult], lost_at: str | None) -> Table:
    """A row a weight layer before the first step, medians over the seeds; the layer `lost_at`, where the signal is lost, is marked."""
    by_position: dict[int, list[tuple[RunResult, LayerStats]]] = {}
    for run in runs:
        for stats in at_step(run.layers, 0):
            by_position.setdefault(stats.position, []).append((run, stats))
    layers = [by_position[position] for position in sorted(by_position)]
    quantities = [each for each in QUANTITIES if each.title is not None and not (each.optional and _nowhere(layers, each))]
    rows = tuple((str(index), each[0][1].layer, *(_typical(each, of) for of in quantities)) for index, each in enumerate(layers, 1))
    columns = ("", "layer", *(each.title or "" for each in quantities))
    marked = frozenset(index for index, each in enumerate(layers) if each[0][1].layer == lost_at)
    return Table("", columns, rows, frozenset({0, *range(2, len(columns))}), marked)


def _nowhere(layers: Sequence[Sequence[tuple[RunResult, LayerStats]]], quantity: Quantity) -> bool:
    return all(getattr(stats, quantity.name) is None for each in layers for _, stats in each)


def _typical(layers: Sequence[tuple[RunResult, LayerStats]], quantity: Quantity) -> str:
    values = [value for run, stats in layers if (value := layer_value(run, stats, quantity.name)) is not None]
    if not values:
        return ""
    if not math.isfinite(middle := median(values)):
        return "overflow"
    return f"{100 * middle:.1f} %" if quantity.unit == "share" else f"{middle:.3g}"


def markdown(table: Table, bold: Iterable[tuple[int, int]] | None = None) -> str:
    """The table in Markdown, without its title; in bold the names of what is best, or the cells (row, column) that are to be."""
    rows = [[_cell(text) for text in row] for row in (table.columns, *table.rows)]
    for row, column in bold if bold is not None else ((index, 0) for index in table.best | table.level):
        rows[row + 1][column] = f"**{rows[row + 1][column]}**"
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|" + "|".join("---:" if index in table.right else "---" for index in range(len(table.columns))) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def summary_markdown(summary: Summary, question: str, studies: Sequence[Table] = ()) -> str:
    """The whole of summary.md: headline, tables (`studies`: those of tuning or a race), verdicts and notes."""
    table = scheme_table(summary)
    parts = [f"# {harmless(question)}\n", f"**{harmless(summary.headline)}.**\n", f"{harmless(table.title)}:\n", markdown(table)]
    parts += [BOLD] if summary.best else []
    parts += [f"## {table.title}\n\n{markdown(table)}" for table in studies]
    if summary.tuned is not None:
        parts.append(_bullets(summary.tuned.at_best.verdicts))
    if summary.recommendation is not None and summary.recommendation.code:
        parts.append(f"```python\n{summary.recommendation.code}\n```\n")
    verdicts = summary.verdicts
    if verdicts:
        metric = summary.primary
        parts += [f"## Against {summary.reference}, by {metric.label}\n", _bullets(verdicts)]
    if len(summary.schemes) > 2:
        parts += ["## All pairs\n", markdown(pair_table(summary))]
    parts += ["## How the runs ended\n", markdown(outcome_table(summary)), "## All metrics\n", markdown(metric_table(summary))]
    if summary.notes:
        parts += ["## Notes\n", _bullets(summary.notes)]
    return "\n".join(parts)


def statistic_text(summary: Summary) -> str:
    """What the figures are, in words."""
    seeds = max((len(scheme.seeds) for scheme in summary.schemes), default=0)
    has_interval = any(estimate.level is not None for scheme in summary.schemes for estimate in scheme.estimates)
    if seeds < 2:
        return "one seed"
    return f"median of {seeds} seeds" + (" [95 % interval]" if has_interval else " (lowest to highest)")


def _title(summary: Summary) -> str:
    return f"{statistic_text(summary)[0].upper()}{statistic_text(summary)[1:]}"


def _shown_metrics(summary: Summary) -> list[Metric]:
    names = ["final_test_accuracy", "final_test_loss"] if summary.has_accuracy else ["final_test_loss"]
    names = ([] if summary.metric in names else [summary.metric]) + names
    if summary.target is not None and "steps_to_target" not in names:
        names.append("steps_to_target")
    return [summary.metric_of(name) for name in names]


def _scheme_row(scheme: SchemeSummary, chosen: Sequence[Metric], ratios: Sequence[Metric]) -> tuple[str, ...]:
    figures = (estimate_text(metric, scheme.estimate(metric.name)) for metric in chosen)
    return (scheme.scheme, *figures, trained_text(scheme), *(_ratio_text(metric, scheme.estimate(metric.name)) for metric in ratios))


def _ratio_text(metric: Metric, estimate: Estimate) -> str:
    if estimate.n == 0:
        return ""
    return metric.absent if estimate.value is None else number_text(metric, estimate.value)


def _pair_row(metric: Metric, pair: Comparison) -> tuple[str, ...]:
    name = f"{pair.scheme} - {pair.other}"
    if pair.p is None or pair.p_holm is None:
        return (name, "", str(pair.n), "", "", "", "", "", pair.verdict.value)
    unlike = pair.difference.value is None
    size = f"no size: one {metric.absent}" if unlike else number_text(metric, pair.difference.value or 0.0)
    return (
        name,
        size if unlike else size + interval_text(metric, pair.difference, "no limit"),
        str(pair.n),
        f"{pair.wins}, {pair.losses}, {pair.ties}",
        f"{pair.effect:+.2f}",
        f"{pair.improvement:.2f}",
        f"{pair.p:.4f}",
        f"{pair.p_holm:.4f}",
        f"both {metric.absent}" if pair.verdict is Verdict.BOTH_WITHOUT else _verdict_text(pair),
    )


def _verdict_text(pair: Comparison) -> str:
    """The verdict, and after how many seeds it was reached where these were added; where it and the interval beside it part, why."""
    if pair.decided_after is not None:
        return f"{pair.verdict.value} after {seeds_text(pair.decided_after)}"
    parted = pair.p is not None and pair.p <= ALPHA and pair.verdict in {Verdict.TIE, Verdict.TOO_FEW_SEEDS}
    return pair.verdict.value + f" after correction for {pair.family} comparisons" * parted


def _bullets(lines: Sequence[str]) -> str:
    return "".join(f"- {harmless(line).rstrip('.')}.\n" for line in lines)


def _cell(text: str) -> str:
    return harmless(text).replace("|", "\\|").replace("\n", " ")


def harmless(text: str) -> str:
    """Text in which names and messages of others are no HTML, no link, no picture, and nothing that is bold or slanted."""
    return TAG.sub("&lt;", text).replace("](", "]\\(").replace("![", "!\\[").replace("*", "\\*")

"""The tidy CSV tables, one measurement a row; docs/results.md says what each column means.

A run without measurements (it failed, or its scheme was skipped) has one row with its status and nothing else.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from initbench.quantities import columns_in_order
from initbench.results.outcome import outcome
from initbench.results.record import LayerStats, ParameterInit, RunResult
from initbench.statistics.findings import Summary

Row = Sequence[object]

RUN = ("scheme", "seed", "status", "outcome")
"""The columns that say which run a row is from."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With what a spreadsheet takes a text for a formula."""


def curves(runs: Iterable[RunResult]) -> str:
    """Training loss by step, test loss and accuracy by evaluation, and the score where the task has one."""

    def rows(run: RunResult) -> Iterator[Row]:
        for index, loss in enumerate(run.train_losses):
            yield index + 1, None, "train_loss", loss
        for item in run.evaluations:
            yield item.step, item.epoch, "test_loss", item.test_loss
            yield item.step, item.epoch, "test_accuracy", item.test_accuracy
            if run.score is not None:
                yield item.step, item.epoch, f"test_{run.score.name}", item.test_score

    return _of_runs(runs, ("step", "epoch", "quantity", "value"), rows)


def layers(runs: Iterable[RunResult]) -> str:
    """Each weight layer at each probe."""
    columns = columns_in_order(tuple(LayerStats.model_fields))

    def rows(run: RunResult) -> Iterator[Row]:
        for stats in run.layers:
            yield [getattr(stats, column) for column in columns]

    return _of_runs(runs, columns, rows)


def init(runs: Iterable[RunResult]) -> str:
    """Each parameter after initialization: who set it, what was promised and what was measured."""
    columns = tuple(ParameterInit.model_fields)

    def rows(run: RunResult) -> Iterator[Row]:
        for entry in run.init.parameters if run.init else ():
            multiplier = run.init.lr_multipliers.get(entry.parameter, 1) if run.init else 1
            yield [*(getattr(entry, column) for column in columns), multiplier]

    return _of_runs(runs, (*columns, "lr_multiplier"), rows)


def summary(summary: Summary) -> str:
    """Each metric of each scheme, with how its runs ended."""
    counts = ("trained", "stuck", "diverged", "failed", "skipped")
    figures = ("value", "low", "high", "level", "n", "without_number", "lowest", "highest")
    rows = (
        [
            scheme.scheme,
            *(getattr(scheme, count) for count in counts),
            each.metric,
            *(getattr(each, name) for name in figures),
        ]
        for scheme in summary.schemes
        for each in scheme.estimates
    )
    return write(("scheme", *counts, "metric", *figures), rows)


MEAN = ("mean_difference", "mean_low", "mean_high")
"""Columns of the mean of paired differences, with its interval at every look; empty where the number of seeds was fixed."""


def comparisons(summary: Summary) -> str:
    """Each paired comparison, first those with the reference in every metric, then all pairs in the chosen one."""
    tests = ("wins", "losses", "ties", "both_without", "effect", "improvement", "p", "p_holm")
    families = (*(("reference", each) for each in summary.comparisons), *(("all pairs", each) for each in summary.pairs))
    rows = (
        [
            *(kind, each.metric, each.scheme, each.other, each.n),
            *(each.difference.value, each.difference.low, each.difference.high, each.difference.level),
            *(getattr(each, test) for test in tests),
            *(each.family, each.verdict.value, "anytime" if each.anytime else "fixed", each.decided_after),
            *((each.mean.value, each.mean.low, each.mean.high) if each.mean else (None, None, None)),
        ]
        for kind, each in families
    )
    figures = ("n", "difference", "low", "high", "level", *tests, "family_size", "verdict", "kind", "decided_after", *MEAN)
    columns = ("family", "metric", "scheme", "other", *figures)
    return write(columns, rows)


def _of_runs(runs: Iterable[RunResult], columns: Sequence[str], rows_of: Callable[[RunResult], Iterable[Row]]) -> str:
    def rows() -> Iterator[Row]:
        for run in runs:
            head = (run.job.scheme, run.job.seed, run.status.value, outcome(run).value)
            empty = True
            for row in rows_of(run):
                empty = False
                yield (*head, *row)
            if empty:
                yield (*head, *([None] * len(columns)))

    return write((*RUN, *columns), rows())


def write(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """The rows as CSV with Unix line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(value) for value in row] for row in rows)
    return text.getvalue()


def _text(value: object) -> str:
    """Nine significant digits, which hold a float32 exactly; a missing number is an empty field; sizes are joined by x, names by spaces.

    A text that a spreadsheet would compute gets an apostrophe before it.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, tuple):
        return (" " if value and isinstance(value[0], str) else "x").join(map(str, value))
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text

"""What a search of values leaves to see: the sensitivity curve, the own best values, a race's candidates; as data."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from initbench.question.config import value_text
from initbench.reporting.panels import Curve, Panel, Plot, Points
from initbench.reporting.tables import Table, with_best
from initbench.reporting.tidy import summary as summary_csv
from initbench.reporting.tidy import write
from initbench.results.outcome import outcome
from initbench.results.record import RunResult
from initbench.statistics.estimates import estimate_text
from initbench.statistics.findings import Candidate, Fate, Recommendation, Summary, Tuned, TunedScheme
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.summary import trained_text


def plots(summary: Summary) -> tuple[Plot, ...]:
    """The sensitivity curve of a comparison with tuning; nothing for others."""
    if summary.tuned is None or not any(scheme.points for scheme in summary.tuned.schemes):
        return ()
    tuned = summary.tuned
    values = _values(tuned)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)
    places = {value_text(value): math.log10(value) if numbers else float(index) for index, value in enumerate(values)}
    lines = [line for scheme in tuned.schemes for line in _lines(scheme, places)]
    lost = ("Triangles at the top: diverged",) * any(point.diverged for scheme in tuned.schemes for point in scheme.points)
    seeds = f"Median (thick) and each (thin) of {len(tuned.seeds)} seeds; " if len(tuned.seeds) > 1 else "One seed; "
    notes = (*lost, f"{seeds}final loss on the {100 * tuned.holdout:g} % of the training images that were held out")
    ticks = tuple((place, text) for text, place in places.items())
    panel = Panel("", tuned.key, "held-out loss", tuple(lines), scale="log", notes=notes, ticks=ticks)
    schemes = tuple(scheme.scheme for scheme in tuned.schemes)
    return (Plot("sensitivity", f"Sensitivity: final loss against {tuned.key}", ((panel,),), schemes),)


def _values(tuned: Tuned) -> list[Any]:
    every = {value_text(point.value): point.value for scheme in tuned.schemes for point in scheme.points}
    numbers = all(isinstance(value, int | float) for value in every.values())
    return sorted(every.values()) if numbers else list(every.values())


def _lines(scheme: TunedScheme, places: dict[str, float]) -> list[Curve]:
    if not scheme.points:
        return []
    xs = [places[value_text(point.value)] for point in scheme.points]
    seeds = max(len(point.losses) for point in scheme.points)
    by_seed: list[Points] = [
        tuple((x, point.losses[seed] if seed < len(point.losses) else None) for x, point in zip(xs, scheme.points, strict=True))
        for seed in range(seeds)
    ]
    thin = [Curve(scheme.scheme, points, "seed") for points in by_seed] if seeds > 1 else []
    best = f" (best {value_text(scheme.best)})" if scheme.best is not None else " (none above chance)"
    middle = tuple((x, point.loss) for x, point in zip(xs, scheme.points, strict=True))
    return [*thin, Curve(scheme.scheme, middle, named=True, remark=best)]


def study_tables(summary: Summary) -> tuple[Table, ...]:
    """The tables that tuning or a race adds, for the console, summary.md and the page."""
    best = (_best_table(summary, summary.tuned),) if summary.tuned is not None else ()
    return best if summary.recommendation is None else (*best, _candidate_table(summary.recommendation))


def _best_table(summary: Summary, tuned: Tuned) -> Table:
    """A row a scheme, the best at its own value first: that value, the metric of the verdict at the same value and at its own."""
    metric, name = summary.primary, tuned.key.rpartition(".")[2]
    ranked = tuned.at_best.ranking
    order = (*ranked, *(scheme for scheme in summary.ranking if scheme not in ranked))
    rows = tuple(
        (
            scheme,
            "none" if (best := tuned.scheme(scheme).best) is None else value_text(best),
            estimate_text(metric, summary.scheme(scheme).estimate(metric.name)),
            estimate_text(metric, tuned.at_best.scheme(scheme).estimate(metric.name)) if scheme in ranked else "",
            trained_text(tuned.at_best.scheme(scheme)) if scheme in ranked else "",
        )
        for scheme in order
    )
    columns = ("scheme", f"best {name}", f"at {value_text(tuned.base)}", "at its best", "above chance")
    title = f"Each scheme at its own best {name}: {metric.label}"
    return with_best(Table(title, columns, rows, frozenset(range(1, 5))), tuned.at_best.best)


def _candidate_table(recommendation: Recommendation) -> Table:
    shown = [each for each in recommendation.candidates if each.fate is not Fate.DOES_NOT_APPLY]
    rows = tuple(
        (each.scheme, _value(each), str(each.rounds), "" if each.loss is None else f"{each.loss:.3g}", each.reason or each.fate.value)
        for each in shown
    )
    columns = ("scheme", f"best {recommendation.key.rpartition('.')[2]}", "rounds", "held-out loss", "fate")
    return Table("The race", columns, rows, frozenset({1, 2, 3}))


def _value(candidate: Candidate) -> str:
    return "" if candidate.value is None else value_text(candidate.value)


def tables(summary: Summary, runs: Iterable[RunResult]) -> dict[str, str]:
    """The CSV files that tuning or a race adds, by their path."""
    files: dict[str, str] = {}
    if summary.tuned is not None:
        files["tables/tuning.csv"] = _trials(runs)
        files["tables/summary_at_best.csv"] = summary_csv(summary.tuned.at_best)
    if summary.recommendation is not None:
        files["tables/race.csv"] = _trials(runs)
    return files


def _trials(runs: Iterable[RunResult]) -> str:
    """One row a run with a holdout: what differs between them, and the final loss and accuracy on the held-out images."""

    def place(run: RunResult) -> tuple[object, ...]:
        job, train = run.job, run.job.train
        return (str(job.scheme), job.seed, str(job.model), train.lr, train.steps or 0, train.epochs or 0, train.batch_size, run.job_id)

    loss, accuracy = find_metric("final_test_loss"), find_metric("final_test_accuracy")
    held = sorted((run for run in runs if run.job.train.holdout), key=place)
    rows: Sequence[Sequence[object]] = [
        (
            *(run.job.scheme, run.job.seed, run.status.value, outcome(run).value, str(run.job.model)),
            *(run.job.train.lr, run.job.train.steps, run.job.train.epochs, run.job.train.batch_size),
            *(loss.value(run), accuracy.value(run), run.job_id),
        )
        for run in held
    ]
    columns = ("scheme", "seed", "status", "outcome", "model", "lr", "steps", "epochs", "batch_size", "loss", "accuracy", "job_id")
    return write(columns, rows)

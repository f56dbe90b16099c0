"""What a search of values leaves to see: the sensitivity curve, the own best values, a race's candidates; as data."""

import math
from collections.abc import Iterable, Sequence

from initbench.question.config import value_text
from initbench.question.keys import short
from initbench.reporting.panels import MOST_TOGETHER, Band, Curve, Panel, Plot, Points, in_rows
from initbench.reporting.tables import Table, with_best
from initbench.reporting.tidy import summary as summary_csv
from initbench.reporting.tidy import write
from initbench.results.outcome import outcome
from initbench.results.record import RunResult
from initbench.statistics.estimates import counted, estimate_text
from initbench.statistics.findings import Candidate, Fate, RacedRound, Recommendation, Summary, Tuned, TunedPoint, TunedScheme
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.summary import trained_text

SENSITIVITY = "sensitivity"
"""The plot of the loss against the value that was tuned."""


def plots(summary: Summary) -> tuple[Plot, ...]:
    """The sensitivity curve of a comparison with tuning, or of each round of a race; nothing for others."""
    if summary.recommendation is not None and summary.recommendation.rounds:
        return (_raced_plot(summary, summary.recommendation),)
    if summary.tuned is not None and any(scheme.points for scheme in summary.tuned.schemes):
        return (_tuned_plot(summary.tuned),)
    return ()


def _tuned_plot(tuned: Tuned) -> Plot:
    points = [point for scheme in tuned.schemes for point in scheme.points]
    places = _places(points)
    lines = [line for scheme in tuned.schemes for line in _lines(scheme, places)]
    seeds = f"Median (thick) and each (thin) of {len(tuned.seeds)} seeds" if len(tuned.seeds) > 1 else "One seed"
    budgets = {point.steps for point in points if not point.diverged}
    steps = f", {counted(budgets.pop(), 'step')}" if len(budgets) == 1 else ""
    notes = (*_of_lost(points), f"{seeds}{steps}; final loss on the {100 * tuned.holdout:g} % of the training examples that were held out")
    panel = Panel("", tuned.key, "held-out loss", tuple(lines), scale="log", notes=notes, ticks=_ticks(places))
    schemes = tuple(scheme.scheme for scheme in tuned.schemes)
    return Plot(SENSITIVITY, f"Sensitivity: final loss against {tuned.key}", ((panel,),), schemes)


def _raced_plot(summary: Summary, race: Recommendation) -> Plot:
    """A panel a round: so many steps and seeds; values that go no further are hollow."""
    places = _places([point for each in race.rounds for point in each.points])
    panels = [_round_panel(number, each, race, places) for number, each in enumerate(race.rounds, start=1)]
    crowded = [panel for panel in panels if len({line.scheme for line in panel.lines}) > MOST_TOGETHER]
    rows = (*((panel,) for panel in crowded), *in_rows([panel for panel in panels if panel not in crowded], 2))
    ranked = [each.scheme for each in sorted(race.candidates, key=lambda each: -each.rounds) if each.rounds]
    title = f"Sensitivity: held-out loss against {race.key} in each round of the race"
    return Plot(SENSITIVITY, title, rows, tuple(dict.fromkeys((*summary.ranking, *ranked))))


def _round_panel(number: int, raced: RacedRound, race: Recommendation, places: dict[str, float]) -> Panel:
    lines: list[Curve] = []
    bands: list[Band] = []
    for scheme in dict.fromkeys(point.scheme for point in raced.points):
        own = sorted((point for point in raced.points if point.scheme == scheme), key=lambda point: places[value_text(point.value)])
        xs = [places[value_text(point.value)] for point in own]
        out = frozenset(x for x, point in zip(xs, own, strict=True) if point.fate is not None)
        remark = f" (chosen: {value_text(race.value)})" if scheme == race.scheme else ""
        middle = tuple((x, point.loss) for x, point in zip(xs, own, strict=True))
        lines.append(Curve(scheme, middle, named=True, remark=remark, hollow=out))
        ranges = tuple((x, *ends) for x, point in zip(xs, own, strict=True) if (ends := _ends(point)))
        bands += [Band(scheme, ranges, "bars")] if ranges else []
    notes = (
        f"Median{' and range (bars) of the seeds' * (raced.seeds > 1)}",
        *("Hollow: out after that round",) * any(line.hollow for line in lines),
        *_of_lost(raced.points),
    )
    title = f"Round {number}: {counted(raced.steps, 'step')}, {counted(raced.seeds, 'seed')}"
    return Panel(title, race.key, "held-out loss", tuple(lines), tuple(bands), scale="log", notes=notes, ticks=_ticks(places))


def _ends(point: TunedPoint) -> tuple[float, float] | tuple[()]:
    """The lowest and the highest of the seeds that have a loss."""
    known = [loss for loss in point.losses if loss is not None and math.isfinite(loss)]
    return (min(known), max(known)) if len(known) > 1 else ()


def _of_lost(points: Iterable[TunedPoint]) -> tuple[str, ...]:
    return ("Triangles at the top: diverged, or above the range",) * any(point.diverged for point in points)


def _places(points: Iterable[TunedPoint]) -> dict[str, float]:
    """Where on the axis each value is, by its text: by its logarithm where all are positive numbers."""
    every = {value_text(point.value): point.value for point in points}
    values = sorted(every.values()) if all(isinstance(value, int | float) for value in every.values()) else list(every.values())
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)
    return {value_text(value): math.log10(value) if numbers else float(index) for index, value in enumerate(values)}


def _ticks(places: dict[str, float]) -> tuple[tuple[float, str], ...]:
    return tuple((place, text) for text, place in places.items())


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
    metric, name = summary.primary, short(tuned.key)
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
    columns = ("scheme", f"farthest {short(recommendation.key)}", "rounds", "held-out loss", "fate")
    return Table("The race", columns, rows, frozenset({1, 2, 3}))


def values_table(summary: Summary) -> Table | None:
    """A row a value that was tried, with the seeds and steps behind its loss and what came of it; None where nothing was searched."""
    tuned, race = summary.tuned, summary.recommendation
    if race is not None:
        rounds = list(enumerate(race.rounds, start=1))
        rows = [
            (str(number), *_tried(point.scheme, point, each.steps), point.reason or "goes on" * (number < len(rounds)))
            for number, each in rounds
            for point in each.points
        ]
        return _values_table(race.key, ("round", "scheme"), rows)
    if tuned is not None:
        points = [(scheme, point) for scheme in tuned.schemes for point in scheme.points]
        rows = [(*_tried(scheme.scheme, point, point.steps), "best" * (point.value == scheme.best)) for scheme, point in points]
        return _values_table(tuned.key, ("scheme",), rows)
    return None


def _values_table(key: str, first: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table | None:
    heads = (*first, short(key), "steps", "seeds", "held-out loss", "diverged", "what came of it")
    return Table(f"Every {short(key)} that was tried", heads, tuple(rows), frozenset(range(len(first), len(heads) - 1))) if rows else None


def _tried(scheme: str, point: TunedPoint, steps: int) -> tuple[str, ...]:
    return (scheme, value_text(point.value), str(steps), str(point.n), _loss_text(point), str(point.diverged))


def _loss_text(point: TunedPoint) -> str:
    """The median and, of several seeds, the lowest and the highest."""
    middle, ends = "diverged" if point.loss is None else f"{point.loss:.3g}", _ends(point)
    return f"{middle} ({ends[0]:.3g} to {ends[1]:.3g})" if ends else middle


def reported_words(summary: Summary) -> str:
    """Of which round of a race the tables and curves are; empty where there was none."""
    race = summary.recommendation
    if race is None:
        return ""
    if not 0 < race.reported <= len(race.rounds):
        return "Tables, curves and layers are of the probes, as no round of the race is over."
    last = race.rounds[race.reported - 1]
    budget = f"{counted(last.steps, 'step')}, {counted(last.seeds, 'seed')}"
    best = f"{counted(len(summary.schemes), 'scheme')}, each at its best {short(race.key)}"
    said = f"Tables, curves and layers are of round {race.reported} alone ({budget}): {best}."
    earlier = sum(0 < each.rounds < race.reported for each in race.candidates)
    told = f" The table of the race and the picture of sensitivity tell of the {counted(earlier, 'scheme')} that went out before."
    return said + told * (earlier > 0)


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
    """One row a run with a holdout: what differs between them, and the final loss and accuracy on the held-out examples."""

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

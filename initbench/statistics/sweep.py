"""What a sweep says: each cell a comparison of its own, and over all cells how far each scheme trains and which leads where."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from initbench.errors import enumerated
from initbench.question.config import value_text
from initbench.question.grid import Cell
from initbench.question.keys import short, split
from initbench.results.outcome import is_outcome_of_scheme
from initbench.results.record import Number, RunResult, RunStatus
from initbench.statistics.estimates import estimate, seeds_text, share
from initbench.statistics.findings import Lead, Reach, SchemeSummary, Summary, Sweep, SweepCell
from initbench.statistics.inference import ALPHA, seeds_needed
from initbench.statistics.summary import summarize
from initbench.statistics.verdicts import Comparison

MOST = 0.5
"""A scheme trains in a cell where more than this share of its seeds ends above chance."""
COUNTS = ("trained", "stuck", "diverged", "failed", "skipped", "probed")


def summarize_sweep(
    axes: Mapping[str, Sequence[Any]],
    cells: Sequence[tuple[Cell, Sequence[RunResult]]],
    reference: str | None,
    fixed: Mapping[str, Any] = MappingProxyType({}),
    order: Sequence[str] = (),
    **view: Any,
) -> Summary:
    """The summary of a sweep: every cell with its runs, as `summary.summarize` sees them.

    `view` is what that takes, `fixed` what holds for the model of every cell, `order` that of the schemes; those that were measured
    nowhere come last, since the first is what the others are compared with where no `reference` is asked for.
    Tests are exact in each cell; over all cells and schemes the share of false discoveries is held at 5 % (Benjamini and Hochberg
    1995, Journal of the Royal Statistical Society B 57, 289-300).
    """
    measured = {str(run.job.scheme) for _, runs in cells for run in runs if is_outcome_of_scheme(run)}
    order = sorted(order, key=lambda name: name not in measured)
    there = [(cell, summarize(runs, reference, order=order, **view)) for cell, runs in cells if runs]
    if not there:
        return summarize((), reference, order=order, **view)
    own = [[each for each in summary.comparisons if each.metric == summary.metric] for _, summary in there]
    corrected = iter(false_discovery([each.p for comparisons in own for each in comparisons]))
    found = tuple(
        SweepCell(
            values=dict(cell.values),
            schemes=summary.schemes,
            comparisons=tuple(comparisons),
            p_fdr={each.scheme: next(corrected) for each in comparisons},
        )
        for (cell, summary), comparisons in zip(there, own, strict=True)
    )
    names = list(dict.fromkeys(scheme.scheme for cell in found for scheme in cell.schemes))
    told = _told(axes, found, names)
    sweep = Sweep(
        along=told.key,
        axes={key: tuple(values) for key, values in axes.items()},
        fixed=dict(fixed),
        cells=found,
        missing=len(cells) - len(there),
        reaches=tuple(_reach(name, told, found) for name in names),
        leads=tuple(lead for name in names if (lead := _lead(name, told, found)) is not None),
    )
    first, every = there[0][1], [run for _, runs in cells for run in runs]
    return first.model_copy(
        update={
            "headline": in_words(sweep, told),
            "leader": None,
            "inseparable": (),
            "schemes": tuple(_over_cells(name, first, found, every) for name in names),
            "comparisons": (),
            "pairs": (),
            "notes": tuple(_notes(sweep, every)),
            "sweep": sweep,
        }
    )


def false_discovery(p: Sequence[float | None]) -> list[Number]:
    """Benjamini and Hochberg's adjusted p-values, in the order given; None stays None."""
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    adjusted: list[Number] = [None] * len(p)
    least = 1.0
    for rank, (value, place) in reversed(list(enumerate(known, 1))):
        least = min(least, value * len(known) / rank)
        adjusted[place] = least
    return adjusted


def _over_cells(scheme: str, first: Summary, cells: Sequence[SweepCell], runs: Sequence[RunResult]) -> SchemeSummary:
    """All runs of a scheme, whatever their cell."""
    own = [each for cell in cells if (each := cell.scheme(scheme)) is not None]
    counts = {name: sum(getattr(each, name) for each in own) for name in COUNTS}
    of_scheme = [run for run in runs if str(run.job.scheme) == scheme and is_outcome_of_scheme(run)]
    return SchemeSummary(
        scheme=scheme,
        seeds=tuple(sorted({seed for each in own for seed in each.seeds})),
        trained_share=share(counts["trained"], counts["trained"] + counts["stuck"] + counts["diverged"]),
        first_bad_steps=tuple(sorted(step for each in own for step in each.first_bad_steps)),
        reasons=tuple(dict.fromkeys(reason for each in own for reason in each.reasons)),
        estimates=tuple(estimate(metric, [metric.ranked(run) for run in of_scheme if metric.measured(run)]) for metric in first.metrics),
        **counts,
    )


def is_tried(scheme: SchemeSummary | None) -> bool:
    """Whether any run of a scheme in a cell says something about it: not those that failed or were skipped."""
    return scheme is not None and scheme.trained_share.value is not None


def trains(scheme: SchemeSummary | None) -> bool:
    """Whether most of the seeds of a scheme in a cell end above chance."""
    return scheme is not None and (scheme.trained_share.value or 0.0) > MOST


@dataclass(frozen=True)
class Axis:
    """An axis as it is read: of keys that go together the first alone where its values tell its places apart, else all of them."""

    key: str
    """Its name in the grid."""
    name: str
    values: tuple[Any, ...]
    places: Mapping[tuple[str, ...], int]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as they are written."""
        return tuple(map(value_text, self.values))

    def place(self, cell: SweepCell) -> int:
        """Which of its values a cell has."""
        return self.places[tuple(value_text(cell.values[key]) for key in split([self.key]))]


def axis_of(key: str, given: Sequence[Any]) -> Axis:
    """The axis of a grid with the values that the grid gives it."""
    keys = split([key])
    rows = [tuple(value) if len(keys) > 1 else (value,) for value in given]
    places = {tuple(map(value_text, row)): place for place, row in enumerate(rows)}
    if len({texts[0] for texts in places}) == len(rows):
        return Axis(key, short(keys[0]), tuple(row[0] for row in rows), places)
    return Axis(key, ", ".join(map(short, keys)), tuple(map(", ".join, places)), places)


def _told(axes: Mapping[str, Sequence[Any]], cells: Sequence[SweepCell], names: Sequence[str]) -> Axis:
    """The first axis along which some scheme stops to train; the first one where none does."""
    every = [axis_of(key, given) for key, given in axes.items()]
    reaches = ((axis, _reach(name, axis, cells)) for axis in every for name in names)
    return next((axis for axis, reach in reaches if 0 < len(reach.values) < len(reach.tried)), every[0])


def _reach(scheme: str, told: Axis, cells: Sequence[SweepCell]) -> Reach:
    tried = {told.place(cell) for cell in cells if is_tried(cell.scheme(scheme))}
    reached = {told.place(cell) for cell in cells if trains(cell.scheme(scheme))}
    values, every = (tuple(told.values[place] for place in sorted(places)) for places in (reached, tried))
    return Reach(scheme=scheme, values=values, tried=every)


def _lead(scheme: str, told: Axis, cells: Sequence[SweepCell]) -> Lead | None:
    compared = [(cell, each) for cell in cells for each in cell.comparisons if each.scheme == scheme and each.p is not None]
    if not compared:
        return None
    ways = [_direction(cell, each) for cell, each in compared]
    at: dict[int, set[int]] = {}
    for (cell, _), way in zip(compared, ways, strict=True):
        at.setdefault(told.place(cell), set()).add(way)
    won = [told.values[place] for place in takewhile(lambda place: at.get(place) == {1}, reversed(range(len(told.values))))]
    return Lead(
        scheme=scheme,
        other=compared[0][1].other,
        better=ways.count(1),
        worse=ways.count(-1),
        unsure=ways.count(0),
        first=won[-1] if won and is_ordered(told.values) else None,
    )


def _direction(cell: SweepCell, comparison: Comparison) -> int:
    """1: the scheme is shown to be better in a cell, -1: to be worse, 0: neither."""
    p = cell.p_fdr.get(comparison.scheme)
    if p is None or p > ALPHA or not comparison.effect:
        return 0
    return 1 if comparison.effect > 0 else -1


def is_ordered(values: Sequence[Any]) -> bool:
    """Whether the values of an axis are numbers that rise."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and list(values) == sorted(values)


def in_words(sweep: Sweep, told: Axis) -> str:
    """How far each scheme trains along an axis, and which leads where."""
    said = []
    name, values = told.name, told.values
    others = [axis_of(key, given).name for key, given in sweep.axes.items() if key != told.key]
    tried = [reach for reach in sweep.reaches if reach.tried]
    for words in dict.fromkeys(_reach_words(reach, told) for reach in tried):
        alike = [reach.scheme for reach in tried if _reach_words(reach, told) == words]
        said.append(f"{enumerated(alike, 'and')} {'trains' if len(alike) == 1 else 'train'} {words}")
    best = f" (at some {enumerated(others, 'and')})" if others and said else ""
    shown = [lead for lead in sweep.leads if lead.better or lead.worse]
    rest = [lead for lead in sweep.leads if lead not in shown]
    undecided = [_undecided_words([lead for lead in rest if lead.unsure == cells]) for cells in dict.fromkeys(lead.unsure for lead in rest)]
    untried = [reach.scheme for reach in sweep.reaches if not reach.tried]
    nothing = [f"{enumerated(untried, 'and')} failed or {'was' if len(untried) == 1 else 'were'} skipped in every cell"] if untried else []
    reached = [", ".join(said) + best] if said else []
    return "; ".join([*reached, *(_lead_words(lead, name, values) for lead in shown), *undecided, *nothing])


def _undecided_words(leads: Sequence[Lead]) -> str:
    which = f"{enumerated([lead.scheme for lead in leads], 'and')} {'is' if len(leads) == 1 else 'are'}"
    cells = leads[0].unsure
    return f"{which} not shown to differ from {leads[0].other}" + f" in any of {cells} cells" * (cells > 1)


def _reach_words(reach: Reach, told: Axis) -> str:
    """At which of the values with which it was tried a scheme trains."""
    name, there, values = told.name, [value_text(value) for value in reach.values], reach.tried
    if not there:
        return f"at no {name}"
    if len(there) == len(values):
        return f"at every {name}" + f" that was tried ({len(values)} of {len(told.values)})" * (len(values) < len(told.values))
    places = [index for index, value in enumerate(values) if value_text(value) in there]
    if is_ordered(values) and places == list(range(places[0], places[-1] + 1)):
        if places[0] == 0:
            return f"up to {name} {there[-1]}"
        if places[-1] == len(values) - 1:
            return f"from {name} {there[0]} on"
        if len(there) > 1:
            return f"from {name} {there[0]} to {there[-1]}"
    return f"at {name} {enumerated(there, 'and')}"


def _lead_words(lead: Lead, name: str, values: Sequence[Any]) -> str:
    cells = lead.better + lead.worse + lead.unsure
    if lead.better == cells or lead.worse == cells:
        first, second = (lead.scheme, lead.other) if lead.better else (lead.other, lead.scheme)
        return f"{first} beats {second} in every cell" if cells > 1 else f"{first} beats {second} in the only cell"
    from_on = lead.first is not None and value_text(lead.first) != value_text(values[0])
    where = f", from {name} {value_text(lead.first)} on in every cell" if from_on else ""
    return f"{lead.scheme} beats {lead.other} in {lead.better} of {cells} cells{where}, {lead.other} beats {lead.scheme} in {lead.worse}"


def _notes(sweep: Sweep, runs: Sequence[RunResult]) -> Iterable[str]:
    tests = [each.n for cell in sweep.cells for each in cell.comparisons if each.p is not None]
    enough = [n for n in tests if n >= seeds_needed(1)]
    least = min(enough, default=max(tests, default=0))
    yield "A scheme trains in a cell where more than half of its seeds end above chance."
    if tests:
        yield (
            f"Each cell is tested with the exact sign-flip test on signed ranks; of the differences that are called shown, over all "
            f"{len(tests)} tests at most {100 * ALPHA:g} % are expected to be false (Benjamini and Hochberg; p is adjusted for them)."
        )
    lone = 2.0 ** (1 - least)  # the smallest p of so many seeds
    if tests and not enough:
        yield f"{seeds_text(least)} cannot show a difference in any cell: use --seeds {seeds_needed(1)} or more."
    elif few := len(tests) - len(enough):
        have = "has" if few == 1 else "have"
        yield f"{few} of the {len(tests)} tests {have} fewer than {seeds_needed(1)} seeds, which cannot show a difference."
    if enough and lone * len(tests) > ALPHA:
        yield (
            f"With {least} seeds differences are shown only where {math.ceil(lone * len(tests) / ALPHA)} or more of the {len(tests)} tests "
            f"show one; for a single one use --seeds {seeds_needed(len(tests))}."
        )
    for status, what in ((RunStatus.FAILED, "failed"), (RunStatus.SKIPPED, "were skipped")):
        own = [run for run in runs if run.status is status]
        if own:
            why = (own[0].reason or "no reason given").rstrip(".")
            yield f"{len(own)} of {len(runs)} runs {what}; the first, {own[0].job.scheme} with seed {own[0].job.seed}: {why}."
    whole = math.prod(len(values) for values in sweep.axes.values())
    if left_out := whole - len(sweep.cells) - sweep.missing:
        yield f"{left_out} of {whole} combinations are left out by a condition; nothing is said of them."
    if sweep.missing:
        yield f"Of {sweep.missing} cells no run is there yet."

"""`--tune`: each scheme also at its own best value of a key: what is tried, what is chosen, and what is run with it.

Values are chosen by the final loss on held-out training examples, on other seeds than the reported ones.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from initbench.errors import ConfigError
from initbench.question import config_file
from initbench.question.config import ExperimentConfig, Job, Ref, TuneConfig, View, value_text
from initbench.question.keys import value_of
from initbench.question.plan import canonical, make_job, make_jobs, resolve_config
from initbench.results.outcome import is_outcome_of_scheme
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.findings import Summary, Tuned, TunedPoint, TunedScheme
from initbench.statistics.inference import median
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.summary import summarize as summarize_runs
from initbench.studies.study import Done, Outlook, runs_of

COMMAND = "compare"
SEARCHES = True
BORROWS = False
HALF_DECADES = (-2, -1, 0, 1, 2)
"""What is tried where nobody says: half powers of ten around the value of the config, or of its distance from 1 (a momentum)."""
FROM_ZERO, SMALLEST = (0, 1, 2, 3, 4), 1e-5
"""The same around zero (a weight decay): zero, the smallest value, and powers of ten above it."""
FARTHEST = 6
"""A grid is widened to at most so many places on each side."""
NOT_TUNED = {"schemes", "seeds", "dataset", "tune", "train.holdout"}
"""Keys that are the question itself, or how values are chosen."""


@dataclass(frozen=True)
class Grid:
    """The values of a key, the `base` of the config among them: given ones, or places around it that are widened at the edge."""

    key: str
    base: Any
    values: tuple[Any, ...]
    widens: bool
    below_one: bool = False

    def at(self, place: int) -> float | None:
        """The value at a place of a grid that widens, 0 being the base; None where there is no such place."""
        if place == 0:
            return float(self.base) if isinstance(self.base, float) else self.base
        if self.base == 0:
            return None if place < 0 else float(f"{SMALLEST * 10 ** (place - 1):.3g}")
        if self.below_one:
            return round(1 - float(f"{(1 - self.base) * 10 ** (-place / 2):.3g}"), 12)
        return _times(self.base, place)

    def place(self, value: Any) -> int:
        """Where a value of a grid that widens is."""
        return next(place for place in sorted(range(-FARTHEST, FARTHEST + 1), key=abs) if self.at(place) == value)

    def beyond(self, tried: Collection[Any], best: Any) -> Any | None:
        """The next value outside of those tried when the best is at their edge; None where the search ends."""
        further = self.outside(tried, best)
        return None if further is None or abs(further[0]) > FARTHEST else further[1]

    def outside(self, tried: Collection[Any], best: Any) -> tuple[int, Any] | None:
        """The place and the value next to the best one, when that is at the edge of those tried; None where there is nothing."""
        if not self.widens or len(tried) < 2 or best not in (min(tried), max(tried)):
            return None
        place = self.place(best) + (-1 if best == min(tried) else 1)
        value = self.at(place)
        return None if value is None or value in tried else (place, value)


def make_grid(config: ExperimentConfig, tune: TuneConfig) -> Grid:
    """The values that are tried first. Raises: ConfigError for a key that does not exist, or whose values must be given."""
    base = _hashable(value_of(config, tune.key))
    forbidden = next((key for key in (tune.key, tune.key.partition(".")[0]) if key in NOT_TUNED), None)
    if forbidden:
        raise ConfigError(f"'{forbidden}' cannot be tuned: it is the question itself. Tune a number such as train.lr.")
    if isinstance(base, dict):
        raise ConfigError(f"'{tune.key}' is a section with keys of its own. Tune one of them, such as train.lr.")
    if tune.values:
        if is_number(base) and any(isinstance(value, bool) for value in tune.values):
            raise ConfigError(f"--tune {tune.key}: {tune.key} is true or false; it must be a number.")
        values = _different(config, tune.key, [*([] if base is None else [base]), *(_hashable(value) for value in tune.values)])
        return Grid(tune.key, base, tuple(sorted(values)) if all(map(is_number, values)) else tuple(values), widens=False)
    config_file.with_value(config, tune.key, base, f"--tune {tune.key}")
    if isinstance(base, bool):
        return Grid(tune.key, base, (base, not base), widens=False)
    if not is_number(base) or base < 0 or (base == 0 and isinstance(base, int)):
        raise ConfigError(f"{tune.key} is {value_text(base)}, which has no multiples to try. Say what to try: --tune {tune.key}=A,B,C")
    below_one = 0 < base < 1 and not _is_allowed(config, tune.key, 1.0)
    grid = Grid(tune.key, base, (), widens=True, below_one=below_one)
    values = [value for place in (HALF_DECADES if base else FROM_ZERO) if (value := grid.at(place)) is not None]
    return replace(grid, values=tuple(dict.fromkeys(value for value in values if _is_allowed(config, tune.key, value))))


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _different(config: ExperimentConfig, key: str, values: Sequence[Any]) -> list[Any]:
    """The values that ask for different things, each once: `64` and `64.0`, or two words for one optimizer, are the same."""
    asked: dict[str, Any] = {}
    for value in values:
        asked.setdefault(canonical(_changed(canonical(config), key, value)), value)
    return list(asked.values())


def choosing_seeds(config: ExperimentConfig, number: int) -> tuple[int, ...]:
    """The seeds that serve to choose: the next ones after all that are reported."""
    first = max(config.seeds) + 1
    return tuple(range(first, first + number))


def is_asked(_command: str, config: ExperimentConfig) -> bool:
    """Whether there is a key to tune."""
    return config.tune is not None


def jobs(config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """Everything to run as far as the results tell: at the same value, the trials, and each scheme at its own best value."""
    config = resolve_config(config)
    wanted = list(make_jobs(same_for_all(config)))
    for scheme in config.schemes:
        search = search_of(config, scheme, done)
        wanted += search.trials
        if search.complete and search.best is not None:
            wanted += at_value(config, scheme, search.best)
    return tuple(wanted)


def reported(config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """The runs at the same value."""
    return runs_of(make_jobs(same_for_all(config)), done)


def same_for_all(config: ExperimentConfig) -> ExperimentConfig:
    """The question without tuning: every scheme at the value of the config."""
    return config.model_copy(update={"tune": None})


@dataclass(frozen=True)
class Search:
    """What was tried for one scheme. `complete`: nothing more is to be tried; `best` is None when no value trained."""

    trials: tuple[Job, ...]
    points: tuple[TunedPoint, ...]
    best: Any | None
    at_edge: bool
    complete: bool


def search_of(config: ExperimentConfig, scheme: Ref, done: Done) -> Search:
    """How the search for a scheme's best value stands."""
    tune = tune_of(config)
    grid = make_grid(config, tune)
    seeds = choosing_seeds(config, tune.seeds)
    values, trials = list(grid.values), []
    while True:
        trials = [trial(config, scheme, value, seed) for value in values for seed in seeds]
        runs = runs_of(trials, done)
        if len(runs) < len(trials):
            return Search(tuple(trials), (), None, at_edge=False, complete=False)
        points = [point_of(value, runs[index * len(seeds) : (index + 1) * len(seeds)]) for index, value in enumerate(values)]
        best = _best(grid, points)
        start = grid.values[0] if best is None and any(point.n for point in points) else best
        further = None if start is None else grid.beyond(values, values[0] if best is None else best)
        if further is None or not _is_allowed(config, tune.key, further):
            at_edge = best is not None and len(values) > 1 and _is_at_edge(config, grid, values, best)
            return Search(tuple(trials), tuple(points), best, at_edge, complete=True)
        values = sorted([*values, further])


def _is_at_edge(config: ExperimentConfig, grid: Grid, values: Sequence[Any], best: Any) -> bool:
    """Whether a better value may lie beyond the best one, where nothing was tried."""
    if grid.widens:
        further = grid.outside(values, best)
        return further is not None and _is_allowed(config, grid.key, further[1])
    return best in (values[0], values[-1]) and is_number(best)


def held_out_loss(run: RunResult) -> float:
    """What values are chosen by: in runs with a holdout the evaluated examples are the held-out ones; infinite where there is none."""
    return find_metric("final_test_loss").ranked(run)


def tune_of(config: ExperimentConfig) -> TuneConfig:
    """The tuning of a configuration that has one."""
    assert config.tune is not None
    return config.tune


def trial(config: ExperimentConfig, scheme: Ref, value: Any, seed: int) -> Job:
    """A run that shows what a value is worth: on held-out training examples."""
    tune = tune_of(config)
    job = make_job(_changed(canonical(config), tune.key, value), scheme, seed)
    return job.model_copy(update={"train": job.train.model_copy(update={"holdout": tune.holdout})})


def at_value(config: ExperimentConfig, scheme: Ref, value: Any) -> tuple[Job, ...]:
    """The reported runs of one scheme at a value."""
    changed = _changed(canonical(config), tune_of(config).key, value)
    return tuple(make_job(changed, scheme, seed) for seed in config.seeds)


@lru_cache(maxsize=256)
def _changed(question: str, key: str, value: Any) -> ExperimentConfig:
    config = same_for_all(ExperimentConfig.model_validate_json(question))
    return resolve_config(config_file.with_value(config, key, value, f"--tune {key}"))


def outlook(_config: ExperimentConfig, _done: Done) -> Outlook | None:
    """How far a grid is widened, nobody knows."""
    return None


def summarize(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The comparison at the same value with `tuned` filled in; its headline says both."""
    config = resolve_config(config)
    tune, order = tune_of(config), [str(scheme) for scheme in config.schemes]
    options: dict[str, Any] = {"order": order, **view.model_dump(exclude={"reference"})}
    same = summarize_runs(reported(config, done), view.reference, **options)
    searches = {scheme: search_of(config, scheme, done) for scheme in config.schemes}
    best = [job for scheme, search in searches.items() if search.best is not None for job in at_value(config, scheme, search.best)]
    at_best_runs = runs_of(best, done)
    there = {str(run.job.scheme) for run in at_best_runs}
    asked = same.reference if view.reference is not None and same.reference in there else None
    at_best = summarize_runs(at_best_runs, asked, **options)
    tuned = Tuned(
        key=tune.key,
        base=make_grid(config, tune).base,
        seeds=choosing_seeds(config, tune.seeds),
        holdout=tune.holdout,
        trials=sum(len(search.trials) for search in searches.values() if search.complete),
        schemes=tuple(
            TunedScheme(scheme=str(scheme), best=search.best, at_edge=search.at_edge, points=search.points)
            for scheme, search in searches.items()
        ),
        at_best=at_best,
    )
    name = tune.key.rpartition(".")[2]
    headline = f"At the same {name} ({value_text(tuned.base)}): {same.headline}. Each at its own best {name}: "
    notes = (*same.notes, *_notes(tuned), *(note for note in at_best.notes if note not in same.notes))
    return same.model_copy(update={"headline": headline + at_best.headline, "tuned": tuned, "notes": notes})


def _notes(tuned: Tuned) -> Iterator[str]:
    """What a reader must know of how the values were chosen, and what it cost."""
    chosen = ", ".join(f"{scheme.scheme} {value_text(scheme.best)}" for scheme in tuned.schemes if scheme.best is not None)
    tries = sorted({len(scheme.points) for scheme in tuned.schemes if scheme.points})
    each = f"{tries[0]} values" if len(tries) == 1 else f"{tries[0]} to {tries[-1]} values (widened at the edge)" if tries else "no values"
    seeds = f"{len(tuned.seeds)} other seed" + "s" * (len(tuned.seeds) != 1)
    yield (
        f"Best {tuned.key}: {chosen or 'none'}; the lowest final loss on {100 * tuned.holdout:g} % of the training examples, "
        f"held out, {seeds}, {each} a scheme: {tuned.trials} runs beside those reported."
    )
    if tuned.base is None:
        yield f"The config leaves {tuned.key} unset, which was not tried: a best value may still be worse than that."
    for scheme in tuned.schemes:
        if scheme.at_edge:
            best = f"{tuned.key} of {scheme.scheme}, {value_text(scheme.best)}"
            yield f"The best {best}, is at the edge of what was tried: there may be a better one."
        if scheme.points and scheme.best is None:
            yield f"{scheme.scheme} has no best {tuned.key}: with no value did most seeds come above chance."


def point_of(value: Any, runs: Sequence[RunResult]) -> TunedPoint:
    """What the runs at a value say of it."""
    losses = [held_out_loss(run) for run in runs if is_outcome_of_scheme(run)]
    middle = median(losses) if losses else math.inf
    diverged = sum(run.status is RunStatus.DIVERGED for run in runs)
    steps = max((len(run.train_losses) for run in runs), default=0)
    return TunedPoint(value=value, n=len(losses), diverged=diverged, steps=steps, loss=middle, losses=tuple(losses))


def _best(grid: Grid, points: Sequence[TunedPoint]) -> Any | None:
    """The value with the lowest loss; of equal ones that nearest to the value of the config, else the first."""
    able = [point for point in points if point.loss is not None]

    def rank(point: TunedPoint) -> tuple[float, float]:
        far = abs(grid.place(point.value)) if grid.widens else float(point.value != grid.base)
        return point.loss or 0.0, far

    return min(able, key=rank).value if able else None


def _times(base: float, place: int) -> float:
    """The base times 10^(place / 2), three digits; whole numbers stay whole."""
    value = base * 10 ** (place / 2)
    return max(1, round(value)) if isinstance(base, int) else float(f"{value:.3g}")


def _is_allowed(config: ExperimentConfig, key: str, value: Any) -> bool:
    try:
        config_file.with_value(config, key, value, key)
    except ConfigError:
        return False
    return True

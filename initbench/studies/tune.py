"""Each scheme at its own best value of a key: what is tried, what is chosen, and what is run with it.

Everything is a function of the configuration and of the results that are there: a search that was interrupted goes on where it
was, and asking again costs nothing. Values are chosen by the final loss on held-out training images, on other seeds than the
reported ones.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from initbench.errors import ConfigError
from initbench.question import catalog, config_file, plan
from initbench.question.config import ExperimentConfig, Job, Ref, TuneConfig, View, value_text
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.findings import Summary, Tuned, TunedPoint, TunedScheme
from initbench.statistics.inference import median
from initbench.statistics.metrics import find_metric, is_outcome_of_scheme
from initbench.statistics.summary import summarize

Done = Mapping[str, RunResult]
"""The results that are there, by job id."""
HALF_DECADES = (-2, -1, 0, 1, 2)
"""What is tried where nobody says: half powers of ten around the value of the config."""
FARTHEST = 6
"""A grid is widened to at most so many half powers of ten on each side."""
NOT_TUNED = {"schemes", "seeds", "dataset", "tune"}
"""Keys that are the question itself."""
HELD_OUT_LOSS = find_metric("final_test_loss")
"""What values are chosen by: in runs with a holdout the evaluated images are the held-out ones."""


@dataclass(frozen=True)
class Grid:
    """The values of a key: given ones, or half powers of ten around `base`, by their distance from it."""

    key: str
    base: Any
    values: tuple[Any, ...]
    widens: bool

    def beyond(self, tried: Sequence[Any], best: Any) -> Any | None:
        """The next value outside of those tried when the best is at their edge; None where the search ends."""
        if not self.widens or len(tried) < 2 or best not in (tried[0], tried[-1]):
            return None
        direction = -1 if best == tried[0] else 1
        place = round(2 * math.log10(best / self.base)) + direction
        value = _times(self.base, place)
        return None if abs(place) > FARTHEST or value in tried else value


def make_grid(config: ExperimentConfig, tune: TuneConfig) -> Grid:
    """The values that are tried first. Raises: ConfigError for a key that does not exist, or whose values must be given."""
    base = config_file.value_of(config, tune.key)
    section, _, name = tune.key.partition(".")
    if section == "model" and base is None:
        entry, _ = catalog.find("model", config.model.name)
        base = next((parameter.default for parameter in entry.parameters if parameter.name == name), None)
    if section in NOT_TUNED:
        raise ConfigError(f"'{section}' cannot be tuned: it is the question itself. Tune a number such as train.lr.")
    if tune.values:
        for value in tune.values:
            config_file.with_value(config, tune.key, value, f"--tune {tune.key}")
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in tune.values)
        return Grid(tune.key, base, tuple(sorted(tune.values)) if numbers else tune.values, widens=False)
    config_file.with_value(config, tune.key, base, f"--tune {tune.key}")
    if isinstance(base, bool) or not isinstance(base, int | float) or base <= 0:
        raise ConfigError(f"{tune.key} is {value_text(base)}, which has no grid around it. Say what to try: --tune {tune.key}=A,B,C")
    values = (_times(base, place) for place in HALF_DECADES)
    return Grid(tune.key, base, tuple(dict.fromkeys(value for value in values if _is_allowed(config, tune.key, value))), widens=True)


def tuning_seeds(config: ExperimentConfig, tune: TuneConfig) -> tuple[int, ...]:
    """The seeds that values are chosen on: the next ones after all that are reported."""
    first = max(config.seeds) + 1
    return tuple(range(first, first + tune.seeds))


def jobs(config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """Everything to run as far as the results tell: at the same value, the trials, and each scheme at its own best value."""
    config = plan.resolve_config(config)
    found = list(plan.make_jobs(same_for_all(config)))
    for scheme in config.schemes:
        search = look(config, scheme, done)
        found += search.trials
        if search.complete and search.best is not None:
            found += at_value(config, scheme, search.best)
    return tuple(found)


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


def look(config: ExperimentConfig, scheme: Ref, done: Done) -> Search:
    """How the search for a scheme's best value stands."""
    tune = tune_of(config)
    grid = make_grid(config, tune)
    seeds = tuning_seeds(config, tune)
    values, trials = list(grid.values), []
    while True:
        trials = [trial(config, scheme, value, seed) for value in values for seed in seeds]
        runs = [done.get(name) for name in (plan.job_id(job) for job in trials)]
        if any(run is None for run in runs):
            return Search(tuple(trials), (), None, at_edge=False, complete=False)
        found = [run for run in runs if run is not None]
        points = [_point(value, found[index * len(seeds) : (index + 1) * len(seeds)]) for index, value in enumerate(values)]
        best = _best(grid, points)
        start = grid.values[0] if best is None and any(point.n for point in points) else best
        further = None if start is None else grid.beyond(values, values[0] if best is None else best)
        if further is None or not _is_allowed(config, tune.key, further):
            at_edge = best is not None and len(values) > 1 and best in (values[0], values[-1]) and not isinstance(best, str | bool)
            return Search(tuple(trials), tuple(points), best, at_edge, complete=True)
        values = sorted([*values, further])


def tune_of(config: ExperimentConfig) -> TuneConfig:
    """The tuning of a configuration that has one."""
    assert config.tune is not None
    return config.tune


def trial(config: ExperimentConfig, scheme: Ref, value: Any, seed: int) -> Job:
    """A run that shows what a value is worth: on held-out training images."""
    tune = tune_of(config)
    job = plan.make_job(_changed(plan.canonical(config), tune.key, value), scheme, seed)
    return job.model_copy(update={"train": job.train.model_copy(update={"holdout": tune.holdout})})


def at_value(config: ExperimentConfig, scheme: Ref, value: Any) -> tuple[Job, ...]:
    """The reported runs of one scheme at a value."""
    changed = _changed(plan.canonical(config), tune_of(config).key, value)
    return tuple(plan.make_job(changed, scheme, seed) for seed in config.seeds)


@lru_cache(maxsize=256)
def _changed(question: str, key: str, value: Any) -> ExperimentConfig:
    config = same_for_all(ExperimentConfig.model_validate_json(question))
    return plan.resolve_config(config_file.with_value(config, key, value, f"--tune {key}"))


def summarize_tuned(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The comparison at the same value with `tuned` filled in; its headline says both."""
    config = plan.resolve_config(config)
    tune, order = tune_of(config), [str(scheme) for scheme in config.schemes]
    options: dict[str, Any] = {"order": order, "metric": view.metric, "target": view.target, "margin": view.margin}
    same = summarize(_runs(plan.make_jobs(same_for_all(config)), done), view.reference, **options)
    searches = {scheme: look(config, scheme, done) for scheme in config.schemes}
    best = [job for scheme, found in searches.items() if found.best is not None for job in at_value(config, scheme, found.best)]
    at_best_runs = _runs(best, done)
    there = {str(run.job.scheme) for run in at_best_runs}
    at_best = summarize(at_best_runs, same.reference if same.reference in there else None, **options)
    tuned = Tuned(
        key=tune.key,
        base=make_grid(config, tune).base,
        seeds=tuning_seeds(config, tune),
        holdout=tune.holdout,
        trials=sum(len(found.trials) for found in searches.values() if found.complete),
        schemes=tuple(
            TunedScheme(scheme=str(scheme), best=found.best, at_edge=found.at_edge, points=found.points)
            for scheme, found in searches.items()
        ),
        at_best=at_best,
    )
    name = tune.key.rpartition(".")[2]
    headline = f"At the same {name} ({value_text(tuned.base)}): {same.headline}. Each at its own best {name}: "
    notes = (*same.notes, *_notes(tuned), *(note for note in at_best.notes if note not in same.notes))
    return same.model_copy(update={"headline": headline + at_best.headline, "tuned": tuned, "notes": notes})


def _notes(tuned: Tuned) -> Iterator[str]:
    """What a reader must know of how the values were chosen, and what it cost."""
    chosen = ", ".join(f"{found.scheme} {value_text(found.best)}" for found in tuned.schemes if found.best is not None)
    tries = sorted({len(found.points) for found in tuned.schemes if found.points})
    each = f"{tries[0]} values" if len(tries) == 1 else f"{tries[0]} to {tries[-1]} values (widened at the edge)" if tries else "no values"
    seeds = f"{len(tuned.seeds)} other seed" + "s" * (len(tuned.seeds) != 1)
    yield (
        f"Best {tuned.key}: {chosen or 'none'}; the lowest final loss on {100 * tuned.holdout:g} % of the training images, "
        f"held out, {seeds}, {each} a scheme: {tuned.trials} runs beside those reported."
    )
    for found in tuned.schemes:
        if found.at_edge:
            best = f"{tuned.key} of {found.scheme}, {value_text(found.best)}"
            yield f"The best {best}, is at the edge of what was tried: there may be a better one."
        if found.points and found.best is None:
            yield f"{found.scheme} has no best {tuned.key}: no value trained on most seeds."


def _runs(wanted: Sequence[Job], done: Done) -> list[RunResult]:
    return [run for job in wanted if (run := done.get(plan.job_id(job))) is not None]


def _point(value: Any, runs: Sequence[RunResult]) -> TunedPoint:
    losses = [HELD_OUT_LOSS.value(run) for run in runs if is_outcome_of_scheme(run)]
    middle = median([math.inf if loss is None else loss for loss in losses]) if losses else math.inf
    diverged = sum(run.status is RunStatus.DIVERGED for run in runs)
    return TunedPoint(value=value, n=len(losses), diverged=diverged, loss=middle, losses=tuple(losses))


def _best(grid: Grid, points: Sequence[TunedPoint]) -> Any | None:
    """The value with the lowest loss; of equal ones that nearest to the value of the config, else the first."""
    able = [point for point in points if point.loss is not None]

    def rank(point: TunedPoint) -> tuple[float, float]:
        far = abs(math.log(point.value / grid.base)) if grid.widens else float(point.value != grid.base)
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

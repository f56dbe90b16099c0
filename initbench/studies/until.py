"""`--until decided`: seeds are added, a few at a time, until every comparison that is asked for is decided.

The verdicts hold whenever one looks (`initbench.statistics.sequential`), so results may decide when to stop, and for whom: a scheme
that is decided against all others gets no more seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from initbench.errors import ConfigError
from initbench.metrics import Metric
from initbench.question import catalog
from initbench.question.config import ExperimentConfig, Job, UntilConfig, View, parse_ref
from initbench.question.plan import job_id, job_ids, make_job, resolve_config
from initbench.results.outcome import is_outcome_of_scheme
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.inference import median
from initbench.statistics.sequential import fewest
from initbench.statistics.summary import summarize as summarize_runs
from initbench.statistics.verdicts import Comparison, Side, Verdict, compare_family, standing_text
from initbench.studies.scores import asked_metric
from initbench.studies.study import Done, Outlook

COMMAND = "compare"
SEARCHES = True
BORROWS = True
SHARE = 8
"""A round adds an eighth of the seeds that are there, where that is more than keeps the machine busy: it wastes no more than that."""
FEW = 32
"""Runs whose time says how long the others take."""


@dataclass(frozen=True)
class Standing:
    """What is to be run as far as the results tell, and how each comparison that was asked for stands on it."""

    jobs: tuple[Job, ...]
    comparisons: tuple[Comparison, ...] = ()
    """When nothing more is to be run."""
    latest: tuple[Comparison, ...] = ()
    """After the last round of which all results are there."""


def is_asked(command: str, config: ExperimentConfig) -> bool:
    """Whether seeds are added until it is decided."""
    return command == COMMAND and config.until is not None


def jobs(config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """The seeds of the rounds that are decided, and of the next one, for the schemes that still need them."""
    return standing(config, done).jobs


def standing(config: ExperimentConfig, done: Done) -> Standing:
    """How it stands. Raises: ConfigError where the seeds can decide nothing, or the metric or reference cannot be used."""
    config = resolve_config(config)
    until = until_of(config)
    schemes = {str(scheme): scheme for scheme in config.schemes}
    pairs = _pairs(until, list(schemes))
    first = fewest(len(pairs))
    if first > len(config.seeds):
        most, they = len(config.seeds), "1 comparison takes" if len(pairs) == 1 else f"{len(pairs)} comparisons take"
        raise ConfigError(
            f"With {most} seeds at most nothing can be decided: {they} at least {first}. Allow more with --max-seeds {first} or more."
        )
    metric = asked_metric(config, until.metric, None, done)
    number, alive = first, list(schemes)
    wanted: list[Job] = []
    reached: dict[str, int] = dict.fromkeys(schemes, 0)
    values: dict[str, dict[int, float]] = {scheme: {} for scheme in schemes}
    judged: tuple[Comparison, ...] = ()
    while True:
        places = [(place, scheme) for place in range(number) for scheme in alive if place >= reached[scheme]]
        wanted += [make_job(config, schemes[scheme], config.seeds[place]) for place, scheme in places]
        reached |= dict.fromkeys(alive, number)
        if not _take(values, wanted, done, metric):
            return Standing(tuple(wanted), latest=judged)
        sides = {scheme: Side(scheme, own) for scheme, own in values.items()}
        judged = compare_family(metric, [(sides[left], sides[right]) for left, right in pairs], margin=until.margin, anytime=True)
        still = {name for pair in judged if pair.verdict is Verdict.NOT_DECIDED for name in pair.names}
        alive = [scheme for scheme in schemes if scheme in still]
        if not alive or number == len(config.seeds):
            return Standing(tuple(wanted), judged, judged)
        number = min(len(config.seeds), number + max(until.each or 1, number // SHARE))


def _pairs(until: UntilConfig, schemes: Sequence[str]) -> list[tuple[str, str]]:
    """The comparisons that are asked for: all pairs, or the others against the reference."""
    if until.reference is None:
        return [(right, left) for left, right in combinations(schemes, 2)]
    reference = str(catalog.resolve("scheme", parse_ref(until.reference)))
    return [(scheme, reference) for scheme in schemes if scheme != reference]


def _take(values: dict[str, dict[int, float]], wanted: Sequence[Job], done: Done, metric: Metric) -> bool:
    """Takes the results of the jobs that were not taken yet; false where one is missing. A failed run has no value."""
    for job in wanted:
        own = values[str(job.scheme)]
        if job.seed in own:
            continue
        run: RunResult | None = done.get(job_id(job))
        if run is None:
            return False
        if is_outcome_of_scheme(run) and metric.measured(run):
            own[job.seed] = metric.ranked(run)
    return True


def until_of(config: ExperimentConfig) -> UntilConfig:
    """How seeds are added in a configuration that adds them."""
    assert config.until is not None
    return config.until


def reported(_config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """All runs."""
    return tuple(done.values())


def outlook(config: ExperimentConfig, done: Done) -> Outlook | None:
    """All seeds of the schemes that still get some, at most."""
    found = standing(config, done)
    still = {name for pair in found.latest if pair.verdict is Verdict.NOT_DECIDED for name in pair.names} or set(map(str, config.schemes))
    there = sum(name in done for name in job_ids(found.jobs))
    reached = max((len(own) for own in seeds_of(found.jobs).values()), default=0)
    more = len(still) * (len(config.seeds) - reached) + len(found.jobs) - there
    seconds = [run.seconds["total"] for name in job_ids(found.jobs)[:FEW] if (run := done.get(name)) and "total" in run.seconds]
    steps = None if config.train.steps is None else more * config.train.steps
    return Outlook(runs=more, steps=steps, seconds=more * median(seconds) if seconds else None)


def summarize(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The comparison, with verdicts that hold although results decided how many seeds there are."""
    order = [str(scheme) for scheme in resolve_config(config).schemes]
    rest = view.model_dump(exclude={"reference"})
    asked = until_of(config).reference
    summary = summarize_runs(done.values(), view.reference, order=order, anytime=True, asked_reference=asked, **rest)
    return summary.model_copy(update={"notes": (*summary.notes, _saved(config, done))})


def _saved(config: ExperimentConfig, done: Done) -> str:
    """As in `Decided after 7 of at most 64 seeds: 14 of 128 runs.`"""
    found = standing(config, done)
    seeds = max((len(own) for own in seeds_of(found.jobs).values()), default=0)
    runs, most = len(found.jobs), len(config.schemes) * len(config.seeds)
    if not found.comparisons:
        return f"Not decided yet: {len(done)} of at most {most:,} runs are there."
    unmade = sum(pair.verdict is Verdict.NOT_COMPARABLE for pair in found.comparisons)
    if unmade:
        return (
            f"{unmade} of {len(found.comparisons)} comparisons could not be made, as runs failed or were skipped; "
            f"{runs:,} of {most:,} runs after {seeds} of at most {len(config.seeds)} seeds."
        )
    open_pairs = sum(pair.verdict is Verdict.NOT_DECIDED for pair in found.comparisons)
    if open_pairs:
        return (
            f"Not decided after all {len(config.seeds)} seeds: {open_pairs} of {len(found.comparisons)} comparisons; "
            f"{runs:,} of {most:,} runs. Go on with a larger --max-seeds."
        )
    return f"Decided after {seeds} of at most {len(config.seeds)} seeds: {runs:,} of {most:,} runs."


def seeds_of(wanted: Sequence[Job]) -> dict[str, list[int]]:
    """The seeds of each scheme."""
    by_scheme: dict[str, list[int]] = {}
    for job in wanted:
        by_scheme.setdefault(str(job.scheme), []).append(job.seed)
    return by_scheme


def news(config: ExperimentConfig, done: Done) -> tuple[str, ...]:
    """How each comparison stands that is not decided yet, a sentence each."""
    metric = asked_metric(config, until_of(config).metric, None, done)
    return tuple(standing_text(metric, pair) for pair in standing(config, done).latest if pair.verdict is Verdict.NOT_DECIDED)

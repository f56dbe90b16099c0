"""`--until decided`: seeds are added, a few at a time, until every comparison that is asked for is decided.

The verdicts hold whenever one looks (`initbench.statistics.sequential`), so results may decide when to stop, and for whom: a scheme
that is decided against all others gets no more seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from initbench.errors import ConfigError
from initbench.metrics import Metric
from initbench.question import catalog
from initbench.question.config import ExperimentConfig, Job, UntilConfig, View, parse_ref
from initbench.question.plan import job_ids, make_job, resolve_config
from initbench.results.outcome import is_outcome_of_scheme
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.inference import median
from initbench.statistics.sequential import fewest
from initbench.statistics.summary import summarize as summarize_runs
from initbench.statistics.verdicts import SAME, Comparison, Side, Verdict, compare_family, deciding, seeds_of_verdict, standing_text
from initbench.studies.scores import asked_metric
from initbench.studies.study import Done, Outlook

COMMAND = "compare"
SEARCHES = True
BORROWS = True
SHARE = 8
"""A round adds an eighth of the seeds that are there, where that is more than keeps the machine busy: it wastes no more than that."""
TOLD = 8
"""Open comparisons that have a sentence each."""
FEW = 32
"""Runs whose time says how long the others take."""


@dataclass(frozen=True)
class Standing:
    """What is to be run as far as the results tell, and how each comparison that was asked for stands on it."""

    jobs: tuple[Job, ...]
    names: tuple[str, ...]
    """The ids of the jobs."""
    is_over: bool
    """Whether nothing more is to be run."""
    latest: tuple[Comparison, ...] = ()
    """After the last round of which all results are there."""


@dataclass(frozen=True)
class _Rounds:
    """The rounds as far as the results tell; `values` by scheme and seed are those of rounds of which all results are there."""

    jobs: list[Job]
    names: list[str]
    metric: Metric
    pairs: list[tuple[str, str]]
    values: dict[str, dict[int, float]]
    is_over: bool


def is_asked(command: str, config: ExperimentConfig) -> bool:
    """Whether seeds are added until it is decided."""
    return command == COMMAND and config.until is not None


def jobs(config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """The seeds of the rounds that are decided, and of the next one, for the schemes that still need them."""
    return tuple(_rounds(config, done).jobs)


def standing(config: ExperimentConfig, done: Done) -> Standing:
    """How it stands. Raises: ConfigError where the seeds can decide nothing, or the metric or reference cannot be used."""
    found = _rounds(config, done)
    sides = {scheme: Side(scheme, own) for scheme, own in found.values.items()}
    sided = [(sides[left], sides[right]) for left, right in found.pairs]
    judged = compare_family(found.metric, sided, margin=until_of(config).margin, anytime=True)
    return Standing(tuple(found.jobs), tuple(found.names), found.is_over, judged)


def _rounds(config: ExperimentConfig, done: Done) -> _Rounds:
    config = resolve_config(config)
    until, seeds = until_of(config), sorted(config.seeds)
    schemes = {str(scheme): scheme for scheme in config.schemes}
    pairs = _pairs(until, list(schemes))
    first = fewest()
    if first > len(seeds):
        most = f"With {len(seeds)} seeds at most nothing can be decided"
        raise ConfigError(f"{most}: that takes at least {first}. Allow more with --max-seeds {first} or more.")
    metric = asked_metric(config, until.metric, None, done)
    found = _Rounds([], [], metric, pairs, {scheme: {} for scheme in schemes}, is_over=True)
    decided = deciding(metric, pairs, until.margin)
    number, alive = 0, list(schemes)
    while alive and number < len(seeds):
        before, number = number, min(len(seeds), number + max(until.each or 1, number // SHARE) if number else first)
        wanted = [make_job(config, schemes[scheme], seed) for seed in seeds[before:number] for scheme in alive]
        names = job_ids(wanted)
        found.jobs.extend(wanted)
        found.names.extend(names)
        runs = [run for name in names if (run := done.get(name)) is not None]
        if len(runs) < len(names):
            return replace(found, is_over=False)
        for run in runs:
            if is_outcome_of_scheme(run) and metric.measured(run):  # a failed run has no value
                found.values[str(run.job.scheme)][run.job.seed] = metric.ranked(run)
        for seed in seeds[before:number]:
            decided.take({scheme: own[seed] for scheme, own in found.values.items() if seed in own})
        alive = [scheme for scheme in schemes if scheme in decided.open_names]
    return found


def _pairs(until: UntilConfig, schemes: Sequence[str]) -> list[tuple[str, str]]:
    """The comparisons that are asked for: all pairs, or the others against the reference."""
    if until.reference is None:
        return [(right, left) for left, right in combinations(schemes, 2)]
    reference = str(catalog.resolve("scheme", parse_ref(until.reference)))
    return [(scheme, reference) for scheme in schemes if scheme != reference]


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
    there = sum(name in done for name in found.names)
    reached = max((len(own) for own in seeds_of(found.jobs).values()), default=0)
    more = len(still) * (len(config.seeds) - reached) + len(found.jobs) - there
    seconds = [run.seconds["total"] for name in found.names[:FEW] if (run := done.get(name)) and "total" in run.seconds]
    steps = None if config.train.steps is None else more * config.train.steps
    return Outlook(runs=more, steps=steps, seconds=more * median(seconds) if seconds else None)


def summarize(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The comparison, with verdicts that hold although results decided how many seeds there are."""
    order = [str(scheme) for scheme in resolve_config(config).schemes]
    rest = view.model_dump(exclude={"reference"})
    asked = until_of(config).reference
    summary = summarize_runs(done.values(), view.reference, order=order, anytime=True, asked_reference=asked, **rest)
    return summary.model_copy(update={"notes": (*summary.notes, _saved(config, done, summary))})


def _saved(config: ExperimentConfig, done: Done, shown: Summary) -> str:
    """As in `Decided after 7 of at most 64 seeds: 14 of 128 runs.`; what was asked is named where something else is `shown`."""
    found, metric = standing(config, done), asked_metric(config, until_of(config).metric, None, done)
    runs, most, about = len(found.jobs), len(config.schemes) * len(config.seeds), ""
    if (metric.name, until_of(config).margin) != (shown.metric, shown.margin):
        margin = until_of(config).margin
        about = f" by {metric.label} with" + ("out a margin" if margin is None else f" a margin of {margin:g}")
    if not found.is_over:
        return f"Not decided{about} yet: {len(done)} of at most {most:,} runs are there."
    number = len(found.latest)
    unmade = sum(pair.verdict is Verdict.NOT_COMPARABLE for pair in found.latest)
    failed = f"{unmade} of {number} comparisons could not be made, as runs failed or were skipped" if unmade else ""
    if open_pairs := sum(pair.verdict is Verdict.NOT_DECIDED for pair in found.latest):
        left = f"Not decided{about} after all {len(config.seeds)} seeds: {open_pairs} of {number} comparisons; "
        return f"{left}{failed}{'; ' * bool(failed)}{runs:,} of {most:,} runs. Go on with a larger --max-seeds."
    if unmade == number:
        return f"{failed}; {runs:,} of {most:,} runs."
    seeds = f"{max(map(seeds_of_verdict, found.latest))} of at most {len(config.seeds)} seeds"
    if same := sum(pair.verdict in SAME for pair in found.latest):
        why = f"{failed}{'; ' * bool(failed)}{same} of {number} comparisons show no difference on any seed, which decides nothing"
        return f"Ended{about} after {seeds}: {runs:,} of {most:,} runs; {why}."
    after = f"ecided{about} after {seeds}: {runs:,} of {most:,} runs."
    return f"{failed}; the others were d{after}" if failed else f"D{after}"


def seeds_of(wanted: Sequence[Job]) -> dict[str, list[int]]:
    """The seeds of each scheme."""
    by_scheme: dict[str, list[int]] = {}
    for job in wanted:
        by_scheme.setdefault(str(job.scheme), []).append(job.seed)
    return by_scheme


def news(config: ExperimentConfig, done: Done) -> tuple[str, ...]:
    """How each comparison stands that is not decided yet, a sentence each: those that take fewest seeds first, and of many the number."""
    found = [pair for pair in standing(config, done).latest if pair.verdict is Verdict.NOT_DECIDED]
    metric = asked_metric(config, until_of(config).metric, None, done)
    soonest = sorted(found, key=lambda pair: math.inf if pair.seeds_left is None else pair.seeds_left)
    more = f"{len(found) - TOLD} more comparisons are not decided." if len(found) > TOLD else ""
    return tuple(filter(None, (*(standing_text(metric, pair) for pair in soonest[:TOLD]), more)))

"""Jobs that train as one: groups of them, chunks that fit the memory, and one at a time where they cannot be stacked."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from initbench.question.config import Job, TrainConfig
from initbench.results.provenance import NOT_STACKED, STACKED_RUNS
from initbench.results.record import RunResult
from initbench.stacking.memory import free_bytes, peak_bytes
from initbench.stacking.stack import signature
from initbench.stacking.train import train_stacked, trial_step
from initbench.training.job import Failure, attempt, completed, failed, keeper_of, prepare, run_job, told_of_process, with_seconds
from initbench.training.limit import limited
from initbench.training.loop import Ready, Stopwatch, Trained, within

NUMBERS = {"lr", "momentum", "weight_decay", "betas", "clip_norm", "schedule", "warmup_steps"}
"""Fields of `TrainConfig` in which the runs of a stack may differ."""
LARGEST_CHUNK = 256
"""Runs in a stack at most: beyond that nothing is gained, and results come late."""
LARGEST_CHUNK_ON_CPU = 16
"""On the CPU a stack gains until its numbers no longer fit the cache."""
SHARE_OF_MEMORY = 0.8
"""Of the free memory, what a stack may take."""

Asked = tuple[str, Job]
Report = Callable[[str, int, int], None]
"""Called now and then with (job id, steps done, steps in all)."""


@dataclass(frozen=True)
class StackSetting:
    """Where the runs go, where their data are, who is told how far they are, and where long runs are saved."""

    device: str
    data_dir: str | None
    report: Report
    run_timeout: float | None = None
    keep_in: str | None = None


def groups(jobs: Sequence[Asked]) -> list[list[Asked]]:
    """The jobs by what has to be the same in a stack, each group in the order given."""
    alike: dict[str, list[Asked]] = {}
    for job_id, job in jobs:
        alike.setdefault(_kind(job), []).append((job_id, job))
    return list(alike.values())


def _kind(job: Job) -> str:
    train = job.train
    fixed = train.model_dump_json(exclude=NUMBERS)
    return f"{job.model}\n{job.dataset}\n{job.task}\n{job.probe.model_dump_json()}\n{fixed}\n{_clips(train)}"


def _clips(train: TrainConfig) -> bool:
    return train.clip_norm is not None


def run_group(jobs: Sequence[Asked], setting: StackSetting) -> Iterator[RunResult]:
    """The results of a group, chunk by chunk; never raises. What cannot be stacked runs alone, and its result says why."""
    waiting, size = list(jobs), 0
    while waiting:
        size = size or _chunk_size(waiting, setting)
        outcome = _run_chunk(waiting[:size], setting)
        if isinstance(outcome, Failure):
            size = -(-min(size, len(waiting)) // 2)
            continue
        del waiting[:size]
        yield from outcome


def _run_chunk(chunk: Sequence[Asked], setting: StackSetting) -> list[RunResult] | Failure:
    """The results of a chunk; Failure when they are too many for the memory."""
    start, watch, results = time.perf_counter(), Stopwatch(), []
    stacks: dict[object, list[tuple[str, Ready]]] = {}
    for job_id, job in chunk:
        setting.report(job_id, 0, 0)
        ready = attempt(partial(_prepare, job, setting, watch), setting.device, job.seed)
        if isinstance(ready, Failure):
            if ready.out_of_memory and len(chunk) > 1:
                return ready
            results.append(failed(job_id, job, ready))
        else:
            stacks.setdefault(signature(ready.model), []).append((job_id, ready))
    alone: list[tuple[Asked, dict[str, str]]] = []
    while stacks:
        _, members = stacks.popitem()
        outcome = attempt(partial(_train, members, setting, watch), setting.device) if len(members) > 1 else None
        if isinstance(outcome, Failure) and outcome.out_of_memory:
            return outcome
        if isinstance(outcome, Failure) and outcome.too_long:
            results += [failed(job_id, ready.job, outcome) for job_id, ready in members]
        elif outcome is None or isinstance(outcome, Failure):
            how = {NOT_STACKED: outcome.reason} if outcome else {}
            alone += [((job_id, ready.job), how) for job_id, ready in members]
        else:
            how = {STACKED_RUNS: str(len(members))}
            results += [completed(job_id, ready, trained, how) for (job_id, ready), trained in zip(members, outcome, strict=True)]
    shares = {part: spent / len(chunk) for part, spent in {**watch.seconds, "total": time.perf_counter() - start}.items()}
    results = [with_seconds(told_of_process(result), shares) for result in results]
    return results + [_alone(job_id, job, setting, how) for (job_id, job), how in alone]


def _prepare(job: Job, setting: StackSetting, watch: Stopwatch) -> Ready:
    with limited(setting.run_timeout):
        return prepare(job, device=setting.device, data_dir=setting.data_dir, watch=watch)


def _train(members: Sequence[tuple[str, Ready]], setting: StackSetting, watch: Stopwatch) -> tuple[Trained, ...]:
    def stepped(done: int, total: int) -> None:
        for job_id, _ in members:
            setting.report(job_id, done, total)

    limit = None if setting.run_timeout is None else setting.run_timeout * len(members)
    keeper = keeper_of(members, setting.keep_in)
    with limited(limit):
        return train_stacked([ready for _, ready in members], watch=watch, stepped=within(limit, stepped), keeper=keeper)


def _alone(job_id: str, job: Job, setting: StackSetting, how: Mapping[str, str]) -> RunResult:
    """The result of a run that is trained without others."""
    stepped = partial(setting.report, job_id)
    device, data_dir, seconds, keep_in = setting.device, setting.data_dir, setting.run_timeout, setting.keep_in
    result = run_job(job, job_id, device=device, data_dir=data_dir, report=stepped, seconds=seconds, keep_in=keep_in)
    return result.model_copy(update={"provenance": {**result.provenance, **how}}) if how else result


def _chunk_size(jobs: Sequence[Asked], setting: StackSetting) -> int:
    """How many of the jobs fit the memory at once: what one more run takes is measured on the first one, twice and thrice."""
    first = attempt(partial(_prepare, jobs[0][1], setting, Stopwatch()), setting.device)
    if isinstance(first, Failure):
        return 1
    where = first.data.device
    most = min(len(jobs), LARGEST_CHUNK_ON_CPU if where.type == "cpu" else LARGEST_CHUNK)
    peaks = []
    for runs in (2, 3):
        failed = attempt(partial(_try, first, runs), setting.device)
        if isinstance(failed, Failure):
            return runs - 1 if failed.out_of_memory else _even(len(jobs), most)
        peaks.append(peak_bytes(where))
    each, free = peaks[1] - peaks[0], free_bytes(where)
    if each <= 0 or free is None:
        return _even(len(jobs), most)
    return _even(len(jobs), max(1, min(most, int(SHARE_OF_MEMORY * free / each))))


def _try(first: Ready, runs: int) -> None:
    """A step of so many copies. Raises: what copying raises, too, as some models cannot be copied."""
    trial_step([Ready(first.job, first.data, copy.deepcopy(first.model), first.layers, first.init) for _ in range(runs)])


def _even(jobs: int, most: int) -> int:
    """The size of as few chunks as possible, all of nearly the same size."""
    chunks = -(-jobs // most)
    return -(-jobs // chunks)

"""As many runs at once as there are cores, each in a worker process; workers are reused."""

import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess

from initbench.errors import ConfigError, NotThereError, too_long
from initbench.question.config import Job
from initbench.question.plan import name_objects
from initbench.results.provenance import cores, may_start_processes
from initbench.results.record import RunResult, RunStatus
from initbench.workers import head_start
from initbench.workers.lasting import Lasting
from initbench.workers.progress import Progress, Report, to_check
from initbench.workers.worker import Answer, Checked, CheckJob, Request, Retired, RunJob, Setting, work

SECONDS_TO_END = 5.0
"""How long is waited for a killed worker to end."""
LOOK_SECONDS = 0.2
"""How often is looked for runs that take too long, where that is asked for."""
JUST_BEGUN = 0.25
"""The share of a run up to which another one may still join it on its core."""


def execute(
    jobs: Sequence[tuple[str, Job]],
    *,
    device: str,
    data_dir: str | None,
    workers: int | None = None,
    threads: int = 1,
    report: Report | None = None,
    run_timeout: float | None = None,
    keep_in: str | None = None,
    lasting: Lasting | None = None,
) -> Iterator[RunResult]:
    """As many runs at once as there are cores (or `workers`), each in a worker process; fewer runs share the cores.

    Workers are reused. Everything is checked, by the workers, before it returns; this process never imports torch. Another takes the
    place of a worker that dies: the run that it was at is tried once more, and fails if that dies too. One whose run or check takes longer
    than `run_timeout` seconds is killed; that run fails. Closing the iterator ends all workers; where there is `lasting`, those that have
    done all of their runs are left there for the next call with the same setting, and what was checked is not checked again. On Windows,
    and in a process that may have no children, it is the engine `serial`. Where jobs name objects of this
    process, workers are copies of it, on Linux; elsewhere it is `serial`, too.
    Raises: InitbenchError for what would make a job impossible.
    """
    objects = name_objects(job for _, job in jobs)
    if sys.platform == "win32" or not may_start_processes() or (objects and sys.platform != "linux"):
        from initbench.engines import serial

        return serial.execute(jobs, device=device, data_dir=data_dir, report=report, run_timeout=run_timeout, keep_in=keep_in)
    setting = Setting(device, data_dir, 1 if objects else threads, keep_in, objects)
    pool = (lasting.taken(setting) if lasting is not None else None) or WorkerPool(setting)
    with ExitStack() as unless_it_works:
        unless_it_works.callback(pool.close)
        pool.be(max(1, min(workers or cores(), len(jobs))))
        _check(pool, to_check(jobs, None if lasting is None else lasting.checked), run_timeout)
        unless_it_works.pop_all()
    queue = deque(RunJob(job_id, job) for job_id, job in jobs)
    return Runs(pool, queue, report, run_timeout, may_grow=workers is None, lasting=lasting).results()


@dataclass
class Worker:
    """A worker process, what it has been asked for and not yet answered, and how far it is with the first of that."""

    process: BaseProcess
    connection: "Connection[Request, Answer]"
    pending: deque[Request] = field(default_factory=deque)
    done_fraction: float = 0.0
    begun: float = 0.0

    def ask(self, request: Request) -> None:
        """Sends a request; a worker that is gone is found out when its answer is read."""
        if not self.pending:
            self.begun = time.monotonic()
        self.pending.append(request)
        try:
            self.connection.send(request)
        except OSError:
            return

    def answered(self) -> None:
        """The first request is answered, and the next one begun."""
        self.pending.popleft()
        self.begun, self.done_fraction = time.monotonic(), 0.0


class WorkerPool:
    """Worker processes of one setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.workers: list[Worker] = []

    def be(self, number: int) -> None:
        """Has so many workers, all of them alive. Raises: NotThereError when one cannot be started."""
        for worker in [worker for worker in self.workers if not worker.process.is_alive()] + self.workers[number:]:
            if worker in self.workers:
                self.remove(worker)
        while len(self.workers) < number:
            self.start_worker()

    def start_worker(self) -> Worker:
        """Adds a worker. Raises: NotThereError when none can be started."""
        ours, theirs = Pipe()
        try:
            process = head_start.start_worker(work, theirs, self.setting, as_copy=self.setting.as_copy)
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "what is to start them has ended"
            raise NotThereError(f"The worker processes cannot be started ({reason}). Try: --engine serial") from None
        finally:
            theirs.close()
        self.workers.append(Worker(process, ours))
        return self.workers[-1]

    def remove(self, worker: Worker) -> str:
        """Forgets a worker that is gone, or that no longer answers; gives how its process ended, in words."""
        self.workers.remove(worker)
        worker.connection.close()
        worker.process.join(SECONDS_TO_END)
        worker.process.kill()
        worker.process.join(SECONDS_TO_END)
        code = worker.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "its process was killed, as the system does when memory runs out"
        return f"its process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def close(self) -> None:
        """Ends every worker, whatever it is at."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join(SECONDS_TO_END)
            worker.connection.close()


def _check(pool: WorkerPool, jobs: Sequence[Job], limit: float | None) -> None:
    """Has the jobs checked, by all workers together. Raises: InitbenchError, the first that is found."""
    for number, job in enumerate(jobs):
        pool.workers[number % len(pool.workers)].ask(CheckJob(job))
    for worker in tuple(pool.workers):
        while worker.pending:
            job = worker.pending[0].job
            if not worker.connection.poll(limit):
                raise ConfigError(f"The model '{job.model.shown}' with the scheme '{job.scheme}' could not be checked: {too_long(limit)}.")
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                raise NotThereError(f"A worker could not check the job: {pool.remove(worker)}.") from None
            if isinstance(answer, Checked):
                worker.answered()
                if answer.error is not None:
                    raise answer.error
            elif isinstance(answer, Retired):
                waiting = tuple(worker.pending)
                pool.remove(worker)
                worker = pool.start_worker()  # it takes the other's place
                for request in waiting:
                    worker.ask(request)


@dataclass
class Runs:
    """The runs of one call of `execute`: those that wait, and who is at which."""

    pool: WorkerPool
    queue: deque[RunJob]
    report: Report | None
    limit: float | None
    may_grow: bool = field(kw_only=True)
    lasting: Lasting | None = field(default=None, kw_only=True)
    lost_once: dict[str, str] = field(default_factory=dict)
    """How the process of a run ended that is tried for the second time, by the run's id."""

    def results(self) -> Iterator[RunResult]:
        """Each result as it comes; at the end, however it comes, the workers are ended, or left for the next call."""
        pool, done = self.pool, False
        try:
            _hand_out(pool.workers, self.queue)
            while busy := {worker.connection: worker for worker in pool.workers if worker.pending}:
                if self.may_grow and _are_left_over(pool.workers, self.queue):
                    self.may_grow = False
                    with contextlib.suppress(NotThereError):
                        for _ in tuple(self.queue):
                            pool.start_worker()
                    _hand_out(pool.workers, self.queue)
                    continue
                for connection in wait(list(busy), None if self.limit is None else LOOK_SECONDS):
                    result = self._read(busy[connection])  # type: ignore[index]
                    _hand_out(pool.workers, self.queue)
                    if result is not None:
                        yield result
                for worker in tuple(pool.workers):
                    if self.limit is not None and worker.pending and time.monotonic() - worker.begun > self.limit:
                        result = self._ended(worker)
                        _hand_out(pool.workers, self.queue)
                        yield result
            done = True
        finally:
            if done and self.lasting is not None:
                self.lasting.leave(pool.setting, pool)
            else:
                pool.close()

    def _read(self, worker: Worker) -> RunResult | None:
        """Reads an answer; gives the result, where it is one or where it will never come."""
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(answer, Progress):
            worker.done_fraction = answer.done / max(1, answer.total)
            if self.report is not None:
                self.report(answer)
        elif isinstance(answer, Retired):
            self._replace(worker)
        elif isinstance(answer, RunResult):
            worker.answered()
            return answer
        return None

    def _lost(self, worker: Worker) -> RunResult | None:
        """A worker has died: the run that it was at goes to the one in its place, or has failed if this is the second time."""
        run = worker.pending.popleft() if worker.pending else None
        reason, fresh = self._replace(worker)
        if not isinstance(run, RunJob):
            return None
        if run.job_id not in self.lost_once:
            self.lost_once[run.job_id] = reason
            fresh.ask(run)
            return None
        before = self.lost_once[run.job_id]
        again = "so it was before" if before == reason else f"before, {before}"
        return _failed(run, f"{reason}; {again}, with the first of two tries")

    def _ended(self, worker: Worker) -> RunResult:
        """The run of a worker takes too long; the worker is killed."""
        run = worker.pending.popleft()
        worker.process.kill()
        self._replace(worker)
        assert isinstance(run, RunJob)
        return _failed(run, too_long(self.limit))

    def _replace(self, worker: Worker) -> tuple[str, Worker]:
        """How the process of a worker ended, and the worker that takes its place; what it had not begun goes back."""
        self.queue.extendleft(reversed([request for request in worker.pending if isinstance(request, RunJob)]))
        worker.pending.clear()
        return self.pool.remove(worker), self.pool.start_worker()


def _failed(run: RunJob, reason: str) -> RunResult:
    return RunResult(job_id=run.job_id, job=run.job, status=RunStatus.FAILED, reason=reason)


def _hand_out(workers: list[Worker], queue: deque[RunJob]) -> None:
    """Gives each worker a run, and one in advance while there are plenty, so that none waits for this process."""
    for ahead in (1, 2):
        for worker in workers:
            if queue and len(worker.pending) < ahead and (ahead == 1 or len(queue) > len(workers)):
                worker.ask(queue.popleft())


def _are_left_over(workers: list[Worker], queue: deque[RunJob]) -> bool:
    """Whether the last runs, fewer than there are workers, had better start now than when the others have ended.

    Three runs on two cores take two turns one after the other, but one and a half when the system shares the cores among
    them. It pays as long as the others have just begun.
    """
    return 0 < len(queue) < len(workers) and all(worker.pending and worker.done_fraction < JUST_BEGUN for worker in workers)

"""As many runs at once as there are cores, each in a worker process; workers are reused."""

import contextlib
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess

from initbench.errors import NotThereError
from initbench.question.config import Job
from initbench.results.provenance import cores, may_start_processes
from initbench.results.record import RunResult, RunStatus
from initbench.workers import head_start
from initbench.workers.progress import Progress, Report, to_check
from initbench.workers.worker import Answer, Checked, CheckJob, Request, RunJob, Setting, work

SECONDS_TO_END = 5.0
"""How long is waited for a killed worker to end."""
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
) -> Iterator[RunResult]:
    """As many runs at once as there are cores (or `workers`), each in a worker process; fewer runs share the cores.

    Workers are reused. Everything is checked, by the workers, before it returns; this process never imports torch. A worker that is killed
    costs the run it was at, which is tried once more in another and then fails. Closing the iterator ends all workers. On Windows, and in a
    process that may have no children, it is the engine `serial`.
    Raises: InitbenchError for what would make a job impossible.
    """
    if sys.platform == "win32" or not may_start_processes():
        from initbench.engines import serial

        return serial.execute(jobs, device=device, data_dir=data_dir, report=report)
    pool = WorkerPool(Setting(device, data_dir, threads))
    with ExitStack() as unless_it_works:
        unless_it_works.callback(pool.close)
        for _ in range(max(1, min(workers or cores(), len(jobs)))):
            pool.start_worker()
        _check(pool, to_check(jobs))
        unless_it_works.pop_all()
    return _results(pool, deque(RunJob(job_id, job) for job_id, job in jobs), report, may_grow=workers is None)


@dataclass
class Worker:
    """A worker process, what it has been asked for and not yet answered, and how far it is with the first of that."""

    process: BaseProcess
    connection: "Connection[Request, Answer]"
    pending: deque[Request] = field(default_factory=deque)
    done_fraction: float = 0.0

    def ask(self, request: Request) -> None:
        """Sends a request; a worker that is gone is found out when its answer is read."""
        self.pending.append(request)
        try:
            self.connection.send(request)
        except OSError:
            return


class WorkerPool:
    """The worker processes of one call of `execute`."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.workers: list[Worker] = []
        self.tried_again: set[str] = set()

    def start_worker(self) -> None:
        """Adds a worker. Raises: NotThereError when none can be started."""
        ours, theirs = Pipe()
        try:
            process = head_start.start_worker(work, theirs, self.setting)
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "what is to start them has ended"
            raise NotThereError(f"The worker processes cannot be started ({reason}). Try: --engine serial") from None
        finally:
            theirs.close()
        self.workers.append(Worker(process, ours))

    def remove(self, worker: Worker) -> str:
        """Forgets a worker that is gone; gives how its process ended, in words."""
        self.workers.remove(worker)
        worker.connection.close()
        worker.process.join()
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


def _check(pool: WorkerPool, jobs: Sequence[Job]) -> None:
    """Has the jobs checked, by all workers together. Raises: InitbenchError, the first that is found."""
    for number, job in enumerate(jobs):
        pool.workers[number % len(pool.workers)].ask(CheckJob(job))
    for worker in pool.workers:
        while worker.pending:
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                raise NotThereError(f"A worker could not check the job: {pool.remove(worker)}.") from None
            worker.pending.popleft()
            if isinstance(answer, Checked) and answer.error is not None:
                raise answer.error


def _results(pool: WorkerPool, queue: deque[RunJob], report: Report | None, *, may_grow: bool) -> Iterator[RunResult]:
    try:
        _hand_out(pool.workers, queue)
        while busy := {worker.connection: worker for worker in pool.workers if worker.pending}:
            if may_grow and _are_left_over(pool.workers, queue):
                may_grow = False
                with contextlib.suppress(NotThereError):
                    for _ in tuple(queue):
                        pool.start_worker()
                _hand_out(pool.workers, queue)
                continue
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    lost = _lost(pool, worker, queue)
                    if lost is None:
                        _hand_out(pool.workers, queue)
                        continue
                    answer = lost
                if isinstance(answer, Progress):
                    worker.done_fraction = answer.done / max(1, answer.total)
                    if report is not None:
                        report(answer)
                if isinstance(answer, RunResult):
                    worker.done_fraction = 0.0
                    if worker.pending:
                        worker.pending.popleft()
                    _hand_out(pool.workers, queue)
                    yield answer
    finally:
        pool.close()


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


def _lost(pool: WorkerPool, worker: Worker, queue: deque[RunJob]) -> RunResult | None:
    """The result of the run that a worker died at; None the first time, as it is tried once more.

    What the worker had not begun goes back, and a new worker takes its place.
    """
    reason = pool.remove(worker)
    run, *rest = (request for request in worker.pending if isinstance(request, RunJob))
    queue.extendleft(reversed(rest))
    pool.start_worker()
    if run.job_id not in pool.tried_again:
        pool.tried_again.add(run.job_id)
        queue.appendleft(run)
        return None
    return RunResult(job_id=run.job_id, job=run.job, status=RunStatus.FAILED, reason=reason)

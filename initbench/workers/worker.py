"""What a worker process of the engine `processes` is asked, and what it does."""

import contextlib
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from initbench.errors import InitbenchError, plain, reason_of
from initbench.question.config import Job
from initbench.results.record import RunResult, RunStatus
from initbench.workers.ending import end_with_parent, let_fork_server_end
from initbench.workers.progress import Progress

OOM_SCORE_ADJUSTMENT = "500"
"""When memory runs out, Linux shall end a worker rather than the process that has the results."""


@dataclass(frozen=True)
class Setting:
    """What a worker is started with: where it finds device and data, how many threads a run has, where long runs are saved.

    `as_copy`: it is a copy of the process that asks, which has objects that cannot be sent; it has one thread, as those of a library that
    this process has used are not there.
    """

    device: str
    data_dir: str | None
    threads: int = 1
    keep_in: str | None = None
    as_copy: bool = False


@dataclass(frozen=True)
class CheckJob:
    """Asks a worker to check a job; it answers with a `Checked`."""

    job: Job


@dataclass(frozen=True)
class RunJob:
    """Asks a worker to run a job; it answers with `Progress` now and then, and at last with the `RunResult`."""

    job_id: str
    job: Job


@dataclass(frozen=True)
class Checked:
    """The answer to a `CheckJob`: the error, None where there is none."""

    error: InitbenchError | None


@dataclass(frozen=True)
class Retired:
    """The last word of a worker whose state a user's code has changed for good: another has to take its place."""


Request = CheckJob | RunJob
Answer = Checked | Progress | Retired | RunResult


def work(connection: "Connection[Answer, Request]", setting: Setting) -> None:
    """Answers requests until the other end of the connection closes. What users' code prints goes to stderr: stdout is the command's."""
    from initbench.training.devices import small_runs
    from initbench.training.state import spoiled

    end_with_parent()
    let_fork_server_end()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=end_with_parent)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJUSTMENT)
    with contextlib.suppress(EOFError, OSError), small_runs(setting.threads):
        while True:
            connection.send(_answer(connection.recv(), connection, setting))
            if spoiled():
                connection.send(Retired())
                return


def _answer(request: Request, connection: "Connection[Answer, Request]", setting: Setting) -> Answer:
    from initbench.training.job import check, run_job

    if isinstance(request, RunJob):
        job_id = request.job_id

        def stepped(done: int, total: int) -> None:
            connection.send(Progress(job_id, done, total))

        stepped(0, 0)
        try:
            return run_job(request.job, job_id, device=setting.device, data_dir=setting.data_dir, report=stepped, keep_in=setting.keep_in)
        except KeyboardInterrupt as error:  # of the run's own code: no Ctrl-C comes to a worker
            return RunResult(job_id=job_id, job=request.job, status=RunStatus.FAILED, reason=reason_of(error))
    try:
        check(request.job, device=setting.device, data_dir=setting.data_dir)
    except InitbenchError as error:
        return Checked(plain(error))
    return Checked(None)

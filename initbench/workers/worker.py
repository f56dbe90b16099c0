"""What a worker process of the engine `processes` is asked, and what it does."""

import contextlib
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from initbench.errors import InitbenchError
from initbench.question.config import Job
from initbench.results.record import RunResult
from initbench.workers.progress import Progress

OOM_SCORE_ADJUSTMENT = "500"
"""When memory runs out, Linux shall end a worker rather than the process that has the results."""


@dataclass(frozen=True)
class Setting:
    """What a worker is started with: where it finds device and data, and how many threads a run has."""

    device: str
    data_dir: str | None
    threads: int = 1


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


Request = CheckJob | RunJob
Answer = Checked | Progress | RunResult


def work(connection: "Connection[Answer, Request]", setting: Setting) -> None:
    """Answers requests until the other end of the connection closes. What users' code prints goes to stderr: stdout is the command's."""
    from initbench.training.devices import small_runs

    with contextlib.suppress(OSError):
        os.dup2(2, 1)
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJUSTMENT)
    with contextlib.suppress(EOFError, OSError), small_runs(setting.threads):
        while True:
            connection.send(_answer(connection.recv(), connection, setting))


def _answer(request: Request, connection: "Connection[Answer, Request]", setting: Setting) -> Answer:
    from initbench.training.job import check, run_job

    if isinstance(request, RunJob):
        job_id = request.job_id

        def stepped(done: int, total: int) -> None:
            connection.send(Progress(job_id, done, total))

        return run_job(request.job, job_id, device=setting.device, data_dir=setting.data_dir, report=stepped)
    try:
        check(request.job, device=setting.device, data_dir=setting.data_dir)
    except InitbenchError as error:
        return Checked(error)
    return Checked(None)

"""The process that imports torch once and forks the workers of the engine `processes`; and what a worker does.

Started by `head_start` with one end of a socket. On Linux a byte on the socket asks for a fork of this process, which by
then has everything imported and has computed nothing; elsewhere, where forking is not safe, this process is the worker.
"""

import contextlib
import gc
import os
import signal
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from initbench.errors import InitbenchError
from initbench.question import catalog
from initbench.question.config import Job
from initbench.results import provenance
from initbench.results.record import RunResult
from initbench.workers.progress import Progress

FORK, FATE = b"f", b"?"
"""Asks for a new worker, answered by its process id and its end of a socket; asks how the process whose id follows ended."""
ID_BYTES = 8
RATHER_THIS = "500"
"""When memory runs out, Linux shall end a worker rather than the process that has the results."""


@dataclass(frozen=True)
class Setting:
    """What a worker is told first: where it finds device and data, and how many threads a run has."""

    device: str
    data_dir: str | None
    threads: int = 1


@dataclass(frozen=True)
class Check:
    """Asks a worker to check a job; it answers with a `Checked`."""

    job: Job


@dataclass(frozen=True)
class Run:
    """Asks a worker to run a job; it answers with `Progress` now and then, and at last with the `RunResult`."""

    job_id: str
    job: Job


@dataclass(frozen=True)
class Checked:
    """The answer to a `Check`: the error that was found, None when there was none."""

    error: InitbenchError | None


Request = Check | Run
Answer = Checked | Progress | RunResult


def main(descriptor: int, mode: str) -> None:
    """Where the process starts; `mode` is `fork` or `work`, and `descriptor` its end of the socket.

    Until everything is imported, which makes no garbage but much to look through, garbage collection is off.
    """
    import initbench.training.job  # noqa: F401 - imported here so that no forked worker has to

    for kind in catalog.KINDS:
        catalog.entries(kind)
    provenance.environment()
    gc.freeze()
    gc.enable()
    if mode == "work":
        work(descriptor)
    else:
        fork_on_request(descriptor)
    os._exit(0)


def fork_on_request(descriptor: int) -> None:
    """Forks a worker for each `FORK` on the socket; when the socket closes, ends them."""
    control = socket.socket(fileno=descriptor)
    workers: set[int] = set()
    with contextlib.suppress(OSError):
        while request := control.recv(1):
            if request == FATE:
                process = int.from_bytes(control.recv(ID_BYTES), "little")
                _, status = os.waitpid(process, 0)
                workers.discard(process)
                control.sendall(os.waitstatus_to_exitcode(status).to_bytes(ID_BYTES, "little", signed=True))
                continue
            ours, theirs = socket.socketpair()
            process = os.fork()
            if process == 0:
                control.close()
                ours.close()
                work(theirs.detach())
                os._exit(0)
            theirs.close()
            workers.add(process)
            socket.send_fds(control, [process.to_bytes(ID_BYTES, "little")], [ours.fileno()])
            ours.close()
    for process in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def work(descriptor: int) -> None:
    """Is told its setting, then answers requests until the other end closes."""
    from initbench.training.devices import small_runs

    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(RATHER_THIS)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        setting: Setting = connection.recv()
        with small_runs(setting.threads):
            while True:
                connection.send(_answer(connection.recv(), connection, setting))


def _answer(request: Request, connection: "Connection[Answer, Request]", setting: Setting) -> Answer:
    from initbench.training.job import check, run_job

    if isinstance(request, Run):
        job_id = request.job_id

        def stepped(done: int, total: int) -> None:
            connection.send(Progress(job_id, done, total))

        return run_job(request.job, job_id, device=setting.device, data_dir=setting.data_dir, report=stepped)
    try:
        check(request.job, device=setting.device, data_dir=setting.data_dir)
    except InitbenchError as error:
        return Checked(error)
    return Checked(None)

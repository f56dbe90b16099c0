"""The process that imports torch once and then forks the workers of the engine `processes`.

Started by `head_start` with one end of a socket. On Linux a byte on the socket asks for a fork of this process, which by
then has everything imported and has computed nothing; elsewhere, where forking is not safe, this process is the worker.
"""

import contextlib
import gc
import os
import signal
import socket

from initbench.question import catalog
from initbench.results import provenance
from initbench.workers.worker import work

FORK, EXIT_CODE = b"f", b"?"
"""Asks for a new worker, answered by its process id and its end of a socket; asks for the exit code of the process whose id follows."""
ID_BYTES = 8


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
            if request == EXIT_CODE:
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

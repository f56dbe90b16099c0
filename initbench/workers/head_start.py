"""Starts the process that the workers of the engine `processes` come from; for commands that will need it, before they are even read.

Importing torch takes a second, and reading the command line, the config and what is there already a quarter of one: the two go on
at the same time. This file imports nothing but the standard library, so that it is done at once.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TRAINING_COMMANDS = ("run", "compare", "recommend", "resume", "smoke")
"""Commands that train."""
OPTIONS_WITHOUT_WORKERS = ("-h", "--help", "--dry-run", "--engine")
"""Options with which no worker is needed, or perhaps none."""
ACCELERATORS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Where Linux shows an accelerator."""
FIRST_FREE = 3
"""The first descriptor that is not one of the three standard streams, whose numbers a socket gets where they are closed."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Set for the workers, so that no library starts threads before they are forked."""
SHORT_SPIN = {"GOMP_SPINCOUNT": "3000"}
"""Threads wait for each other actively for microseconds only: as fast, and bearable where something else wants the cores."""


@dataclass(frozen=True)
class ServerProcess:
    """A process that imports torch, and our end of the socket to it."""

    process: subprocess.Popen[bytes]
    socket: socket.socket

    def end(self) -> None:
        """Ends it, whatever it is at."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


_early: list[ServerProcess] = []


def begin(words: Sequence[str]) -> None:
    """Starts the process if the command line looks as if it will be needed; `take` then gives it."""
    asked = {word.partition("=")[0] for word in words}
    wanted = bool(words) and words[0] in TRAINING_COMMANDS and not asked.intersection(OPTIONS_WITHOUT_WORKERS)
    if not wanted or sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2 or accelerator_possible():
        return
    with contextlib.suppress(OSError):
        _early.append(start("fork"))
        atexit.register(_end_early)


def take() -> ServerProcess:
    """The process that has been started, or a new one."""
    return _early.pop() if _early else start("fork")


def start(mode: Literal["fork", "work"]) -> ServerProcess:
    """Starts the process, which forks workers on request or is one, in a group of its own, so that Ctrl-C reaches only this one."""
    import fcntl

    ours, theirs = socket.socketpair()
    given = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD, FIRST_FREE)
    path = [os.fspath(entry) for entry in sys.path if isinstance(entry, str | os.PathLike)]
    begin_there = f"from initbench.workers.fork_server import main; main({given}, {mode!r})"
    code = f"import gc; gc.disable(); import sys; sys.path[:] = {path!r}; {begin_there}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=[given],
        process_group=0,
        env={**SHORT_SPIN, **os.environ, **ONE_THREAD},
    )
    os.close(given)
    theirs.close()
    return ServerProcess(process, ours)


def accelerator_possible() -> bool:
    """Whether an accelerator may be here, told without importing torch: False only where certainly none is."""
    return sys.platform != "linux" or any(Path(node).exists() for node in ACCELERATORS)


def _end_early() -> None:
    while _early:
        _early.pop().end()

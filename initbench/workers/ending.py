"""No process of ours outlives the command: how a process is ended with the one that started it."""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Linux's name for: send me a signal when my parent ends."""


def let_fork_server_end() -> None:
    """Closes this process's end of the pipe by which the fork server sees that the command is gone.

    `multiprocessing` gives it to every process that the server forks; held by one that is in an endless loop, it would keep the server, and
    so that process, alive for ever.
    """
    from multiprocessing import forkserver

    server = getattr(forkserver, "_forkserver", None)
    descriptor = getattr(server, "_forkserver_alive_fd", None)
    if isinstance(descriptor, int):
        with contextlib.suppress(OSError):
            os.close(descriptor)
        server._forkserver_alive_fd = None  # type: ignore[union-attr]


def end_with_parent(parent: int | None = None) -> None:
    """Has Linux kill this process when the one that started it ends, however that ends; nothing elsewhere.

    `parent` is the process id of that one, where it may have ended before this was called.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)

"""No process of ours outlives the command: how a process is ended with the one that started it."""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Linux's name for: send me a signal when my parent ends."""


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

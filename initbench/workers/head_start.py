"""Starts the worker processes of the engine `processes`; for commands that will need them, what takes long before they are even read.

Importing torch takes a second, and reading the command line, the config and what is there already a quarter of one: the two go on
at the same time. On Linux workers are forked by the fork server of `multiprocessing`, which imports torch once (`preload.py`);
elsewhere forking is not safe, and each is started anew. This file imports nothing but the standard library, so that it is done at once.
"""

import atexit
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

TRAINING_COMMANDS = ("run", "compare", "recommend", "resume", "smoke")
"""Commands that train."""
OPTIONS_WITHOUT_WORKERS = ("-h", "--help", "--dry-run", "--engine")
"""Options with which no worker is needed, or perhaps none."""
ACCELERATORS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Where Linux shows an accelerator."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Set for the workers, so that no library starts threads before they are forked."""
SHORT_SPIN = {"GOMP_SPINCOUNT": "3000"}
"""Threads wait for each other actively for microseconds only: as fast, and bearable where something else wants the cores."""


def begin(words: Sequence[str]) -> None:
    """Starts the fork server if the command line looks as if it will be needed."""
    asked = {word.partition("=")[0] for word in words}
    wanted = bool(words) and words[0] in TRAINING_COMMANDS and not asked.intersection(OPTIONS_WITHOUT_WORKERS)
    if not wanted or sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2 or accelerator_possible():
        return
    with contextlib.suppress(OSError):
        start_fork_server()


def start_fork_server() -> None:
    """Starts the fork server, unless it runs. Raises: OSError."""
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(["initbench.workers.preload"])
    with _for_workers():
        forkserver.ensure_running()
    atexit.unregister(_end_fork_server)
    atexit.register(_end_fork_server)


def start_worker(work: Callable[..., None], *arguments: Any, as_copy: bool = False) -> "BaseProcess":
    """A new process in which `work` is called; `as_copy`, on Linux, it is a copy of this one, with all that is in its memory.

    Raises: OSError and EOFError where none can be started.
    """
    from multiprocessing import get_context

    if as_copy:
        copied = get_context("fork").Process(target=work, args=arguments)  # no daemon: it may start processes that load data
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about threads, of which a run has one
                copied.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return copied
    if sys.platform == "linux":
        start_fork_server()
    context: Any = get_context("forkserver" if sys.platform == "linux" else "spawn")
    process: BaseProcess = context.Process(target=work, args=arguments, daemon=True)
    with _for_workers():
        process.start()
    return process


def accelerator_possible() -> bool:
    """Whether an accelerator may be here, told without importing torch: False only where certainly none is."""
    return sys.platform != "linux" or any(Path(node).exists() for node in ACCELERATORS)


@contextlib.contextmanager
def _for_workers() -> Iterator[None]:
    """Within, processes are started with the workers' environment, deaf to Ctrl-C, and without the user's script.

    `multiprocessing` would run that script once more in each process.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # lets signals through again when it starts, and is started with the first process
    script, environment = sys.modules["__main__"], dict(os.environ)
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update({**SHORT_SPIN, **environment, **ONE_THREAD})
    try:
        yield
    finally:
        for name in (*SHORT_SPIN, *ONE_THREAD):
            os.environ.pop(name, None)
        os.environ.update(environment)
        sys.modules["__main__"] = script
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)


def _end_fork_server() -> None:
    """Ends the server at once: by itself it would first import all that it has begun to, and then take a while to clean up."""
    from multiprocessing import forkserver

    process = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if process is not None:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)

"""Ends what takes too long in this process, an endless loop in somebody's code too."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from initbench.errors import ConfigError, InitbenchError, too_long
from initbench.question.config import Job

AGAIN_SECONDS = 1.0
"""How long after the first time it is raised again, for code that catches every exception."""


class TooLong(InitbenchError):
    """A run takes longer than the user allows."""


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Within, TooLong is raised after so many seconds, wherever Python code then is; None is no limit.

    A timer of the system does it, in the main thread only and not on Windows; elsewhere nothing happens. A call of a library that
    does not come back to Python is not ended.
    """
    if seconds is None or not has_timer():
        yield
        return
    with timer(seconds, AGAIN_SECONDS, _raise_too_long(seconds)):
        yield


def _raise_too_long(seconds: float) -> Callable[[], None]:
    def raises() -> None:
        raise TooLong(too_long(seconds))

    return raises


def has_timer() -> bool:
    """Whether the system's timer can be used here: not on Windows, and in the main thread only."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


@contextmanager
def timer(first: float, then: float, rings: Callable[[], None]) -> Iterator[None]:
    """Within, `rings` is called after `first` seconds and each `then` seconds more, wherever Python code is; see `has_timer`."""
    within = True

    def on_alarm(_number: int, _frame: FrameType | None) -> None:
        if within:
            rings()

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, first, then)
    try:
        yield
    finally:
        within = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def limited_check(job: Job, seconds: float | None) -> Iterator[None]:
    """`limited` for the check of a job. Raises: ConfigError that names the job."""
    try:
        with limited(seconds):
            yield
    except TooLong:
        raise ConfigError(not_checked(job, seconds)) from None


def not_checked(job: Job, seconds: float | None) -> str:
    """The sentence for a check that takes longer than so many seconds."""
    return f"The model '{job.model.shown}' with the scheme '{job.scheme}' could not be checked: {too_long(seconds)}."

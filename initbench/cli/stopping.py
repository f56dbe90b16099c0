"""Stopping in order: the first signal lets the step finish, the second stops at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from initbench.cli import output
from initbench.errors import NotThereError
from initbench.results.record import RunResult
from initbench.studies.execution import Watch
from initbench.studies.plan import Plan
from initbench.workers.progress import Progress

STOPS = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a command."""
SIGNAL_BASE = 128
"""Exit codes of a command stopped by a signal begin here."""


class StopRequest(KeyboardInterrupt):
    """The user wants to stop; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StoppableWatch:
    """Passes everything on to another watch, and raises StopRequest between two steps once a signal has come."""

    def __init__(self, inner: Watch) -> None:
        self.inner = inner
        self.requested: int | None = None
        self.stepping = False
        self.left = 0

    def planned(self, plan: Plan) -> None:
        """Passes it on."""
        self.left = len(plan.missing)
        self.inner.planned(plan)

    def progress(self, sign: Progress) -> None:
        """A step is finished: from here on a signal waits for the end of a step. A run that begins has made none."""
        self.stepping = self.stepping or sign.done > 0
        self.inner.progress(sign)
        self.stop_if_requested()

    def finished(self, result: RunResult) -> None:
        """A run is finished and its result is saved."""
        self.left -= 1
        self.stepping = self.left > 0
        self.inner.finished(result)
        self.stop_if_requested()

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Notes the first signal while steps are made, and says so; otherwise, and for the second, stops at once."""
        if self.requested is not None or not self.stepping:
            raise StopRequest(number)
        self.requested = number
        output.at_once("Stopping after the step under way. Once more stops at once.")

    def stop_if_requested(self) -> None:
        """Raises: StopRequest when a signal has come."""
        if self.requested is not None:
            raise StopRequest(self.requested)


@contextmanager
def stoppable(inner: Watch) -> Iterator[StoppableWatch]:
    """A watch that listens to Ctrl-C and SIGTERM while it is open.

    After a stop, further ones are ignored: what is saved is about to be said, and the process to end.
    """
    watch = StoppableWatch(inner)
    with _listening(watch.on_signal):
        try:
            yield watch
        except NotThereError:
            watch.stop_if_requested()  # a signal to the whole group, as a closing terminal sends it, has ended the workers, too
            raise


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Within, the first Ctrl-C or SIGTERM raises StopRequest, and further ones are ignored."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        raise StopRequest(number)

    with _listening(on_signal):
        yield


@contextmanager
def _listening(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: list[Any] = [signal.signal(number, on_signal) for number in STOPS]
    try:
        yield
    except StopRequest:
        before = [signal.SIG_IGN] * len(STOPS)
        raise
    finally:
        for number, handler in zip(STOPS, before, strict=True):
            signal.signal(number, handler)

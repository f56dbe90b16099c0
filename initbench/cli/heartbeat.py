"""Says which run has been silent for how long: an endless loop in somebody's code shall not look like work."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from initbench.cli import output
from initbench.results.record import RunResult
from initbench.studies.execution import Watch
from initbench.studies.plan import Plan
from initbench.training.limit import has_timer, timer
from initbench.workers.progress import Progress

SILENT_SECONDS = 60.0
"""After so long without a sign it is said, then each time that the silence has become twice as long."""
LOOKS = 12
"""How often is looked within that time."""


class Heartbeat:
    """Passes everything on to another watch; while runs are under way, a thread says which of them give no sign."""

    def __init__(self, inner: Watch, say: Callable[[str], None] = output.hint) -> None:
        self.inner, self.say = inner, say
        self.labels: Mapping[str, str] = {}
        self.signs: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.left = 0
        self.awaited = ""
        """What the engine has said that it waits for."""
        self.thread: threading.Thread | None = None
        self.over = threading.Event()

    def planned(self, plan: Plan) -> None:
        """Passes it on; from here on it is looked for silence."""
        self.inner.planned(plan)
        self.close()
        self.labels = plan.labels()
        self.left, self.signs, self.said, self.awaited = len(self.labels), {}, {}, ""
        if self.left:
            self.signs[""] = time.monotonic()
            self.over = threading.Event()
            self.thread = threading.Thread(target=self._look, args=(self.over,), daemon=True)
            self.thread.start()

    def progress(self, sign: Progress) -> None:
        """A sign of a run; what an engine waits for is said at once."""
        if sign.note:
            self.awaited = sign.note
            self.say(sign.note)
            return
        self.signs.pop("", None)
        self.signs[sign.job_id] = time.monotonic()
        self.said.pop(sign.job_id, None)
        self.inner.progress(sign)

    def finished(self, result: RunResult) -> None:
        """A run has ended; after the last one nothing is looked for."""
        self.signs.pop("", None)
        self.signs.pop(result.job_id, None)
        self.left -= 1
        if self.left <= 0:
            self.close()
        self.inner.finished(result)

    def close(self) -> None:
        """Ends the thread: plots are drawn by forked processes only where there is none."""
        self.over.set()
        if self.thread is not None:
            self.thread.join()
        self.thread = None

    def _look(self, over: threading.Event) -> None:
        while not over.wait(SILENT_SECONDS / LOOKS):
            now = time.monotonic()
            silent = {name: now - since for name, since in tuple(self.signs.items())}
            due = [name for name, seconds in silent.items() if seconds >= self.said.get(name, SILENT_SECONDS)]
            if due:
                self.said.update({name: 2 * max(silent[name], SILENT_SECONDS) for name in due})
                self.say(self._words(due, max(silent[name] for name in due)))

    def _words(self, names: list[str], seconds: float) -> str:
        if names == [""]:
            what = self.awaited.rstrip(".") or "No run has begun; models and schemes are being imported and checked"
        else:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            what = f"No sign of {self.labels.get(names[0], names[0])}{more}"
        return f"{what}: silent for {seconds:.0f} s. Ctrl-C stops; --run-timeout SECONDS ends a run that takes too long."


@contextmanager
def heartbeat(inner: Watch) -> Iterator[Heartbeat]:
    """A `Heartbeat` that ends whatever happens."""
    watch = Heartbeat(inner)
    try:
        yield watch
    finally:
        watch.close()


@contextmanager
def alarm(words: str, say: Callable[[str], None] = output.hint) -> Iterator[Callable[[], None]]:
    """For what one process does: says `words` and for how long, after a minute without a sign, then each time that has doubled.

    Gives what is to be called for a sign. A timer of the system does it, not a thread, beside which nothing could be forked; in
    the main thread only, and not on Windows.
    """
    since, due = time.monotonic(), SILENT_SECONDS

    def sign() -> None:
        nonlocal since, due
        since, due = time.monotonic(), SILENT_SECONDS

    def look() -> None:
        nonlocal due
        silent = time.monotonic() - since
        if silent >= due:
            due = 2 * silent
            say(f"{words} for {silent:.0f} s. Ctrl-C stops.")

    with timer(SILENT_SECONDS / LOOKS, SILENT_SECONDS / LOOKS, look) if has_timer() else nullcontext():
        yield sign

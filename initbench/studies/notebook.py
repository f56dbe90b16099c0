"""Progress in a notebook: one line that is drawn anew, by what every notebook has."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initbench.results.record import RunResult
    from initbench.studies.execution import Watch
    from initbench.studies.plan import Plan
    from initbench.workers.progress import Progress

PAUSE = 0.2
"""Seconds from one drawing to the next, at least."""


def is_here() -> bool:
    """Whether a notebook (Jupyter, Colab, an editor's) runs this process."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def watch() -> Watch | None:
    """A watch that shows how far the runs are; None outside of notebooks."""
    return NotebookWatch() if is_here() else None


def line(total: int, noun: str) -> Line | None:
    """A line for so many things that are begun now; None outside of notebooks."""
    return Line(total, noun) if is_here() and total else None


class Line:
    """How many of a number of things are done, and how long the others take."""

    def __init__(self, total: int, noun: str) -> None:
        from IPython.display import display

        self.total, self.noun = total, noun
        self.begun = time.monotonic()
        self.drawn = self.begun
        self.handle = display(self._shown(0.0), raw=True, display_id=True)

    def move(self, done: float) -> None:
        """Parts of things count, too; the last is always drawn."""
        now = time.monotonic()
        if now - self.drawn >= PAUSE or done >= self.total:
            self.drawn = now
            self.handle.update(self._shown(done), raw=True)

    def _shown(self, done: float) -> dict[str, str]:
        seconds = time.monotonic() - self.begun
        if done >= self.total:
            text = f"{self.total} {self.noun}{'s' * (self.total != 1)} in {_duration(seconds)}"
        else:
            left = f", {_duration(seconds / done * (self.total - done))} left" if done else ""
            text = f"{int(done)} of {self.total} {self.noun}{'s' * (self.total != 1)}{left}"
        return {"text/plain": text, "text/html": f'<progress value="{done:.3f}" max="{self.total}"></progress> {text}'}


class NotebookWatch:
    """Shows the runs of a plan as a line, and those that follow from their results as another."""

    def __init__(self) -> None:
        self.shares: dict[str, float] = {}
        self.line: Line | None = None

    def planned(self, plan: Plan) -> None:
        """Begins a line."""
        self.shares = {}
        self.line = line(len(plan.missing), "run")

    def progress(self, sign: Progress) -> None:
        """A part of a run is done."""
        if not sign.note:
            self._move(sign.job_id, min(0.999, sign.done / max(1, sign.total)))

    def finished(self, result: RunResult) -> None:
        """A run is done."""
        self._move(result.job_id, 1.0)

    def _move(self, job_id: str, share: float) -> None:
        self.shares[job_id] = share
        if self.line is not None:
            self.line.move(sum(self.shares.values()))


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 100 else f"{whole / 60:.0f} min"

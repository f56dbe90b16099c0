"""Where the time of a command goes: start-up, workers, runs by part, tables and plots."""

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from initbench.results.record import RunResult
from initbench.studies.execution import Watch
from initbench.studies.plan import Plan
from initbench.workers.progress import Progress

PARTS = {"data": "data", "init": "initialization", "train": "training", "probe": "probes", "evaluate": "evaluation"}
"""The parts of a run's time, as `RunResult.seconds` calls them and in words."""
PROCESS = Path("/proc/self/stat")
START_FIELD = 21
"""Which field of that file is the time at which the process started, in ticks since the system did."""


def process_age() -> float | None:
    """Seconds since this process was started, None where the system does not tell."""
    try:
        started = int(PROCESS.read_text().rpartition(")")[2].split()[START_FIELD - 2])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return None


@dataclass
class TimingWatch:
    """Notes when something came and passes it on to another watch."""

    inner: Watch | None = None
    started: float = field(default_factory=lambda: time.perf_counter() - (process_age() or 0.0))
    planned_at: float | None = None
    begun_at: float | None = None
    ended_at: float | None = None
    spent: Counter[str] = field(default_factory=Counter)

    def over(self, inner: Watch) -> "TimingWatch":
        """Gives this same watch, which from now on passes everything on to `inner`."""
        self.inner = inner
        return self

    def planned(self, plan: Plan) -> None:
        """The plan stands."""
        self.planned_at = self.planned_at or time.perf_counter()
        if self.inner:
            self.inner.planned(plan)

    def progress(self, sign: Progress) -> None:
        """A run is under way."""
        if sign.total:
            self.begun_at = self.begun_at or time.perf_counter()
        if self.inner:
            self.inner.progress(sign)

    def finished(self, result: RunResult) -> None:
        """A run has ended."""
        if self.inner:
            self.inner.finished(result)
        self.spent.update(result.seconds)
        self.ended_at = time.perf_counter()
        self.begun_at = self.begun_at or self.ended_at - result.seconds.get("total", 0.0)

    def lines(self) -> list[str]:
        """What took how long, in words, from the start of the process until now."""
        now = time.perf_counter()
        planned = self.planned_at or now
        rows = [("start-up, configuration, plan", planned - self.started)]
        if self.begun_at is not None and self.ended_at is not None:
            total = self.spent["total"]
            rows += [("workers, checks, until the first step", self.begun_at - planned), ("runs", self.ended_at - self.begun_at)]
            known = [(f"  {words}", self.spent[part]) for part, words in PARTS.items()]
            inside = [*known, ("  the rest", max(0.0, total - sum(seconds for _, seconds in known)))]
            share = total or 1.0
            rows += [(f"{words}: {100 * seconds / share:.1f} % of all runs' time, added up", seconds) for words, seconds in inside]
        rows += [("tables, plots, page", now - (self.ended_at or planned)), ("whole command", now - self.started)]
        return [f"{seconds:8.2f} s  {words}" for words, seconds in rows]

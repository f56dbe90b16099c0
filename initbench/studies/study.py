"""The contract of a kind of question; a file of this room that fulfils it and stands in `kinds.STUDIES` is one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from initbench.question.config import ExperimentConfig, Job, View
from initbench.question.plan import job_ids
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary

Done = Mapping[str, RunResult]
"""The results that are there, by job id."""


@dataclass(frozen=True)
class Outlook:
    """What may still come beyond the jobs that are known: at most so many runs and steps in all, and the seconds of one worker.

    `steps` is None before it is known how many an epoch takes, `seconds` before there is a run to measure.
    """

    runs: int
    steps: int | None
    seconds: float | None = None


class Study(Protocol):
    """What a kind of question runs and says: all of it follows from the configuration and the results that are there.

    So a study that was interrupted goes on where it was, and asking again costs nothing.
    """

    COMMAND: str
    """The command that asks it."""
    SEARCHES: bool
    """Whether results decide what is run next."""
    BORROWS: bool
    """Whether runs that another question has made are taken from its folder, as those of a grid that had fewer values."""

    def is_asked(self, command: str, config: ExperimentConfig, /) -> bool:
        """Whether a command with this configuration asks a question of this kind."""

    def jobs(self, config: ExperimentConfig, done: Done, /) -> tuple[Job, ...]:
        """Everything to run as far as the results tell; when these are all done there may be more. A job may be named twice."""

    def reported(self, config: ExperimentConfig, done: Done, /) -> tuple[RunResult, ...]:
        """The runs that tables and plots of schemes are about: not those that only served to choose."""

    def outlook(self, config: ExperimentConfig, done: Done, /) -> Outlook | None:
        """What may still come at most; None where the jobs say it all, or nobody can tell."""

    def summarize(self, config: ExperimentConfig, done: Done, view: View, /) -> Summary:
        """What the results say; the console, summary.md, summary.json and the report show this."""


def runs_of(jobs: Iterable[Job], done: Done, /) -> tuple[RunResult, ...]:
    """The results of the jobs, as far as they are there."""
    return tuple(run for name in job_ids(jobs) if (run := done.get(name)) is not None)

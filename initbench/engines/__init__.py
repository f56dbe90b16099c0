"""The contract of an engine: a file of this folder with `execute(jobs, *, ...) -> Iterator[RunResult]`.

Results come as they are finished, in any order; the same job gives the same losses and statistics in every engine.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A sign of life from a run: `done` of `total` steps. Engines call `report` with it now and then."""

    job_id: str
    done: int
    total: int


Report = Callable[[Progress], None]

"""The contract of an engine: a file of the folder `engines` with `execute(jobs, *, ...) -> Iterator[RunResult]`.

Results come as they are finished, in any order; the same job gives the same losses and statistics in every engine,
to the last bit where runs have one thread.
`run_timeout`, a number of seconds, is passed on only where the user asks for it: a run that takes longer fails. `keep_in`, a folder in
which a long run is saved now and then so that it can go on after a kill, is passed to engines that have such a parameter; so is
`lasting`, where they may leave workers for the next of the calls of one command.
Everything that would make a job impossible is found before `execute` returns, and raised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from initbench.question.config import Job


@dataclass(frozen=True)
class Progress:
    """A sign of life from a run: `done` of `total` steps; 0 of 0 when it begins. Engines call `report` with it now and then.

    One with a `note` is of no run (its id is empty): the engine says in a sentence what it waits for.
    """

    job_id: str
    done: int
    total: int
    note: str = ""


Report = Callable[[Progress], None]


def to_check(jobs: Sequence[tuple[str, Job]], checked: set[str] | None = None) -> tuple[Job, ...]:
    """One job for each that has to be checked before any starts: those that differ only in numbers of training need one.

    `checked` are the kinds that were checked before, in the same command, and is extended.
    """
    chosen: dict[str, Job] = {}
    for _, job in jobs:
        named = (job.scheme, job.model, job.dataset, job.task, job.train.optimizer)
        parts = (*named, job.init.model_dump_json(), job.train.batch_size, job.train.holdout)
        chosen.setdefault(" ".join(map(str, parts)), job)
    before = set() if checked is None else set(checked)
    if checked is not None:
        checked |= chosen.keys()
    return tuple(job for kind, job in chosen.items() if kind not in before)

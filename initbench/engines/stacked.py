"""All runs that differ only in scheme, seed and numbers train as one in this process; made for an accelerator."""

from collections.abc import Iterator, Sequence

from initbench.question.config import Job
from initbench.results.record import RunResult
from initbench.workers.progress import Progress, Report, to_check


def execute(
    jobs: Sequence[tuple[str, Job]],
    *,
    device: str,
    data_dir: str | None,
    workers: int | None = None,  # noqa: ARG001 - there is only this process
    threads: int = 1,  # noqa: ARG001 - always one
    report: Report | None = None,
    run_timeout: float | None = None,
    keep_in: str | None = None,
) -> Iterator[RunResult]:
    """All runs that differ only in scheme, seed and numbers train as one in this process; made for an accelerator.

    As many at once as fit the memory. A run that cannot be stacked goes alone, and its result says why. Everything is
    checked before it returns.
    `run_timeout` is the share of each run: a stack of n may take n times as long.
    Raises: InitbenchError for what would make a job impossible.
    """
    from initbench.stacking.jobs import StackSetting, groups, run_group
    from initbench.training.devices import small_runs
    from initbench.training.job import check, forget_data
    from initbench.training.limit import limited_check

    with small_runs():
        for job in to_check(jobs):
            with limited_check(job, run_timeout):
                check(job, device=device, data_dir=data_dir)

    def told(job_id: str, done: int, total: int) -> None:
        if report is not None:
            report(Progress(job_id, done, total))

    def results() -> Iterator[RunResult]:
        setting = StackSetting(device, data_dir, told, run_timeout, keep_in)
        try:
            for group in groups(jobs):
                group_results = run_group(group, setting)
                while True:
                    with small_runs():
                        result = next(group_results, None)
                    if result is None:
                        break
                    yield result
        finally:
            forget_data()

    return results()

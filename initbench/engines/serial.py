"""One run after another in this process, one thread on the CPU."""

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
    """One run after another in this process, one thread on the CPU; for an accelerator, and for a debugger.

    A run that takes longer than `run_timeout` seconds is ended, within Python code at once, otherwise when it comes back there.
    Everything is checked before it returns. Raises: InitbenchError for what would make a job impossible.
    """
    from initbench.training.devices import small_runs
    from initbench.training.job import check, forget_data, run_job
    from initbench.training.limit import limited_check

    with small_runs():
        for job in to_check(jobs):
            with limited_check(job, run_timeout):
                check(job, device=device, data_dir=data_dir)

    def results() -> Iterator[RunResult]:
        try:
            for job_id, job in jobs:

                def stepped(done: int, total: int, job_id: str = job_id) -> None:
                    if report is not None:
                        report(Progress(job_id, done, total))

                stepped(0, 0)
                with small_runs():
                    result = run_job(job, job_id, device=device, data_dir=data_dir, report=stepped, seconds=run_timeout, keep_in=keep_in)
                yield result
        finally:
            forget_data()

    return results()

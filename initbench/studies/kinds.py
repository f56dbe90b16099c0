"""The kinds of question there are: a comparison, one with tuning, a recommendation; what each runs, and what it says."""

from initbench.question import plan
from initbench.question.config import ExperimentConfig, Job, View
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.summary import summarize
from initbench.studies import recommend as recommending
from initbench.studies import tune as tuning
from initbench.studies.tune import Done

RECOMMEND = "recommend"
"""The command whose question is a race."""


def jobs(command: str, config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """Everything to run as far as the results tell; when these are all done there may be more."""
    if command == RECOMMEND:
        found = recommending.jobs(config, done)
    elif config.tune is not None:
        found = tuning.jobs(config, done)
    else:
        return plan.make_jobs(config)
    return tuple({plan.job_id(job): job for job in found}.values())


def reported(command: str, config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """The runs that tables and plots of schemes are about: not those that only served to choose."""
    if command == RECOMMEND:
        return recommending.reported(config, done)
    if config.tune is None:
        return tuple(done.values())
    wanted = plan.make_jobs(tuning.same_for_all(config))
    return tuple(run for job in wanted if (run := done.get(plan.job_id(job))) is not None)


def summarize_study(command: str, config: ExperimentConfig, done: Done, view: View) -> Summary:
    """What the results say; the console, summary.md, summary.json and the report show this."""
    if command == RECOMMEND:
        return recommending.summarize_race(config, done, view)
    if config.tune is not None:
        return tuning.summarize_tuned(config, done, view)
    order = [str(scheme) for scheme in plan.resolve_config(config).schemes]
    return summarize(
        reported(command, config, done), view.reference, order=order, metric=view.metric, target=view.target, margin=view.margin
    )

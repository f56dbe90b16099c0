"""`compare` and `run`: every scheme with every seed, all else as the configuration says."""

from initbench.question.config import ExperimentConfig, Job, View
from initbench.question.plan import make_jobs, resolve_config
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.summary import summarize as summarize_runs
from initbench.studies.study import Done, Outlook

COMMAND = "compare"
SEARCHES = False
BORROWS = False


def is_asked(_command: str, _config: ExperimentConfig) -> bool:
    """Any question can be taken for a comparison."""
    return True


def jobs(config: ExperimentConfig, _done: Done) -> tuple[Job, ...]:
    """One job for each scheme and seed."""
    return make_jobs(config)


def reported(_config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """All runs."""
    return tuple(done.values())


def outlook(_config: ExperimentConfig, _done: Done) -> Outlook | None:
    """The jobs say it all."""
    return None


def summarize(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The schemes against the reference, and all pairs."""
    order = [str(scheme) for scheme in resolve_config(config).schemes]
    return summarize_runs(done.values(), view.reference, order=order, **view.model_dump(exclude={"reference"}))

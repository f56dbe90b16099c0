"""The figure of a task with a name of its own, before there are results that have it."""

from collections.abc import Mapping

from initbench.errors import ConfigError
from initbench.metrics import Metric
from initbench.question.config import USUAL_TASK, ExperimentConfig, Ref
from initbench.results.record import RunResult, ScoreOf
from initbench.statistics.known_metrics import find_metric, usual_metric


def score_of(task: Ref) -> ScoreOf | None:
    """The score of a task; this imports it. None where it has none."""
    if task.name == USUAL_TASK:
        return None
    from initbench.training.job import build_task

    score = build_task(task).score
    return None if score is None else score.described()


def asked_metric(config: ExperimentConfig, name: str | None, target: float | None, done: Mapping[str, RunResult]) -> Metric:
    """The metric of a name, or the usual one of the question's task. Raises: ConfigError for an unknown one."""
    score = next((result.score for result in done.values() if result.score is not None), None)
    if score is None and not done:
        score = score_of(config.task)
    return find_metric(name or usual_metric(config.task.name, score), target, score=score)


def ranking_metric(config: ExperimentConfig, name: str, target: float | None) -> Metric:
    """The metric of a name; the task is asked only where nothing else has that name. Raises: ConfigError for an unknown one."""
    try:
        return find_metric(name, target)
    except ConfigError:
        if config.task.name == USUAL_TASK:
            raise
        return find_metric(name, target, score=score_of(config.task))

"""The metrics that there are: the files of `initbench/metrics`, plugged-in ones and a user's own, by name."""

import math
from functools import lru_cache, partial

from initbench.errors import ConfigError, UserCode, unknown_name
from initbench.metrics import Metric, Split
from initbench.question import catalog
from initbench.question.config import USUAL_TASK
from initbench.results.outcome import final, was_evaluated
from initbench.results.record import ScoreOf

TARGET = "target"
"""The argument of a metric that needs a target accuracy."""


@lru_cache(maxsize=16)
def all_metrics(target: float | None = None, split: Split = "test") -> tuple[Metric, ...]:
    """Every metric, those that rank runs first; those that need a target only where one (a fraction) is given."""
    entries = [entry for entry in catalog.entries("metric") if target is not None or not _takes_target(entry)]
    metrics = (_load(entry, target, split) for entry in entries)
    return tuple(sorted(metrics, key=lambda metric: (metric.better is None, metric.place, metric.name)))


def usual_metric(task: str, score: ScoreOf | None = None) -> str:
    """What verdicts are about where nobody says: the score of the task, accuracy where it is to classify, else the loss."""
    if score is not None:
        return score.name
    return "final_test_accuracy" if task == USUAL_TASK else "final_test_loss"


def metric_of_score(score: ScoreOf, split: Split = "test") -> Metric:
    """The score of a task as a metric: its value after the last step."""
    low, high = (-math.inf if score.low is None else score.low), (math.inf if score.high is None else score.high)
    label = f"{{split}} {score.name}"
    metric = Metric(
        label, partial(final, "test_score"), was_evaluated, place=5, better=score.better, amount="in {label}", bounds=(low, high)
    )
    return metric.named(score.name, split)


def find_metric(name: str, target: float | None = None, split: Split = "test", score: ScoreOf | None = None) -> Metric:
    """The metric of a name; `score` is that of the task.

    Raises: ConfigError for an unknown name, or for a metric that needs a target when there is no target.
    """
    metrics = {metric.name: metric for metric in all_metrics(target, split)}
    if score is not None:
        metrics[score.name] = metric_of_score(score, split)
    if name in metrics:
        return metrics[name]
    waiting = [entry.name for entry in catalog.entries("metric") if _takes_target(entry)]
    if name in waiting:
        raise ConfigError(f"The metric {name} needs a target accuracy, such as --target 0.95.")
    if catalog.is_file_name(name) or ":" in name:
        return _load(catalog.find("metric", name)[0], target, split)
    known = [metric.name for metric in metrics.values() if metric.better]
    raise unknown_name("metric", name, known, f"Known: {', '.join(known)}; {', '.join(waiting)} needs a target.")


def _takes_target(entry: catalog.Entry) -> bool:
    return any(parameter.name == TARGET for parameter in entry.parameters)


def _load(entry: catalog.Entry, target: float | None, split: Split) -> Metric:
    build = catalog.load("metric", entry.name)
    with UserCode(f"Cannot build the metric '{entry.name}' from {entry.path}"):
        metric: Metric = build(**({TARGET: target} if _takes_target(entry) else {}))
        return metric.named(entry.name, split)

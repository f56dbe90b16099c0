"""The metrics that there are: the files of `initbench/metrics`, plugged-in ones and a user's own, by name."""

from functools import lru_cache

from initbench.errors import ConfigError, UserCode, unknown_name
from initbench.metrics import Metric, Split
from initbench.question import catalog

TARGET = "target"
"""The argument of a metric that needs a target accuracy."""


@lru_cache(maxsize=16)
def all_metrics(target: float | None = None, split: Split = "test") -> tuple[Metric, ...]:
    """Every metric, those that rank runs first; those that need a target only where one (a fraction) is given."""
    entries = [entry for entry in catalog.entries("metric") if target is not None or not _needs_target(entry)]
    metrics = (_load(entry, target, split) for entry in entries)
    return tuple(sorted(metrics, key=lambda metric: (metric.better is None, metric.place, metric.name)))


def ranking_metrics(target: float | None = None, split: Split = "test") -> tuple[Metric, ...]:
    """The metrics in which one run can be better than another."""
    return tuple(metric for metric in all_metrics(target, split) if metric.better is not None)


def find_metric(name: str, target: float | None = None, split: Split = "test") -> Metric:
    """The metric of a name.

    Raises: ConfigError for an unknown name, or for a metric that needs a target when there is no target.
    """
    metric = next((metric for metric in all_metrics(target, split) if metric.name == name), None)
    if metric is not None:
        return metric
    waiting = [entry.name for entry in catalog.entries("metric") if _needs_target(entry)]
    if name in waiting and target is None:
        raise ConfigError(f"The metric {name} needs a target accuracy, such as --target 0.95.")
    if ".py" in name or ":" in name:
        return _load(catalog.find("metric", name)[0], target, split)
    known = [metric.name for metric in ranking_metrics(target, split)]
    raise unknown_name("metric", name, known, f"Known: {', '.join(known)}; {', '.join(waiting)} needs a target.")


def find_ranking_metric(name: str, target: float | None = None, split: Split = "test") -> Metric:
    """The metric of a name that verdicts can be about. Raises: ConfigError as `find_metric`, and for one that ranks nothing."""
    metric = find_metric(name, target, split)
    if metric.better is None:
        known = [metric.name for metric in ranking_metrics(target, split)]
        raise ConfigError(f"The metric {name} has no better or worse, so no verdict can be about it. Use one of: {', '.join(known)}.")
    return metric


def _needs_target(entry: catalog.Entry) -> bool:
    return any(parameter.name == TARGET and parameter.required for parameter in entry.parameters)


def _load(entry: catalog.Entry, target: float | None, split: Split) -> Metric:
    given = {TARGET: target} if any(parameter.name == TARGET for parameter in entry.parameters) else {}
    build = catalog.load("metric", entry.name)
    with UserCode(f"Cannot build the metric '{entry.name}' from {entry.path}"):
        metric: Metric = build(**given).named(entry.name, split)
    return metric

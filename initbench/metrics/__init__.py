"""What runs are compared by: a file a metric; this one holds the contract.

A file defines `build() -> Metric`; its name is the metric's, its docstring what `initbench list metrics` says. With an argument
`target` (a test accuracy) the metric is there when a target is given. Users bring their own as `--metric ./mine.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from initbench.errors import ConfigError
from initbench.results.record import RunResult

Split = Literal["test", "held-out"]
"""The examples that were evaluated."""
ANY_NUMBER = (-math.inf, math.inf)
"""The bounds of a loss: one of somebody's own may be below zero."""


@dataclass(frozen=True)
class Metric:
    """A number that each run has, or cannot have: `value` gives None where a run has none, though `measured` says that it was looked for.

    `label` is its name in words, `amount` that of a difference; in them `{split}` and `{label}` are filled in. `better` is None for a
    figure that ranks nothing. `style`, `unit` and `scale` (to the unit that is shown) say how numbers are written, `absent` what the lack
    of one means. No value lies outside `bounds`. Tables list metrics by `place`. `name` is the file's, set by who loads it.
    """

    label: str
    value: Callable[[RunResult], float | None]
    measured: Callable[[RunResult], bool]
    better: Literal["higher", "lower"] | None
    amount: str = ""
    style: Literal["number", "percent", "count"] = "number"
    unit: str = ""
    scale: float = 1
    absent: str = "diverged"
    bounds: tuple[float, float] = (0, math.inf)
    place: int = 1000
    name: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.better == "higher"

    @property
    def worst(self) -> float:
        """What a run without a number counts as: an infinity, of which only the order is used."""
        return -math.inf if self.higher_is_better else math.inf

    def ranked(self, result: RunResult) -> float:
        """The value of a run, or that which ranks below every number where it has none: the one rule for runs that are lost.

        Raises: ConfigError for a value outside of `bounds`, NaN among them.
        """
        value = self.value(result)
        if value is None:
            return self.worst
        low, high = self.bounds
        if not low <= value <= high:
            run = f"{result.job.scheme}, seed {result.job.seed}"
            raise ConfigError(f"The metric {self.name} is {value} for {run}; it must be from {low} to {high}.")
        return value

    def named(self, name: str, split: Split) -> "Metric":
        """The metric under a name, its words about the examples that were evaluated."""
        label = self.label.format(split=split)
        return replace(self, name=name, label=label, amount=self.amount.format(label=label))

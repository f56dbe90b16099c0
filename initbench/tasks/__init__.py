"""What a network is trained to do: a file a task; this one holds the contract.

A file of this folder that defines `build(*, ...) -> Task` is the task of its name; users bring their own as `--task ./mine.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from initbench.errors import ConfigError, a_or_an
from initbench.results.record import ScoreOf

if TYPE_CHECKING:
    from torch import Tensor

    from initbench.data.splits import DataSplits

Pair = Callable[["Tensor", "Tensor"], "tuple[Tensor, Tensor]"]
Figure = Callable[[Any, Any], "Tensor"]
DIRECTIONS: dict[str, Literal["higher", "lower"]] = {"max": "higher", "min": "lower"}
"""The words for which values of a metric are the better ones."""


@dataclass(frozen=True)
class Score:
    """A figure of the evaluated examples with a name of its own, such as dice: what the verdicts are about.

    `value(outputs, targets)` is a number for a batch, or one for each example, (N,); `better` is "max" or "min"; no value lies
    outside `bounds`.
    """

    name: str
    value: Figure
    better: Literal["max", "min"]
    bounds: tuple[float, float] = (float("-inf"), float("inf"))

    def described(self) -> ScoreOf:
        """What a result says of it."""
        low, high = self.bounds
        return ScoreOf(name=self.name, better=DIRECTIONS[self.better], low=low, high=high)


def as_score(given: object) -> Score:
    """The score that `(name, function, "max" or "min")` says, with bounds as a fourth. Raises: ConfigError for anything else."""
    if isinstance(given, Score):
        return given
    example = '("dice", dice, "max")'
    if not isinstance(given, tuple | list) or not 2 <= len(given) <= 4 or not isinstance(given[0], str) or not callable(given[1]):
        raise ConfigError(f"The metric is {a_or_an(type(given).__name__)}. Write its name, its function and its direction: {example}.")
    if len(given) == 2 or given[2] not in DIRECTIONS:
        word = "none" if len(given) == 2 else repr(given[2])
        raise ConfigError(f"The direction of the metric '{given[0]}' is {word}. It is max or min, as in {example}.")
    if not given[0].isidentifier():
        raise ConfigError(f"The metric is called '{given[0]}'. Its name has letters, digits and _ only, as in {example}.")
    return Score(*given)


def _as_they_are(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, labels


def _unchanged(data: DataSplits) -> DataSplits:
    return data


@dataclass(frozen=True)
class Task:
    """A task: what the model is given, what its output is held against, and the loss.

    `losses(outputs, targets)` is the loss of each example, (N,); `loss` their mean, where there is a quicker way to it. Where only
    `loss` is there, a run has no losses of single examples, and statistics of gradients are those of the mean times the examples.
    `pair(inputs, labels)` makes of a batch as the data set has it (images are normalized by then) the model's inputs and the targets.
    `output(targets, outputs)` is the shape that the model's output must have, for a data set with so many `outputs` (classes, tokens);
    None where the loss alone says what fits.
    `chance(data)` is the loss of the best guess that does not look at the input; None: accuracy says whether a run has trained.
    `hits(outputs, targets)` is the accuracy of each example, (N,), from 0 to 1; None where there is none. `score` is another figure, which
    verdicts are then about.
    `examples(data)` makes the examples of a data set that holds none yet, such as windows of a text. `takes` says in words what
    data a task is for, and `gives` what its models give.
    `data` are batches that the task brings along, a pair (training, test), each tensors, a dataset, a loader or a function that makes
    one; `inputs(batch)` then is what the model is given of a batch, and the loss is given the whole batch.
    """

    losses: Figure | None = None
    output: Callable[[Any, int], tuple[int, ...]] | None = None
    takes: str = "batches"
    gives: str = "whatever its loss takes"
    pair: Pair = _as_they_are
    loss: Figure | None = None
    hits: Figure | None = None
    score: Score | None = None
    chance: Callable[[DataSplits], float] | None = None
    examples: Callable[[DataSplits], DataSplits] = _unchanged
    fits: Callable[[DataSplits], bool] = field(default=lambda _data: True)
    data: Any = None
    inputs: Callable[[Any], Any] | None = None
    name: str = ""

    def mean_loss(self, outputs: Any, targets: Any) -> Tensor:
        """The mean over the examples, by the quicker way where there is one. Raises: ConfigError for a task without a loss."""
        if self.loss is not None:
            return self.loss(outputs, targets)
        if self.losses is None:
            raise ConfigError(f"The task '{self.name}' has no loss. Give it `loss` or `losses`.")
        return self.losses(outputs, targets).mean()

    def summed_loss(self, outputs: Any, targets: Any, count: int) -> Tensor:
        """The sum over so many examples; where no example has a loss of its own, that of the batch times their number."""
        return self.mean_loss(outputs, targets) * count if self.losses is None else self.losses(outputs, targets).sum()

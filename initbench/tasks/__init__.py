"""What a network is trained to do: a file a task; this one holds the contract.

A file of this folder that defines `build(*, ...) -> Task` is the task of its name; users bring their own as `--task ./mine.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from initbench.data.splits import DataSplits

Pair = Callable[["Tensor", "Tensor"], "tuple[Tensor, Tensor]"]
Figure = Callable[["Tensor", "Tensor"], "Tensor"]


def _as_they_are(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, labels


def _unchanged(data: DataSplits) -> DataSplits:
    return data


@dataclass(frozen=True)
class Task:
    """A task: what the model is given, what its output is held against, and the loss.

    `losses(outputs, targets)` is the loss of each example, (N,); `loss` their mean, where there is a quicker way to it.
    `pair(inputs, labels)` makes of a batch as the data set has it (images are normalized by then) the model's inputs and the targets.
    `output(targets, outputs)` is the shape that the model's output must have, for a data set with so many `outputs` (classes, tokens).
    `chance(data)` is the loss of the best guess that does not look at the input; None: accuracy says whether a run has trained.
    `hits(outputs, targets)` is the accuracy of each example, (N,), from 0 to 1; None where there is none.
    `examples(data)` makes the examples of a data set that holds none yet, such as windows of a text. `takes` says in words what
    data a task is for, and `gives` what its models give.
    """

    losses: Figure
    output: Callable[[Tensor, int], tuple[int, ...]]
    takes: str
    gives: str
    pair: Pair = _as_they_are
    loss: Figure | None = None
    hits: Figure | None = None
    chance: Callable[[DataSplits], float] | None = None
    examples: Callable[[DataSplits], DataSplits] = _unchanged
    fits: Callable[[DataSplits], bool] = field(default=lambda _data: True)
    name: str = ""

    def mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the examples, by the quicker way where there is one."""
        return self.losses(outputs, targets).mean() if self.loss is None else self.loss(outputs, targets)

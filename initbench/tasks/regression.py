"""The task `regression`."""

from torch import Tensor

from initbench.data.splits import DataSplits
from initbench.tasks import Task


def build() -> Task:
    """Numbers for each input: mean squared error of outputs (N, targets)."""
    return Task(
        losses=lambda outputs, targets: (outputs - targets).square().flatten(1).mean(1),
        output=lambda targets, _: tuple(targets.shape),
        chance=_variance,
        takes="numbers with numbers that belong to them",
        gives="numbers (N, targets)",
        fits=lambda data: data.y_train.is_floating_point(),
    )


def _variance(data: DataSplits) -> float:
    """The mean squared error of the mean of the training targets, on them."""
    spread: Tensor = data.y_train.double().var(0, correction=0).mean()
    return spread.item()

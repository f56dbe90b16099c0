"""The task `supervised`."""

import torch
from torch import Tensor
from torch.nn import functional

from initbench.errors import ConfigError
from initbench.nn.outputs import outputs_in
from initbench.tasks import Task

IGNORED = -100
"""The label of what does not count, as torch's cross entropy has it."""


def build() -> Task:
    """Whatever the targets are: cross entropy of whole numbers, squared error of others; for batches of one's own.

    The output is logits (N, classes, ...) or (N, ..., classes) for whole numbers (N, ...), else of the targets' shape. Of several outputs
    the first counts. Accuracy is the share of whole numbers that are right. Labels of -100, as padding has, do not count.
    """
    return Task(
        losses=_losses, loss=_loss, hits=_hits, takes="batches with targets", gives="logits for whole numbers, else numbers as the targets"
    )


def is_loss_of(task: Task) -> bool:
    """Whether a task has this one's losses, whatever else is in it."""
    return task.losses is _losses


def _losses(outputs: object, targets: Tensor) -> Tensor:
    found = _numbers(outputs, targets)
    if targets.is_floating_point():
        errors = (_alike(found, targets) - targets).square()
        return errors.flatten(1).mean(1) if errors.dim() > 1 else errors
    return _mean_of_each(_cross_entropy(_logits(found, targets), targets, "none"), targets)


def _loss(outputs: object, targets: Tensor) -> Tensor:
    """The mean over all numbers of the batch that count, as torch's own losses take it."""
    found = _numbers(outputs, targets)
    if targets.is_floating_point():
        return functional.mse_loss(_alike(found, targets), targets)
    return _cross_entropy(_logits(found, targets), targets, "mean")


def _numbers(outputs: object, targets: Tensor) -> Tensor:
    """The output that is held against targets. Raises: ConfigError for targets that are no tensor."""
    if not isinstance(targets, Tensor):
        raise ConfigError(f"The targets are of type {type(targets).__name__}, which has no usual loss. Give one: loss=...")
    return outputs_in(outputs)[0]


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    try:
        return functional.cross_entropy(logits, targets.long(), reduction=reduction, ignore_index=IGNORED)
    except IndexError as error:
        counted = targets[targets != IGNORED]
        low, high, most = int(counted.min()), int(counted.max()), logits.shape[1]
        raise ConfigError(f"The labels are from {low} to {high}, and the model gives logits of {most} classes, 0 to {most - 1}.") from error


def _mean_of_each(values: Tensor, targets: Tensor) -> Tensor:
    """Of each example the mean over the labels that count, (N,); 0 where none does."""
    if values.dim() < 2:
        return values
    return values.flatten(1).sum(1) / (targets != IGNORED).flatten(1).sum(1).clamp(min=1)


def refuse_outside(outputs: object, example: object, labels: tuple[Tensor, ...]) -> None:
    """Raises: ConfigError for whole numbers among all labels that the outputs of a batch have no class for."""
    found = outputs_in(outputs)[0]
    if not isinstance(example, Tensor) or example.is_floating_point():
        return
    classes = _logits(found, example).shape[1]
    kept = [counted for each in labels if (counted := each[each != IGNORED]).numel()]
    low, high = min((int(each.min()) for each in kept), default=0), max((int(each.max()) for each in kept), default=0)
    if low < 0 or high >= classes:
        raise ConfigError(f"The labels are from {low} to {high}, and the model gives logits of {classes} classes, 0 to {classes - 1}.")


def _hits(outputs: object, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return torch.full((len(targets),), torch.nan, dtype=torch.float32, device=targets.device)
    right = (_logits(outputs_in(outputs)[0], targets).argmax(1) == targets).float()
    return _mean_of_each(right, targets)


def _logits(outputs: Tensor, targets: Tensor) -> Tensor:
    """The outputs with their classes along dimension 1. Raises: ConfigError where they are no logits of these targets."""
    if outputs.dim() == targets.dim() + 1 and outputs.shape[:1] + outputs.shape[2:] == targets.shape:
        return outputs
    if outputs.dim() == targets.dim() + 1 and outputs.shape[:-1] == targets.shape:
        return outputs.movedim(-1, 1)
    raise ConfigError(
        f"The model gives shape {tuple(outputs.shape)} where the targets are whole numbers of shape {tuple(targets.shape)}. "
        "It must give logits, with one dimension more for the classes; or give a loss of your own."
    )


def _alike(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape == targets.shape:
        return outputs
    if outputs.shape == (*targets.shape, 1):
        return outputs.squeeze(-1)
    raise ConfigError(
        f"The model gives shape {tuple(outputs.shape)} where the targets have shape {tuple(targets.shape)}. They must be alike; or give a "
        "loss of your own."
    )

"""The task `supervised`."""

import torch
from torch import Tensor
from torch.nn import functional

from initbench.errors import ConfigError
from initbench.nn.outputs import outputs_in
from initbench.tasks import Task


def build() -> Task:
    """Whatever the targets are: cross entropy of whole numbers, squared error of others; for batches of one's own.

    The output is logits (N, classes, ...) or (N, ..., classes) for whole numbers (N, ...), else of the targets' shape. Of several outputs
    the first counts. Accuracy is the share of whole numbers that are right.
    """
    return Task(losses=_losses, hits=_hits, takes="batches with targets", gives="logits for whole numbers, else numbers as the targets")


def is_loss_of(task: Task) -> bool:
    """Whether a task has this one's losses, whatever else is in it."""
    return task.losses is _losses


def _losses(outputs: object, targets: Tensor) -> Tensor:
    found = outputs_in(outputs)[0]
    if not isinstance(targets, Tensor):
        raise ConfigError(f"The targets are of type {type(targets).__name__}, which has no usual loss. Give one: loss=...")
    if targets.is_floating_point():
        errors = (_alike(found, targets) - targets).square()
        return errors.flatten(1).mean(1) if errors.dim() > 1 else errors
    logits = _logits(found, targets)
    try:
        losses = functional.cross_entropy(logits, targets.long(), reduction="none")
    except IndexError as error:
        low, high, most = int(targets.min()), int(targets.max()), logits.shape[1]
        raise ConfigError(f"The labels are from {low} to {high}, and the model gives logits of {most} classes, 0 to {most - 1}.") from error
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def refuse_outside(outputs: object, example: object, labels: tuple[Tensor, ...]) -> None:
    """Raises: ConfigError for whole numbers among all labels that the outputs of a batch have no class for."""
    found = outputs_in(outputs)[0]
    if not isinstance(example, Tensor) or example.is_floating_point():
        return
    classes = _logits(found, example).shape[1]
    low, high = min(int(each.min()) for each in labels) if labels else 0, max(int(each.max()) for each in labels) if labels else 0
    if low < 0 or high >= classes:
        raise ConfigError(f"The labels are from {low} to {high}, and the model gives logits of {classes} classes, 0 to {classes - 1}.")


def _hits(outputs: object, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return torch.full((len(targets),), torch.nan, dtype=torch.float32, device=targets.device)
    right = (_logits(outputs_in(outputs)[0], targets).argmax(1) == targets).float()
    return right.flatten(1).mean(1) if right.dim() > 1 else right


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

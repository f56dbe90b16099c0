"""Loss, accuracy and score on the whole test split."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, a_or_an
from initbench.nn.inputs import called
from initbench.tasks import Score
from initbench.training.batches import DeviceData
from initbench.training.loaded import LoadedData, batch_named, count_of

BATCH, BATCH_OF_CONVOLUTIONS = 500, 125
"""Test images at a time: large enough for the processor, small enough for its cache (a CNN is a fifth slower with 250)."""
BATCH_ON_ACCELERATOR = 2500
"""Test images at a time where launching work costs more than memory."""


@torch.no_grad()
def evaluate(model: nn.Module, data: DeviceData | LoadedData, layout: torch.memory_format) -> Tensor:
    """Mean loss, accuracy (a fraction) and score as one tensor (3,) on the device, NaN what the task has none of; the mode is kept."""
    mode = model.training
    model.eval()
    wide = torch.float32 if data.device.type == "mps" else torch.float64
    size = BATCH_OF_CONVOLUTIONS if layout is torch.channels_last else BATCH
    size = size if data.device.type == "cpu" else BATCH_ON_ACCELERATOR
    totals, seen, task = torch.zeros(3, dtype=wide, device=data.device), 0, data.task
    naming = batch_named if isinstance(data, LoadedData) else nullcontext
    for number, (inputs, targets) in enumerate(data.test_batches(size, layout), 1):
        with naming(f"Test batch {number} cannot be evaluated"):
            outputs = called(model, inputs)
            outputs = outputs.float() if isinstance(outputs, Tensor) and outputs.is_floating_point() else outputs
            count = count_of(inputs, targets)
            missing = totals.new_tensor(torch.nan)
            loss = task.summed_loss(outputs, targets, count)
            right = missing if task.hits is None else task.hits(outputs, targets).sum()
            score = missing if task.score is None else summed(task.score, outputs, targets, count)
        totals += torch.stack([each.to(totals) for each in (loss, right, score)])
        seen += count
    model.train(mode)
    return totals / seen


def summed(score: Score, outputs: object, targets: object, count: int) -> Tensor:
    """The sum of a score over a batch, which has one for each example or one for all. Raises: ConfigError for anything else."""
    found: object = score.value(outputs, targets)
    if isinstance(found, int | float):
        return torch.tensor(float(found) * count, dtype=torch.float64, device="cpu")
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"The metric '{score.name}' gives {a_or_an(type(found).__name__)}. It must give a number, or one for each example."
        )
    if found.dim() == 0:
        return found * count
    if found.shape != (count,):
        raise ConfigError(
            f"The metric '{score.name}' gives shape {tuple(found.shape)} for a batch of {count}. It must give one number, or one for each "
            "example."
        )
    return found.sum()

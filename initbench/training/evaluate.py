"""Loss and accuracy on the whole test split."""

import torch
from torch import Tensor, nn

from initbench.training.batches import DeviceData

BATCH, BATCH_OF_CONVOLUTIONS = 500, 125
"""Test images at a time: large enough for the processor, small enough for its cache (a CNN is a fifth slower with 250)."""
BATCH_ON_ACCELERATOR = 2500
"""Test images at a time where launching work costs more than memory."""


@torch.no_grad()
def evaluate(model: nn.Module, data: DeviceData, layout: torch.memory_format) -> Tensor:
    """Mean loss and accuracy (a fraction; NaN where the task has none) as one tensor (2,), on the device; the model's mode is kept."""
    mode = model.training
    model.eval()
    wide = torch.float32 if data.device.type == "mps" else torch.float64
    size = BATCH_OF_CONVOLUTIONS if layout is torch.channels_last else BATCH
    size = size if data.device.type == "cpu" else BATCH_ON_ACCELERATOR
    totals = torch.zeros(2, dtype=wide, device=data.device)
    for inputs, targets in data.test_batches(size, layout):
        outputs = model(inputs).float()
        losses = data.task.losses(outputs, targets)
        right = losses.new_tensor(torch.nan) if data.task.hits is None else data.task.hits(outputs, targets).sum()
        totals += torch.stack([losses.sum(dtype=wide), right.to(wide)])
    model.train(mode)
    return totals / len(data.x_test)

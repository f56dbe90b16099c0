"""Loss and accuracy on the whole test split."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.training.batches import DeviceData, normalize

BATCH, BATCH_OF_CONVOLUTIONS = 500, 125
"""Test images at a time: large enough for the processor, small enough for its cache (a CNN is a fifth slower with 250)."""
BATCH_ON_ACCELERATOR = 2500
"""Test images at a time where launching work costs more than memory."""


@torch.no_grad()
def evaluate(model: nn.Module, data: DeviceData, layout: torch.memory_format) -> Tensor:
    """Mean cross entropy and accuracy (a fraction) as one tensor (2,), still on the device; the model's mode is kept."""
    mode = model.training
    model.eval()
    wide = torch.float32 if data.device.type == "mps" else torch.float64
    size = BATCH_OF_CONVOLUTIONS if layout is torch.channels_last else BATCH
    size = size if data.device.type == "cpu" else BATCH_ON_ACCELERATOR
    totals = torch.zeros(2, dtype=wide, device=data.device)
    for start in range(0, len(data.x_test), size):
        labels = data.y_test[start : start + size]
        logits = model(normalize(data.x_test[start : start + size], data, layout)).float()
        losses = functional.cross_entropy(logits, labels, reduction="none")
        totals += torch.stack([losses.sum(dtype=wide), (logits.argmax(1) == labels).sum().to(wide)])
    model.train(mode)
    return totals / len(data.x_test)

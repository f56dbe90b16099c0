"""The task `segmentation`."""

import torch
from torch import Tensor
from torch.nn import functional

from initbench.data.splits import DataSplits
from initbench.tasks import Task


def build() -> Task:
    """One class for each pixel: mean cross entropy of logits (N, classes, H, W); accuracy is the share of pixels that are right."""
    return Task(
        losses=lambda logits, masks: functional.cross_entropy(logits, masks, reduction="none").flatten(1).mean(1),
        hits=lambda logits, masks: (logits.argmax(1) == masks).float().flatten(1).mean(1),
        output=lambda masks, classes: (len(masks), classes, *masks.shape[1:]),
        chance=_entropy,
        takes="images with masks",
        gives="logits (N, classes, H, W)",
        fits=lambda data: data.y_train.dim() == 3,
    )


def _entropy(data: DataSplits) -> float:
    """The cross entropy of how often each class comes, on the training masks."""
    shares: Tensor = torch.bincount(data.y_train.flatten(), minlength=data.classes).double()
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * shares.log()).sum())

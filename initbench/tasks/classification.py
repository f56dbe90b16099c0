"""The task `classification`."""

import torch
from torch.nn import functional

from initbench.data.splits import DataSplits
from initbench.tasks import Task


def build() -> Task:
    """One class for each image: cross entropy of logits (N, classes); the usual task."""
    return Task(
        losses=lambda logits, labels: functional.cross_entropy(logits, labels, reduction="none"),
        loss=functional.cross_entropy,
        hits=lambda logits, labels: logits.argmax(1) == labels,
        output=lambda labels, classes: (len(labels), classes),
        takes="images with labels",
        gives="logits (N, classes)",
        fits=_fits,
    )


def _fits(data: DataSplits) -> bool:
    return data.y_train.dtype == torch.int64 and data.y_train.shape == data.x_train.shape[:1]

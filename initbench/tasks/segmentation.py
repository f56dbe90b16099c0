"""The task `segmentation`."""

import torch
from torch import Tensor
from torch.nn import functional

from initbench.data.splits import DataSplits
from initbench.tasks import Score, Task


def build() -> Task:
    """One class for each pixel: mean cross entropy of logits (N, classes, H, W); verdicts are about dice, accuracy is of pixels.

    Dice is 2 |A and B| / (|A| + |B|) of the pixels that are of a class and those that are said to be, the mean over the classes of an image
    that either has, and over examples.
    """
    return Task(
        losses=lambda logits, masks: functional.cross_entropy(logits, masks, reduction="none").flatten(1).mean(1),
        hits=lambda logits, masks: (logits.argmax(1) == masks).float().flatten(1).mean(1),
        score=Score("dice", _dice, "max", (0, 1)),
        output=lambda masks, classes: (len(masks), classes, *masks.shape[1:]),
        chance=_entropy,
        takes="images with masks",
        gives="logits (N, classes, H, W)",
        fits=lambda data: data.y_train.dim() == 3,
    )


def _dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Of each image, (N,)."""
    said, true = (functional.one_hot(each, logits.shape[1]).flatten(1, 2).float() for each in (logits.argmax(1), masks))
    sizes = said.sum(1) + true.sum(1)
    shares = 2 * (said * true).sum(1) / sizes.clamp(min=1)
    return shares.sum(1) / (sizes > 0).sum(1)


def _entropy(data: DataSplits) -> float:
    """The cross entropy of how often each class comes, on the training masks."""
    shares: Tensor = torch.bincount(data.y_train.flatten(), minlength=data.classes).double()
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * shares.log()).sum())

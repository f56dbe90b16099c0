"""The task `autoencoder`."""

from torch import Tensor

from initbench.data.splits import DataSplits
from initbench.tasks import Task


def build() -> Task:
    """The image itself: mean squared error of what the model gives, in units of the normalized image, whose variance is 1.

    Guessing the mean of all images therefore costs about 1.
    """
    return Task(
        losses=lambda outputs, targets: (outputs - targets).square().flatten(1).mean(1),
        pair=lambda images, _: (images, images.clone()),
        output=lambda targets, _: tuple(targets.shape),
        chance=_spread_of_pixels,
        takes="images",
        gives="an image of the same shape",
        fits=lambda data: data.x_train.dim() == 4,
    )


def _spread_of_pixels(data: DataSplits) -> float:
    """The mean squared error of the mean training image."""
    pixels = data.x_train.flatten(2).double() / 255
    std = pixels.new_tensor(data.std)[:, None].clamp(min=1e-6)
    spread: Tensor = (pixels / std).var(0, correction=0).mean()
    return spread.item()

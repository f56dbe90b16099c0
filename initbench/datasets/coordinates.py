"""One image of mnist5k as a function of its coordinates, to be learned by a network: needs no download."""

from pathlib import Path

import torch

from initbench.data.splits import DataSplits
from initbench.datasets import mnist5k
from initbench.errors import ConfigError

TASKS = ("regression",)
EVERY = 4
"""Every fourth pixel is for the test."""


def load(root: Path, *, image: int = 0) -> DataSplits:
    """One image of mnist5k as a function of its coordinates, to be learned by a network: needs no download.

    Inputs (N, 2) are row and column of a pixel, from -1 to 1; targets (N, 1) its lightness, from -1 to 1. Of the pixels in the order of
    rows every fourth is for the test. `image` is its place among the training images. Raises: ConfigError for one that is not there.
    """
    whole = mnist5k.load(root)
    if isinstance(image, bool) or not isinstance(image, int) or not 0 <= image < len(whole.x_train):
        raise ConfigError(f"The image of coordinates is {image}; it must be from 0 to {len(whole.x_train) - 1}.")
    values = whole.x_train[image, 0].float() / 127.5 - 1
    places = torch.stack(
        torch.meshgrid(*(torch.linspace(-1, 1, size, dtype=torch.float32, device="cpu") for size in values.shape), indexing="ij"), -1
    ).view(-1, 2)
    targets, held = values.reshape(-1, 1), torch.arange(values.numel(), device="cpu") % EVERY == EVERY - 1
    digest = f"{whole.digest}, image {image}"
    return DataSplits("coordinates", places[~held], targets[~held], places[held], targets[held], 1, (), (), digest)

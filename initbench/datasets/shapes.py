"""Discs, squares and rings on a noisy ground, with a mask that says which each pixel belongs to: needs no download."""

from pathlib import Path

import numpy as np
import torch

from initbench.data.files import normalization
from initbench.data.made import refuse_number, refuse_sizes
from initbench.data.splits import DataSplits

TASKS = ("segmentation",)
CLASSES = 4
"""The ground, discs, squares and rings."""


def load(
    root: Path,  # noqa: ARG001 - nothing is read
    *,
    n: int = 1000,
    test: int = 200,
    size: int = 32,
    shapes: int = 3,
    noise: float = 0.15,
    seed: int = 0,
) -> DataSplits:
    """Discs, squares and rings on a noisy ground, with a mask that says which each pixel belongs to: needs no download.

    Images are uint8 (N, 1, size, size), masks int64 (N, size, size): 0 is the ground, 1 a disc, 2 a square, 3 a ring; what comes later
    covers what was there. `noise` is the std of the noise, where 1 is from black to white.
    Raises: ConfigError for numbers that cannot be used.
    """
    refuse_sizes("shapes", {"n": (n, 2), "test": (test, 1), "size": (size, 8), "shapes": (shapes, 1), "seed": (seed, 0)})
    refuse_number("shapes", "noise", noise, low=0, high=1)
    draw = np.random.default_rng([seed, size, shapes])
    images, masks = _drawn(draw, n + test, size, shapes, noise)
    mean, std = normalization(images[:n])
    x, y = torch.from_numpy(images)[:, None], torch.from_numpy(masks)
    digest = f"shapes of seed {seed}: {n} and {test} of {size} x {size}, {shapes} each, noise {noise}"
    return DataSplits("shapes", x[:n], y[:n], x[n:], y[n:], CLASSES, mean, std, digest)


def _drawn(draw: np.random.Generator, count: int, size: int, shapes: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:size, :size] + 0.5
    light = draw.uniform(0.2, 0.4, (count, 1, 1)) + np.zeros((count, size, size))
    masks = np.zeros((count, size, size), dtype=np.int64)
    for _ in range(shapes):
        kind = draw.integers(1, CLASSES, (count, 1, 1))
        middle_row, middle_column = draw.uniform(0.15, 0.85, (2, count, 1, 1)) * size
        radius = draw.uniform(0.1, 0.25, (count, 1, 1)) * size
        brightness = draw.uniform(0.55, 0.9, (count, 1, 1))
        down, across = np.abs(rows - middle_row), np.abs(columns - middle_column)
        far = np.hypot(down, across)
        inside = np.where(kind == 2, np.maximum(down, across) < 0.85 * radius, (far < radius) & ((kind == 1) | (far > 0.6 * radius)))
        masks, light = np.where(inside, kind, masks), np.where(inside, brightness, light)
    light = light + draw.normal(0, noise, light.shape)
    return np.round(255 * light.clip(0, 1)).astype(np.uint8), masks

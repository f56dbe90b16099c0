"""Seeded images that a network can learn: one random pattern a class, plus noise. For tests and for trying things out."""

from pathlib import Path

import torch
from torch import Tensor

from initbench.data.splits import DataSplits
from initbench.errors import ConfigError
from initbench.nn.seeds import generator

MIDDLE = 127.5
"""The grey that patterns and noise vary around, of 0 to 255."""
CONTRAST = 40.0
"""Standard deviation of a pattern, in grey levels."""


def load(
    root: Path,  # noqa: ARG001 - nothing is read
    *,
    n: int = 1000,
    test: int = 500,
    classes: int = 10,
    shape: list[int] | tuple[int, ...] = (1, 8, 8),
    noise: float = 1.0,
    seed: int = 0,
) -> DataSplits:
    """Seeded images that a network can learn: one random pattern a class, plus noise. For tests and for trying things out.

    `n` training and `test` test images of `shape` (channels, height, width); `noise` is in units of the pattern's own
    standard deviation. Labels go round, so that classes are as equal in size as they can be.
    """
    size = tuple(shape)
    if len(size) != 3 or min(size) < 1 or classes < 2 or min(n, test) < classes or noise < 0:
        raise ConfigError(
            f"synthetic:n={n},test={test},classes={classes},shape={list(size)},noise={noise:g} cannot be made. "
            "shape is [channels, height, width], classes at least 2, n and test at least classes, noise at least 0."
        )
    patterns = torch.randn(classes, *size, generator=generator(seed, "synthetic", "patterns"), dtype=torch.float32, device="cpu")
    x_train, y_train = _split(patterns, n, noise, seed, "train")
    x_test, y_test = _split(patterns, test, noise, seed, "test")
    values = x_train.double().div(255).transpose(0, 1).flatten(1)
    return DataSplits(
        name="synthetic",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=classes,
        mean=tuple(values.mean(1).tolist()),
        std=tuple(values.std(1, correction=0).tolist()),
        digest=f"synthetic n={n} test={test} classes={classes} shape={list(size)} noise={noise:g} seed={seed}",
    )


def _split(patterns: Tensor, count: int, noise: float, seed: int, part: str) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count, device="cpu") % len(patterns)
    spread = torch.randn(count, *patterns.shape[1:], generator=generator(seed, "synthetic", part), dtype=torch.float32, device="cpu")
    images = (patterns[labels] + noise * spread) * CONTRAST + MIDDLE
    return images.round_().clamp_(0, 255).to(torch.uint8), labels

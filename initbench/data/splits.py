"""What a dataset gives: a training and a test split. A file of `datasets` is one: `load(root, *, ...) -> DataSplits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DataSplits:
    """A training and a test split, held in memory as they are stored.

    Images are uint8 (N, H, W) or (N, H, W, C) as on disk, turned to (N, C, H, W) here; labels int64 (N,) in 0..classes-1.
    `mean` and `std` are per channel, in units of [0, 1], from the training split: a batch is (x / 255 - mean) / std.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (C, H, W)."""
        return tuple(self.x_train.shape[1:])

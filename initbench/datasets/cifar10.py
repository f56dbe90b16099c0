"""CIFAR-10: 50,000 training and 10,000 test colour images, 32 x 32, 10 classes."""

from pathlib import Path

from initbench.data.files import find_file, splits
from initbench.data.splits import DataSplits


def load(root: Path) -> DataSplits:
    """CIFAR-10: 50,000 training and 10,000 test colour images, 32 x 32, 10 classes.

    Needs `initbench data get cifar10`, or cifar10.npz put into the data folder.
    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    return splits(find_file(root, "cifar10"), "cifar10")

"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28, 10 classes."""

from pathlib import Path

from initbench.data.files import find_file, splits
from initbench.data.splits import DataSplits


def load(root: Path) -> DataSplits:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28, 10 classes.

    Needs `initbench data get fashion_mnist`, or fashion_mnist.npz put into the data folder.
    Source: Xiao, Rasul, Vollgraf (2017), Fashion-MNIST, arXiv 1708.07747; MIT.
    """
    return splits(find_file(root, "fashion_mnist"), "fashion_mnist")

"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28, 10 classes."""

from pathlib import Path

from initbench.data.files import find_file, splits
from initbench.data.splits import DataSplits


def load(root: Path) -> DataSplits:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28, 10 classes.

    Needs `initbench data get mnist`, or mnist.npz put into the data folder.
    Source: LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition; CC BY-SA 3.0.
    """
    return splits(find_file(root, "mnist"), "mnist")

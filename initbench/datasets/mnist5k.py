"""The first 400 training and 100 test images of each class of MNIST, inside the package: needs no download."""

from pathlib import Path

from initbench.data.files import splits
from initbench.data.splits import DataSplits


def load(root: Path) -> DataSplits:  # noqa: ARG001 - it lies beside this file, wherever the data folder is
    """The first 400 training and 100 test images of each class of MNIST, inside the package: needs no download.

    Source: LeCun, Cortes, Burges, The MNIST database of handwritten digits; CC BY-SA 3.0; see mnist5k.LICENSE.md.
    """
    return splits(Path(__file__).with_suffix(".npz"), "mnist5k")

"""The datasets: a file of this folder with `load(root, *, ...) -> DataSplits` is the dataset of its name."""

from initbench.data.splits import DataSplits

__all__ = ["DataSplits"]

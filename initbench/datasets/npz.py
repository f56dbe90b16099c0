"""Any file with x_train, y_train, x_test, y_test: `npz:file=mine` is mine.npz in the data folder, `npz:file=./mine.npz` a path."""

from pathlib import Path

from initbench.data.files import find_file, splits
from initbench.data.splits import DataSplits
from initbench.question.user_files import own_path


def load(root: Path, *, file: str) -> DataSplits:
    """Any file with x_train, y_train, x_test, y_test: `npz:file=mine` is mine.npz in the data folder, `npz:file=./mine.npz` a path.

    Images are uint8 (N, height, width) or (N, height, width, channels), labels whole numbers from 0.
    """
    path = own_path(file)
    if path.suffix == ".npz" or len(path.parts) > 1:
        return splits(path, path.stem)
    return splits(find_file(root, file), file)

"""Builds the embedded data set from MNIST's own files: python benchmarks/build_mnist5k.py mnist.npz

Takes the first 400 training and the first 100 test images of each class and keeps them in the order of MNIST's files.
The same input gives the same bytes.
"""

import sys
from pathlib import Path

import numpy as np

from initbench.data import files, manage

TARGET = files.EMBEDDED
PER_CLASS = {"train": 400, "test": 100}


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices, ascending, of the first `count` images of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)]))


def main() -> None:
    source = files.check_arrays(files.read_arrays(Path(sys.argv[1])), sys.argv[1])
    if (len(source["x_train"]), len(source["x_test"])) != (60000, 10000):
        sys.exit("This is not MNIST: it has 60,000 training and 10,000 test images.")
    chosen = {}
    for split, count in PER_CLASS.items():
        indices = first_of_each(source[f"y_{split}"], count)
        for letter in "xy":
            chosen[f"{letter}_{split}"] = source[f"{letter}_{split}"][indices]
    record = manage.write_file(TARGET, chosen, "embedded", compressed=True)
    print(f"{TARGET.name}: {record.file_bytes} bytes, sha256 of the arrays {record.digest}")


if __name__ == "__main__":
    main()

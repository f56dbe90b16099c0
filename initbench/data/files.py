"""Data files: `NAME.npz` with x_train, y_train, x_test, y_test in the data folder, and the record kept beside each.

The record `NAME.npz.json` holds the digest of the content, the classes and the normalization, so that a run need not
pass over the data to know them. Nothing here imports torch before `splits`.
"""

import contextlib
import hashlib
import stat
import zipfile
from collections.abc import Container, Iterator, Mapping
from contextvars import ContextVar
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from initbench.data.splits import DataSplits
from initbench.errors import DataError, ForeignFile, StorageError
from initbench.question.config import Frozen
from initbench.results import store
from initbench.results.files import UnusableFile, read_bytes

Arrays = dict[str, NDArray[Any]]

KEYS = ("x_train", "y_train", "x_test", "y_test")
EMBEDDED = Path(__file__).parent.parent / "datasets" / "mnist5k.npz"
"""The data file inside the package."""
DOWNLOADS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
"""The datasets that torchvision downloads, and its class for each."""
REMEDIES = {
    "downloaded": "Delete it and run: initbench data get NAME.",
    "imported": "Import it again.",
    "embedded": "Install initbench again.",
}
"""What to do about a file that has changed, by its origin."""
HEADER = 30
"""Bytes of a zip file's local header before the member's name."""
CHUNK = 4096
"""Images looked at together when statistics are taken."""
MOST_UNPACKED, MOST_RATIO = 2**30, 200
"""A compressed array of more bytes than this that is packed more tightly than this is no data set: it would fill the memory."""


class DataRecord(Frozen):
    """What is known of a data file. `digest` is the sha256 of its arrays; `mean` and `std` are of the training images."""

    digest: str
    origin: Literal["found", "downloaded", "imported", "embedded"]
    file_bytes: int
    modified_ns: int
    classes: int
    train_images: int
    test_images: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def find_file(root: Path, name: str) -> Path:
    """The file of a dataset in the data folder; `fashion_mnist` may also be called `fashion-mnist.npz`.

    Raises: DataError that says how to get it.
    """
    for stem in (name, name.replace("_", "-"), name.replace("-", "_")):
        if (path := root / f"{stem}.npz").is_file():
            return path
    canonical = name.replace("-", "_")
    remedy = f"Run: initbench data get {canonical}" if canonical in DOWNLOADS else "Bring it with: initbench data import FILE.npz"
    raise DataError(f"The dataset '{name}' is not in {root}. {remedy}")


def read_arrays(path: Path) -> Arrays:
    """The four arrays of a file; members that are stored uncompressed are mapped, not read.

    Raises: DataError for a file that is damaged, truncated or lacks an array.
    """
    with _archive(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        _check_keys(members, str(path))
        return {key: _member(archive, path, members[key]) for key in KEYS}


def check_sums(path: Path) -> None:
    """Reads a whole file, mapped members too. Raises: DataError when the checksum of a member is wrong."""
    with _archive(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise DataError(f"{path} is damaged: the checksum of {damaged} is wrong. Get or import it again.")


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a data file. Raises: DataError for a file that is not there, or that turns out to be damaged while it is read."""
    with ForeignFile(f"{path} is damaged or not an npz file", "Get or import it again."):
        try:
            kind = path.stat().st_mode
        except FileNotFoundError as error:
            raise DataError(f"There is no file {path}.") from error
        if not stat.S_ISREG(kind):
            raise DataError(f"{path} is a folder, a pipe or a device, not an npz file. Name a file that numpy.savez has written.")
        with zipfile.ZipFile(path) as archive:
            yield archive


def _check_keys(keys: Container[str], what: str) -> None:
    missing = [key for key in KEYS if key not in keys]
    if missing:
        raise DataError(f"{what} has no {', '.join(missing)}. A data file holds {', '.join(KEYS)}.")


def _member(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        _check_size(path, info, prod(shape) * dtype.itemsize, file.tell())
        if info.compress_type != zipfile.ZIP_STORED or fortran or dtype.hasobject or dtype.itemsize != 1:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        start = file.tell()
    with path.open("rb") as raw:
        raw.seek(info.header_offset)
        header = raw.read(HEADER)
    skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return np.memmap(path, dtype, mode="c", offset=info.header_offset + HEADER + skipped + start, shape=shape)


def _check_size(path: Path, info: zipfile.ZipInfo, claimed: int, header: int) -> None:
    """Raises: DataError where a header claims more or fewer bytes than there are, or a small file would fill the memory."""
    if claimed != info.file_size - header:
        raise DataError(
            f"{info.filename} of {path} says that it has {claimed} bytes, and has {info.file_size - header}. Get or import it again."
        )
    if info.file_size > MOST_UNPACKED and info.file_size > MOST_RATIO * info.compress_size:
        raise DataError(
            f"{info.filename} of {path} would become {info.file_size >> 20} MiB from {info.compress_size >> 20}. "
            "If these are your data, save them with numpy.savez, which does not compress."
        )


def check_arrays(arrays: Mapping[str, NDArray[Any]], what: str) -> Arrays:
    """The arrays with labels as int64 (N,) when they are a data set; `what` names them in the errors.

    Raises: DataError for shapes, types or labels that do not fit.
    """
    _check_keys(arrays, what)
    checked = dict(arrays)
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.dtype != np.uint8:
            raise DataError(f"x_{split} of {what} is {images.dtype}. Images are uint8, 0 to 255.")
        if images.ndim not in (3, 4) or 0 in images.shape or (images.ndim == 4 and images.shape[3] > images.shape[1]):
            raise DataError(f"x_{split} of {what} has shape {images.shape}. Images are (N, height, width) or (N, height, width, channels).")
        if labels.dtype.kind not in "iu":
            raise DataError(f"y_{split} of {what} is {labels.dtype}. Labels are whole numbers.")
        if labels.size != len(images) or labels.ndim > 2:
            raise DataError(f"y_{split} of {what} has shape {labels.shape}, but there are {len(images)} images.")
        checked[f"y_{split}"] = labels.reshape(-1).astype(np.int64)
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise DataError(f"{what} has training images {arrays['x_train'].shape[1:]} and test images {arrays['x_test'].shape[1:]}.")
    _check_labels(checked, what)
    return checked


def _check_labels(arrays: Arrays, what: str) -> None:
    classes = max(2, int(arrays["y_train"].max()) + 1)
    for split in ("train", "test"):
        labels = arrays[f"y_{split}"]
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"y_{split} of {what} has labels {low} to {high}. Labels are 0 to classes - 1, and each is in the training split."
            )
    present = np.unique(arrays["y_train"])
    if len(present) < classes:
        absent = int(np.argmax(np.append(present != np.arange(len(present)), True)))
        raise DataError(f"No training image of {what} has label {absent}. Labels are 0 to classes - 1, and each is in the training split.")


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The sha256 of names, types, shapes and content of the four arrays; how they are packed does not matter."""
    total = hashlib.sha256()
    for key in KEYS:
        array = np.ascontiguousarray(arrays[key])
        total.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def normalization(images: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of [0, 1], exact up to the last rounding."""
    channels = images.shape[3] if images.ndim == 4 else 1
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(part[:, channel], minlength=256)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    variance = (counts * (levels - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def make_record(path: Path, arrays: Arrays, origin: Literal["found", "downloaded", "imported", "embedded"]) -> DataRecord:
    """The record of a file whose arrays have been checked."""
    mean, std = normalization(arrays["x_train"])
    images = arrays["x_train"]
    return DataRecord(
        digest=digest_of(arrays),
        origin=origin,
        file_bytes=path.stat().st_size,
        modified_ns=0 if origin == "embedded" else path.stat().st_mtime_ns,
        classes=int(arrays["y_train"].max()) + 1,
        train_images=len(images),
        test_images=len(arrays["x_test"]),
        shape=(images.shape[3] if images.ndim == 4 else 1, images.shape[1], images.shape[2]),
        mean=mean,
        std=std,
    )


def record_path(path: Path) -> Path:
    """Where the record of a data file is."""
    return path.with_name(path.name + ".json")


def read_record(path: Path) -> DataRecord | None:
    """The record beside a data file; None where there is none that can be read."""
    try:
        return DataRecord.model_validate_json(read_bytes(record_path(path)))
    except (OSError, ValidationError, UnusableFile, StorageError):
        return None


def write_record(path: Path, record: DataRecord) -> None:
    """Writes the record beside a data file, whole or not at all; a folder that cannot be written is left without."""
    with contextlib.suppress(StorageError):
        store.write_text(record_path(path), record.model_dump_json(indent=2) + "\n")


_doubted: ContextVar[bool] = ContextVar("_doubted", default=False)


@contextlib.contextmanager
def doubted() -> Iterator[None]:
    """Within, a file is compared with its record by content, whatever its time says: once, before a study begins."""
    before = _doubted.set(True)
    try:
        yield
    finally:
        _doubted.reset(before)


def load_file(path: Path) -> tuple[Arrays, DataRecord]:
    """The arrays of a file and its record; a file that has changed since the record was made is looked at again.

    Raises: DataError when a downloaded or imported file is no longer what was recorded, a checksum is wrong, or, within `doubted`, the
    content is another though size and time are the same.
    """
    arrays = check_arrays(read_arrays(path), str(path))
    record = read_record(path)
    now = path.stat()
    if record is not None:
        if (record.file_bytes, record.modified_ns) == (now.st_size, now.st_mtime_ns):
            if _doubted.get() and digest_of(arrays) != record.digest:
                raise DataError(
                    f"{path} has other content than was recorded, though its size and time are the same: it is damaged, or its time "
                    f"was set back. {REMEDIES.get(record.origin, f'If the file is right, delete {record_path(path)}.')}"
                )
            return arrays, record
        same = digest_of(arrays) == record.digest
        if same and record.origin == "embedded":
            return arrays, record
        if not same and record.origin != "found":
            raise DataError(f"{path} is not what was recorded when it was {record.origin}. {REMEDIES[record.origin]}")
    check_sums(path)
    record = make_record(path, arrays, record.origin if record else "found")
    write_record(path, record)
    return arrays, record


def splits(path: Path, name: str) -> DataSplits:
    """The data set in a file.

    Raises: DataError for a file that is missing, damaged or not a data set.
    """
    import torch

    arrays, record = load_file(path)

    def images(key: str) -> torch.Tensor:
        tensor = torch.from_numpy(arrays[key])
        return tensor[:, None] if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2)

    return DataSplits(
        name=name,
        x_train=images("x_train"),
        y_train=torch.from_numpy(arrays["y_train"]),
        x_test=images("x_test"),
        y_test=torch.from_numpy(arrays["y_test"]),
        classes=record.classes,
        mean=record.mean,
        std=record.std,
        digest=record.digest,
    )

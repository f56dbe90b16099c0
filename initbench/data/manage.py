"""What `initbench data` does: which data files are there, get one, import one, verify them. Nothing here is a dataset."""

import contextlib
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from initbench.data import files
from initbench.errors import DataError, StorageError, unknown_name
from initbench.question import catalog
from initbench.question.config import Frozen
from initbench.results import store

Fetched = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all) while data are downloaded."""

DOWNLOAD_BYTES = {"mnist": 11_594_722, "fashion_mnist": 30_878_645, "cifar10": 170_498_071}
"""The size of what is downloaded, for the progress bar."""
DIGESTS = {
    "mnist": "d3bba0ce073901b7c0c5264630a1d97b21d250061900b89e8cafc17b2d4840de",
    "fashion_mnist": "a8e00da68b43fe99bb68ea5bb9e1355f906bd60a7f099f6565785d990464ba00",
    "cifar10": "3871edfba00d06286bdaf54a47f5b0abee25738a0dbd5391261fd1cfe67eded4",
}
"""The sha256 of the arrays of each data set (`files.digest_of`), so that nothing else is kept under its name, whoever sent it."""
NETWORK_ERROR = re.compile(r"<urlopen error (?:\[Errno -?\d+\] )?([^>]+)>")
"""What is of use in the report of a failed download."""
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of each member of a zip file, so that the same arrays give the same bytes."""


class DataStatus(Frozen):
    """One data file as `data list` and `data verify` show it; `problem` is a sentence, None when nothing is wrong."""

    name: str
    path: str | None
    there: bool
    record: files.DataRecord | None = None
    problem: str | None = None


def list_data(root: Path) -> tuple[DataStatus, ...]:
    """The embedded data set, those that can be got, and every other data file in the folder; contents are not read."""
    places: dict[str, Path | None] = {"mnist5k": files.EMBEDDED}
    for name in files.DOWNLOADS:
        places[name] = None
        with contextlib.suppress(DataError):
            places[name] = files.find_file(root, name)
    others = [path for path in sorted(root.glob("*.npz")) if path not in places.values() and not path.name.startswith(".")]
    return tuple(_status(name, path) for name, path in (*places.items(), *((path.stem, path) for path in others)))


def _status(name: str, path: Path | None) -> DataStatus:
    if path is None:
        return DataStatus(name=name, path=None, there=False)
    return DataStatus(name=name, path=str(path), there=True, record=files.read_record(path))


def write_file(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    origin: Literal["downloaded", "imported", "embedded"],
    *,
    compressed: bool = False,
) -> files.DataRecord:
    """Writes a data file and its record, whole or not at all; the same arrays give the same bytes.

    Raises: DataError for arrays that are not a data set, StorageError for a folder that cannot be written.
    """
    checked = files.check_arrays(arrays, path.name)
    with store.whole_file(path, "--data-dir") as raw, zipfile.ZipFile(raw, "w", compresslevel=9) as archive:
        for key in files.KEYS:
            member = zipfile.ZipInfo(f"{key}.npy", FIXED_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=not compressed) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(checked[key]), allow_pickle=False)
    record = files.make_record(path, checked, origin)
    files.write_record(path, record)
    return record


def import_file(source: Path, root: Path, name: str | None = None) -> files.DataRecord:
    """Copies the user's npz file into the data folder as `NAME.npz`, after checking it.

    Raises: DataError for a file that is missing, damaged or not a data set.
    """
    name = name or source.stem
    if not name.replace("_", "").replace("-", "").isalnum():
        raise DataError(f"'{name}' is no name for a dataset. Use letters, digits, - and _.")
    if name in {entry.name for entry in catalog.entries("dataset")} - files.DOWNLOADS.keys():
        raise DataError(f"'{name}' is a dataset of initbench's own. Choose another name with --name.")
    files.check_sums(source)
    arrays = files.check_arrays(files.read_arrays(source), str(source))
    return write_file(root / f"{name}.npz", arrays, "imported")


def verify(root: Path, names: tuple[str, ...] = ()) -> tuple[DataStatus, ...]:
    """Reads every data file that is there (or those named) and says what is wrong with each.

    Raises: DataError for a named one that is not there.
    """
    listed = {status.name: status for status in list_data(root) if status.there}
    for name in names:
        if name not in listed:
            files.find_file(root, name)
    return tuple(_verify(status) for name, status in listed.items() if not names or name in names)


def _verify(status: DataStatus) -> DataStatus:
    path = Path(status.path or "")
    try:
        files.check_sums(path)
        arrays = files.check_arrays(files.read_arrays(path), str(path))
    except DataError as error:
        return status.model_copy(update={"problem": str(error)})
    if status.record is None:
        record = files.make_record(path, arrays, "found")
        files.write_record(path, record)
        return status.model_copy(update={"record": record})
    if files.digest_of(arrays) != status.record.digest:
        return status.model_copy(update={"problem": f"{path} is not what was recorded. Get or import it again."})
    return status


def get(name: str, root: Path, progress: Fetched | None = None) -> files.DataRecord:
    """Downloads a data set through torchvision and keeps it as one npz file; one that is there and sound is left alone.

    Raises: ConfigError for an unknown name, DataError when torchvision or the network does not work.
    """
    name = name.replace("-", "_")
    if name not in files.DOWNLOADS:
        raise unknown_name(
            "download", name, files.DOWNLOADS, f"There are: {', '.join(files.DOWNLOADS)}. Bring others with: initbench data import FILE.npz"
        )
    with contextlib.suppress(DataError):
        return files.load_file(files.find_file(root, name))[1]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            arrays = _download(name, Path(folder), progress or (lambda _done, _total: None))
            if files.digest_of(files.check_arrays(arrays, name)) != DIGESTS[name]:
                raise DataError(
                    f"What was downloaded as {name} is another data set than the one of that name, and was not kept. Try again."
                )
            return write_file(root / f"{name}.npz", arrays, "downloaded")
    except OSError as error:
        raise StorageError(
            f"Cannot write {root}: {error.strerror or error}. Choose another folder with --data-dir, or make room."
        ) from error


def _download(name: str, folder: Path, progress: Fetched) -> dict[str, NDArray[Any]]:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError) as error:
        raise DataError(f"torchvision does not work here ({error}). Put {name}.npz into the data folder by hand.") from error
    dataset = getattr(datasets, files.DOWNLOADS[name])
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with (
            _metered(lambda done: progress(min(done, DOWNLOAD_BYTES[name]), DOWNLOAD_BYTES[name])),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            parts = {split: dataset(root=folder, train=split == "train", download=True) for split in ("train", "test")}
    except (RuntimeError, OSError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        reason = "; ".join(dict.fromkeys(NETWORK_ERROR.findall(text))) or text
        remedy = f"Put {name}.npz into the data folder by hand, or use mnist5k, which needs no download."
        raise DataError(f"Cannot download {name}: {reason.removesuffix('.')}. {remedy}") from error
    for split, part in parts.items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = np.asarray(part.data), np.asarray(part.targets, dtype=np.int64)
    return arrays


class _Meter:
    """Stands where torchvision would draw its own bar and passes the count of bytes on."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self.report = report
        self.done = 0

    def __enter__(self) -> "_Meter":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: int) -> None:
        self.done += count
        self.report(self.done)


@contextlib.contextmanager
def _metered(report: Callable[[int], None]) -> Iterator[None]:
    """Replaces the bar of torchvision's downloader; where a version has none under this name, it draws its own."""
    from torchvision.datasets import utils

    meter, original = _Meter(report), getattr(utils, "tqdm", None)
    utils.tqdm = lambda *_args, **_options: meter
    try:
        yield
    finally:
        utils.tqdm = original

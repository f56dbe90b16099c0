"""The files of runs under way, in `unfinished/` of a results folder: their names, and how one tells that it was changed; no torch."""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from initbench.errors import StorageError
from initbench.results import files

FOLDER = "unfinished"
"""The folder of these files; it is there while long runs are under way."""
NAME = re.compile(r"[0-9a-f]{16}\.run")
"""What they are called."""
DIGITS = 64
"""A file begins with so many letters, the sha256 of all that follows."""


def path_of(folder: Path, jobs: Sequence[str]) -> Path:
    """The file, in the folder of these files, of a run by its id, or of several that are trained as one."""
    name = jobs[0] if len(jobs) == 1 else hashlib.sha256(" ".join(jobs).encode()).hexdigest()[:16]
    return folder / f"{name}.run"


def write(path: Path, content: memoryview) -> None:
    """Writes a file whole. Raises: StorageError where that is not possible, or where it would be too large to be read."""
    if len(content) + DIGITS > files.MOST_BYTES:
        raise StorageError(f"{path} would be larger than {files.MOST_BYTES >> 30} GiB.")
    with files.whole_file(path) as file:
        file.write(files.digest(content).encode())
        file.write(content)


def read(path: Path) -> memoryview:
    """What was written. Raises: FileNotFoundError; UnusableFile for one that is not as it was written; StorageError."""
    data = memoryview(files.read_bytes(path))
    if bytes(data[:DIGITS]) != files.digest(data[DIGITS:]).encode():
        raise files.UnusableFile("is not as it was written: its checksum does not fit")
    return data[DIGITS:]


def there(results: Path) -> list[Path]:
    """The files in a results folder; none where their folder is a link to elsewhere."""
    place = results / FOLDER
    with contextlib.suppress(OSError):
        return [] if place.is_symlink() else sorted(path for path in place.iterdir() if NAME.fullmatch(path.name))
    return []


def damaged(results: Path) -> list[str]:
    """A sentence about each file that cannot be gone on with."""
    found = []
    for path in there(results):
        try:
            read(path)
        except files.UnusableFile as error:
            found.append(f"{path} {error}. It does not count; the run begins anew.")
        except (FileNotFoundError, StorageError):
            continue  # gone in the meantime, or not ours to read, as whoever would go on with it finds out
    return found


def remove(results: Path, jobs: Iterable[str] | None = None) -> None:
    """Removes the files, or those of these runs alone, and their folder where nothing else is in it."""
    place = results / FOLDER
    paths = there(results) if jobs is None else [] if place.is_symlink() else [path_of(place, [job]) for job in jobs]
    with contextlib.suppress(OSError):
        for path in paths:
            path.unlink(missing_ok=True)
        place.rmdir()

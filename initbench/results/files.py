"""Files that are there whole or not at all, that can tell whether they were changed, and that are read without waiting for anybody."""

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from initbench.errors import StorageError

MOST_BYTES = 2**30
"""A file of a results folder that is larger is none of ours."""
SEAL = re.compile(rb'\{\s*"(.{6})": ?"([^"]{64})",', re.DOTALL)
"""How a sealed file begins: the word `digest`, and the sha256 of all the rest of it."""
TEMPORARY = re.compile(r"\..+?\.(\d+)(\.[0-9a-f]{16})?\.tmp")
"""The name of a file that is being written, with the process that writes it; earlier releases did without the last part."""


class UnusableFile(Exception):
    """A file that is there and is not what it should be; the message is the rest of a sentence about it: `is cut off`."""


@contextlib.contextmanager
def refused(doing: str, remedy: str = "Choose another folder with --out.") -> Iterator[None]:
    """Within, what the file system refuses is a StorageError: `Cannot write to here: Permission denied. Choose ...`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"Cannot {doing}: {error.strerror}. {remedy}") from error


@contextlib.contextmanager
def whole_file(path: Path, option: str = "--out") -> Iterator[BinaryIO]:
    """Opens a file that is there whole or not at all: written under another name, flushed to the disk, then renamed.

    A link of that name is replaced, not followed.
    Raises: StorageError when the folder cannot be written or the disk is full; `option` is what chooses another folder.
    """
    with refused(f"write {path}", f"Choose another folder with {option}, or make room."):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _temporary(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:  # of a file that was renamed nothing is left
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _temporary(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, under a name that nobody can foresee and none but this process uses, open for writing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
    return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _flush_folder(folder: Path) -> None:
    """Has the disk keep the names in a folder, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file; see `whole_file`."""
    with whole_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Writes a whole UTF-8 file with Unix line ends; see `write_bytes`."""
    write_bytes(path, text.encode())


def link(path: Path, target: str) -> None:
    """Makes a symbolic link, in the place of one that is there. Raises: OSError where there are none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
    temporary.symlink_to(target)
    temporary.replace(path)


def remove_leftovers(folder: Path) -> None:
    """Removes from a folder the unfinished files of processes that were killed; what this process has not finished goes too."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            named = TEMPORARY.fullmatch(path.name)
            if named and not _is_anothers(int(named[1])):
                path.unlink(missing_ok=True)


def _is_anothers(process: int) -> bool:
    """Whether another process has this number; where a machine begins to count anew, one that was killed may have had our own."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def read_bytes(path: Path) -> bytes:
    """All bytes of a regular file; anything else under its name (a pipe, a device) is not opened to wait for it.

    Raises: FileNotFoundError or NotADirectoryError where there is none, UnusableFile for what is no such file, StorageError where
    the system does not let it be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnusableFile("is no file that can be read")
            if status.st_size > MOST_BYTES:
                raise UnusableFile(f"is larger than {MOST_BYTES >> 30} GiB")
            with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
                return file.readall()
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}.") from error


def digest(data: bytes | memoryview) -> str:
    """The sha256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str | None:
    """The sha256 of a file; None where there is none that can be read."""
    try:
        return digest(read_bytes(path))
    except (OSError, UnusableFile, StorageError):
        return None


def sealed(document: str) -> bytes:
    """A JSON document of one object as a file holds it: its first key is `digest`, the sha256 of all that comes after it."""
    space, rest = document[1 : len(document) - len(document[1:].lstrip())], document[1:].encode()
    return f'{{{space}"digest": "{digest(rest)}",'.encode() + rest


def unsealed(data: bytes) -> tuple[bytes, bool | None]:
    """The document that `sealed` was given, and whether it is that one; None for a file without a digest, of an earlier release."""
    seal = SEAL.match(data)
    if seal is None:
        return data, None
    rest = memoryview(data)[seal.end() :]
    return b"".join((b"{", rest)), seal[1] == b"digest" and seal[2] == digest(rest).encode()

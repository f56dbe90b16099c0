"""One command at a time in a results folder: a lock that the kernel takes back from a process that has ended, however it ended."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from initbench.errors import StorageError

try:
    import fcntl
except ImportError:  # on Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file that is locked; it is there only while a command is at work, or after one was killed."""
TRIES = 100
"""How often a folder is made that another command, which found nothing to write, removes at the same time."""
HELD = {errno.EACCES, errno.EAGAIN}
"""What the kernel says of a lock that another process holds."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within, no other command works in `folder`; it is made for that, and goes again if nothing was written to it.

    Where the system has no locks, or the folder cannot be written, there is none.
    Raises: StorageError that says who holds the lock.
    """
    made: list[Path] = []
    with contextlib.suppress(OSError):
        made += (parent for parent in (folder, *folder.parents) if not parent.exists())
    descriptor = _take(folder)
    owner = os.getpid()
    try:
        yield
    finally:
        if descriptor is not None:
            if os.getpid() == owner:
                _remove(folder, made)
            os.close(descriptor)


def _take(folder: Path) -> int | None:
    """The open, locked file of a folder; None where there is no lock to be had."""
    for _ in range(TRIES if fcntl else 0):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        if _is_held(folder, descriptor):
            return descriptor
        os.close(descriptor)
    return None


def _is_held(folder: Path, descriptor: int) -> bool:
    """Whether the file is locked now; not where another command has removed it meanwhile. Raises: StorageError."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there, own = (folder / LOCK).stat(follow_symlinks=False), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        holder = os.read(descriptor, 200).decode(errors="replace") if error.errno in HELD else ""
        if error.errno not in HELD:
            return True
        os.close(descriptor)
        raise StorageError(
            f"{folder} is in use by {_words(holder)}. Wait until it has ended, or choose another folder with --out."
        ) from error
    if (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
        return False
    if stat.S_ISREG(own.st_mode) and own.st_nlink == 1:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} {since}\n".encode())
    return True


def _words(holder: str) -> str:
    """Who holds a lock, of what its file says: `another initbench command (process 123, since 2026-01-31T12:00:00+00:00)`."""
    process, _, since = holder.strip().partition(" ")
    known = process.isdigit() and since.isascii() and since.isprintable() and since
    return f"another initbench command (process {process}, since {since})" if known else "another initbench command"


def _remove(folder: Path, made: list[Path]) -> None:
    """Removes the file while it is locked, and then the folders that were made and hold nothing."""
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink()
        for parent in made:
            parent.rmdir()

"""The results folder: every file is written whole or not at all; a job is done when its file is there and can be read."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import Field, ValidationError

from initbench.errors import StorageError
from initbench.question.config import Frozen, Job, View
from initbench.results.record import RunResult, RunStatus

RESULTS = Path("results")
"""Where results go when nobody says."""
LATEST = RESULTS / "latest"
"""A link to the folder of the last question asked."""
CONFIG, MANIFEST, SUMMARY, JOBS = "config.yaml", "manifest.json", "summary.json", "jobs"
PROBE = "probe.json"
"""The runs of a probe."""
DERIVED = ("tables", "plots", "summary.json", "summary.md", "report.html")
"""What `report` makes from the job files."""


class PlannedJob(Frozen):
    """A line of the manifest's job list."""

    job_id: str
    scheme: str
    seed: int


def planned(jobs: Iterable[tuple[str, Job]]) -> tuple[PlannedJob, ...]:
    """Jobs, each with its id, as a manifest lists them."""
    return tuple(PlannedJob(job_id=name, scheme=str(job.scheme), seed=job.seed) for name, job in jobs)


class Manifest(Frozen):
    """What a results folder holds, by whom and when it was made. `derived_from` is the digest of the job files behind the derived files."""

    initbench: str
    command: str
    config_hash: str
    jobs: tuple[PlannedJob, ...]
    view: View = View()
    started: str
    finished: str | None = None
    derived_from: str | None = None
    provenance: dict[str, str] = Field(default_factory=dict)


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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

    Raises: StorageError when the folder cannot be written or the disk is full; `option` is what chooses another folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with refused(f"write {path}", f"Choose another folder with {option}, or make room."):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file; see `whole_file`."""
    with whole_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Writes a whole UTF-8 file with Unix line ends; see `write_bytes`."""
    write_bytes(path, text.encode())


def check_folder(folder: Path, config_hash: str, *, fresh: bool) -> None:
    """Makes sure that `folder` is free for the results of this question, or holds them.

    Raises: StorageError when it is a file, or holds something else.
    """
    with refused(f"use {folder}"):
        if folder.exists() and not folder.is_dir():
            raise StorageError(f"{folder} is a file, not a folder. Choose another folder with --out.")
    manifest = read_manifest(folder)
    if manifest is None:
        with refused(f"read {folder}"):
            others = folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())
        if others:
            raise StorageError(f"{folder} holds other files and no initbench results. Choose another folder with --out.")
    elif manifest.config_hash != config_hash and not fresh:
        raise StorageError(
            f"{folder} holds the results of another question. Choose another folder with --out, or replace them with --fresh."
        )


def check_writable(folder: Path) -> None:
    """Makes sure that files can be written to `folder`, by writing a nameless one to it or to what is there of its path.

    Raises: StorageError when that is not possible.
    """
    with refused(f"make {folder}"):
        standing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not standing.is_dir():
        raise StorageError(f"Cannot make {folder}: {standing} is a file. Choose another folder with --out.")
    with refused(f"write to {standing}"), tempfile.TemporaryFile(dir=standing):
        return


def clear(folder: Path) -> None:
    """Removes what initbench wrote to a results folder, and nothing else."""
    with refused(f"clear {folder}"):
        for name in (MANIFEST, CONFIG, JOBS, PROBE, *DERIVED):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`."""
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a results folder; None where there is none.

    Raises: StorageError when it is damaged.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise StorageError(
            f"{folder / MANIFEST} is damaged: {error.errors()[0]['msg']}. Remove {folder}, or choose another with --out."
        ) from error
    except OSError as error:
        raise StorageError(f"Cannot read {folder / MANIFEST}: {error.strerror}.") from error


def write_result(folder: Path, result: RunResult) -> None:
    """Writes the truth about one job."""
    write_text(folder / JOBS / f"{result.job_id}.json", result.model_dump_json() + "\n")


def remove_result(folder: Path, job_id: str) -> None:
    """Removes the file of one job."""
    (folder / JOBS / f"{job_id}.json").unlink(missing_ok=True)


def read_results(folder: Path, job_ids: Iterable[str]) -> tuple[RunResult, ...]:
    """The results that are there, in the order of `job_ids`; a file that cannot be read counts as not there."""
    results = (_read_result(folder / JOBS / f"{job_id}.json") for job_id in job_ids)
    return tuple(result for result in results if result is not None)


def is_done(result: RunResult) -> bool:
    """A failed run is tried again; every other result stands."""
    return result.status is not RunStatus.FAILED


def jobs_digest(results: Iterable[RunResult], view: View) -> str:
    """What the derived files depend on: the results, and how they are looked at."""
    digest = hashlib.sha256(view.model_dump_json().encode())
    for result in results:
        digest.update(result.model_dump_json().encode())
    return digest.hexdigest()[:16]


def derived_is_current(folder: Path, manifest: Manifest, digest: str) -> bool:
    """Whether the derived files are there and were made from exactly these results."""
    return manifest.derived_from == digest and all((folder / name).exists() for name in DERIVED)


def write_derived(folder: Path, texts: Mapping[str, str], pictures: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Writes derived files by their paths in the folder and gives these; plots that are no longer made are removed.

    Raises: StorageError when the folder cannot be written.
    """
    for name, content in texts.items():
        write_text(folder / name, content)
    for name, picture in pictures.items():
        write_bytes(folder / name, picture)
    for stale in set((folder / "plots").glob("*.*")) - {folder / name for name in pictures}:
        stale.unlink(missing_ok=True)
    return tuple(folder / name for name in (*texts, *pictures))


def link_latest(folder: Path) -> None:
    """Points `latest` beside the folder to it; where the system has no links, nothing happens."""
    link = folder.parent / LATEST.name
    if link.exists() and not link.is_symlink():
        return
    temporary = link.with_name(f".latest.{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        temporary.replace(link)


def remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of processes that were killed."""
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        owner = path.name.split(".")[-2]
        if owner.isdigit() and not _alive(int(owner)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read_result(path: Path) -> RunResult | None:
    try:
        result = RunResult.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}.") from error
    return result if result.job_id == path.stem else None

"""The file of a job: the truth about one run. It is sealed by a checksum, and counts only while it is what was written."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from initbench.errors import StorageError
from initbench.question.config import Job
from initbench.results import files
from initbench.results.files import UnusableFile
from initbench.results.record import RunResult

JOBS = "jobs"
"""The folder of job files within a results folder."""
NAME = re.compile(r"[0-9a-f]{16}\.json")
"""What our job files are called."""
UNKNOWN = {"extra_forbidden"}
"""The one kind of error of a file that a newer version wrote."""


@dataclass(frozen=True)
class Found:
    """The job files that were asked for: the results, what is wrong with the files that do not count, and how many could not be checked.

    `damaged` has a sentence about each; `unchecked` counts files of earlier releases, which have no checksum.
    """

    results: tuple[RunResult, ...]
    damaged: tuple[str, ...] = ()
    unchecked: int = 0


def path_of(folder: Path, job_id: str) -> Path:
    """Where the result of a job is."""
    return folder / JOBS / f"{job_id}.json"


def there(folder: Path) -> frozenset[str]:
    """The ids of the job files in a results folder."""
    return frozenset(name for name in _listed(folder) or () if NAME.fullmatch(f"{name}.json"))


def elsewhere(root: Path, folder: Path, wanted: Collection[str]) -> dict[str, Path]:
    """The job files of the ids that are `wanted` in other results folders under `root`, each once; links are not followed."""
    left, found = set(wanted), dict[str, Path]()
    if not left:
        return found
    try:
        others = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and path.absolute() != folder.absolute())
    except OSError:
        return found
    for other in others:
        if not (other / JOBS).is_symlink():
            found |= {name: path_of(other, name) for name in there(other) & left}
            left -= found.keys()
    return found


def read_file(path: Path, job: Job) -> RunResult | None:
    """The result of a job in a file; None where it is damaged or another's. Raises: StorageError for one of a newer version."""
    try:
        result, _ = _read(path)
        _refuse_another(result, job)
    except (OSError, UnusableFile):
        return None
    return result


def write(folder: Path, result: RunResult) -> None:
    """Writes the truth about one job. Raises: StorageError when it cannot be written."""
    files.write_bytes(path_of(folder, result.job_id), files.sealed(result.model_dump_json() + "\n"))


def read(folder: Path, asked: Iterable[str] | Mapping[str, Job]) -> Found:
    """The results that are there, in the order of the ids that are `asked`; where these come with their jobs, of these very jobs.

    A file that is damaged, cut off, edited or another job's counts as not there. Raises: StorageError for one of a newer version.
    """
    results: list[RunResult] = []
    damaged: list[str] = []
    unchecked = 0
    named = _listed(folder)
    for job_id in asked if named is None else filter(named.__contains__, asked):
        path = path_of(folder, job_id)
        try:
            result, checked = _read(path)
            if isinstance(asked, Mapping):
                _refuse_another(result, asked[job_id])
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnusableFile as error:
            damaged.append(f"{path} {error}. It does not count; the run is to be made again.")
            continue
        results.append(result)
        unchecked += not checked
    return Found(tuple(results), tuple(damaged), unchecked)


def _listed(folder: Path) -> frozenset[str] | None:
    """The stems of all files beside job files; None where they cannot be listed, so that reading one says why."""
    try:
        return frozenset(path.name.removesuffix(".json") for path in (folder / JOBS).iterdir())
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def _read(path: Path) -> tuple[RunResult, bool]:
    """The result in a file, and whether its checksum says so. Raises: UnusableFile."""
    document, fits = files.unsealed(files.read_bytes(path))
    if fits is False:
        refuse_newer(path, document, RunResult.model_fields)
        raise UnusableFile("is not as it was written: its checksum does not fit" if document.endswith(b"}\n") else "is cut off")
    try:
        result = RunResult.model_validate_json(document)
    except ValidationError as error:
        if fits or {each["type"] for each in error.errors()} == UNKNOWN:
            refuse_newer(path, document, RunResult.model_fields, surely=bool(fits))
        raise UnusableFile("is empty" if not document.strip() else f"is damaged ({_first(error)})") from error
    if result.job_id != path.stem:
        raise UnusableFile(f"holds another job, {result.job_id[:40]}")
    return result, bool(fits)


def _refuse_another(result: RunResult, job: Job) -> None:
    if result.job != job and result.job.model_dump_json() != job.model_dump_json():
        raise UnusableFile("holds the result of another job")


def refuse_newer(path: Path, document: bytes, known: Collection[str], *, surely: bool = False) -> None:
    """Raises: StorageError for a file that has all fields that are `known`, and further ones; or `surely` is of a newer version."""
    try:
        keys = set(json.loads(document))
    except (ValueError, RecursionError, TypeError):
        keys = set()
    more = keys - set(known) - {"digest"}
    if surely or (more and keys.issuperset(known)):
        named = f" (it has {', '.join(sorted(key[:40] for key in more))})" if more else ""
        raise StorageError(
            f"{path} is of a newer version of initbench{named}; it stays as it is. Use that version, or choose another folder with --out."
        )


def _first(error: ValidationError) -> str:
    """The first of the errors, in few words."""
    found = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, found["loc"]))[:40]
    return f"{place}: {found['msg']}"[:200] if place else str(found["msg"])[:200]

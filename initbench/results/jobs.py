"""The file of a job: the truth about one run. It is sealed by a checksum, and counts only while it is what was written."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar, overload

from pydantic import ValidationError

from initbench.errors import StorageError
from initbench.question.config import Frozen, Job
from initbench.results import files, index
from initbench.results.files import UnusableFile
from initbench.results.index import Header, header_of
from initbench.results.record import RunResult, RunStatus

T = TypeVar("T")

LEVELS = 16
"""Of folders in folders below the results root in which runs are looked for."""
JOBS = "jobs"
"""The folder of job files within a results folder."""
NAME = re.compile(r"[0-9a-f]{16}\.json")
"""What our job files are called."""
PARTS = 1024
"""Parts of jobs (a scheme, a model, the training) that are kept once for all runs."""
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


@dataclass(frozen=True)
class Looked:
    """The same, of each result only its header."""

    headers: tuple[Header, ...]
    damaged: tuple[str, ...] = ()

    @property
    def unchecked(self) -> int:
        """How many could not be checked."""
        return sum(not header.sealed for header in self.headers)


class Stored(Mapping[str, RunResult]):
    """Results by job id, each read from its file when it is first asked for: many questions ask for none.

    `read` are those that were read before, by the digest of their file.
    Raises: StorageError, on the way, for a file that has been changed since its header was read.
    """

    def __init__(self, folder: Path, headers: Mapping[str, Header], read: dict[str, RunResult] | None = None) -> None:
        self._folder, self._headers = folder, headers
        self._read = {} if read is None else read

    def __getitem__(self, job_id: str) -> RunResult:
        header = self._headers[job_id]
        if header.digest not in self._read:
            self._read[header.digest] = _again(path_of(self._folder, job_id), header)
        return self._read[header.digest]

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class StoredRuns(Sequence[RunResult]):
    """Results in their order, all read from their files when the first is asked for; their number and `headers` cost nothing."""

    def __init__(self, folder: Path, headers: tuple[Header, ...]) -> None:
        self._folder, self.headers = folder, headers

    @cached_property
    def _read(self) -> tuple[RunResult, ...]:
        return tuple(_again(path_of(self._folder, header.job_id), header) for header in self.headers)

    @overload
    def __getitem__(self, place: int) -> RunResult: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[RunResult]: ...

    def __getitem__(self, place: int | slice) -> RunResult | Sequence[RunResult]:
        return self._read[place]

    def __iter__(self) -> Iterator[RunResult]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self.headers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._read == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(header.digest for header in self.headers))


def path_of(folder: Path, job_id: str) -> Path:
    """Where the result of a job is."""
    return folder / JOBS / f"{job_id}.json"


def there(folder: Path) -> frozenset[str]:
    """The ids of the job files in a results folder."""
    return frozenset(name for name in _listed(folder) or () if NAME.fullmatch(f"{name}.json"))


def elsewhere(root: Path, folder: Path, wanted: Mapping[str, Job]) -> dict[str, Path]:
    """The files of runs that are `wanted` and did not fail, in other results folders, each once; links are not followed.

    These are the ones under `root`, some levels deep, and those that stand beside `folder`.
    """
    found: dict[str, Path] = {}
    near = (*_results_folders(root, LEVELS), *_results_folders(folder.parent, 1)) if wanted else ()
    others = {path.absolute(): path for path in near}
    others.pop(folder.absolute(), None)
    for other in others.values():
        here = there(other) & wanted.keys() - found.keys()
        headers = look(other, {name: wanted[name] for name in here}, index.load(other)).headers if here else ()
        found |= {header.job_id: path_of(other, header.job_id) for header in headers if header.status is not RunStatus.FAILED}
    return found


def _results_folders(root: Path, levels: int) -> Iterator[Path]:
    """The folders with runs under a folder, in so many levels, in the order of their names; nothing within one of them is looked at."""
    try:
        inner = sorted(entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."))
    except OSError:
        return
    for path in map(Path, inner):
        if (path / JOBS).is_dir() and not (path / JOBS).is_symlink():
            yield path
        elif levels > 1:
            yield from _results_folders(path, levels - 1)


def read_file(path: Path, job: Job) -> RunResult | None:
    """The result of a job in a file; None where it is damaged or another's. Raises: StorageError for one of a newer version."""
    try:
        result, _ = _read(path, job)
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
    found, damaged = _each(folder, asked, _read)
    return Found(tuple(result for result, _ in found), damaged, sum(not checked for _, checked in found))


def look(folder: Path, asked: Iterable[str] | Mapping[str, Job], known: Mapping[str, Header]) -> Looked:
    """What `read` gives, of each result only its header; every file is read and hashed, and parsed where `known` is not about its bytes."""

    def header(path: Path, job: Job | None) -> Header:
        data, before = files.read_bytes(path), known.get(path.stem)
        digest = files.digest(data)
        if before is not None and before.digest == digest:
            return before
        result, checked = _parsed(path, data, job)
        return header_of(result, digest, sealed=checked)

    return Looked(*_each(folder, asked, header))


def _each(
    folder: Path, asked: Iterable[str] | Mapping[str, Job], take: Callable[[Path, Job | None], T]
) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """What `take` makes of each file that is there, and a sentence about each that does not count."""
    taken: list[T] = []
    damaged: list[str] = []
    named = _listed(folder)
    for job_id in asked if named is None else filter(named.__contains__, asked):
        path = path_of(folder, job_id)
        try:
            taken.append(take(path, asked[job_id] if isinstance(asked, Mapping) else None))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnusableFile as error:
            damaged.append(f"{path} {error}. It does not count; the run is to be made again.")
    return tuple(taken), tuple(damaged)


def _listed(folder: Path) -> frozenset[str] | None:
    """The stems of all files beside job files; None where they cannot be listed, so that reading one says why."""
    try:
        return frozenset(path.name.removesuffix(".json") for path in (folder / JOBS).iterdir())
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def _read(path: Path, job: Job | None) -> tuple[RunResult, bool]:
    """The result in a file, of this job where one is given, and whether its checksum says so. Raises: UnusableFile."""
    return _parsed(path, files.read_bytes(path), job)


def _again(path: Path, header: Header) -> RunResult:
    """The result whose header was read before. Raises: StorageError where the file is not the same any more."""
    try:
        data = files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError, UnusableFile):
        data = b""
    if files.digest(data) != header.digest:
        raise StorageError(f"{path} has been changed or removed meanwhile. Give the command once more.")
    try:
        return _parsed(path, data, None)[0]
    except UnusableFile as error:  # the index said otherwise, and was not made by us
        remedy = f"Remove {path.parent.parent / index.INDEX}, and give the command once more."
        raise StorageError(f"{path} {error}, and the index does not say so. {remedy}") from error


def _parsed(path: Path, data: bytes, job: Job | None) -> tuple[RunResult, bool]:
    document, fits = files.unsealed(data)
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
    if job is not None and result.job != job and result.job.model_dump_json() != job.model_dump_json():
        raise UnusableFile("holds the result of another job")
    return _sharing(result), bool(fits)


def _sharing(result: RunResult) -> RunResult:
    """The result with the parts of its job that other runs have too, kept once."""
    parts = {name: _part(type(part), part.model_dump_json()) for name, part in result.job if isinstance(part, Frozen)}
    return result.model_copy(update={"job": result.job.model_copy(update=parts)})


@lru_cache(PARTS)
def _part(kind: type[Frozen], text: str) -> Frozen:
    return kind.model_validate_json(text)


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

"""The index of a results folder: of each run what planning and a finished command need, so that its file need not be parsed again.

It is made of the runs and never trusted over them: an entry counts only where the bytes of the file have the sha256 that it names.
So it may be lost, damaged, of another version, or come with a copied folder; what it does not know is read from the runs.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

import initbench
from initbench.errors import StorageError
from initbench.question.config import Frozen
from initbench.results import files
from initbench.results.record import RunResult, RunStatus, Said

INDEX = ".index.json"
"""The file in a results folder."""


class Header(NamedTuple):
    """What is kept of a run: which it is, how it ended, under which conditions; the sha256 of its whole file, and whether it is sealed."""

    job_id: str
    scheme: str
    seed: int
    status: RunStatus
    reason: str | None
    provenance: Mapping[str, str]
    digest: str = ""
    sealed: bool = True


class _Index(Frozen):
    """The content of the file. Of a run: id, scheme, seed, status, reason, the place of its provenance in `conditions`, sha256, sealed."""

    initbench: str
    conditions: tuple[dict[str, str], ...]
    runs: tuple[tuple[str, str, int, RunStatus, Said | None, int, str, bool], ...]


def header_of(result: RunResult, digest: str = "", *, sealed: bool = True) -> Header:
    """The header of a result; `digest` is that of its file, where there is one."""
    job = result.job
    return Header(result.job_id, str(job.scheme), job.seed, result.status, result.reason, result.provenance, digest, sealed)


def load(folder: Path) -> dict[str, Header]:
    """The headers by job id; none where there is no index, or it is damaged or of another version."""
    try:
        document, fits = files.unsealed(files.read_bytes(folder / INDEX))
        index = _Index.model_validate_json(document)
    except (OSError, StorageError, files.UnusableFile, ValidationError):
        return {}
    places = range(len(index.conditions))
    if not fits or index.initbench != initbench.__version__ or any(run[5] not in places for run in index.runs):
        return {}
    return {run[0]: Header(*run[:5], index.conditions[run[5]], *run[6:]) for run in index.runs}


def save(folder: Path, headers: Iterable[Header]) -> None:
    """Writes the index where it does not say this already; where the folder cannot be written there is none."""
    every = tuple(headers)
    if load(folder) == {header.job_id: header for header in every}:
        return
    conditions: dict[tuple[tuple[str, str], ...], int] = {}
    runs = tuple((*each[:5], conditions.setdefault(tuple(each.provenance.items()), len(conditions)), *each[6:]) for each in every)
    index = _Index(initbench=initbench.__version__, conditions=tuple(map(dict, conditions)), runs=runs)
    with contextlib.suppress(StorageError):
        files.write_bytes(folder / INDEX, files.sealed(index.model_dump_json() + "\n"))

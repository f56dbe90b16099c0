"""What a runner on a cluster does: it keeps torch and data, takes a few runs at a time, and says how far it is."""

import hashlib
import importlib.metadata
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError, InitbenchError, NotThereError, plain
from initbench.question.config import Job
from initbench.question.data_folder import data_folder
from initbench.question.plan import job_ids
from initbench.workers.progress import Progress

Asked = tuple[str, Job]
TELL_SECONDS = 1.0
"""How often a runner says how far it is."""
SAME = ("initbench", "torch")
"""Packages that must be of one version everywhere."""


def versions() -> dict[str, str]:
    """The versions of what must be the same on all machines."""
    return {name: importlib.metadata.version(name) for name in SAME}


@dataclass(frozen=True)
class Seat:
    """What a runner is started with: device, data folder, threads of a run, seconds that a run may take, and what travels to it.

    `home`: the working folder, where that is on this very machine; `files`: the user's own, by path; `data`: references to data files in
    the store of the cluster, by name; None: they are here.
    """

    device: str
    data_dir: str | None
    threads: int
    limit: float | None
    versions: Mapping[str, str]
    home: str | None
    files: Mapping[str, bytes]
    data: Mapping[str, Any] | None


def _kept(files: Mapping[str, bytes]) -> Path:
    """A folder with these files in the user's data folder, by their digest: runners of one machine share it, and it is made once."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)} ".encode() + hashlib.sha256(content).digest())
    folder = data_folder(None) / "travelled" / digest.hexdigest()[:16]
    if all(_is_same(folder / name, content) for name, content in files.items()) and folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    for name, content in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    try:
        made.rename(folder)
    except OSError:  # another runner was first, or somebody has changed what is in it
        return made
    return folder


def _is_same(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


class Board:
    """Where runners write how far they are; an actor of its own, since a runner at work answers nobody."""

    def __init__(self) -> None:
        self.signs: dict[str, Progress] = {}

    def tell(self, sign: Progress) -> None:
        """The last sign of each run counts."""
        self.signs[sign.job_id] = sign

    def read(self) -> list[Progress]:
        """What was told since the last time."""
        signs, self.signs = self.signs, {}
        return list(signs.values())


class Runner:
    """An actor: checks jobs, and runs a few at a time."""

    def __init__(self, seat: Seat, board: Any) -> None:
        self.seat, self.board = seat, board
        self.told = 0.0
        self.data_dir = seat.data_dir
        self.trouble: InitbenchError | None = self._settle()

    def problem(self) -> InitbenchError | None:
        """What makes this worker impossible; None where it can be used."""
        return self.trouble

    def _settle(self) -> InitbenchError | None:
        """Takes what has travelled; gives what makes this worker impossible."""
        here = versions()
        other = [f"{name} {here[name]} where {version} asks" for name, version in self.seat.versions.items() if here[name] != version]
        if other:
            return NotThereError(f"A worker of Ray has {' and '.join(other)}. Install the same versions on all machines.")
        if self.seat.home is not None:
            os.chdir(self.seat.home)
        if self.seat.files:
            folder = _kept(self.seat.files)
            os.chdir(folder)
            sys.path.insert(0, str(folder))
        if self.seat.data is not None:
            import ray

            self.data_dir = str(_kept({name: ray.get(reference) for name, reference in self.seat.data.items()}))
        return None

    def check(self, job: Job) -> InitbenchError | None:
        """What would make a job impossible; None where nothing does."""
        from initbench.training.devices import small_runs
        from initbench.training.job import check

        try:
            with small_runs(self.seat.threads):
                check(job, device=self.seat.device, data_dir=self.data_dir)
        except InitbenchError as error:
            return plain(error)
        return None

    def run(self, jobs: Sequence[Asked]) -> tuple[list[str], float]:
        """The results of jobs as JSON, and the seconds that they took. Raises: ConfigError where files here are others than there."""
        start = time.monotonic()
        if job_ids(job for _, job in jobs) != [name for name, _ in jobs]:
            raise ConfigError("A worker of Ray has other files by the names of the question's own. Name files below the working folder.")
        results = self._stacked(jobs) if self.seat.device.startswith("cuda") else self._one_by_one(jobs)
        return results, time.monotonic() - start

    def _one_by_one(self, jobs: Sequence[Asked]) -> list[str]:
        from initbench.training.devices import small_runs
        from initbench.training.job import run_job

        found = []
        for name, job in jobs:
            with small_runs(self.seat.threads):
                result = run_job(
                    job, name, device=self.seat.device, data_dir=self.data_dir, report=self._teller(name), seconds=self.seat.limit
                )
            found.append(result.model_dump_json())
        return found

    def _stacked(self, jobs: Sequence[Asked]) -> list[str]:
        from initbench.stacking.jobs import StackSetting, groups, run_group
        from initbench.training.devices import small_runs

        def told(name: str, done: int, total: int) -> None:
            self._teller(name)(done, total)

        setting = StackSetting(self.seat.device, self.data_dir, told, self.seat.limit, None)
        with small_runs():
            return [result.model_dump_json() for group in groups(jobs) for result in run_group(group, setting)]

    def _teller(self, name: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            if time.monotonic() - self.told > TELL_SECONDS:
                self.told = time.monotonic()
                self.board.tell.remote(Progress(name, done, total))

        return tell

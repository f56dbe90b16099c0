"""The results folder: what belongs to it and to whom, its manifest, and the files that are made from the runs.

Every file is written whole or not at all; a job is done when its file is there and is what was written. What is not ours is not
touched: of derived files only those that the manifest lists are removed, and no link is followed to write elsewhere.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic import Field, ValidationError

from initbench.errors import ConfigError, StorageError
from initbench.question.config import Frozen, Job, View
from initbench.results import files, index, jobs, unfinished
from initbench.results.files import refused as refused
from initbench.results.files import whole_file as whole_file
from initbench.results.files import write_bytes as write_bytes
from initbench.results.files import write_text as write_text
from initbench.results.jobs import JOBS as JOBS
from initbench.results.record import RunResult, RunStatus

RESULTS = Path("results")
"""Where results go when nobody says."""
LATEST, LATEST_PROBE = RESULTS / "latest", RESULTS / "latest-probe"
"""Links to the folders of the last training and of the last probe or map."""
CONFIG, MANIFEST, SUMMARY = "config.yaml", "manifest.json", "summary.json"
PROBE = "probe.json"
"""The runs of a probe."""
DERIVED = ("summary.json", "summary.md", "report.html")
"""What `report` makes from the job files of every question, beside tables and plots; folders of earlier releases do not list it."""
FOLDERS = (JOBS, "tables", "plots")
"""The folders within a results folder."""


class DamagedManifest(StorageError):
    """A manifest that cannot be read, of a folder whose job files may well be sound."""


class PlannedJob(Frozen):
    """A line of the manifest's job list."""

    job_id: str
    scheme: str
    seed: int


def planned(jobs: Iterable[tuple[str, Job]]) -> tuple[PlannedJob, ...]:
    """Jobs, each with its id, as a manifest lists them."""
    return tuple(PlannedJob(job_id=name, scheme=str(job.scheme), seed=job.seed) for name, job in jobs)


class Manifest(Frozen):
    """What a results folder holds, by whom and when it was made.

    `derived_from` is the digest of the job files behind the derived files; `derived` lists these, each with the sha256 of its
    content. It is None where nobody knows: in folders of earlier releases, and where the manifest was lost.
    `typed` is the command line that began the folder, word by word; empty where Python did. `files` are the digests of the
    user's own files by the names that they have in the question.
    """

    initbench: str
    command: str
    typed: str = ""
    config_hash: str
    jobs: tuple[PlannedJob, ...]
    view: View = View()
    started: str
    finished: str | None = None
    derived_from: str | None = None
    derived: dict[str, str] | None = None
    provenance: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_folder(folder: Path, config_hash: str, *, fresh: bool, kept: Callable[[], str | None] = lambda: None) -> str:
    """Makes sure that `folder` is free for the results of this question, or holds them; gives what is wrong with its manifest.

    `kept` is asked where the manifest is lost: it gives the hash of the question that the other files are about.
    Raises: StorageError when it is a file, holds something else, or would have us write elsewhere.
    """
    with refused(f"use {folder}"):
        if folder.exists() and not folder.is_dir():
            raise StorageError(f"{folder} is a file, not a folder. Choose another folder with --out.")
    refuse_links(folder)
    try:
        manifest, damage = read_manifest(folder), ""
    except DamagedManifest as error:
        manifest, damage = None, str(error)
    if manifest is not None:
        held: str | None = manifest.config_hash
    else:
        with refused(f"read {folder}"):
            entries = folder.iterdir() if folder.is_dir() else ()
            others = any(not entry.name.startswith(".") and entry.name != unfinished.FOLDER for entry in entries)
        if not others or (damage and fresh):
            return ""
        held = kept() if damage or jobs.there(folder) else None
    if held is None:
        what = damage or f"{folder} holds other files and no initbench results. Choose another folder with --out."
        raise StorageError(what)
    if held != config_hash and not fresh:
        raise StorageError(
            f"{folder} holds the results of another question. Choose another folder with --out (a sweep takes what is finished of its "
            "cells from folders beside it), or replace them with --fresh."
        )
    return f"{folder / MANIFEST} is damaged, and is made anew of the other files." if damage else ""


def refuse_links(folder: Path) -> None:
    """Raises: StorageError where a folder of ours is a link to another: what is there is not ours to write or remove."""
    for name in (*FOLDERS, unfinished.FOLDER):
        if (folder / name).is_symlink():
            raise StorageError(
                f"{folder / name} is a link, and initbench writes only inside of {folder}. Remove it, or choose another folder with --out."
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
    """Removes the runs, and all that was made of them, from a results folder, and nothing else.

    The manifest stays, to be replaced: so a folder that was cleared in part is still known as one of ours.
    """
    refuse_links(folder)
    manifest = known_manifest(folder)
    listed = DERIVED if manifest is None or manifest.derived is None else manifest.derived
    ours = [jobs.path_of(folder, job_id) for job_id in sorted(jobs.there(folder))]
    with refused(f"clear {folder}"):
        for path in (*ours, *(folder / name for name in (*listed, PROBE, CONFIG, index.INDEX) if _is_inside(name))):
            path.unlink(missing_ok=True)
        for name in FOLDERS:
            with contextlib.suppress(OSError):
                (folder / name).rmdir()


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file in a results folder or one of its folders: a manifest may have come from anybody."""
    parts = PurePosixPath(name).parts
    within = len(parts) == 1 or (len(parts) == 2 and parts[0] in FOLDERS)
    return within and parts[-1] not in {"..", MANIFEST} and "\\" not in name and "\0" not in name


def write_result(folder: Path, result: RunResult) -> None:
    """Writes the truth about one job. Raises: StorageError when it cannot be written."""
    jobs.write(folder, result)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`."""
    write_bytes(folder / MANIFEST, files.sealed(manifest.model_dump_json(indent=2) + "\n"))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a results folder; None where there is none.

    Raises: DamagedManifest; StorageError where a newer version wrote it, or the system does not let it be read.
    """
    path = folder / MANIFEST
    try:
        document, fits = files.unsealed(files.read_bytes(path))
        if fits is False:
            jobs.refuse_newer(path, document, Manifest.model_fields)
            raise files.UnusableFile("is not as it was written: its checksum does not fit")
        return Manifest.model_validate_json(document)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        unknown = {each["loc"][0] for each in error.errors() if each["type"] in jobs.UNKNOWN}
        of_another = len(unknown) == len(error.errors()) and unknown != {"digest"}
        jobs.refuse_newer(path, document, Manifest.model_fields, surely=bool(fits) or of_another)
        raise DamagedManifest(_lost(path, f"is damaged: {error.errors()[0]['msg']}")) from error
    except files.UnusableFile as error:
        raise DamagedManifest(_lost(path, str(error))) from error
    except ConfigError as error:
        raise DamagedManifest(_lost(path, f"is damaged: {error}")) from error


def known_manifest(folder: Path) -> Manifest | None:
    """The manifest of a results folder; None where there is none that can be read. Raises: StorageError; see `read_manifest`."""
    try:
        return read_manifest(folder)
    except DamagedManifest:
        return None


def _lost(path: Path, why: str) -> str:
    return (
        f"{path} {why}. Give the command that made {path.parent} once more: that finds the runs again;"
        " --fresh makes all anew; --out chooses another folder."
    )


def remove_result(folder: Path, job_id: str) -> None:
    """Removes the file of one job."""
    jobs.path_of(folder, job_id).unlink(missing_ok=True)


def read_results(folder: Path, job_ids: Iterable[str]) -> tuple[RunResult, ...]:
    """The results that are there, in the order of `job_ids`; a file that is damaged counts as not there, see `jobs.read`."""
    return jobs.read(folder, job_ids).results


def is_done(result: RunResult | index.Header) -> bool:
    """A failed run is tried again; every other result stands."""
    return result.status is not RunStatus.FAILED


def jobs_digest(headers: Iterable[index.Header], view: View, most: int | None = None) -> str:
    """What the derived files depend on: the job files, how they are looked at, and how many seeds there may be where that may change."""
    text = view.model_dump_json() + "".join(header.digest for header in headers) + ("" if most is None else f" of {most}")
    return files.digest(text.encode())[:16]


def changed_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """The derived files that are not there, or not as they were written."""
    listed = (manifest.derived or {}).items()
    return tuple(name for name, written in listed if _is_inside(name) and files.digest_of(folder / name) != written)


def write_derived(folder: Path, texts: Mapping[str, str], pictures: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Writes derived files by their paths in the folder and gives these; what is no longer made of what the manifest lists is removed.

    The manifest lists them before the first is written, so that whatever stops this, the next command knows what is ours.
    A file of that name that is not listed is the user's: it is kept beside as NAME.kept.
    Raises: StorageError when the folder cannot be written.
    """
    refuse_links(folder)
    contents = {name: text.encode() for name, text in texts.items()} | dict(pictures)
    written = {name: files.digest(content) for name, content in contents.items()}
    manifest = known_manifest(folder)
    before = None if manifest is None else manifest.derived
    if manifest is not None:
        _keep_strangers(folder, before, written)
        write_manifest(folder, manifest.model_copy(update={"derived": {**(before or {}), **written}, "derived_from": None}))
    for name, content in contents.items():
        write_bytes(folder / name, content)
    with refused(f"clear {folder}"):
        for name in before or ():
            if name not in contents and _is_inside(name):
                (folder / name).unlink(missing_ok=True)
    if manifest is not None:
        write_manifest(folder, manifest.model_copy(update={"derived": written, "derived_from": None}))
    return tuple(folder / name for name in contents)


def _keep_strangers(folder: Path, listed: Mapping[str, str] | None, written: Mapping[str, str]) -> None:
    """Moves aside what has a name of ours and is not listed; where nobody knows what is ours, names decide."""
    if listed is None:
        return
    for name in written:
        path = folder / name
        if name not in listed and os.path.lexists(path) and files.digest_of(path) != written[name]:
            with refused(f"write {path}"):
                path.rename(path.with_name(f"{path.name}.kept"))


def link_latest(folder: Path, name: Path = LATEST) -> None:
    """Points `latest` (or `latest-probe`) beside the folder to it; where the system has no links, nothing happens."""
    link = folder.parent / name.name
    if link.exists() and not link.is_symlink():
        return
    with contextlib.suppress(OSError):
        if not link.is_symlink() or str(link.readlink()) != folder.name:
            files.link(link, folder.name)


def remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of processes that were killed."""
    inner = (folder / name for name in (*FOLDERS, unfinished.FOLDER))
    for place in (folder, *(path for path in inner if not path.is_symlink())):
        files.remove_leftovers(place)

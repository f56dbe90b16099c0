"""What other tools read: a file here with `write(runs, out, title)` is the export of its name; this one holds the contract.

`runs` are of `ExportedRun`, `out` is an empty folder, `title` a safe name of the results folder. It writes into `out` alone, asks
nothing of a network, and gives the command or the line of Python that opens what it wrote. Its docstring is what `initbench list
exports` says. A package that it needs is an optional extra of the export's name, taken by `needed` before anything is written.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from initbench.errors import NotThereError, StorageError, said_by
from initbench.metrics import Metric
from initbench.quantities import BY_NAME
from initbench.question.config import ExperimentConfig, value_text
from initbench.question.keys import short
from initbench.question.plan import values_of_cell
from initbench.results import files, store
from initbench.results.outcome import outcome
from initbench.results.record import PREDICTED, LayerStats, RunResult

Parameter = bool | int | float | str
Series = tuple[tuple[int, float], ...]
"""Steps and values."""

MARK = "initbench-export.json"
"""The file that says that a folder is an export, and what belongs to it."""
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
"""What some tool or file system refuses in a name."""
LONGEST_NAME = 80
"""Letters of a safe name, before what makes it the only one of its kind."""
REFERENCES = ("scheme", "model", "dataset")
"""Parts of a job that have a text of their own."""
LAYER_NUMBERS = tuple(name for name in LayerStats.model_fields if name in BY_NAME or name in chain(*PREDICTED.values()))
"""The fields of a layer's record that are measured or predicted numbers."""


@dataclass(frozen=True)
class ExportedRun:
    """A job as other tools know a run; names are safe for each of them, and no two runs or layers share one.

    `tags`: what a run is found by, as text. `parameters`: the job's configuration, by keys such as `train.lr`; what is not set is left out.
    `series`: `train_loss`, `test_loss`, `test_accuracy`, and each quantity of each layer, such as `activation_variance/layers.0`; a
    number that there is not is left out. `metrics`: the final ones.
    """

    name: str
    tags: dict[str, str]
    parameters: dict[str, Parameter]
    series: dict[str, Series]
    metrics: dict[str, float]
    result: RunResult

    @property
    def steps(self) -> dict[int, dict[str, float]]:
        """What was measured at each step, in rising order."""
        found: dict[int, dict[str, float]] = {}
        for name, points in self.series.items():
            for step, value in points:
                found.setdefault(step, {})[name] = value
        return dict(sorted(found.items()))


class Export(NamedTuple):
    """What was written: where, of how many runs, and the command or the line of Python that opens it."""

    folder: Path
    runs: int
    opened_with: str


def exported_runs(
    config: ExperimentConfig, every: Sequence[RunResult], reported: Sequence[RunResult], metrics: Iterable[Metric]
) -> tuple[ExportedRun, ...]:
    """All runs, those that only served to choose too: their names end with a part of the job's id, and a tag says it.

    Of a sweep the names and the parameters hold the values of the cell.
    """
    shown = {run.job_id for run in reported}
    originals = tuple(dict.fromkeys(stats.layer for run in every for stats in run.layers))
    layers = dict(zip(originals, safe_names(originals), strict=True))
    cells = [values_of_cell(run.job, config) for run in every]
    names = safe_names(
        "_".join([_name(run, cell), *([] if run.job_id in shown else [run.job_id[:8]])]) for run, cell in zip(every, cells, strict=True)
    )
    metrics = tuple(metrics)
    return tuple(
        ExportedRun(
            name=name,
            tags=_tags(run, "reported" if run.job_id in shown else "search"),
            parameters=dict(_flat(run.job.model_dump(mode="json") | {part: str(getattr(run.job, part)) for part in REFERENCES} | cell)),
            series={name: points for name, points in (_curves(run) | _layers(run, layers)).items() if points},
            metrics=_final(run, metrics),
            result=run,
        )
        for run, name, cell in zip(every, names, cells, strict=True)
    )


def safe_names(names: Iterable[str]) -> tuple[str, ...]:
    """For each name one of letters, digits, `_`, `.` and `-`; no two are the same, nor differ in capital letters alone."""
    taken: set[str] = set()
    given = []
    for name in names:
        plain = UNSAFE.sub("_", name).strip("._-")[:LONGEST_NAME] or "unnamed"
        candidates = (plain if number == 1 else f"{plain}_{number}" for number in count(1))
        safe = next(each for each in candidates if each.casefold() not in taken)
        taken.add(safe.casefold())
        given.append(safe)
    return tuple(given)


def _name(run: RunResult, cell: Mapping[str, Any]) -> str:
    """Scheme, cell and seed; what is long is cut, so that the seed is always to be seen."""
    parts = [str(run.job.scheme), *(f"{short(key)}_{value_text(value)}" for key, value in cell.items())]
    return f"{UNSAFE.sub('_', '_'.join(parts)).strip('._-')[: LONGEST_NAME - 30]}_seed{run.job.seed}"


def _tags(run: RunResult, purpose: str) -> dict[str, str]:
    return {
        "scheme": str(run.job.scheme),
        "seed": str(run.job.seed),
        "model": str(run.job.model),
        "dataset": str(run.job.dataset),
        "status": run.status.value,
        "outcome": outcome(run).value,
        "purpose": purpose,
        "job_id": run.job_id,
    }


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Parameter]]:
    """Nested values by keys with points; lists as text, and what is None left out."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        elif value not in (None, {}):
            yield f"{before}{key}", value if isinstance(value, bool | int | float | str) else value_text(value)


def _curves(run: RunResult) -> dict[str, Series]:
    found: dict[str, Series] = {"train_loss": tuple(enumerate(run.train_losses, start=1))}
    names = {"test_loss": "test_loss", "test_accuracy": "test_accuracy"}
    if run.score is not None:
        names["test_score"] = f"test_{run.score.name}"
    for field, name in names.items():
        found[name] = tuple((item.step, value) for item in run.evaluations if (value := getattr(item, field)) is not None)
    return found


def _layers(run: RunResult, names: Mapping[str, str]) -> dict[str, Series]:
    found: dict[str, list[tuple[int, float]]] = {}
    for stats in run.layers:
        for quantity in LAYER_NUMBERS:
            if (value := getattr(stats, quantity)) is not None:
                found.setdefault(f"{quantity}/{names[stats.layer]}", []).append((stats.step, value))
    return {name: tuple(points) for name, points in found.items()}


def _final(run: RunResult, metrics: Iterable[Metric]) -> dict[str, float]:
    values = {metric.name: metric.value(run) for metric in metrics if metric.measured(run)}
    values |= {"parameters": run.parameters, "seconds": run.seconds.get("total"), "first_bad_step": run.first_bad_step}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def needed(module: str, extra: str) -> Any:
    """A module of an optional package. Raises: NotThereError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        why = f"the package {error.name}, which is not installed" if error.name else "a package that is not installed"
    except ImportError as error:
        why = f"{module}, which cannot be imported ({said_by(error).rstrip('.')})"
    raise NotThereError(f"This export needs {why}. It is in the extra '{extra}': pip install '.[{extra}]' in a clone of initbench")


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for as long as it takes."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def export_folder(out: Path, *, fresh: bool) -> Iterator[None]:
    """Makes an empty folder for an export, and what was written to it marked as ours; of an export that fails nothing stays.

    With `fresh` an earlier export there is removed first. Raises: StorageError where something else is there.
    """
    with store.refused(f"use {out}"):
        if fresh:
            _remove_earlier(out)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            again = ", or replace the export that is there with --fresh" if (out / MARK).is_file() else ""
            raise StorageError(f"{out} is not an empty folder. Choose another with --out{again}.")
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        with store.refused(f"write to {out}"):
            yield
            files.write_text(out / MARK, json.dumps({"files": sorted(path.name for path in out.iterdir())}, indent=2) + "\n")
        done = True
    finally:
        if not done:
            _remove(out, [path.name for path in out.iterdir()])
            if made:
                out.rmdir()


def _remove_earlier(out: Path) -> None:
    """Removes what an earlier export wrote, and nothing else."""
    if not (out / MARK).is_file():
        return
    try:
        listed = set(json.loads(files.read_bytes(out / MARK))["files"])
    except (ValueError, KeyError, TypeError, files.UnusableFile) as error:
        raise StorageError(f"{out / MARK} is damaged. Remove {out} yourself, or choose another folder with --out.") from error
    _remove(out, [path.name for path in out.iterdir() if path.name in {*listed, MARK}])


def _remove(out: Path, names: Iterable[str]) -> None:
    for name in names:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

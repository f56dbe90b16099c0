"""Results in the formats of other tools: a file each, found by its name; this one holds what they share.

A file defines `EXTRA`, the optional dependencies of pyproject.toml that it needs, and `export(results, out)`, which writes into the folder
`out` and sends nothing anywhere.
"""

import contextlib
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from initbench.errors import ConfigError, NotThereError, StorageError
from initbench.quantities import OF_EVERY_RUN
from initbench.results.record import RunResult
from initbench.studies.answer import Results

NAMES = tuple(sorted(file.name for file in iter_modules(__path__)))
"""The formats that there are."""
LONGEST = 60
"""Letters of a scheme's name in the name of a run."""


def export(results: Results, name: str, out: Path) -> Path:
    """Writes results in a format of `NAMES` and gives where they are.

    Raises: ConfigError for another name; NotThereError where its package is missing; StorageError where it cannot be written.
    """
    if name not in NAMES:
        raise ConfigError(f"There is no format '{name}'. There are: {', '.join(NAMES)}.")
    if not results.results:
        raise StorageError(f"{results.folder} holds no finished run that could be exported.")
    if out.is_dir() and any(out.iterdir()):
        raise StorageError(f"{out} is not empty. Name another folder with --out, or remove it: two exports in one would be mixed.")
    module = import_module(f"{__name__}.{name}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        module.export(results, out)
    except ModuleNotFoundError as error:
        with contextlib.suppress(OSError):
            out.rmdir()
        raise NotThereError(f"'{name}' needs the package {error.name}. Install it: pip install 'initbench[{module.EXTRA}]'") from None
    except OSError as error:
        raise StorageError(f"Cannot write {out}: {error.strerror or error}.") from error
    return out


def run_name(run: RunResult) -> str:
    """A name that is safe in paths and its own for each run: scheme, seed, and the job's id."""
    scheme = re.sub(r"[^\w.=,-]+", "_", str(run.job.scheme)).strip("._")[:LONGEST]
    return f"{scheme or 'scheme'}-seed{run.job.seed}-{run.job_id}"


def settings(run: RunResult) -> dict[str, str | int | float | bool]:
    """What the run was made with, flat: `train.lr`, and the scheme and the model in words."""
    job = run.job
    found: dict[str, Any] = {"scheme": str(job.scheme), "seed": job.seed, "model": str(job.model), "dataset": str(job.dataset)}
    for part in ("train", "init", "probe"):
        found |= {f"{part}.{name}": value for name, value in getattr(job, part).model_dump(mode="json").items()}
    return {name: value if isinstance(value, str | int | float | bool) else str(value) for name, value in found.items()}


def finals(run: RunResult) -> dict[str, float]:
    """The figures at the end of a run that has them."""
    last = run.evaluations[-1] if run.evaluations else None
    found = {} if last is None else {"final_test_accuracy": last.test_accuracy, "final_test_loss": last.test_loss}
    return {name: value for name, value in found.items() if value is not None}


def by_step(run: RunResult) -> dict[int, dict[str, float]]:
    """Every number of a run by the step that it is of: losses, evaluations, and each quantity of each layer that was probed."""
    found: dict[int, dict[str, float]] = {}
    for step, name, value in _scalars(run):
        if value is not None:
            found.setdefault(step, {})[name] = value
    return dict(sorted(found.items()))


def _scalars(run: RunResult) -> Iterator[tuple[int, str, float | None]]:
    for place, loss in enumerate(run.train_losses):
        yield place + 1, "train_loss", loss
    for item in run.evaluations:
        yield item.step, "test_loss", item.test_loss
        yield item.step, "test_accuracy", item.test_accuracy
    for stats in run.layers:
        for quantity in OF_EVERY_RUN:
            yield stats.step, f"{quantity.name}/{stats.layer}", getattr(stats, quantity.name)

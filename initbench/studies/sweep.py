"""`sweep`: a comparison in every cell of a grid."""

from collections.abc import Sequence
from typing import Any

from initbench.question import catalog
from initbench.question.config import ExperimentConfig, Job, Ref, View
from initbench.question.grid import Cell, cells
from initbench.question.plan import jobs_of, resolve_config
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.sweep import summarize_sweep
from initbench.studies.study import Done, Outlook, runs_of

COMMAND = "sweep"
SEARCHES = False
BORROWS = True


def is_asked(_command: str, config: ExperimentConfig) -> bool:
    """Whether there is a grid."""
    return config.grid is not None


def jobs(config: ExperimentConfig, _done: Done) -> tuple[Job, ...]:
    """One job for each cell, seed and scheme; seed by seed, so that an interrupted sweep has a picture of the whole grid."""
    by_cell = [jobs_of(cell.config) for cell in cells(config)]
    seeds, schemes = len(config.seeds), len(config.schemes)
    return tuple(job for seed in range(seeds) for own in by_cell for job in own[seed * schemes : (seed + 1) * schemes])


def reported(_config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """All runs."""
    return tuple(done.values())


def outlook(_config: ExperimentConfig, _done: Done) -> Outlook | None:
    """The jobs say it all."""
    return None


def runs_by_cell(config: ExperimentConfig, done: Done) -> list[tuple[Cell, tuple[RunResult, ...]]]:
    """Every cell with its runs that are there, under the names that the schemes have in the question."""
    names = resolve_config(config).schemes
    return [(cell, tuple(_renamed(run, cell, names) for run in runs_of(jobs_of(cell.config), done))) for cell in cells(config)]


def _renamed(run: RunResult, cell: Cell, names: Sequence[Ref]) -> RunResult:
    """The run of a scheme whose parameters are values of a cell, as one of the scheme that is asked about."""
    asked = names[cell.config.schemes.index(run.job.scheme)]
    return run if asked == run.job.scheme else run.model_copy(update={"job": run.job.model_copy(update={"scheme": asked})})


def summarize(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """Every cell as a comparison of its own, and what they say together."""
    order = [str(scheme) for scheme in resolve_config(config).schemes]
    axes = config.grid.axes if config.grid is not None else {}
    look = view.model_dump(exclude={"reference"})
    return summarize_sweep(axes, runs_by_cell(config, done), view.reference, _fixed(config), order=order, **look)


def _fixed(config: ExperimentConfig) -> dict[str, Any]:
    """The parameters of the model, defaults included, that no axis changes."""
    if any(key in {"model", "model.name"} for key, _ in cells(config)[0].values):
        return {}
    entry, _ = catalog.find("model", config.model.name)
    every = {parameter.name: parameter.default for parameter in entry.parameters} | config.model.params
    return {name: value for name, value in every.items() if f"model.{name}" not in dict(cells(config)[0].values)}

"""A question and its answer, as they are in a results folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from initbench.errors import ConfigError, StorageError
from initbench.question.config import ExperimentConfig
from initbench.results import provenance, store
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.studies.kinds import study_of
from initbench.studies.plan import Plan, open_folder, read_listed

if TYPE_CHECKING:
    import pandas as pd

CONDITIONS = ("initbench", "torch", "device", "threads", "data")
"""What must be the same for runs that are compared, by its name in their provenance."""


@dataclass(frozen=True, repr=False)
class Results:
    """A question and its answer, as they are in a results folder."""

    folder: Path
    config: ExperimentConfig
    results: tuple[RunResult, ...]
    summary: Summary
    missing: int = 0
    """How many planned runs are not there yet."""

    def __repr__(self) -> str:
        """Gives the sentence that says who won: what a notebook shows."""
        return f"<Results of {len(self.results)} runs in {self.folder}: {self.summary.headline}.>"

    @property
    def doubts(self) -> tuple[str, ...]:
        """What makes the runs less than comparable: conditions that are not the same for all of them."""
        made = [run.provenance for run in self.results if run.provenance]
        doubts: list[str] = []
        for key in CONDITIONS:
            counts = Counter(conditions.get(key, "unknown") for conditions in made)
            if len(counts) > 1:
                listed = ", ".join(f"{value[:24]} ({number} runs)" for value, number in sorted(counts.items()))
                doubts.append(f"The runs were not made under the same conditions, {key}: {listed}. Make all anew with --fresh.")
        alone = [conditions[provenance.NOT_STACKED] for conditions in made if provenance.NOT_STACKED in conditions]
        if alone:
            doubts.append(f"{len(alone)} of {len(made)} runs could not be stacked and went one at a time: {alone[0]}")
        return tuple(doubts)

    def to_pandas(self, table: str = "curves") -> pd.DataFrame:
        """One of the tidy tables of the folder: `curves`, `layers`, `init` or `summary`.

        Raises: ConfigError for another name.
        """
        import pandas as pd

        path = self.folder / "tables" / f"{table}.csv"
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv")))
            raise ConfigError(f"There is no table '{table}' in {self.folder}. There are: {there}.")
        return pd.read_csv(path)


def load_results(folder: str | Path = store.LATEST) -> Results:
    """The results of a folder, as far as they are there. Raises: StorageError when it holds none."""
    folder, manifest, config = open_folder(folder)
    results = read_listed(folder, manifest)
    done = {result.job_id: result for result in results}
    return Results(folder, config, results, study_of(manifest.command, config).summarize(config, done, manifest.view))


def derive(plan: Plan) -> Results:
    """The answer; its derived files are made anew where they do not belong to exactly these results."""
    results = store.read_results(plan.folder, (name for name, _ in plan.jobs))
    digest = store.jobs_digest(results, plan.view)
    manifest = store.read_manifest(plan.folder)
    if manifest is None:
        raise StorageError(f"{plan.folder} holds no initbench results: {store.MANIFEST} is missing.")
    summary = _read_summary(plan.folder) if store.derived_is_current(plan.folder, manifest, digest) else None
    if summary is None:
        from initbench.reporting.write import write_report

        done = {run.job_id: run for run in results}
        summary = plan.study.summarize(plan.config, done, plan.view)
        write_report(plan.folder, plan.config, summary, plan.study.reported(plan.config, done), results)
        finished = manifest.finished or (store.now() if len(results) == len(plan.jobs) else None)
        update = {"derived_from": digest, "view": plan.view, "jobs": store.planned(plan.jobs), "finished": finished}
        store.write_manifest(plan.folder, manifest.model_copy(update=update))
        summary = Summary.model_validate_json((plan.folder / store.SUMMARY).read_bytes())
    return Results(plan.folder, plan.config, results, summary, len(plan.jobs) - len(results))


def _read_summary(folder: Path) -> Summary | None:
    try:
        return Summary.model_validate_json((folder / store.SUMMARY).read_bytes())
    except ValidationError:
        return None

"""A question and its answer, as they are in a results folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from initbench.errors import StorageError
from initbench.question import catalog
from initbench.question.config import ExperimentConfig, View
from initbench.reporting.shown import Shown, read_table
from initbench.results import files, index, jobs, provenance, store
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.findings import Summary
from initbench.studies.kinds import study_of
from initbench.studies.plan import Plan, is_code, looked_at, read_listed, without_code

if TYPE_CHECKING:
    import pandas as pd

    from initbench.reporting.panels import Plot
    from initbench.reporting.tables import Table
    from initbench.statistics.summary import Runs

CONDITIONS = ("initbench", "torch", "device", "threads", "data")
"""What must be the same for runs that are compared, by its name in their provenance."""


def _unpaired(ends: Iterable[index.Header]) -> set[int]:
    """The seeds of which runs of one length were trained on other batches."""
    sums: dict[tuple[int, str], set[str]] = {}
    for run in ends:
        if run.status is RunStatus.COMPLETED and (said := run.provenance.get(provenance.BATCHES)):
            checksum, _, length = said.partition(" of ")
            sums.setdefault((run.seed, length), set()).add(checksum)
    return {seed for (seed, _), found in sums.items() if len(found) > 1}


@dataclass(frozen=True, repr=False)
class Results(Shown):
    """A question and its answer, as they are in a results folder."""

    folder: Path
    config: ExperimentConfig
    results: Sequence[RunResult]
    """Of a folder that was finished already they are read when the first is looked at."""
    summary: Summary
    command: str = "compare"
    missing: int = 0
    """How many planned runs are not there yet."""
    notes: tuple[str, ...] = ()
    """What is not as it should be with the files of the folder, a sentence each."""
    mended: tuple[str, ...] = ()
    """What was not as it should be before these results were made, and has been mended, a sentence each."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """The digests of the user's own files, as the manifest knows them."""

    def __repr__(self) -> str:
        """Gives the sentence that says who won, and what failed: what a notebook shows."""
        failed = f" {self.failed}." if self.failed else ""
        return f"<Results of {len(self.results)} runs in {self.folder}: {self.summary.headline}.{failed}>"

    @property
    def failed(self) -> str | None:
        """How many runs failed, and of what most of them, without a full stop; None where none did."""
        count = sum(run.status is RunStatus.FAILED for run in self.ends)
        if not count:
            return None
        reasons = Counter((run.reason or "no reason given").rstrip(".") for run in self.results if run.status is RunStatus.FAILED)
        ((reason, most),) = reasons.most_common(1)
        return f"{count} of {len(self.ends)} runs failed{'' if most == count else f', {most} of them of this'}: {reason}"

    @cached_property
    def reported(self) -> tuple[RunResult, ...]:
        """The runs that tables and plots of schemes are about: not those that only served to choose."""
        with catalog.as_recorded(self.recorded):
            return study_of(self.command, self.config).reported(self.config, {run.job_id: run for run in self.results})

    @property
    def ends(self) -> tuple[index.Header, ...]:
        """How each of the results ended; nothing is read for that."""
        return self.results.headers if isinstance(self.results, jobs.StoredRuns) else tuple(map(index.header_of, self.results))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What makes the runs less than comparable: files that cannot be trusted, conditions that are not the same."""
        made = [run.provenance for run in self.ends if run.provenance.keys() - {provenance.NOT_RESTORED}]
        doubts = list(self.notes)
        for key in CONDITIONS:
            counts = Counter(conditions.get(key, "unknown") for conditions in made)
            if len(counts) > 1:
                listed = ", ".join(f"{value[:24]} ({number} runs)" for value, number in sorted(counts.items()))
                doubts.append(f"The runs were not made under the same conditions, {key}: {listed}. Make all anew with --fresh.")
        changed = sorted({text for run in self.ends if (text := run.provenance.get(provenance.NOT_RESTORED))})
        if changed:
            doubts.append(f"The code of runs changed what could not be put back in their process: {'; '.join(changed)}.")
        if unpaired := sorted(_unpaired(self.ends)):
            doubts.append(
                f"The schemes of seed {', '.join(map(str, unpaired))} did not see the same batches: something in the data draws from a "
                "generator of its own. Make it in a function of the seed."
            )
        alone = [conditions[provenance.NOT_STACKED] for conditions in made if provenance.NOT_STACKED in conditions]
        if alone:
            doubts.append(f"{len(alone)} of {len(made)} runs could not be stacked and went one at a time: {alone[0]}")
        return tuple(doubts)

    @property
    def plots(self) -> tuple[Plot, ...]:
        """What each plot shows, as data."""
        from initbench.reporting.write import plots_of

        with catalog.as_recorded(self.recorded):
            return plots_of(self.summary, self.runs)

    @property
    def runs(self) -> Runs:
        """The runs of each scheme that tables and plots are about."""
        from initbench.reporting.write import by_scheme

        with catalog.as_recorded(self.recorded):
            return by_scheme(self.config, self.reported)

    @property
    def overview(self) -> tuple[str, Table]:
        """The sentence that says who won, and a row a scheme."""
        from initbench.reporting.tables import scheme_table

        return f"{self.summary.headline}.", scheme_table(self.summary)

    @property
    def where(self) -> Path:
        """The results folder."""
        return self.folder

    def to_pandas(self, table: str | None = None) -> pd.DataFrame:
        """One of the tidy tables of the folder: `curves` unless another is named; of a sweep `cells`. See docs/results.md.

        Raises: ConfigError for a name that there is not.
        """
        return read_table(self.folder, table or ("cells" if self.summary.sweep is not None else "curves"))


def load_results(folder: str | Path = store.LATEST, metric: str | None = None) -> Results:
    """The results of a folder, as far as they are there; nothing is written, and no code that it names is run but this `metric`.

    Raises: StorageError when it holds none.
    """
    with looked_at(folder) as (folder, manifest, config):
        found = read_listed(folder, manifest)
        done = {result.job_id: result for result in found.results}
        view = manifest.view if metric is None else manifest.view.model_copy(update={"metric": metric})
        view, notes = without_code(view, metric)
        summary = study_of(manifest.command, config).summarize(config, done, view)
    said = (*found.damaged, *notes, *_unchecked(found.unchecked, len(found.results)))
    return Results(folder, config, found.results, summary, manifest.command, notes=said, recorded=manifest.files)


def _unchecked(unchecked: int, there: int) -> tuple[str, ...]:
    if not unchecked:
        return ()
    number = f"{unchecked} of {there} job files"
    return (f"{number} are of an earlier release and have no checksum: a changed number in them cannot be seen.",)


def derive(plan: Plan, keep: View | None = None) -> Results:
    """The answer; its derived files are made anew where they do not belong to exactly these results, or are not as they were written.

    The manifest keeps the plan's view, or another that is to be gone back to.
    """
    asked = dict(plan.jobs)
    looked = jobs.look(plan.folder, asked, plan.seen)
    digest = store.jobs_digest(looked.headers, plan.view, None if plan.config.until is None else len(plan.config.seeds))
    manifest = store.read_manifest(plan.folder)
    if manifest is None:
        raise StorageError(f"{plan.folder} holds no initbench results: {store.MANIFEST} is missing.")
    current = manifest.derived_from == digest and bool(manifest.derived)
    changed = store.changed_files(plan.folder, manifest) if current else ()
    summary = _read_summary(plan) if current and not changed else None
    results: Sequence[RunResult] = jobs.StoredRuns(plan.folder, looked.headers)
    if summary is None:
        from initbench.reporting.write import write_report

        results = tuple(jobs.Stored(plan.folder, {header.job_id: header for header in looked.headers}, plan.read).values())
        done = {run.job_id: run for run in results}
        summary = plan.study.summarize(plan.config, done, plan.view)
        write_report(plan.folder, plan.config, summary, plan.study.reported(plan.config, done), results, manifest.typed)
        finished = manifest.finished or (store.now() if len(results) == len(plan.jobs) else None)
        update = {"derived_from": digest, "view": keep or plan.view, "jobs": store.planned(plan.jobs), "finished": finished}
        listed = store.read_manifest(plan.folder) or manifest
        store.write_manifest(plan.folder, listed.model_copy(update=update))
        summary = Summary.model_validate_json((plan.folder / store.SUMMARY).read_bytes())
    index.save(plan.folder, looked.headers)
    made_anew = (f"{', '.join(changed)} in {plan.folder} was missing, cut or changed, and has been made anew.",) if changed else ()
    notes = (*looked.damaged, *made_anew, *_unchecked(looked.unchecked, len(looked.headers)))
    return Results(plan.folder, plan.config, results, summary, plan.command, len(plan.jobs) - len(results), notes, recorded=manifest.files)


def _read_summary(plan: Plan) -> Summary | None:
    """The summary in the folder; None where it is damaged, or names code as a metric that nobody asked for."""
    try:
        summary = Summary.model_validate_json(files.read_bytes(plan.folder / store.SUMMARY))
    except (ValidationError, OSError, files.UnusableFile):
        return None
    estimates = (estimate.metric for scheme in summary.schemes for estimate in scheme.estimates)
    named = {summary.metric, *(each.metric for each in (*summary.comparisons, *summary.pairs)), *estimates}
    return None if any(is_code(name) and name != plan.view.metric for name in named) else summary

"""From a question to its answer: a plan, the runs that are missing, the derived files.

Nothing here prints: what happens is told to a `Watch`. What is finished already costs neither torch nor pandas.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from initbench import __version__
from initbench.errors import ConfigError, StorageError
from initbench.question import catalog, config_file, plan
from initbench.question.config import Execution, ExperimentConfig, Job, View, parse_ref
from initbench.results import provenance, store
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.metrics import find_metric
from initbench.studies import kinds as studies
from initbench.studies.execution import device_of, engine_of, import_ahead, threads_of

if TYPE_CHECKING:
    import pandas as pd

    from initbench.workers.progress import Progress

RESULTS = Path("results")
"""Where results go when nobody says."""
PROBES = ("probe", "map")
"""Commands whose folders hold no runs that were trained."""
CONDITIONS = ("initbench", "torch", "device", "threads", "data")
"""What must be the same for runs that are compared, by its name in their provenance."""
NOT_STACKED = "one at a time"
"""How the provenance of a run begins to say that it could not be stacked, and why."""


class Watch(Protocol):
    """Somebody who is told how it goes."""

    def planned(self, steps: Plan) -> None:
        """Once, before anything is run."""

    def progress(self, sign: Progress) -> None:
        """Now and then, from a run under way."""

    def finished(self, result: RunResult) -> None:
        """A run's result is in its file."""


@dataclass(frozen=True)
class Plan:
    """What a command will do: the jobs of a question, which of them have results, and where these are.

    Of a question whose jobs depend on results (tuning, a race) these are the jobs known so far.
    """

    command: str
    config: ExperimentConfig
    execution: Execution
    folder: Path
    jobs: tuple[tuple[str, Job], ...]
    done: tuple[RunResult, ...]
    view: View = field(default_factory=View)

    @property
    def missing(self) -> tuple[tuple[str, Job], ...]:
        """The jobs that have no result yet, or a failed one."""
        done = {result.job_id for result in self.done}
        return tuple((name, job) for name, job in self.jobs if name not in done)


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
        found: list[str] = []
        for key in CONDITIONS:
            counts = Counter(conditions.get(key, "unknown") for conditions in made)
            if len(counts) > 1:
                listed = ", ".join(f"{value[:24]} ({number} runs)" for value, number in sorted(counts.items()))
                found.append(f"The runs were not made under the same conditions, {key}: {listed}. Make all anew with --fresh.")
        alone = [conditions["engine"] for conditions in made if conditions.get("engine", "").startswith(NOT_STACKED)]
        if alone:
            found.append(f"{len(alone)} of {len(made)} runs could not be stacked and went {alone[0]}")
        return tuple(found)

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


def make_plan(command: str, config: ExperimentConfig, execution: Execution = Execution(), view: View = View()) -> Plan:
    """The jobs of a question and what is done of them; nothing is written.

    Raises: ConfigError for names that do not exist, StorageError for a folder that cannot take the results.
    """
    config = plan.resolve_config(config)
    folder = Path(execution.output) if execution.output else RESULTS / plan.result_name(command, config)
    store.check_folder(folder, plan.config_hash(config), fresh=execution.fresh)
    view = checked_view(config, view)
    done: dict[str, RunResult] = {}
    asked: dict[str, Job] = {}
    while True:
        jobs = {plan.job_id(job): job for job in studies.jobs(command, config, done)}
        unread = [name for name in jobs if name not in asked]
        asked = jobs
        found = () if execution.fresh else store.read_results(folder, unread)
        done |= {result.job_id: result for result in found}
        if not found:
            break
    finished = tuple(done[name] for name in asked if name in done and store.is_done(done[name]))
    return Plan(command, config, execution, folder, tuple(asked.items()), finished, view)


def carry_out(steps: Plan, watch: Watch | None = None) -> Results:
    """Runs what is missing, each result to its file as it comes, then makes the derived files if they are not current.

    Where results decide what to run next (tuning, a race), this goes on until nothing more is to be run.
    Raises: InitbenchError, before the first run and before anything is written, for whatever would make runs impossible.
    """
    if watch:
        watch.planned(steps)
    tried: set[str] = set()
    while missing := tuple(name for name, _ in steps.missing if name not in tried):
        if tried and watch:
            watch.planned(steps)
        _run_missing(steps, watch)
        tried |= set(missing)
        steps = as_it_stands(steps)
    _keep_question(steps)
    return derive(steps)


def as_it_stands(steps: Plan) -> Plan:
    """The plan with what has been found since: the results that are there, and the jobs that follow from them."""
    execution = steps.execution.model_copy(update={"fresh": False, "output": str(steps.folder)})
    return make_plan(steps.command, steps.config, execution, steps.view)


def plan_of(folder: str | Path, execution: Execution = Execution()) -> Plan:
    """The plan behind a results folder. Raises: StorageError when it holds no results."""
    folder, manifest, config = open_folder(folder)
    execution = execution.model_copy(update={"output": str(folder)})
    return make_plan(manifest.command, config, execution, manifest.view)


def load_results(folder: str | Path = RESULTS / "latest") -> Results:
    """The results of a folder, as far as they are there. Raises: StorageError when it holds none."""
    folder, manifest, config = open_folder(folder)
    results = store.read_results(folder, (job.job_id for job in manifest.jobs))
    if not results:
        raise StorageError(f"{folder} holds no finished run yet. Go on with: initbench resume {folder}")
    done = {result.job_id: result for result in results}
    return Results(folder, config, results, studies.summarize_study(manifest.command, config, done, manifest.view))


def _run_missing(steps: Plan, watch: Watch | None) -> None:
    """Nothing is written, and with `fresh` nothing is removed, before the first result is there."""
    store.check_writable(steps.folder)
    device = device_of(steps.execution.device)
    engine = engine_of(steps.execution, len(steps.missing), device)
    import_ahead(engine)
    results = catalog.load("engine", engine)(
        steps.missing,
        device=device,
        data_dir=steps.execution.data_dir,
        workers=steps.execution.jobs,
        threads=threads_of(steps.execution, len(steps.jobs)),
        report=watch.progress if watch else None,
    )
    begun = False
    with contextlib.closing(results):
        for result in results:
            if not begun:
                _begin(steps)
            begun = True
            store.write_result(steps.folder, result)
            if watch:
                watch.finished(result)


def _begin(steps: Plan) -> None:
    if steps.execution.fresh:
        store.clear(steps.folder)
    store.remove_leftovers(steps.folder)
    earlier = store.read_manifest(steps.folder)
    store.write_manifest(
        steps.folder,
        store.Manifest(
            initbench=__version__,
            command=steps.command,
            config_hash=plan.config_hash(steps.config),
            jobs=_listed(steps),
            view=steps.view,
            started=earlier.started if earlier else store.now(),
            provenance=provenance.environment(),
        ),
    )
    _keep_question(steps)


def _keep_question(steps: Plan) -> None:
    """The config is in the folder, whatever happened to it, and `latest` points there."""
    text, path = config_file.dump_config(steps.config), steps.folder / store.CONFIG
    if not path.is_file() or path.read_bytes() != text.encode():
        store.write_text(path, text)
    if steps.folder.parent == RESULTS:
        store.link_latest(steps.folder)


def _listed(steps: Plan) -> tuple[store.PlannedJob, ...]:
    return tuple(store.PlannedJob(job_id=name, scheme=str(job.scheme), seed=job.seed) for name, job in steps.jobs)


def derive(steps: Plan) -> Results:
    """The comparison, its derived files made anew where they do not belong to exactly these results."""
    results = store.read_results(steps.folder, (name for name, _ in steps.jobs))
    digest = store.jobs_digest(results, steps.view)
    manifest = store.read_manifest(steps.folder)
    if manifest is None:
        raise StorageError(f"{steps.folder} holds no initbench results: {store.MANIFEST} is missing.")
    summary = _read_summary(steps.folder) if store.derived_is_current(steps.folder, manifest, digest) else None
    if summary is None:
        from initbench import report as reporting

        done = {run.job_id: run for run in results}
        found = studies.summarize_study(steps.command, steps.config, done, steps.view)
        reporting.write(steps.folder, steps.config, found, studies.reported(steps.command, steps.config, done), results)
        finished = manifest.finished or (store.now() if len(results) == len(steps.jobs) else None)
        update = {"derived_from": digest, "view": steps.view, "jobs": _listed(steps), "finished": finished}
        store.write_manifest(steps.folder, manifest.model_copy(update=update))
        summary = Summary.model_validate_json((steps.folder / store.SUMMARY).read_bytes())
    return Results(steps.folder, steps.config, results, summary, len(steps.jobs) - len(results))


def _read_summary(folder: Path) -> Summary | None:
    try:
        return Summary.model_validate_json((folder / store.SUMMARY).read_bytes())
    except ValidationError:
        return None


def open_folder(folder: str | Path) -> tuple[Path, store.Manifest, ExperimentConfig]:
    """A results folder (`latest` is followed), its manifest and its question. Raises: StorageError when it holds no results."""
    folder = Path(folder)
    if folder.name == "latest" and folder.is_symlink():
        folder = folder.parent / folder.readlink()
    manifest = store.read_manifest(folder)
    if manifest is None and not folder.is_dir():
        raise StorageError(f"There is no results folder {folder}. Name one, or begin with: initbench compare xavier kaiming normal")
    if manifest is None:
        raise StorageError(f"{folder} holds no initbench results. Name a results folder, the one with {store.MANIFEST} in it.")
    if manifest.command in PROBES:
        raise StorageError(f"{folder} holds a probe, which is made anew in seconds by the same command: initbench probe")
    try:
        return folder, manifest, config_file.load_config(str(folder / store.CONFIG))
    except ConfigError as error:
        again = "Give the command that made it once more: that writes it anew."
        raise StorageError(f"{folder / store.CONFIG} is missing or damaged. {again}") from error


def checked_view(config: ExperimentConfig, view: View) -> View:
    """The view with its reference in canonical words.

    Raises: ConfigError for a reference that is not among the schemes, an unknown metric, or steps to a target without one.
    """
    if view.metric is not None:
        find_metric(view.metric, view.target)
    if view.reference is None:
        return view
    scheme = catalog.resolve("scheme", parse_ref(view.reference))
    if scheme not in config.schemes:
        raise ConfigError(f"The reference '{view.reference}' is not among the schemes: {', '.join(str(ref) for ref in config.schemes)}.")
    return view.model_copy(update={"reference": str(scheme)})

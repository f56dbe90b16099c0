"""What a question takes: its jobs, which of them have results, and the folder where these are."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from initbench import __version__
from initbench.errors import ConfigError, StorageError, enumerated
from initbench.question import catalog, config_file
from initbench.question.config import Execution, ExperimentConfig, Job, View, parse_ref
from initbench.question.plan import (
    config_hash,
    describe,
    digests_of,
    files_of,
    job_id,
    job_ids,
    name_user_files,
    resolve_config,
    result_name,
    same_but_for_seeds,
)
from initbench.results import files, index, lock, provenance, store, unfinished
from initbench.results import jobs as job_files
from initbench.results.record import RunResult
from initbench.statistics.known_metrics import all_metrics
from initbench.studies.kinds import study_of
from initbench.studies.scores import ranking_metric
from initbench.studies.study import Study
from initbench.workers import head_start

STACKED_AT_ONCE = 32
"""Runs that an accelerator takes at once without taking much longer than for one."""
PROBES = ("probe", "map")
"""Commands whose folders hold no runs that were trained."""


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
    done: tuple[index.Header, ...]
    view: View = field(default_factory=View)
    notes: tuple[str, ...] = ()
    """What is wrong with the folder and will be mended: a sentence about each damaged file."""
    elsewhere: dict[str, Path] = field(default_factory=dict)
    """Of a study that borrows: files of missing jobs that stand in other folders under the results root, and are taken from there."""
    seen: dict[str, index.Header] = field(default_factory=dict)
    """The headers of all job files that were read, of failed runs too."""
    taken: int = 0
    """How many of the results that are done were copied from other folders just now."""
    typed: str = ""
    """The command line that asks, word by word; empty where Python does."""
    read: dict[str, RunResult] = field(default_factory=dict)
    """The results that were read so far, by the digest of their file."""

    @property
    def study(self) -> Study:
        """The kind of question."""
        return study_of(self.command, self.config)

    @property
    def missing(self) -> tuple[tuple[str, Job], ...]:
        """The jobs that have no result yet, or a failed one."""
        done = {result.job_id for result in self.done}
        return tuple((name, job) for name, job in self.jobs if name not in done)

    def labels(self) -> Mapping[str, str]:
        """What the missing jobs are called, each put into words when it is asked for."""
        return _Labels(dict(self.missing), self.config)

    @property
    def results(self) -> job_files.Stored:
        """The results that are done, read when they are asked for."""
        return job_files.Stored(self.folder, {header.job_id: header for header in self.done}, self.read)


@dataclass(frozen=True)
class _Labels(Mapping[str, str]):
    jobs: Mapping[str, Job]
    config: ExperimentConfig

    def __getitem__(self, name: str) -> str:
        return describe(self.jobs[name], self.config)

    def __iter__(self) -> Iterator[str]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)


def make_plan(command: str, config: ExperimentConfig, execution: Execution = Execution(), view: View = View(), typed: str = "") -> Plan:
    """The jobs of a question and what is done of them; nothing is written.

    Raises: ConfigError for names that do not exist, StorageError for a folder that cannot take the results.
    """
    if config.until is not None:
        asked = {key: getattr(config.until, key) for key in ("reference", "metric", "margin") if key not in view.model_fields_set}
        if asked.get("margin") is not None:
            asked["margin_metric"] = config.until.metric
        view = View.model_validate({**view.model_dump(), **asked})
    return _planned(command, config, execution, checked_view(resolve_config(config), view), typed)


def _planned(
    command: str,
    config: ExperimentConfig,
    execution: Execution,
    view: View,
    typed: str = "",
    before: Plan | None = None,
) -> Plan:
    """`before`: the same plan as it stood; what it knows of job files is not found out again."""
    read = before.read if before else {}
    config = resolve_config(config)
    folder = Path(execution.output) if execution.output else store.RESULTS / result_name(command, config)
    config = _with_rounds(config, execution, folder)
    study = study_of(command, config)
    if execution.fresh and config.until is None:
        _refuse_after_looking(folder, config)
    damage = store.check_folder(folder, config_hash(config), fresh=execution.fresh, kept=lambda: _kept_question(folder, config, study))
    known = {} if execution.fresh else {**index.load(folder), **(before.seen if before else {})}
    seen: dict[str, index.Header] = {}
    done = job_files.Stored(folder, seen, read)
    notes = [*([damage] if damage else []), *([] if execution.fresh else unfinished.damaged(folder))]
    if not execution.fresh and _is_changed(folder / store.CONFIG, config):
        notes.append(f"{folder / store.CONFIG} is not as it was written; it asks the same, and a command that trains writes it anew.")

    def are_there(jobs: Mapping[str, Job]) -> bool:
        found = job_files.Looked(()) if execution.fresh else job_files.look(folder, jobs, known)
        notes.extend(found.damaged)
        seen.update((header.job_id, header) for header in found.headers)
        return bool(found.headers)

    asked = dict(before.jobs) if before else {}
    are_there(asked)
    more = True
    while more:
        wanted, former = study.jobs(config, done), asked
        asked = dict(zip(job_ids(wanted), wanted, strict=True))
        more = are_there({name: job for name, job in asked.items() if name not in former})
    finished = tuple(seen[name] for name in asked if name in seen and store.is_done(seen[name]))
    damaged = tuple(dict.fromkeys(notes))
    plan = Plan(command, config, execution, folder, tuple(asked.items()), finished, view, damaged, seen=seen, typed=typed, read=read)
    if execution.fresh or not study.BORROWS:
        return plan
    return replace(plan, elsewhere=job_files.elsewhere(store.RESULTS, folder, dict(plan.missing)))


def _refuse_after_looking(folder: Path, config: ExperimentConfig) -> None:
    """Raises: StorageError where seeds of this question were added to the folder after looking: their number is not fixed any more."""
    kept = None
    with suppress(ConfigError, StorageError):
        kept = config_file.load_config(str(folder / store.CONFIG))
    if kept is not None and kept.until is not None and same_but_for_seeds(kept, config):
        raise StorageError(
            f"Seeds were added to {folder} while results were looked at: no number of them is fixed beforehand any more. Go on with "
            "--until decided, or take another folder with --out and seeds that nobody has looked at, as in --seeds 100,101,102 and so on."
        )


def _with_rounds(config: ExperimentConfig, execution: Execution, folder: Path) -> ExperimentConfig:
    """The question with the seeds that are added at a time: as the folder has it, else as many as keep the machine busy."""
    if config.until is None or config.until.each is not None:
        return config
    kept = None
    with suppress(ConfigError, StorageError):
        kept = config_file.load_config(str(folder / store.CONFIG)).until
    accelerated = execution.device not in {"auto", "cpu"} or (execution.device == "auto" and head_start.accelerator_possible())
    at_once = STACKED_AT_ONCE if accelerated else execution.jobs or provenance.cores()
    each = (kept.each if kept else None) or max(1, at_once // len(config.schemes))
    return config.model_copy(update={"until": config.until.model_copy(update={"each": each})})


def _is_changed(path: Path, config: ExperimentConfig) -> bool:
    found = files.digest_of(path)
    if found is None or found == files.digest(config_file.dump_config(config).encode()):
        return False
    with suppress(ConfigError, StorageError):  # more seeds at most are no other question
        return (
            config.until is None or resolve_config(config_file.load_config(str(path))).model_copy(update={"seeds": config.seeds}) != config
        )
    return True


def _kept_question(folder: Path, config: ExperimentConfig, study: Study) -> str | None:
    """The hash of the question that a folder without a manifest is about, of its config or of its job files; None where none says it."""
    try:
        return config_hash(config_file.load_config(str(folder / store.CONFIG)))
    except (ConfigError, StorageError):
        known = job_files.there(folder).intersection(job_ids(study.jobs(config, {})))
        return config_hash(config) if known else None


def as_it_stands(plan: Plan) -> Plan:
    """The plan with what has been found since: the results that are there, and the jobs that follow from them."""
    execution = plan.execution.model_copy(update={"fresh": False, "output": str(plan.folder)})
    return _planned(plan.command, plan.config, execution, plan.view, plan.typed, plan)


def plan_of(folder: str | Path, execution: Execution = Execution(), *, view: View | None = None, looking: bool = False) -> Plan:
    """The plan behind a results folder, with another `view` where one is given.

    Of one that is only looked at, no code that it names is run and nothing is written. Raises: StorageError when it holds no results.
    """
    folder, manifest, config = open_folder(folder)
    means = execution.model_copy(update={"output": str(folder)})
    if looking:
        return _planned(manifest.command, config, means, without_code(manifest.view)[0])
    _refuse_changed(folder, manifest, config)
    _renew_ids(folder, manifest, config)
    return make_plan(manifest.command, config, means, manifest.view if view is None else view, manifest.typed)


def _refuse_changed(folder: Path, manifest: store.Manifest, config: ExperimentConfig) -> None:
    """Raises: StorageError where files of the user's own, or what these import, are not as they were when the runs were made."""
    changed = [name for name, digest in files_of(config).items() if name in manifest.files and manifest.files[name] != digest]
    if changed:
        raise StorageError(
            f"{folder} was made with {enumerated(changed, 'and')} as it was before; it, or a file that it imports, has been changed since. "
            "Put that back to go on here, or give the command once more with another folder as --out."
        )


def open_folder(folder: str | Path) -> tuple[Path, store.Manifest, ExperimentConfig]:
    """A results folder (`latest` is followed), its manifest and its question; a manifest that is lost follows from the other files.

    Raises: StorageError when it holds no results.
    """
    folder, manifest = _manifest_of(folder)
    return folder, manifest, _question_of(folder)


@contextmanager
def looked_at(folder: str | Path) -> Iterator[tuple[Path, store.Manifest, ExperimentConfig]]:
    """`open_folder` where nothing is to be trained: the user's own files count as the manifest knows them, and need not be there.

    Raises: StorageError when it holds no results, or those of another question than its config asks.
    """
    folder, manifest = _manifest_of(folder)
    with catalog.as_recorded(manifest.files):
        config = _question_of(folder)
        if manifest.initbench == __version__ and config_hash(config) != manifest.config_hash:  # those of earlier releases had other hashes
            raise StorageError(
                f"{folder / store.CONFIG} asks another question than the one whose runs are here. Put it back as it was, or give the "
                "command that made the folder once more."
            )
        yield folder, manifest, config


def _manifest_of(folder: str | Path) -> tuple[Path, store.Manifest]:
    folder = Path(folder)
    if folder.name in {store.LATEST.name, store.LATEST_PROBE.name} and folder.is_symlink():
        folder = folder.parent / folder.readlink()
    try:
        manifest = store.read_manifest(folder) or _rebuilt(folder)
    except store.DamagedManifest:
        manifest = _rebuilt(folder)
        if manifest is None:
            raise
    if manifest is None and not folder.is_dir():
        raise StorageError(f"There is no results folder {folder}. Name one, or begin with: initbench compare xavier kaiming normal")
    if manifest is None and unfinished.there(folder):
        raise StorageError(
            f"{folder} holds runs that were under way, and none that is finished. Give the command that began them once more."
        )
    if manifest is None:
        raise StorageError(f"{folder} holds no initbench results. Name a results folder, the one with {store.MANIFEST} in it.")
    if manifest.command == "map":
        raise StorageError(
            f"{folder} holds a map: its picture is in {folder / 'plots'}, as PNG and SVG, and its numbers are in {folder / 'tables'}."
        )
    if manifest.command in PROBES:
        raise StorageError(f"{folder} holds a probe, which is made anew in seconds by the same command: initbench probe")
    return folder, manifest


def _question_of(folder: Path) -> ExperimentConfig:
    try:
        return config_file.load_config(str(folder / store.CONFIG))
    except ConfigError as error:
        again = "Give the command that made it once more: that writes it anew."
        if config_file.is_readable(folder / store.CONFIG):
            why, where = str(error).partition("\n")[0], "Paths in it are as seen from the folder in which that command was given."
            raise StorageError(f"{folder / store.CONFIG} cannot be used: {why} {where} {again}") from error
        raise StorageError(f"{folder / store.CONFIG} is missing or damaged. {again}") from error


def _rebuilt(folder: Path) -> store.Manifest | None:
    """The manifest of a folder without a sound one, of its config and its job files; None where these do not belong together."""
    there = job_files.there(folder)
    try:
        config = config_file.load_config(str(folder / store.CONFIG)) if there else None
    except (ConfigError, StorageError):
        return None
    if config is None:
        return None
    usual = "sweep" if config.grid is not None else "run" if len(config.schemes) == 1 else "compare"
    commands = ("recommend", usual)
    command = next((each for each in commands if there.intersection(job_ids(study_of(each, config).jobs(config, {})))), None)
    if command is None:
        return None
    plan = _planned(command, config, Execution(output=str(folder)), View())
    return new_manifest(plan, None)


def new_manifest(plan: Plan, earlier: store.Manifest | None) -> store.Manifest:
    """The manifest of a plan that is begun, or whose manifest is lost; of an earlier one it keeps what is still true."""
    return store.Manifest(
        initbench=__version__,
        command=plan.command,
        typed=earlier.typed if earlier and not plan.execution.fresh else plan.typed,
        config_hash=config_hash(plan.config),
        jobs=store.planned(plan.jobs),
        view=plan.view,
        started=earlier.started if earlier else store.now(),
        derived=earlier.derived if earlier else None,
        provenance=provenance.environment(),
        files=digests_of(job for _, job in plan.jobs),
    )


def read_listed(folder: Path, manifest: store.Manifest) -> job_files.Found:
    """The results that a manifest lists, as far as they are there, under the ids of today; and what is wrong with other files.

    Raises: StorageError when there is none.
    """
    found = job_files.read(folder, [job.job_id for job in manifest.jobs])
    _refuse_none(folder, len(found.results), found.damaged)
    return replace(found, results=tuple(_under_todays_id(result) for result in found.results))


def check_listed(folder: Path, manifest: store.Manifest) -> None:
    """Leaves an index, so that nothing is parsed for it again. Raises: StorageError where no result is there that the manifest lists."""
    looked = job_files.look(folder, [job.job_id for job in manifest.jobs], index.load(folder))
    _refuse_none(folder, len(looked.headers), looked.damaged)
    index.save(folder, looked.headers)


def _refuse_none(folder: Path, number: int, damaged: Sequence[str]) -> None:
    if not number:
        first = f" {damaged[0]}" if damaged else ""
        raise StorageError(f"{folder} holds no finished run yet.{first} Go on with: initbench resume {folder}")


def _under_todays_id(result: RunResult) -> RunResult:
    """Runs of an earlier release have other ids; those of a user's file keep theirs, since its text may be another today."""
    return result if name_user_files([result.job]) else result.model_copy(update={"job_id": job_id(result.job)})


def _renew_ids(folder: Path, manifest: store.Manifest, config: ExperimentConfig) -> None:
    """Gives a folder of an earlier release the ids of today, so that it can be reported and resumed; any other stays as it is."""
    if manifest.config_hash == config_hash(config):
        return
    former = store.read_results(folder, (job.job_id for job in manifest.jobs))
    results = [_under_todays_id(result) for result in former]
    gone = {result.job_id for result in former} - {result.job_id for result in results}
    if not gone:
        return
    with lock.locked(folder):
        for result in results:
            store.write_result(folder, result)
        listed = store.planned((result.job_id, result.job) for result in results)
        update = {"config_hash": config_hash(config), "jobs": listed, "derived_from": None}
        store.write_manifest(folder, manifest.model_copy(update=update))
        for name in gone:
            store.remove_result(folder, name)


def without_code(view: View, named: str | None = None) -> tuple[View, tuple[str, ...]]:
    """The view of a manifest, which may come from anybody, without metrics that are code, but for the one `named` in the call.

    And what to say of those that are left out.
    """
    code = {key: name for key in ("metric", "margin_metric") if is_code(name := getattr(view, key)) and name != named}
    if not code:
        return view, ()
    name = next(iter(code.values()))
    margin = {"margin": None} if "margin_metric" in code else {}
    note = f"The folder asks for the metric {name}, which is code, and looking runs none. To have it used, name it: --metric {name}"
    return view.model_copy(update={**dict.fromkeys(code), **margin}), (note,)


def is_code(metric: str | None) -> bool:
    """Whether a metric is a file or a module of the user's, which is run where it is used."""
    return metric is not None and (catalog.is_file_name(metric) or ":" in metric)


def checked_view(config: ExperimentConfig, view: View) -> View:
    """The view with its reference in canonical words.

    Raises: ConfigError for a reference that is not among the schemes, an unknown metric, or steps to a target without one.
    """
    if view.metric is not None and ranking_metric(config, view.metric, view.target).better is None:
        ranking = ", ".join(metric.name for metric in all_metrics(view.target) if metric.better)
        raise ConfigError(f"The metric {view.metric} has no better or worse, so no verdict can be about it. Use one of: {ranking}.")
    if view.reference is None:
        return view
    scheme = catalog.resolve("scheme", parse_ref(view.reference))
    if scheme not in config.schemes:
        raise ConfigError(f"The reference '{view.reference}' is not among the schemes: {', '.join(str(ref) for ref in config.schemes)}.")
    return view.model_copy(update={"reference": str(scheme)})

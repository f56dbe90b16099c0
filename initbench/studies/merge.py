"""Results folders together: the runs of one question from several machines in a new folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError, StorageError
from initbench.question import config_file, plan
from initbench.question.config import Execution, ExperimentConfig, value_text
from initbench.results import store
from initbench.results.record import RunResult
from initbench.studies.kinds import RECOMMEND
from initbench.studies.study import make_plan, open_folder

MAY_DIFFER = ("schemes", "seeds")
"""Keys whose values are put together; every other key must be the same."""


def merge(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Writes the runs of all folders to a new one, which can then be reported and resumed; gives its path.

    Schemes and seeds are put together. Of a run that several folders have, the first that did not fail counts.
    Raises: ConfigError for folders with different questions, with each key that differs; StorageError for one without results.
    """
    opened = [open_folder(folder) for folder in folders]
    first, manifest, config = opened[0]
    for folder, other, asked in opened[1:]:
        searches = config.tune is not None or RECOMMEND in (manifest.command, other.command)
        kinds = [("command", _kind(manifest.command), _kind(other.command))] if _kind(manifest.command) != _kind(other.command) else []
        found = [*kinds, *differences(config, asked, () if searches else MAY_DIFFER)]
        if found:
            listed = "; ".join(f"{key} is {_words(one)} in {first} and {_words(two)} in {folder}" for key, one, two in found)
            raise ConfigError(f"{first} and {folder} do not ask the same question: {listed}.")
    question = _together([asked for _, _, asked in opened])
    target = Path(out)
    if target.resolve() in {folder.resolve() for folder, _, _ in opened}:
        raise ConfigError(f"{target} is one of the folders to be merged. Name another with --out.")
    steps = make_plan(manifest.command, question, Execution(output=str(target)), manifest.view)
    known = {name for name, _ in steps.jobs}
    runs: dict[str, RunResult] = {}
    for folder, listed_in, _ in opened:
        results = store.read_results(folder, (job.job_id for job in listed_in.jobs))
        if not results:
            raise StorageError(f"{folder} holds no finished run yet. Go on with: initbench resume {folder}")
        strangers = [run for run in results if run.job_id not in known] if config.tune is None and manifest.command != RECOMMEND else []
        if strangers:
            job = strangers[0].job
            raise ConfigError(
                f"{folder} was made with another version of a file: {job.scheme}, {job.model} or {job.dataset} is not the one here."
            )
        for run in results:
            if run.job_id not in runs or not store.is_done(runs[run.job_id]):
                runs[run.job_id] = run
    store.write_text(target / store.CONFIG, config_file.dump_config(steps.config))
    listed_jobs = tuple(store.PlannedJob(job_id=run.job_id, scheme=str(run.job.scheme), seed=run.job.seed) for run in runs.values())
    hashed = plan.config_hash(steps.config)
    started = min(opened_manifest.started for _, opened_manifest, _ in opened)
    update = {"jobs": listed_jobs, "config_hash": hashed, "derived_from": None, "started": started}
    store.write_manifest(target, manifest.model_copy(update=update))
    for run in runs.values():
        store.write_result(target, run)
    return target


def differences(one: ExperimentConfig, two: ExperimentConfig, ignored: Sequence[str] = ()) -> Iterator[tuple[str, Any, Any]]:
    """Each key that two questions answer differently, in canonical words, with both values."""
    left, right = (dict(_flat(config_file.plain_config(plan.resolve_config(config)))) for config in (one, two))
    for key in dict.fromkeys([*left, *right]):
        if left.get(key) != right.get(key) and key.split(".")[0] not in ignored:
            yield key, left.get(key), right.get(key)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif path in ("model", "dataset"):
        yield f"{path}.name", value
    else:
        yield path, value


def _words(value: Any) -> str:
    return "not given" if value is None else value_text(value)


def _kind(command: str) -> str:
    return RECOMMEND if command == RECOMMEND else "compare"


def _together(configs: Sequence[ExperimentConfig]) -> ExperimentConfig:
    resolved = [plan.resolve_config(config) for config in configs]
    schemes = tuple(dict.fromkeys(scheme for config in resolved for scheme in config.schemes))
    seeds = tuple(sorted({seed for config in resolved for seed in config.seeds}))
    return resolved[0].model_copy(update={"schemes": schemes, "seeds": seeds})

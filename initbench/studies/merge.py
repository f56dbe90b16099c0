"""Results folders together: the runs of one question from several machines in a new folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError
from initbench.question import config_file
from initbench.question.config import Execution, ExperimentConfig, value_text
from initbench.question.keys import plain_config
from initbench.question.plan import config_hash, resolve_config
from initbench.results import jobs, lock, store
from initbench.studies.kinds import study_of
from initbench.studies.plan import make_plan, open_folder, read_listed, without_code

MAY_DIFFER = ("schemes", "seeds")
"""Keys whose values are put together; every other key must be the same."""


def merge(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Writes the runs of all folders to a new one, which can then be reported and resumed; gives its path.

    Schemes and seeds are put together. Of a run that several folders have, the first that did not fail counts.
    Where `out` holds runs of this question they stay; a manifest's view stays as it is, but a metric in it that is code is not run.
    Raises: ConfigError for folders with different questions, with each key that differs; StorageError for one without results.
    """
    opened = [open_folder(folder) for folder in folders]
    first, manifest, config = opened[0]
    study = study_of(manifest.command, config)
    for folder, other, asked in opened[1:]:
        other_study = study_of(other.command, asked)
        commands = [("command", study.COMMAND, other_study.COMMAND)] if study.COMMAND != other_study.COMMAND else []
        differing = [*commands, *differences(config, asked, () if study.SEARCHES or other_study.SEARCHES else MAY_DIFFER)]
        if differing:
            listed = "; ".join(f"{key} is {_words(one)} in {first} and {_words(two)} in {folder}" for key, one, two in differing)
            raise ConfigError(f"{first} and {folder} do not ask the same question: {listed}.")
    question = _together([asked for _, _, asked in opened])
    target = Path(out)
    if target.resolve() in {folder.resolve() for folder, _, _ in opened}:
        raise ConfigError(f"{target} is one of the folders to be merged. Name another with --out.")
    plan = make_plan(manifest.command, question, Execution(output=str(target)), without_code(manifest.view)[0])
    known = {name for name, _ in plan.jobs}
    standing = jobs.read(target, dict(plan.jobs)).results
    runs = {run.job_id: run for run in standing}
    for folder, listing, _ in opened:
        results = read_listed(folder, listing).results
        strangers = [] if study.SEARCHES else [run for run in results if run.job_id not in known]
        if strangers:
            job = strangers[0].job
            raise ConfigError(
                f"{folder} was made with another version of a file: {job.scheme}, {job.model} or {job.dataset} is not the one here."
            )
        for run in results:
            if run.job_id not in runs or not store.is_done(runs[run.job_id]):
                runs[run.job_id] = run
    started = min(listing.started for _, listing, _ in opened)
    update = {
        "jobs": store.planned((run.job_id, run.job) for run in runs.values()),
        "config_hash": config_hash(plan.config),
        "derived_from": None,
        "derived": (store.known_manifest(target) or manifest.model_copy(update={"derived": {}})).derived,
        "started": started,
        "typed": "",
    }
    with lock.locked(target):
        store.write_text(target / store.CONFIG, config_file.dump_config(plan.config))
        store.write_manifest(target, manifest.model_copy(update=update))
        for run in runs.values():
            if run not in standing:
                store.write_result(target, run)
    return target


def differences(one: ExperimentConfig, two: ExperimentConfig, ignored: Sequence[str] = ()) -> Iterator[tuple[str, Any, Any]]:
    """Each key that two questions answer differently, in canonical words, with both values."""
    left, right = (dict(_flat(plain_config(resolve_config(config)))) for config in (one, two))
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


def _together(configs: Sequence[ExperimentConfig]) -> ExperimentConfig:
    resolved = [resolve_config(config) for config in configs]
    schemes = tuple(dict.fromkeys(scheme for config in resolved for scheme in config.schemes))
    seeds = tuple(sorted({seed for config in resolved for seed in config.seeds}))
    return resolved[0].model_copy(update={"schemes": schemes, "seeds": seeds})

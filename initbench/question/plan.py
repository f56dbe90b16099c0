"""What there is to do: a configuration becomes jobs, each with an identity that does not depend on how it is run."""

import hashlib
import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

from initbench.errors import ConfigError
from initbench.question import catalog
from initbench.question.catalog import Kind
from initbench.question.config import ExperimentConfig, Frozen, Job, Ref, value_text
from initbench.question.given import is_given, shown
from initbench.question.keys import short, split, value_of


def resolve_config(config: ExperimentConfig) -> ExperimentConfig:
    """The same question in canonical words: aliases replaced by what they stand for, parameters that are defaults left out.

    Raises: ConfigError for unknown names and parameters, and for two schemes that are the same one under two names.
    """
    schemes = tuple(catalog.resolve("scheme", ref) for ref in config.schemes)
    for index, scheme in enumerate(schemes):
        if scheme in schemes[:index]:
            first = config.schemes[schemes.index(scheme)]
            raise ConfigError(f"'{first}' and '{config.schemes[index]}' are the same scheme, {scheme}. Name it once.")
    rules = {pattern: catalog.resolve("scheme", ref) for pattern, ref in config.init.layers.items()}
    return config.model_copy(
        update={
            "schemes": schemes,
            "model": catalog.resolve("model", config.model),
            "dataset": catalog.resolve("dataset", config.dataset),
            "task": catalog.resolve("task", config.task),
            "init": config.init.model_copy(update={"layers": rules}),
            "train": config.train.model_copy(update={"optimizer": catalog.resolve("optimizer", config.train.optimizer)}),
        }
    )


def make_jobs(config: ExperimentConfig) -> tuple[Job, ...]:
    """One job for each seed and scheme, seed by seed, so that an interrupted comparison still has pairs."""
    return jobs_of(resolve_config(config))


def jobs_of(config: ExperimentConfig) -> tuple[Job, ...]:
    """The same of a configuration that is in canonical words already."""
    return tuple(make_job(config, scheme, seed) for seed in config.seeds for scheme in config.schemes)


def make_job(config: ExperimentConfig, scheme: Ref, seed: int) -> Job:
    """The job of one scheme and seed, of a configuration in canonical words."""
    return Job(
        scheme=scheme,
        seed=seed,
        model=config.model,
        dataset=config.dataset,
        task=config.task,
        init=config.init,
        train=config.train,
        probe=config.probe,
    )


def canonical(config: ExperimentConfig) -> str:
    """The question as one line of JSON; the same text for equal questions."""
    return config.model_dump_json()


IMPLIED = ("evaluate_every_steps",)
"""What a study sets along with the length of a run."""


def describe(job: Job, config: ExperimentConfig) -> str:
    """A job in words, with what differs from the configuration: `kaiming, seed 9, lr 0.158, holdout 0.2`."""
    return ", ".join([str(job.scheme), f"seed {job.seed}", *changes(job, config)])


def changes(job: Job, config: ExperimentConfig) -> list[str]:
    """What differs from the configuration in a job that a study made of it: `lr 0.158`, `holdout 0.2`; of a sweep, its cell."""
    if config.grid is not None:
        return [f"{short(key)} {value_text(value)}" for key, value in values_of_cell(job, config).items()]
    words = [job.model.shown] if job.model != config.model else []
    for own, usual in ((job.train, config.train), (job.init, config.init)):
        changed = [name for name in type(own).model_fields if name not in IMPLIED and getattr(own, name) != getattr(usual, name)]
        words += [f"{name} {value_text(getattr(own, name))}" for name in changed if getattr(own, name) is not None]
    return words


def values_of_cell(job: Job, config: ExperimentConfig) -> dict[str, Any]:
    """The value that each key of the grid has in a job of a sweep; nothing of a job of anything else."""
    parts = {part: getattr(job, part) for part in ("model", "dataset", "task", "init", "train", "probe")}
    asked = config.model_copy(update={"grid": None, "schemes": (job.scheme,), **parts})
    return {key: value_of(asked, key) for key in split(config.grid.axes)} if config.grid is not None else {}


def job_id(job: Job) -> str:
    """16 hexadecimal digits that change with anything that changes the job's result, the text of user files included."""
    return _digest(job, named_of(job))


def job_ids(jobs: Iterable[Job]) -> list[str]:
    """`job_id` of each, at the price of few: jobs of one question have most of their parts in common, and each is written once."""
    every = list(jobs)  # which keeps the parts, by whose place in memory they are known
    texts: dict[int, str] = {}
    found: dict[tuple[Kind, int], dict[str, str]] = {}
    united: dict[tuple[int, ...], str] = {}

    def text(part: Frozen) -> str:
        if id(part) not in texts:
            texts[id(part)] = _plain(part.model_dump(mode="json", exclude_defaults=True))
        return texts[id(part)]

    def files(job: Job) -> str:
        parts = tuple(id(getattr(job, part)) for part in NAMING)
        if parts not in united:
            named = named_of(job)
            for kind, ref in named:
                if (kind, id(ref)) not in found:
                    found[kind, id(ref)] = _files([(kind, ref)])
            united[parts] = _plain({name: digest for kind, ref in named for name, digest in found[kind, id(ref)].items()})
        return united[parts]

    ids = []
    for job in every:
        fields = JOB_FIELDS if text(job.task) != USUAL else JOB_FIELDS_ONCE
        parts = ",".join(f'"{name}":{job.seed if name == "seed" else text(getattr(job, name))}' for name in fields)
        ids.append(_hashed(f"[{{{parts}}},{files(job)}]"))
    return ids


def name_user_files(jobs: Iterable[Job]) -> bool:
    """Whether a file of the user's own is behind a scheme, the model, the dataset, the task or the optimizer of any of the jobs."""
    every = {tuple(id(getattr(job, part)) for part in NAMING): job for job in jobs}  # which have most of their parts in common
    named = {(kind, ref.name) for job in every.values() for kind, ref in named_of(job)}
    return any(catalog.user_file(kind, name) for kind, name in named)


def name_objects(jobs: Iterable[Job]) -> bool:
    """Whether an object of this process is behind a name of any of the jobs."""
    every = {tuple(id(getattr(job, part)) for part in NAMING): job for job in jobs}
    return any(is_given(ref.name) for job in every.values() for _, ref in named_of(job))


def named_of(job: Job) -> list[tuple[Kind, Ref]]:
    """Everything that a job names, with what it is."""
    schemes: list[tuple[Kind, Ref]] = [("scheme", ref) for ref in (job.scheme, *job.init.layers.values())]
    return [*schemes, ("model", job.model), ("dataset", job.dataset), ("task", job.task), ("optimizer", job.train.optimizer)]


def digests_of(jobs: Iterable[Job]) -> dict[str, str]:
    """The digests of all files of the user's own that jobs name."""
    named = {(kind, ref.name): ref for job in jobs for kind, ref in named_of(job)}
    return _files((kind, ref) for (kind, _), ref in named.items())


def config_hash(config: ExperimentConfig) -> str:
    """16 hexadecimal digits of the whole question."""
    config = resolve_config(config)
    if config.until is not None:  # how many seeds it may be at most, and how many at a time, is no other question
        kept = config.seeds[:1] if _in_a_row(config.seeds) else config.seeds
        config = config.model_copy(update={"seeds": kept, "until": config.until.model_copy(update={"each": None})})
    return _digest(config, _named_in(config))


def _in_a_row(seeds: tuple[int, ...]) -> bool:
    """Whether more of them can only come behind those that are there: of a list, others could take their place."""
    return seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))


def same_but_for_seeds(one: ExperimentConfig, other: ExperimentConfig) -> bool:
    """Whether two questions have the same answer to all but how many seeds there are, and what is decided about."""
    texts = [canonical(resolve_config(config).model_copy(update={"seeds": (0,), "until": None})) for config in (one, other)]
    return texts[0] == texts[1]


def files_of(config: ExperimentConfig) -> dict[str, str]:
    """The digests of all files of the user's own that a question names, but for those that are values of a grid."""
    return _files(_named_in(resolve_config(config)))


def _named_in(config: ExperimentConfig) -> list[tuple[Kind, Ref]]:
    named: list[tuple[Kind, Ref]] = [("model", config.model), ("dataset", config.dataset), ("task", config.task)]
    named += [("optimizer", config.train.optimizer)]
    return [*named, *(("scheme", ref) for ref in chain(config.schemes, config.init.layers.values()))]


def result_name(command: str, config: ExperimentConfig) -> str:
    """The name of the results folder, such as `compare-mlp-mnist5k-1f3a5c7e`: the same question has the same name."""
    return f"{folder_words(command, config.model.name, config.dataset.name)}-{config_hash(config)[:8]}"


def folder_words(*names: str) -> str:
    """The last word of each name, as they stand in the names of folders: `compare-mlp-mnist5k`."""
    texts = ("".join(letter if letter.isalnum() or letter == "_" else " " for letter in shown(name)) for name in names)
    return "-".join(text.split()[-1] for text in texts)


def _digest(value: Frozen, named: list[tuple[Kind, Ref]]) -> str:
    """Fields at their default are left out, so that a field that is added later changes no identity; so a default is never changed."""
    return _hashed(_plain([value.model_dump(mode="json", exclude_defaults=True), _files(named)]))


def _files(named: Iterable[tuple[Kind, Ref]]) -> dict[str, str]:
    """The digests of the user's own files, by the names that they have."""
    return {ref.name: digest for kind, ref in named if (digest := catalog.user_digest(kind, ref.name)) is not None}


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


NAMING = ("scheme", "model", "dataset", "task", "train", "init")
"""The parts of a job that name something."""
JOB_FIELDS = sorted(Job.model_fields)
"""In the order in which they are written."""
JOB_FIELDS_ONCE = [name for name in JOB_FIELDS if name != "task"]
"""Those that jobs had before there were tasks: of a job of the usual one they are all that is written."""
USUAL = _plain(Job.model_fields["task"].default.model_dump(mode="json", exclude_defaults=True))
"""The usual task as it would be written."""

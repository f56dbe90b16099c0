"""What a user says becomes a question: a config file, settings and options; how its results are looked at."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pydantic import ValidationError

from initbench.errors import ConfigError, a_or_an, suggestion
from initbench.question import config_file
from initbench.question.config import Execution, ExperimentConfig, Ref, View
from initbench.question.data_folder import data_folder

DEFAULT_SEEDS = {"run": 1, "compare": 8, "recommend": 8, "sweep": 8, "coordinate-check": 3}
"""How many seeds a command takes when nobody says."""
KEYS = {"epochs": "train.epochs", "steps": "train.steps", "strict": "init.strict"}
"""The keys of a config that options have a shorter word for."""

MOST_RUNS = 1_000_000
"""Of one question. Planning so many takes a minute and 3 GB."""
NO_MARGIN = "none"
"""The word that takes a margin away."""


class ViewFields(TypedDict, total=False):
    """What verdicts are about; see `initbench.question.config.View`."""

    metric: str | None
    target: float | None
    margin: float | str | None
    margin_metric: str | None


def view_of(reference: str | None = None, **look: Unpack[ViewFields]) -> View:
    """How results are looked at; the margin `none` is no margin. Raises: ConfigError for a target or a margin that cannot be one."""
    said: dict[str, Any] = {key: value for key, value in {"reference": reference, **look}.items() if value is not None}
    if "margin" in said:
        said["margin"] = _margin_of(said["margin"])
        said["margin_metric"] = None if said["margin"] is None else look.get("margin_metric", look.get("metric"))
    return View.model_validate(said)


def _margin_of(given: float | str) -> float | None:
    if given == NO_MARGIN:
        return None
    try:
        return float(given)
    except ValueError:
        raise ConfigError(f"The margin is '{given}'; it must be a number from 0, or: {NO_MARGIN}.") from None


def execution_of(function: str, given: dict[str, Any]) -> Execution:
    """How jobs are carried out, of the keywords that a public function was given beside its own.

    Raises: TypeError, as Python does, for an unknown keyword; ConfigError for a value that cannot be used.
    """
    refuse_unknown(function, given, Execution.model_fields)
    try:
        paths = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
        return Execution.model_validate(paths)
    except ValidationError as error:
        problem = "; ".join(f"{details['loc'][0]} is {details['input']!r}: {details['msg']}" for details in error.errors())
        raise ConfigError(f"{function} cannot use its arguments: {problem}.") from error


def refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises: TypeError for a keyword that the function does not take."""
    known = list(known)
    for word in given:
        if word not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument '{word}'.{suggestion(word, known)}")


def as_name(what: str, value: object) -> str | None:
    """The name that something goes by in a question. Raises: ConfigError for a class, a module or another thing in its place."""
    if value is None or isinstance(value, str | Ref | Path):
        return None if value is None else str(value)
    given = f"the class {value.__name__}" if isinstance(value, type) else a_or_an(type(value).__name__)
    raise ConfigError(
        f"The {what} is {given}. It is made anew for each run, so it is given by a name: one of `initbench list {what}s`, a file such as "
        "'./mine.py', or 'package.module:name'."
    )


class QuestionFields(TypedDict, total=False):
    """What changes a question, each in place of what the config file says."""

    schemes: Sequence[str | Ref] | None
    model: str | None
    dataset: str | None
    task: str | None
    seeds: int | str | Sequence[int] | None
    epochs: int | None
    steps: int | None
    strict: bool | None
    tune: str | None
    grid: Mapping[str, Any] | None
    until: str | None
    max_seeds: int | None


def grid_of(axes: Sequence[str], where: Sequence[str]) -> dict[str, Any] | None:
    """The grid of `KEY=VALUES` words and conditions; None where there are none. Raises: ConfigError for a word that is none."""
    grid: dict[str, Any] = {}
    for word in axes:
        key, equals, values = word.partition("=")
        if not equals or not values.strip():
            raise ConfigError(
                f"--grid {word} names no values. Write --grid KEY=VALUES, such as model.depth=4,16,64 or train.lr=1e-3..1:log:7."
            )
        if key.strip() in grid:
            raise ConfigError(f"--grid {key.strip()} is given twice. Give all its values at once.")
        grid[key.strip()] = values.strip()
    return grid | ({"where": list(where)} if where else {}) if grid or where else None


def configure(
    command: str,
    source: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    data_dir: str | None = None,
    dashes: str = "",
    view: View = View(),
    **asked: Unpack[QuestionFields],
) -> ExperimentConfig:
    """The question of a command: a config file or shipped name, `a.b=c` settings, and what is `asked` in their place.

    `dashes` come before the words of `asked` where the user is told of them. Raises: ConfigError with every problem at once.
    """
    schemes, seeds = asked.pop("schemes", None), asked.pop("seeds", None)
    until, most = asked.pop("until", None), asked.pop("max_seeds", None)
    if schemes is not None and not isinstance(schemes, Iterable):
        raise ConfigError(f"The schemes are {a_or_an(type(schemes).__name__)}. Give a list of names, such as ['kaiming', 'xavier'].")
    schemes = [schemes] if isinstance(schemes, str | Ref) else schemes
    for what in ("model", "dataset", "task"):
        if what in asked:
            asked[what] = as_name(what, asked[what])
    options: dict[str, tuple[str, Any]] = {KEYS.get(word, word): (dashes + word, value) for word, value in asked.items()}
    options["schemes"] = ("", None if schemes is None else [as_name("scheme", scheme) or "" for scheme in schemes])
    options["seeds"] = (f"{dashes}seeds", seeds if isinstance(seeds, str | int | None) else list(seeds))
    options["until"] = (f"{dashes}until", until)
    looked = [key for key in ("reference", "metric", "margin") if key in view.model_fields_set]
    rounds = {f"until.{key}": (dashes + key, getattr(view, key)) for key in looked}
    if most is not None:
        rounds["seeds"] = (f"{dashes}max-seeds", most)
    config = config_file.load_config(
        None if source is None else str(source),
        settings=settings,
        options=options,
        rounds=rounds,
        default_seeds=DEFAULT_SEEDS.get(command, 1),
        data_files=lambda: {path.stem for path in data_folder(data_dir).glob("*.npz")},
    )
    if most is not None and config.until is None:
        raise ConfigError(f"{dashes}max-seeds bounds the seeds that {dashes}until decided adds. Write both, or {dashes}seeds {most}.")
    if config.until is not None and (command in DEFAULT_SEEDS.keys() - {"compare"} or config.tune is not None):
        what = "--tune" if command == "compare" else f"`{command}`"
        raise ConfigError(f"Seeds are added until it is decided in a plain comparison, not with {what}. Give a number of seeds.")
    if config.grid is None and command == "sweep":
        raise ConfigError("`sweep` needs a grid, such as --grid model.depth=4,16,64.")
    if config.grid is not None and command in DEFAULT_SEEDS.keys() - {"sweep"}:
        raise ConfigError(f"`{command}` does not sweep over the grid of {source}: use initbench sweep -c {source}")
    axes = [] if config.grid is None else [len(values) for values in config.grid.axes.values()]
    if (runs := math.prod([len(config.schemes), len(config.seeds), *axes])) > MOST_RUNS:
        parts = [("schemes", len(config.schemes)), ("seeds", len(config.seeds)), *([("cells", math.prod(axes))] if axes else [])]
        product = " x ".join(f"{number:,} {name}" for name, number in parts)
        raise ConfigError(f"{product} are {runs:,} runs; at most {MOST_RUNS:,} can be planned at once. Ask for fewer.")
    if command == "run" and len(config.schemes) > 1:
        raise ConfigError(f"`run` takes one scheme, not {len(config.schemes)}. Choose one with --method, or use: initbench compare")
    if command == "compare" and len(config.schemes) < 2:
        raise ConfigError(
            f"`compare` takes two schemes or more, not only {config.schemes[0]}. For one use: initbench run {config.schemes[0]}"
        )
    return config

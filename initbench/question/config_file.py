"""YAML in and out: a configuration from a file, `--set` and options, with all its problems at once, each with its place."""

import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from initbench.errors import ConfigError, StorageError, suggestion, unknown_name
from initbench.question import catalog, families, user_files
from initbench.question.catalog import Kind
from initbench.question.config import (
    DECIDED,
    MOST_LEVELS,
    MOST_UNTIL_DECIDED,
    USUAL_TASK,
    ExperimentConfig,
    as_ref,
    axis_values,
    is_range,
    parse_ref,
    parse_value,
)
from initbench.question.given import is_given
from initbench.question.keys import plain_config, split, takes_whole
from initbench.question.messages import Place, explain

LENGTHS: dict[Place, Place] = {("train", "epochs"): ("train", "steps"), ("train", "steps"): ("train", "epochs")}
"""The two ways to say how long to train: who changes one of them does not want the other."""
MOST_VALUES = 100_000
"""Of a configuration; one that refers to itself with YAML's `*` has no end."""
TEXTS = (".txt", ".md")
"""Endings of files that are a data set as they are: a text."""
TOO_DEEP = "values refer to themselves, or are nested too deep"
MOST_BYTES = 2**20
"""Of a config file. Reading so many takes some seconds."""
MOST_SEEDS = 100_000
SEEDS: Place = ("seeds",)
UNTIL: Place = ("until",)
RULES = "init.layers."
"""What comes after it is one key, a pattern with dots of its own."""


class _Origin(NamedTuple):
    """Where a value was written: a word of the command line, or a file and its line."""

    words: str
    line: int = 0


class _Placed(NamedTuple):
    """A problem, and the line of the file that it is in; 0 where it is in none."""

    line: int
    sentence: str


@dataclass
class _Draft:
    """A configuration as plain data, and for each of its values where it came from."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, _Origin] = field(default_factory=dict)
    changed: set[Place] = field(default_factory=set)

    def put(self, path: Place, value: Any, words: str) -> None:
        """Sets a value; sections and the parameters of references are made on the way; epochs replace steps, and steps epochs."""
        if path == UNTIL and value == DECIDED and isinstance(self.data.get("until"), dict):  # how is said already
            return
        instead, train = LENGTHS.get(path), self.data.get("train")
        if instead and instead not in self.changed and isinstance(train, dict):
            train.pop(str(instead[-1]), None)
        self.changed.add(path)
        here = self.data
        for key in path[:-1]:
            inner = here.get(str(key))
            if key in {"model", "dataset", "task"} and not isinstance(inner, dict):
                ref = parse_ref(inner) if isinstance(inner, str) else ExperimentConfig.model_fields[str(key)].default
                inner = {"name": ref.name, **ref.params}
            elif not isinstance(inner, dict):
                inner = {}
            here[str(key)] = inner
            here = inner
        here[str(path[-1])] = value
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]
        self.origins[path] = _Origin(words)

    def problem(self, path: Place, sentence: str) -> _Placed:
        """What is wrong with a value, after its place or that of the nearest thing around it, where the sentence does not begin with it."""
        nearest = (self.origins[path[:length]] for length in range(len(path), -1, -1) if path[:length] in self.origins)
        words, line = next(nearest, _Origin(""))
        if not words or sentence.startswith(f"{words} "):
            return _Placed(line, sentence)
        return _Placed(line, f"{words}: {sentence.removeprefix(words.lstrip('-') + ': ')}")


def shipped() -> dict[str, Path]:
    """The configurations that come with initbench, by name."""
    package = Path(__file__).parent.parent
    folder = next((path for path in (package / "configs", package.parent / "configs") if path.is_dir()), package / "configs")
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def headline(path: Path) -> str:
    """What a shipped config is, in a line: its second one, after the command that runs it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[1].lstrip("# ") if len(lines) > 1 else ""


def locate(source: str) -> Path:
    """The file behind a path or the name of a shipped configuration.

    Raises: ConfigError when it is neither.
    """
    if user_files.is_file(Path(source)):
        return Path(source)
    name = source.removesuffix(".yaml")
    if name in shipped():
        return shipped()[name]
    if "/" in source or source.endswith((".yaml", ".yml")):
        raise ConfigError(f"There is no config file '{source}'.{suggestion(name, shipped())} Shipped ones: initbench list configs.")
    raise unknown_name("config", source, shipped(), "Give a path, or see: initbench list configs")


def is_readable(path: Path) -> bool:
    """Whether a file is there and is the YAML of a configuration, whatever it names."""
    try:
        return path.is_file() and bool(_read(path).data)
    except (ConfigError, StorageError):
        return False


def load_config(
    source: str | None = None,
    *,
    settings: Sequence[str] = (),
    options: Mapping[str, tuple[str, Any]] | None = None,
    rounds: Mapping[str, tuple[str, Any]] | None = None,
    default_seeds: int | None = None,
    data_files: Callable[[], Collection[str]] = tuple,
) -> ExperimentConfig:
    """A configuration from a file or a shipped name, then `a.b=c` settings, then options (dotted key -> (its word, value)).

    `rounds` are options that count only where seeds are added until it is decided.
    `data_files` names the files of the data folder: `dataset: mine` is short for `npz:file=mine` when mine.npz is there.
    Raises: ConfigError with every problem, a line each, each with its place.
    """
    draft = _read(locate(source)) if source else _Draft()
    words: dict[Place, tuple[str, Any]] = {tuple(key.split(".")): said for key, said in (options or {}).items() if said[1] is not None}
    problems = _spread_seeds(draft)
    adds = draft.data.get("until") is not None
    problems += [problem for setting in settings if (problem := _apply_setting(draft, setting))] + _repeated(settings)
    problems += _take_until(draft, words, adds=adds)
    if draft.data.get("until") is not None:
        default_seeds = MOST_UNTIL_DECIDED
        words |= {tuple(key.split(".")): said for key, said in (rounds or {}).items()}
    problems += _put_all(draft, words)
    if default_seeds is not None:
        draft.data.setdefault("seeds", default_seeds)
    problems += _expand(draft)
    dataset = draft.data.get("dataset")
    if isinstance(dataset, str) and dataset.endswith(TEXTS) and ":" not in dataset:
        draft.data["dataset"] = {"name": "text", "file": dataset}
    if isinstance(dataset, str) and dataset.isidentifier() and not _known("dataset", dataset) and dataset in data_files():
        draft.data["dataset"] = {"name": "npz", "file": dataset}
    _imply(draft)
    config = _with_ranges(_checked(draft, problems), draft.data.get("grid"))
    for key in split(config.grid.axes if config.grid is not None else ()):
        place = tuple(key.split("."))
        said = draft.origins[place].words if place in draft.changed else ""
        if said:
            raise ConfigError(f"{key} is an axis of the grid, and {said} gives it one value. Leave out one of the two.")
    return config


def with_value(config: ExperimentConfig, key: str, value: Any, word: str) -> ExperimentConfig:
    """The configuration with another value of `key`, such as `train.lr`; `word` is what the user knows it by.

    Raises: ConfigError for a key that does not exist or a value that is not allowed there.
    """
    draft = _Draft(plain_config(config))
    draft.put(tuple(key.split(".")), value, word)
    return _checked(draft, [])


def _with_ranges(config: ExperimentConfig, given: Any) -> ExperimentConfig:
    """The configuration with the ranges of its grid as whole numbers where, and only where, the key takes no others."""
    if config.grid is None or not isinstance(given, dict):
        return config
    ranges = {key: tuple(axis_values(key, text, whole=takes_whole(config, key))) for key, text in given.items() if is_range(text)}
    return config.model_copy(update={"grid": config.grid.model_copy(update={"axes": {**config.grid.axes, **ranges}})})


def _checked(draft: _Draft, problems: list[_Placed]) -> ExperimentConfig:
    names = list(_name_problems(draft))
    try:
        config = ExperimentConfig.model_validate(draft.data)
    except ValidationError as error:
        problems += [draft.problem(problem.place, problem.sentence) for problem in explain(error, draft.data)]
        config = None
    problems += names
    if problems or config is None:
        in_order = sorted(problems, key=lambda problem: problem.line)
        raise ConfigError("\n".join(dict.fromkeys(problem.sentence for problem in in_order)))
    return config


def dump_config(config: ExperimentConfig) -> str:
    """The whole configuration as YAML that `load_config` reads back to the same."""
    text = io.StringIO()
    yaml = _yaml("safe")
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(plain_config(config), text)
    return text.getvalue()


def _yaml(kind: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ=kind, pure=True)


def _read(path: Path) -> _Draft:
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(
                f"{path} has more than {MOST_BYTES >> 10} KiB. A configuration is a short YAML file; see: initbench list configs"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8. A configuration is a YAML file, such as one of: initbench list configs.") from error
    try:
        root = _yaml("rt").load(text)
    except RecursionError as error:
        raise ConfigError(f"{path}:1: {TOO_DEEP}.") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = "; ".join(part for part in ((error.problem or "").splitlines() or [""])[:1] if part)
        raise ConfigError(f"{path}:{line}: {what or 'this is not YAML'}.") from error
    except YAMLError as error:
        raise ConfigError(f"{path}:1: this is not YAML: {error}.") from error
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: a number or a date cannot be read: {str(error).partition(';')[0]}.") from error
    draft = _Draft(origins={(): _Origin(f"{path}:1", 1)})
    if root is None:
        return draft
    if not isinstance(root, CommentedMap):
        raise ConfigError(f"{path}:1: a configuration is a mapping of key: value, such as `model: mlp`.")
    draft.data = _plain(root, path, (), draft.origins)
    return draft


def _plain(node: Any, file: Path, path: Place, origins: dict[Place, _Origin]) -> Any:
    """Turns ruamel's round-trip objects into plain ones and notes the line of each.

    Raises: ConfigError for a value that refers to itself, or to others that often that it has more than `MOST_VALUES`.
    """
    if len(path) > MOST_LEVELS or len(origins) > MOST_VALUES:
        raise ConfigError(f"{file}:1: {TOO_DEEP}.")
    if isinstance(node, dict):
        for key in node:
            origins[(*path, str(key))] = _origin(file, node, key)
        return {str(key): _plain(value, file, (*path, str(key)), origins) for key, value in node.items()}
    if isinstance(node, list):
        for index in range(len(node)):
            origins[(*path, index)] = _origin(file, node, index)
        return [_plain(value, file, (*path, index), origins) for index, value in enumerate(node)]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return None if node is None else str(node)


def _origin(file: Path, node: Any, key: Any) -> _Origin:
    position = node.lc.data.get(key) if node.lc.data else None
    line = int(position[0] if position else node.lc.line) + 1
    return _Origin(f"{file}:{line}", line)


def _apply_setting(draft: _Draft, setting: str) -> _Placed | None:
    key, equals, value = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        return _Placed(0, f"--set {setting}: write it as key=value, such as --set train.lr=0.1.")
    path = ("init", "layers", key.removeprefix(RULES)) if key.startswith(RULES) else tuple(key.split("."))
    draft.put(_long_form(path), parse_value(value.strip()), f"--set {setting}")
    return None


def _repeated(settings: Sequence[str]) -> list[_Placed]:
    times = Counter(setting.partition("=")[0].strip() for setting in settings)
    return [_Placed(0, f"--set {key} is given {n} times, and only one value can count. Give it once.") for key, n in times.items() if n > 1]


def _long_form(path: Place) -> Place:
    """The key that one within `seeds: {until: decided, at_most: 64, margin: 0.5}` is short for; any other as it is."""
    if path[:1] != SEEDS or len(path) < 2:
        return path
    return {"at_most": SEEDS, "until": UNTIL}.get(str(path[1]), (*UNTIL, *path[1:]))


def _spread_seeds(draft: _Draft) -> list[_Placed]:
    """Writes out the short form of a file that adds seeds, under the keys `until` and `seeds`."""
    data, seeds = draft.data, draft.data.get("seeds")
    if not isinstance(seeds, dict):
        return []
    del data["seeds"]
    if seeds.get("until") is None:
        return [draft.problem(SEEDS, "seeds is a mapping without `until`. Write {until: decided, at_most: 64}, or a number.")]
    for key in seeds:
        draft.origins[_long_form((*SEEDS, key))] = draft.origins.pop((*SEEDS, key))
    if "at_most" in seeds:
        data["seeds"] = seeds["at_most"]
    section = data.get("until")
    within = {key: value for key, value in seeds.items() if key not in {"until", "at_most"}}
    data["until"] = {**within, **(section if isinstance(section, dict) else {})} if seeds["until"] == DECIDED else seeds["until"]
    return []


def _take_until(draft: _Draft, words: dict[Place, tuple[str, Any]], *, adds: bool) -> list[_Placed]:
    """What the options `until` and `seeds` make of what file and settings say of these; gives what does not go together.

    `adds`: the file has seeds added, so that the number in it is that at most.
    """
    data, (word, asked) = draft.data, words.pop(UNTIL, ("", None))
    if SEEDS in words:
        settings = [draft.origins[place].words for place in draft.changed if place[:1] == UNTIL]
        adding = ([word] if asked is not None else []) + settings
        if not adding:
            data.pop("until", None)
        rest = f"adds seeds until it is decided, and {words[SEEDS][0]} fixes their number. Give one of the two."
        return [_Placed(0, f"{each} {rest}") for each in adding]
    if asked is not None and (asked != DECIDED or not isinstance(data.get("until"), dict)):
        data["until"], draft.origins[UNTIL] = asked, _Origin(word)
    given = draft.origins[SEEDS].words if SEEDS in draft.changed else ""
    if data.get("until") is None:
        bound = given.startswith("--set seeds.at_most")
        return [_Placed(0, f"{given} bounds the seeds that --set seeds.until=decided adds. Write both.")] if bound else []
    if not adds and not given:
        data.pop("seeds", None)
    return []


def _put_all(draft: _Draft, words: Mapping[Place, tuple[str, Any]]) -> list[_Placed]:
    """Puts what options say; gives the settings that would be lost with that: about a part of it, or about seeds."""
    settings = {place: draft.origins[place].words for place in draft.changed if place in draft.origins}
    clashes = []
    for place, (word, value) in words.items():
        key, alone = ".".join(map(str, place)), place[:1] in {SEEDS, UNTIL}
        beside = (said for at, said in settings.items() if at[: len(place)] == place and (alone or at != place))
        clashes += [
            _Placed(0, f"{word or key} says what {key} is, so that {said} would not count. Give one of the two.") for said in beside
        ]
        draft.put(place, value, word)
    return clashes


def _expand(draft: _Draft) -> list[_Placed]:
    """Writes out the short forms `seeds: 8`, `schemes: kaiming`, `schemes: all`; gives what is wrong with them."""
    data = draft.data
    if "schemes" in data:
        data["schemes"] = families.expanded(data["schemes"])
    seeds = data.get("seeds")
    if isinstance(seeds, str):
        seeds = data["seeds"] = parse_value(f"[{seeds.strip().rstrip(',')}]") if "," in seeds else parse_value(seeds.strip())
    if isinstance(seeds, str):
        data["seeds"] = [0]
        return [draft.problem(("seeds",), f"seeds is '{seeds}'; it must be a number (8 means 0 to 7) or a list such as 0,3,5.")]
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            data["seeds"] = [0]
            return [draft.problem(("seeds",), f"seeds is {seeds}; it must be at least 1 (8 means 0 to 7), or a list such as 0,3,5.")]
        if seeds > MOST_SEEDS:
            data["seeds"] = [0]
            return [
                draft.problem(("seeds",), f"seeds is {seeds}; it must be at most {MOST_SEEDS} (8 means 0 to 7), or a list such as 0,3,5.")
            ]
        data["seeds"] = list(range(seeds))
    if "schemes" not in data:
        data["schemes"] = ["kaiming"]
        remedy = "Name some, such as `initbench compare xavier kaiming`, or see: initbench list schemes."
        return [_Placed(0, f"No scheme is named. {remedy}")]
    return []


def _imply(draft: _Draft) -> None:
    """The task that a data set is for where none is named, and a model and data for the task."""
    try:
        task = as_ref(draft.data["task"]).name if "task" in draft.data else _tasks("dataset", draft.data.get("dataset"))[0]
    except (ConfigError, ValidationError):
        return  # it is said by who checks the names
    draft.data.setdefault("task", task)
    if "dataset" not in draft.data and (catalog.is_file_name(task) or (":" in task and not is_given(task))):
        draft.data["dataset"] = draft.data["task"]  # a task of somebody's own brings its data along
    kinds: tuple[Kind, ...] = ("model", "dataset")
    for kind in kinds:
        if kind not in draft.data and task != USUAL_TASK:
            usable = [entry.name for entry in catalog.entries(kind) if entry.tasks[0] == task and not entry.needs_parameters]
            if usable:
                draft.data[kind] = usable[0]


def _tasks(kind: Kind, value: Any) -> tuple[str, ...]:
    return (USUAL_TASK,) if value is None else catalog.find(kind, as_ref(value).name)[0].tasks


def _name_problems(draft: _Draft) -> Iterator[_Placed]:
    """What the catalogue says against the names and parameters in a configuration."""
    init = draft.data.get("init")
    rules = init.get("layers") if isinstance(init, dict) else None
    schemes, train = draft.data.get("schemes"), draft.data.get("train")
    named: list[tuple[Kind, Place, Any]] = [
        ("model", ("model",), draft.data.get("model")),
        ("dataset", ("dataset",), draft.data.get("dataset")),
        ("task", ("task",), draft.data.get("task")),
        ("optimizer", ("train", "optimizer"), train.get("optimizer") if isinstance(train, dict) else None),
    ]
    named += [("scheme", ("schemes", index), value) for index, value in enumerate(schemes if isinstance(schemes, list) else [])]
    named += [("scheme", ("init", "layers", key), value) for key, value in (rules.items() if isinstance(rules, dict) else [])]
    for kind, path, value in named:
        if value is None:
            continue
        try:
            ref = as_ref(value)
        except (ValidationError, ConfigError):
            continue  # what is no reference is said by who checks the types
        try:
            families.refuse_unknown(value)
            catalog.resolve(kind, ref)
        except ConfigError as error:
            yield draft.problem(path, str(error))


def _known(kind: Kind, name: str) -> bool:
    return any(name == entry.name or name in entry.aliases for entry in catalog.entries(kind))

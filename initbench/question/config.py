"""The typed configuration: what is asked (`ExperimentConfig`) and how it is carried out (`Execution`)."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from initbench.errors import ConfigError
from initbench.question import given

Value = bool | int | float | str | None | list["Value"]


LONGEST_NUMBER = 100
"""Digits of a number, at most."""
MOST_VALUES = 10_000
"""Values of an axis of a sweep, at most."""
MOST_LEVELS = 20
"""Values in one another, at most."""


class Frozen(BaseModel):
    """A value object: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Ref(Frozen):
    """A name and its parameters: `kaiming:mode=fan_out`, `mlp:depth=30,width=128`, `./mine.py:Net:scale=2`."""

    name: str = Field(min_length=1)
    params: dict[str, Any] = Field(default_factory=dict)

    def __str__(self) -> str:
        """Gives the text that `parse_ref` reads back; parameters are sorted by name."""
        return self._with_parameters(self.name)

    @property
    def shown(self) -> str:
        """The text that people read: an object of a Python program goes by its own word, without the digest that is for identity."""
        return self._with_parameters(given.shown(self.name))

    def _with_parameters(self, name: str) -> str:
        if not self.params:
            return name
        return name + ":" + ",".join(f"{key}={value_text(value)}" for key, value in sorted(self.params.items()))

    def __hash__(self) -> int:
        """Equal references have equal texts."""
        return hash(str(self))


def parse_ref(text: str) -> Ref:
    """Reads `name:key=value,key=value`; lists are written `[1,2]`, calls `Softplus(2,10)`, a reference in it `base=normal:std=2`.

    Raises: ConfigError when a parameter is not `key=value`.
    """
    if not text.strip():
        raise ConfigError("A name is missing. Write one such as kaiming, or with parameters: kaiming:mode=fan_out.")
    match = re.fullmatch(r"(.+?):(\s*\w+\s*=.*)", text.strip(), re.DOTALL)
    if match is None:
        return Ref(name=text.strip())
    name, tail = match.groups()
    params: dict[str, Any] = {}
    for part in _parts(tail):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"Cannot read '{part}' in '{text}'. Write parameters as name:key=value,key=value.")
        params[key.strip()] = parse_value(value.strip())
    return Ref(name=name, params=params)


def parse_value(text: str, *, level: int = 0) -> Any:
    """Reads a number, true, false, null or a list `[1,[2,3]]` as YAML 1.2 would; anything else is a string, digits without end too."""
    if text.startswith("[") and text.endswith("]") and level < MOST_LEVELS:
        inner = text[1:-1].strip()
        return [parse_value(part.strip(), level=level + 1) for part in _parts(inner)] if inner else []
    if text in {"true", "false"}:
        return text == "true"
    if text in {"null", "~", ""}:
        return None
    if len(text) > LONGEST_NUMBER:
        return text
    if re.fullmatch(r"[-+]?\d+", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text, re.ASCII):
        return float(text)
    return text


def _parts(text: str) -> list[str]:
    """A text cut at its commas, but those within brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth = max(0, depth + (sign in "[(") - (sign in "])"))
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def value_text(value: Any) -> str:
    """The text that `parse_value` reads back."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ",".join(value_text(item) for item in value) + "]"
    return str(value)


def as_ref(value: Any) -> Ref:
    """The reference that a string, a mapping or a reference means.

    Raises: ConfigError for a string that cannot be read, ValidationError for anything else.
    """
    if isinstance(value, str):
        return parse_ref(value)
    return Ref.model_validate(_ref_from_any(value))


def _ref_from_any(value: Any) -> Any:
    """Accepts `"mlp:depth=3"` and `{name: mlp, depth: 3}` wherever a reference is expected."""
    if isinstance(value, str):
        try:
            return parse_ref(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
    if isinstance(value, dict) and "name" in value and "params" not in value:
        return {"name": value["name"], "params": {key: item for key, item in value.items() if key != "name"}}
    return value


RefField = Annotated[Ref, BeforeValidator(_ref_from_any)]
TextRef = Annotated[RefField, PlainSerializer(str, return_type=str)]
"""A reference that is written as its text: `sgd`, `rmsprop:alpha=0.9`."""


class InitRules(Frozen):
    """What holds for every scheme: biases, exclusions, per-layer patterns."""

    bias: float | Literal["scheme"] = Field(
        default="scheme", description="a constant for every bias, or `scheme`: what the scheme says, else zero"
    )
    exclude: tuple[str, ...] = Field(default=("embedding",), description="parameters whose name contains one of these are left alone")
    only: tuple[str, ...] = Field(default=(), description="globs of the parameters that are set; all others are left alone")
    layers: dict[str, RefField] = Field(
        default_factory=dict, description="glob on parameter or layer names -> scheme; the first match wins"
    )
    in_out: tuple[str, ...] = Field(default=(), description="globs of weights that are stored (in, out) instead of (out, in)")
    strict: bool = Field(default=False, description="a parameter that nothing initializes is an error")

    def left_alone(self, names: Iterable[str]) -> str:
        """Why a parameter with these names is left alone; empty where it is set."""
        known = tuple(names)
        for part in self.exclude:
            if any(part in name for name in known):
                return f"excluded by '{part}'"
        named = not self.only or any(fnmatchcase(name, glob) for name in known for glob in self.only)
        return "" if named else "not named by init.only"


Decay = Annotated[float, Field(ge=0, lt=1)]
"""The share of a running mean that stays at each step."""


class TrainConfig(Frozen):
    """How each run is trained; either `epochs` or `steps`."""

    epochs: int | None = Field(
        default=None, ge=1, description="passes over the training data; the last incomplete batch of each is dropped"
    )
    steps: int | None = Field(default=None, ge=0, description="optimizer steps, instead of epochs")
    batch_size: int | None = Field(
        default=128, ge=1, description="examples a step, such as images; null: as a loader of one's own has them"
    )
    optimizer: TextRef = Field(default=Ref(name="sgd"), description="sgd, adam, adamw, ...: see `initbench list optimizers`")
    lr: float = Field(default=0.05, gt=0, description="learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    nesterov: bool = Field(default=False, description="sgd only")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="adam and adamw only")
    weight_decay: float = Field(default=0.0, ge=0, description="of all parameters; decoupled or not is the optimizer's affair")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        default="constant", description="of the learning rate; cosine and linear end at 0"
    )
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up before the schedule")
    clip_norm: float | None = Field(default=None, gt=0, description="largest global gradient norm")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        default="float32",
        description="of products; tf32 (float32 with 10 bits, on CUDA) and bfloat16 (autocast) are faster where there is hardware",
    )
    augment: bool = Field(default=False, description="random crop with 4 pixels of padding and horizontal flip")
    evaluate_every_steps: int | None = Field(default=None, ge=1, description="default: once an epoch; always at the end")
    holdout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the training examples that is evaluated instead of the test split, and not trained on",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_length(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("epochs") is None and data.get("steps") is None:
            return {**data, "epochs": 5}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0")
        return self

    @property
    def rows(self) -> int:
        """How many rows a step takes; a loader's batches are as large as they are, whatever this says."""
        return self.batch_size or 1


PROBE_IMAGES, FEW_PROBE_IMAGES, OFTEN_STEPS = 128, 24, 10
"""Images in a probe, and where probes are fewer than so many steps apart; the cost of both is in docs/performance.md."""


class ProbeConfig(Frozen):
    """When and on how many examples the signal is measured; step 0 and the last step are always measured."""

    every_steps: int | None = Field(
        default=None, ge=1, description="also every so many steps; default: at ends of epochs, at least 100 steps apart"
    )
    batch_size: int | None = Field(
        default=None,
        ge=2,
        description="training examples in the fixed probe batch; default: 128, or 24 where it is more often than every 10 steps",
    )

    @property
    def images(self) -> int:
        """How many examples a probe measures on; few where it is done so often that many would more than double the time."""
        often = self.every_steps is not None and self.every_steps < OFTEN_STEPS
        return self.batch_size or (FEW_PROBE_IMAGES if often else PROBE_IMAGES)


class TuneConfig(Frozen):
    """One key of the configuration that each scheme gets its own best value of, chosen on data and seeds that are not reported."""

    key: str = Field(min_length=1, description="such as train.lr")
    values: tuple[Any, ...] = Field(
        default=(),
        description="what is tried beside the value of the config; default: two half powers of ten to each side, widened at the edge",
    )
    seeds: int = Field(default=3, ge=1, description="how many; they are others than the reported ones")
    holdout: float = Field(default=0.2, gt=0, lt=1, description="share of the training examples that values are chosen on")


def _tune_from_any(value: Any) -> Any:
    """Accepts `train.lr` and `train.lr=0.01,0.1`."""
    if not isinstance(value, str):
        return value
    key, equals, values = value.partition("=")
    return {"key": key.strip(), "values": parse_value(f"[{values}]") if equals else []}


class GridConfig(Frozen):
    """The cells of a sweep: every combination of the values of its axes, but those that a condition leaves out.

    A key with commas, `model.depth,train.lr`, is an axis on which several keys go together; each of its values is a list.
    """

    axes: dict[str, tuple[Any, ...]] = Field(min_length=1, description="key of the configuration -> its values")
    where: tuple[str, ...] = Field(default=(), description="conditions such as `model.depth * model.width <= 4096` that a cell must meet")


class UntilConfig(Frozen):
    """Seeds are added, a few at a time, until every comparison that is asked for is decided or the seeds are used up.

    What is decided: which of two schemes is better in `metric`, or, with a margin, that they are equivalent within it.
    """

    reference: str | None = Field(default=None, description="the scheme that the others are compared with; default: all pairs are")
    metric: str | None = Field(
        default=None,
        description="what is decided about; default: the final test accuracy, of other tasks than classification the test loss",
    )
    margin: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="a difference that does not matter, in the unit shown of the metric"
    )
    each: int | None = Field(default=None, ge=1, description="seeds that are added at a time; default: as many as keep the cores busy")


DECIDED, MOST_UNTIL_DECIDED = "decided", 64
"""The word for `UntilConfig` with nothing else said, and the seeds at most where nobody says."""


def _until_from_any(value: Any) -> Any:
    """Accepts `decided`."""
    if isinstance(value, str):
        if value != DECIDED:
            raise ValueError(f"it is '{value}'; seeds can be added until: {DECIDED}")
        return {}
    return value


def _grid_from_any(value: Any) -> Any:
    """Accepts `{model.depth: [4, 16], train.lr: 1e-3..1:log:7, where: model.depth < 9}`."""
    if not isinstance(value, dict) or "axes" in value:
        return value
    where = value.get("where", ())
    axes = {str(key): axis_values(str(key), given) for key, given in value.items() if key != "where"}
    return {"axes": axes, "where": (where,) if isinstance(where, str) else where}


def axis_values(key: str, given: Any, *, whole: bool | None = None) -> list[Any]:
    """The values of an axis: a list, `4,16,64`, or a range: `4..8`, `0..1:5` (5 values), `1e-3..1:log:7` (by equal factors).

    `whole` says whether the key takes whole numbers alone: to these a range is rounded, each once. None: where both of its ends are.
    Raises: ValueError with a sentence where there are none, or it is no range.
    """
    if is_range(given):
        return _range(key, given, whole=whole)
    if isinstance(given, str):
        given = parse_value(f"[{given}]")
    values = list(given) if isinstance(given, list | tuple) else [given]
    if not values:
        raise ValueError(f"the axis {key} has no values; write some, such as {key}=4,16,64")
    return values


def is_range(given: Any) -> bool:
    """Whether the values of an axis are given as a range."""
    return isinstance(given, str) and ".." in given


def _range(key: str, text: str, *, whole: bool | None) -> list[Any]:
    match = re.fullmatch(r"\s*([^:]+?)\.\.([^:]+?)(?::(log))?(?::(\d{1,6}))?\s*", text)
    ends = [parse_value(end.strip()) for end in match.groups()[:2]] if match else []
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    example = f"{key}=4..8 or {key}=0..1:5 or {key}=1e-3..1:log:7"
    if match is None or len(numbers) != 2:
        raise ValueError(f"the axis {key} is '{text}', which is no range; write one such as {example}")
    (low, high), log = numbers, match[3] is not None
    between_whole = all(isinstance(end, int) for end in numbers)
    if not match[4] and (log or not between_whole):
        raise ValueError(f"the range {key}={text} does not say how many values it has; write it such as {example}")
    count = int(match[4]) if match[4] else int(high - low) + 1
    if not low < high or count < 2 or count > MOST_VALUES or (log and low <= 0):
        limits = f"rise, have 2 to {MOST_VALUES} values{' and begin above 0' if log else ''}"
        raise ValueError(f"the range {key}={text} cannot be used: it must {limits}")
    steps = [index / (count - 1) for index in range(count)]
    exact = [low * (high / low) ** step if log else low + (high - low) * step for step in steps]
    if whole is None:
        whole = between_whole and (log or all(abs(value - round(value)) < 1e-9 * max(1, abs(value)) for value in exact))
    return list(dict.fromkeys(map(round, exact))) if whole else [low, *_short(exact)[1:-1], high]


def _short(values: list[float]) -> list[float]:
    """Rising numbers with as few digits as move none of them by more than a hundredth of the way from the last, three at least."""
    ways = [values[1] - values[0], *(after - before for before, after in pairwise(values))]
    for digits in range(3, 17):
        rounded = [float(f"{value:.{digits}g}") for value in values]
        if all(abs(short - value) <= way / 100 for short, value, way in zip(rounded, values, ways, strict=True)):
            return [int(value) if value.is_integer() else value for value in rounded]
    return values


USUAL_TASK = "classification"
"""The task where nobody names one."""


class ExperimentConfig(Frozen):
    """The question: everything that changes a result, and nothing else."""

    schemes: tuple[RefField, ...] = Field(min_length=1, description="names with parameters, such as `kaiming:mode=fan_out`")
    model: RefField = Field(default=Ref(name="mlp"), description="see `initbench list models`, or a file such as ./mine.py:Net")
    dataset: RefField = Field(default=Ref(name="mnist5k"), description="see `initbench list datasets`")
    task: RefField = Field(default=Ref(name=USUAL_TASK), description="what is trained for: see `initbench list tasks`")
    init: InitRules = InitRules()
    train: TrainConfig = TrainConfig()
    probe: ProbeConfig = ProbeConfig()
    tune: Annotated[TuneConfig | None, BeforeValidator(_tune_from_any, json_schema_input_type=str | TuneConfig | None)] = Field(
        default=None, description="a key that each scheme gets its own best value of, such as `train.lr`"
    )
    grid: Annotated[GridConfig | None, BeforeValidator(_grid_from_any, json_schema_input_type=dict[str, Any] | GridConfig | None)] = Field(
        default=None, description="of a sweep: keys of the configuration, each with its values, and conditions under `where`"
    )
    until: Annotated[UntilConfig | None, BeforeValidator(_until_from_any, json_schema_input_type=str | UntilConfig | None)] = Field(
        default=None,
        description="`decided`: seeds are added until every comparison is decided; short: `seeds: {until: decided, at_most: 64}`",
    )
    seeds: tuple[int, ...] = Field(min_length=1, description="8 means the seeds 0 to 7; a list means these; with `until`, those at most")

    @model_validator(mode="after")
    def _no_repeats(self) -> "ExperimentConfig":
        for what, items in (("scheme", [str(ref) for ref in self.schemes]), ("seed", [str(seed) for seed in self.seeds])):
            twice = sorted(item for item, times in Counter(items).items() if times > 1)
            if twice:
                raise ValueError(f"the same {what} is named twice: {', '.join(twice)}")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError("seeds are whole numbers from 0")
        return self


class Job(Frozen):
    """One scheme and one seed, all else fixed."""

    scheme: Ref
    seed: int
    model: Ref
    dataset: Ref
    task: Ref = Ref(name=USUAL_TASK)
    init: InitRules
    train: TrainConfig
    probe: ProbeConfig


class Execution(Frozen):
    """The means: where and how jobs run. Never part of a job's identity."""

    engine: str = "auto"
    device: str = "auto"
    jobs: int | None = Field(default=None, ge=1)
    run_timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds after which a run is ended; it has failed"
    )
    ray_address: str | None = Field(default=None, description="of a cluster of Ray: `auto` or HOST:PORT")
    output: str | None = None
    data_dir: str | None = None
    fresh: bool = False


_NUMBERS_OF_A_VIEW: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("target", "a test accuracy as a fraction, such as 0.95", lambda given: 0 < given <= 1),
    ("margin", "at least 0, in the unit shown (points of accuracy), or: none", lambda given: 0 <= given < math.inf),
)


class View(Frozen):
    """How results are looked at: what the verdicts are about. Never part of the question; a report can be made anew with another."""

    reference: str | None = Field(default=None, description="the scheme that the others are compared with; default: the first")
    metric: str | None = Field(
        default=None,
        description="what the verdicts are about; default: the final test accuracy, of other tasks than classification the test loss",
    )
    target: float | None = Field(default=None, description="a test accuracy, as a fraction: the steps to it are a metric")
    margin: float | None = Field(default=None, description="a difference that does not matter, in the unit shown of its metric")
    margin_metric: str | None = Field(default=None, description="the metric that the margin is about; default: the one of `metric`")

    @model_validator(mode="before")
    @classmethod
    def _margin_of_a_metric(cls, data: Any) -> Any:
        """A margin is about the metric that it is given with, whatever is looked at later.

        Raises: ConfigError for a target or a margin that cannot be one.
        """
        for name, allowed, is_one in _NUMBERS_OF_A_VIEW:
            given = data.get(name) if isinstance(data, dict) else None
            number = isinstance(given, int | float) and not isinstance(given, bool)
            if given is not None and not (number and is_one(given)):
                shown = f"{given:g}" if isinstance(given, float) else repr(given)
                raise ConfigError(f"The {name} is {shown}; it must be {allowed}.")
        if isinstance(data, dict) and data.get("margin") is not None and "margin_metric" not in data:
            return data | {"margin_metric": data.get("metric")}
        return data

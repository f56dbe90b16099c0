"""What a user says becomes a question: a config file, settings and options; how its results are looked at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from initbench.errors import ConfigError
from initbench.question import config_file
from initbench.question.config import ExperimentConfig, Ref, View
from initbench.question.data_folder import data_folder

DEFAULT_SEEDS = {"run": 1, "compare": 8, "recommend": 8}
"""How many seeds a command takes when nobody says."""


class Look(TypedDict, total=False):
    """What verdicts are about; see `initbench.question.config.View`."""

    metric: str | None
    target: float | None
    margin: float | None


def view_of(reference: str | None = None, **look: Unpack[Look]) -> View:
    """How results are looked at. Raises: ConfigError for a target or a margin that cannot be one."""
    target, margin = look.get("target"), look.get("margin")
    if target is not None and not 0 < target <= 1:
        raise ConfigError(f"The target is {target:g}; it must be a test accuracy as a fraction, such as 0.95.")
    if margin is not None and not margin >= 0:
        raise ConfigError(f"The margin is {margin:g}; it must be at least 0, in the unit shown (points of accuracy).")
    return View(reference=reference, **look)


def configure(
    command: str,
    source: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    asked: Mapping[str, tuple[str, Any]] | None = None,
    data_dir: str | None = None,
) -> ExperimentConfig:
    """The question of a command: a config file or shipped name, `a.b=c` settings, what `options` gives.

    Raises: ConfigError with every problem at once.
    """
    config = config_file.load_config(
        None if source is None else str(source),
        settings=settings,
        options=asked,
        default_seeds=DEFAULT_SEEDS.get(command, 1),
        data_files=lambda: _data_files(data_dir),
    )
    if command == "run" and len(config.schemes) > 1:
        raise ConfigError(f"`run` takes one scheme, not {len(config.schemes)}. Choose one with --method, or use: initbench compare")
    if command == "compare" and len(config.schemes) < 2:
        raise ConfigError(
            f"`compare` takes two schemes or more, not only {config.schemes[0]}. For one use: initbench run {config.schemes[0]}"
        )
    return config


def options(
    schemes: Sequence[str | Ref] | None = None,
    *,
    model: str | None = None,
    dataset: str | None = None,
    seeds: int | str | Sequence[int] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    strict: bool | None = None,
    tune: str | None = None,
    dashes: str = "",
) -> dict[str, tuple[str, Any]]:
    """What changes the question, for `configure`: key -> (the word that the user knows it by, value or None)."""
    return {
        "schemes": ("", [str(scheme) for scheme in schemes] if schemes is not None else None),
        "model": (f"{dashes}model", model),
        "dataset": (f"{dashes}dataset", dataset),
        "seeds": (f"{dashes}seeds", seeds if isinstance(seeds, str | int | None) else list(seeds)),
        "train.epochs": (f"{dashes}epochs", epochs),
        "train.steps": (f"{dashes}steps", steps),
        "init.strict": (f"{dashes}strict", strict),
        "tune": (f"{dashes}tune", tune),
    }


def _data_files(data_dir: str | None) -> set[str]:
    return {path.stem for path in data_folder(data_dir).glob("*.npz")}

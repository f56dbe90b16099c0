"""The configuration by its keys, such as `train.lr`: as plain data, the value of a key, and whether it takes whole numbers alone."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from initbench.question import catalog
from initbench.question.catalog import Kind, Parameter
from initbench.question.config import USUAL_TASK, ExperimentConfig, Ref


def short(key: str) -> str:
    """A key as people say it: `depth` for `model.depth`; of those that go together the first."""
    return key.partition(",")[0].rpartition(".")[2]


def split(axes: Iterable[str]) -> list[str]:
    """The keys of axes, those that go together each on its own."""
    return [key.strip() for axis in axes for key in axis.split(",")]


def plain_config(config: ExperimentConfig) -> dict[str, Any]:
    """The whole configuration as plain data, as its file would hold it."""
    plain = config.model_dump(mode="json")
    for key in ("model", "dataset", "task"):
        plain[key] = _plain_ref(getattr(config, key))
    plain["schemes"] = [_plain_ref(ref) for ref in config.schemes]
    plain["init"]["layers"] = {pattern: _plain_ref(ref) for pattern, ref in config.init.layers.items()}
    if config.grid is not None:
        plain["grid"] = plain["grid"]["axes"] | ({"where": plain["grid"]["where"]} if config.grid.where else {})
    for name, fields in (("train", type(config.train).model_fields), ("probe", type(config.probe).model_fields)):
        plain[name] = {key: value for key, value in plain[name].items() if value is not None or fields[key].default is not None}
    return {key: value for key, value in plain.items() if value is not None and (key, value) != ("task", USUAL_TASK)}


def _plain_ref(ref: Ref) -> Any:
    if not ref.params:
        return ref.name
    if {"name", "params"} & ref.params.keys():
        return {"name": ref.name, "params": ref.params}
    return {"name": ref.name, **ref.params}


def value_of(config: ExperimentConfig, key: str) -> Any:
    """The value that a key has, the default of a parameter included; None where there is none, or schemes have several."""
    value: Any = plain_config(config)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is not None:
        return value
    found = [ref.params.get(parameter.name, parameter.default) for ref, parameter in _parameters(config, key)]
    return found[0] if found and all(each == found[0] for each in found) else None


def takes_whole(config: ExperimentConfig, key: str) -> bool | None:
    """Whether a key takes whole numbers and no others, by its type; None where nothing says so."""
    section, _, name = key.partition(".")
    kinds = [set(_types(parameter)) for _, parameter in _parameters(config, key)]
    field = getattr(type(getattr(config, section, None)), "model_fields", {}).get(name)
    if field is not None and not kinds:
        kinds = [{each.__name__ for each in get_args(field.annotation) or (field.annotation,) if isinstance(each, type)}]
    kinds = [each for each in kinds if {"int", "float"} & each]
    return all("float" not in each for each in kinds) if kinds else None


def _types(parameter: Parameter) -> list[str]:
    """The names of the types of a parameter; of one that has none written, that of its default."""
    return [part.strip() for part in parameter.annotation.split("|")] if parameter.annotation else [type(parameter.default).__name__]


def _parameters(config: ExperimentConfig, key: str) -> Iterator[tuple[Ref, Parameter]]:
    """What a key such as `model.depth` sets: a parameter of one reference, `scheme.std` one of each scheme that has it."""
    section, _, name = key.partition(".")
    of: dict[str, tuple[Kind, tuple[Ref, ...]]] = {
        "scheme": ("scheme", config.schemes),
        "model": ("model", (config.model,)),
        "dataset": ("dataset", (config.dataset,)),
        "task": ("task", (config.task,)),
    }
    kind, refs = of.get(section, ("model", ()))
    return ((ref, each) for ref in refs for each in catalog.find(kind, ref.name)[0].parameters if each.name == name)

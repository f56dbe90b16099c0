"""What is wrong with the values of a configuration, in words: pydantic's complaints, each with its place and what is allowed."""

from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from initbench.errors import suggestion
from initbench.question.config import ExperimentConfig, Frozen, InitRules, ProbeConfig, TrainConfig, TuneConfig, UntilConfig, value_text

Place = tuple[str | int, ...]
"""Where a value stands in a configuration: `("train", "lr")`, `("schemes", 0)`."""

EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping of key: value",
    "model_type": "a mapping of key: value",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_too_short": "a name",
}
"""What is allowed, by the kind of pydantic's complaint."""
SECTIONS: dict[str, type[Frozen]] = {
    "init": InitRules,
    "train": TrainConfig,
    "probe": ProbeConfig,
    "tune": TuneConfig,
    "until": UntilConfig,
}


class Problem(NamedTuple):
    """What is wrong with one value of a configuration, in words."""

    place: Place
    sentence: str


def explain(error: ValidationError, data: dict[str, Any]) -> list[Problem]:
    """One sentence for each value that is wrong: what was given and what is allowed."""
    complaints: dict[Place, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        complaints.setdefault(_place(details, data), []).append(details)
    nameless = {place[:-1] for place, about in complaints.items() if about[0]["type"] == "missing"}
    told = (item for item in complaints.items() if item[0][:-1] not in nameless or item[1][0]["type"] == "missing")
    return [Problem(place, _sentence(place, about)) for place, about in told]


def _place(details: ErrorDetails, data: Any) -> Place:
    """The part of pydantic's location that names something in the data, or a key that is missing there."""
    place: Place = ()
    for part in details["loc"]:
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int) and part < len(data)
        if inside:
            data = data[part]
        elif details["type"] != "missing":
            break
        place = (*place, part)
    return place


def _sentence(place: Place, complaints: list[ErrorDetails]) -> str:
    first = complaints[0]
    name = ".".join(str(part) for part in place)
    if first["type"] == "extra_forbidden":
        fields = (SECTIONS.get(str(place[0]), ExperimentConfig) if len(place) > 1 else ExperimentConfig).model_fields
        return f"unknown key '{name}'.{suggestion(str(place[-1]), fields)} Allowed here: {', '.join(fields)}."
    if first["type"] == "missing":
        return f"'{name}' is missing."
    if first["type"] == "value_error":
        text = str(first["ctx"]["error"]).rstrip(".")
        return f"{name}: {text}." if name else f"{text}."
    if first["type"] == "too_short":
        return f"{name} is empty; it must name at least one."
    if place[:2] == ("train", "optimizer"):
        return f"{name} is {_shown(first['input'])}; it must be a name such as adam, or a mapping with the key name."
    if place[:1] in {("schemes",), ("model",), ("dataset",)} or (place[:2] == ("init", "layers") and len(place) > 2):
        return f"{name} is {_shown(first['input'])}; it must be a name such as kaiming:mode=fan_out, or a mapping with the key name."
    allowed = [
        EXPECTED[item["type"]].format(**_whole(item.get("ctx", {}))) if item["type"] in EXPECTED else item["msg"] for item in complaints
    ]
    return f"{name} is {_shown(first['input'])}; it must be {' or '.join(dict.fromkeys(allowed))}."


def _whole(context: dict[str, Any]) -> dict[str, Any]:
    return {key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in context.items()}


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else "a mapping" if isinstance(value, dict) else value_text(value)

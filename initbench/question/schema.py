"""The JSON schema of config files."""

from typing import Any

from initbench.question.config import ExperimentConfig


def schema() -> dict[str, Any]:
    """The JSON schema of a config file, for editors: pydantic's, with the short forms that files may use."""
    made = ExperimentConfig.model_json_schema()
    ref = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"]}
    made["$defs"]["Ref"] = {
        "description": "a name with parameters: `kaiming:mode=fan_out`, or a mapping of `name` and the parameters",
        "anyOf": [{"type": "string", "minLength": 1}, ref],
    }
    number = {"type": "integer", "minimum": 1, "description": "8 means the seeds 0 to 7"}
    made["properties"]["seeds"] = {
        "title": "Seeds",
        "anyOf": [number, {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}],
    }
    made.pop("required")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "initbench configuration"}

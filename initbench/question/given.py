"""Objects that a caller in Python gives in place of names: a model's function, data, a loss, an optimizer.

Each gets a name with its digest, such as `python:UNet-1f3a5c7e`, which stands in configurations and results as other names do. The object
stays in this process and in those that are forked from it, while the call that it was given to lasts.
"""

import dis
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from initbench.errors import ConfigError

PREFIX = "python:"
"""What the name of an object begins with."""

_here: dict[str, Any] = {}


def name_of(word: str, digest: str) -> str:
    """The name that an object goes by; `word` is its own, as far as it has one."""
    readable = "".join(letter if letter.isalnum() or letter == "_" else "_" for letter in word).strip("_") or "object"
    return f"{PREFIX}{readable}-{digest[:8]}"


def word_of(value: object, otherwise: str) -> str:
    """What an object is called: its name, of a lambda that of the first class or function that it names, else `otherwise`."""
    while not hasattr(value, "__name__") and callable(getattr(value, "func", None)):  # a partial
        value = value.func  # type: ignore[attr-defined]
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        return _first_named(value) or otherwise
    return str(getattr(value, "__name__", type(value).__name__))


def _first_named(function: FunctionType) -> str | None:
    """The name of the first class or function that the code of a function looks up, through modules; None where there is none."""
    known = inspect.getclosurevars(function)
    found: object = None
    for step in dis.get_instructions(function):
        name = step.argval if isinstance(step.argval, str) else ""
        if step.opname.startswith(("LOAD_GLOBAL", "LOAD_DEREF")):
            found = {**known.globals, **known.nonlocals}.get(name)
        elif step.opname.startswith(("LOAD_ATTR", "LOAD_METHOD")) and isinstance(found, ModuleType):
            found = getattr(found, name, None)
        if inspect.isclass(found) or inspect.isroutine(found):
            return word_of(found, "") or None
    return None


def shown(name: str) -> str:
    """A name as people read it: of an object its own word."""
    return re.sub(r"-[0-9a-f]{8}$", "", name.removeprefix(PREFIX)) if is_given(name) else name


def is_given(name: str) -> bool:
    """Whether a name is that of an object."""
    return name.startswith(PREFIX)


def is_here(name: str) -> bool:
    """Whether the object of a name can be had in this process."""
    return name in _here


def the_object(what: str, name: str) -> Any:
    """The object of a name. Raises: ConfigError where it is not in this process."""
    if name not in _here:
        raise ConfigError(
            f"The {what} '{name}' was an object of a Python program, and is not here. Make the same call there again; finished runs are "
            "kept."
        )
    return _here[name]


@contextmanager
def lent(objects: Mapping[str, Any]) -> Iterator[None]:
    """Within it the objects can be had by their names."""
    before = dict(_here)
    _here.update(objects)
    try:
        yield
    finally:
        _here.clear()
        _here.update(before)

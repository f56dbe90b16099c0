"""Where in the source a parameter is made: the class, its file, and the line of the assignment."""

import inspect
import re
from collections.abc import Container
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

from torch import nn

NAMED = re.compile(r"\bmodel((?:\.\w+)+)")
"""What a remedy calls a parameter."""


class SourcePlace(NamedTuple):
    """A class, the file that it is in, and a line of it; empty where there is no source."""

    module: str = ""
    file: str = ""
    line: int | None = None


def place_of(model: nn.Module, name: str) -> SourcePlace:
    """The deepest class on the way to a parameter that is not torch's, and the line that assigns what the way goes on with."""
    way = name.split(".")
    owner, rest, module = model, way, model
    for depth, part in enumerate(way):
        child = module._modules.get(part)
        if child is None:
            break
        module = child
        if not type(module).__module__.startswith("torch."):
            owner, rest = module, way[depth + 1 :]
    kind: Any = type(owner)
    file, line = _line(kind, rest[0] if rest else "")
    return SourcePlace(type(owner).__name__, file, line)


def runnable(fix: str, names: Container[str]) -> str:
    """A remedy in which `model.0.weight`, which is no Python, is `model.get_parameter("0.weight")`."""

    def turned(match: re.Match[str]) -> str:
        parts = match[1].removeprefix(".").split(".")
        for count in range(len(parts), 0, -1):
            name = ".".join(parts[:count])
            if name in names and not all(part.isidentifier() for part in parts[:count]):
                return ".".join([f'model.get_parameter("{name}")', *parts[count:]])
        return match[0]

    return NAMED.sub(turned, fix)


@cache
def _line(kind: Any, attribute: str) -> tuple[str, int | None]:
    """The file of a class, and the line (of it, or of a class that it comes from) that assigns `self.attribute`; else that of `__init__`.

    The methods are asked, as a class that was read from a file by its path is in no module that could be.
    """
    first: tuple[str, int | None] = ("", None)
    for base in kind.__mro__:
        if base is object or base.__module__.startswith("torch."):
            break
        methods = [method for method in vars(base).values() if isinstance(method, FunctionType)]
        for method in sorted(methods, key=lambda method: method.__name__ != "__init__"):
            try:
                lines, start = inspect.getsourcelines(method)
            except OSError:
                continue
            file = _short(method.__code__.co_filename)
            first = first if first[0] else (file, start)
            for place, line in enumerate(lines) if attribute else ():
                if re.search(rf"self\.{re.escape(attribute)}\s*[:=]|[\"']{re.escape(attribute)}[\"']", line):
                    return file, start + place
    return first


def _short(file: str) -> str:
    path = Path(file)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

"""What an object of somebody's program is, as a digest: its numbers, its plain values, and the code of its functions and classes.

Two objects with one digest do the same as far as this can be seen: what a function reads from elsewhere (a file, a global list that is
filled later, a compiled library) is not in it.
"""

import functools
import hashlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 24
"""Objects within objects that are looked into."""
LIBRARIES = ("torch", "torchvision", "numpy", "builtins", "initbench", "functools", "collections")
"""Packages whose code is known by their name; provenance has their versions."""
PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None), Tensor, np.ndarray)
"""Attributes of a class that belong to what it does."""
PASSING = ("_iterator", "_cache", "_lock")
"""Ends of the names of attributes that come and go."""


def digest_of(value: object) -> str:
    """64 hexadecimal digits."""
    digest = hashlib.sha256()
    _add(digest, value, 0, {})
    return digest.hexdigest()


def _add(digest: Any, value: Any, depth: int, seen: dict[int, Any]) -> None:
    kind = type(value)
    digest.update(f"|{kind.__module__}.{kind.__qualname__}:".encode())
    if value is None or isinstance(value, bool | int | float | complex | str | Path | torch.dtype | torch.device | torch.Size):
        digest.update(repr(value).encode())
    elif isinstance(value, bytes):
        digest.update(value)
    elif isinstance(value, Tensor):
        array = value.detach().cpu().contiguous()
        digest.update(f"{tuple(array.shape)}{array.dtype}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy() if array.numel() else b"")
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, torch.Generator | types.ModuleType):
        digest.update(getattr(value, "__name__", "").encode())
    elif depth > DEEPEST or id(value) in seen:
        digest.update(b"again")
    else:
        seen[id(value)] = value  # kept, as another object may else get its place in memory
        for part in _parts(value):
            _add(digest, part, depth + 1, seen)


def _parts(value: Any) -> list[Any]:
    """What an object is made of."""
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_names, value.co_varnames, *value.co_consts]
    if isinstance(value, type):
        return _of_class(value)
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if isinstance(value, nn.Module):
        own = {name: part for name, part in vars(value).items() if not name.startswith("_") and name != "training"}
        return [type(value), own, dict(value.named_parameters(recurse=False)), dict(value.named_buffers(recurse=False)), value._modules]
    attributes = {name: part for name, part in getattr(value, "__dict__", {}).items() if not name.endswith(PASSING)}
    return [type(value), attributes]


def _of_class(kind: type) -> list[Any]:
    if kind.__module__.partition(".")[0] in LIBRARIES:
        return [f"{kind.__module__}.{kind.__qualname__}"]
    functions = [part for part in vars(kind).values() if isinstance(part, types.FunctionType | staticmethod | classmethod | property)]
    values = {name: part for name, part in vars(kind).items() if not name.startswith("_") and isinstance(part, PLAIN)}
    return [kind.__qualname__, *map(_unwrapped, functions), values, *kind.__bases__]


def _unwrapped(part: Any) -> Any:
    return part.__func__ if isinstance(part, staticmethod | classmethod) else part.fget if isinstance(part, property) else part


def _of_function(function: types.FunctionType) -> list[Any]:
    """Its code, its defaults, what it closes over, and the global things that it or what is defined within it names."""
    if (function.__module__ or "").partition(".")[0] in LIBRARIES:
        return [f"{function.__module__}.{function.__qualname__}"]
    held = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    named = {name: function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__}
    return [function.__code__, function.__defaults__, function.__kwdefaults__, held, named]


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code: types.CodeType) -> list[str]:
    """The names that code looks up, and that of functions and classes within it, in order."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return sorted({*code.co_names, *inner})

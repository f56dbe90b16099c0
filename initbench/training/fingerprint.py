"""What an object of somebody's program is, as a digest: its numbers, its plain values, and the code of its functions and classes.

Two objects with one digest do the same as far as this can be seen: what a function reads from elsewhere (a file, a compiled library) is not
in it. Functions and classes of installed packages count by their names, as provenance has the versions.
"""

import functools
import hashlib
import pickle
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initbench.question import user_files

DEEPEST = 24
"""Objects within objects that are looked into."""
INSTALLED = ("site-packages", "dist-packages")
"""Folders of packages that somebody else wrote."""
INSIDE = frozenset(vars(nn.Module())) | {"training"}
"""Attributes that every module has."""
PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None), Tensor, np.ndarray, np.generic)
"""Attributes of a class, and of a module of an installed package, that belong to what it does."""
WORDS = (bool, int, float, complex, str, bytes, bytearray, range, slice, Path, np.generic, torch.dtype, torch.device, torch.Size)
"""What its text says all of."""
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
    if value is None or isinstance(value, WORDS):
        digest.update(repr(value).encode())
    elif isinstance(value, Tensor):
        _add_tensor(digest, value)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, types.ModuleType):
        digest.update(_of_file(value).encode())
    elif isinstance(value, torch.Generator):
        return  # every pass begins with a seed of its own
    elif depth > DEEPEST or id(value) in seen:
        digest.update(b"again")
    else:
        seen[id(value)] = value  # kept, as another object may else get its place in memory
        for part in _parts(value):
            _add(digest, part, depth + 1, seen)


def _add_tensor(digest: Any, value: Tensor) -> None:
    """Its shape and type, and its numbers where it holds any."""
    if is_lazy(value) or value.device.type == "meta":
        digest.update(b"none yet" if is_lazy(value) else f"{tuple(value.shape)}{value.dtype}".encode())
        return
    if value.is_nested:
        for part in value.unbind():
            _add_tensor(digest, part)
        return
    dense = value.detach().cpu()
    dense = (dense.to_dense() if dense.layout is not torch.strided else dense).resolve_conj().resolve_neg().contiguous()
    digest.update(f"{tuple(dense.shape)}{dense.dtype}".encode())
    digest.update(dense.flatten().view(torch.uint8).numpy() if dense.numel() else b"")


def _parts(value: Any) -> list[Any]:
    """What an object is made of."""
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(map(digest_of, value))
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
        return _of_module(value)
    return _of_object(value)


def _of_module(module: nn.Module) -> list[Any]:
    """Its class, its attributes, its numbers and what is in it; of a class of an installed package the plain attributes alone."""
    attributes = {name: part for name, part in vars(module).items() if name not in INSIDE and not name.endswith(PASSING)}
    if _is_installed(type(module).__module__):
        attributes = {name: part for name, part in attributes.items() if isinstance(part, PLAIN)}
    numbers = [dict(module.named_parameters(recurse=False)), dict(module.named_buffers(recurse=False))]
    return [type(module), module.extra_repr(), attributes, *numbers, dict(module.named_children())]


def _of_object(value: Any) -> list[Any]:
    """Its class and attributes; of one of an installed package, or without attributes, what pickling it gives, where that works."""
    attributes = {name: part for name, part in getattr(value, "__dict__", {}).items() if not name.endswith(PASSING)}
    kind = type(value)
    slots = {name: getattr(value, name) for each in kind.__mro__ for name in getattr(each, "__slots__", ()) if hasattr(value, name)}
    if slots or (attributes and not _is_installed(kind.__module__)):
        return [kind, attributes, slots]
    if isinstance(value, torch.utils.data.DataLoader | torch.utils.data.Dataset | torch.utils.data.Sampler):
        return [kind, attributes]
    with suppress(Exception):  # pickling runs anybody's code
        return [kind, pickle.dumps(value)]
    return [kind, attributes]


def _is_installed(name: str) -> bool:
    """Whether a module is of an installed package or of Python itself."""
    top = name.partition(".")[0]
    path = getattr(sys.modules.get(top), "__file__", None) or ""
    return top == "initbench" or top in sys.stdlib_module_names or any(part in INSTALLED for part in Path(path).parts)


def _of_file(module: types.ModuleType) -> str:
    """The name of a module, and of one that is the user's own the digest of its file and of what that imports beside it."""
    path = getattr(module, "__file__", None)
    if path is None or _is_installed(module.__name__) or not path.endswith(".py"):
        return module.__name__
    return f"{module.__name__} {user_files.digest(Path(path))}"


def _of_class(kind: type) -> list[Any]:
    if _is_installed(kind.__module__):
        return [f"{kind.__module__}.{kind.__qualname__}"]
    values = {name: part for name, part in vars(kind).items() if not name.startswith("__") and isinstance(part, PLAIN)}
    return [kind.__qualname__, *map(_unwrapped, vars(kind).values()), values, *kind.__bases__]


def _unwrapped(part: Any) -> Any:
    """The function that an attribute of a class holds, in whatever it is wrapped; None for anything else."""
    if isinstance(part, property):
        return [part.fget, part.fset]
    inner = part.func if isinstance(part, functools.cached_property) else getattr(part, "__func__", getattr(part, "__wrapped__", part))
    return inner if isinstance(inner, types.FunctionType) else None


def _of_function(function: types.FunctionType) -> list[Any]:
    """Its code, its defaults, what it closes over, and the global things that it or what is defined within it names."""
    if _is_installed(function.__module__ or ""):
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

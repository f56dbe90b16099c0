"""The user's own files: what one of them imports from beside it, and one digest of all that."""

import ast
import contextlib
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from initbench.errors import ConfigError, StorageError

FILES_KEPT = 256
"""Files whose imports are remembered."""


def own_path(text: str | Path) -> Path:
    """The path that somebody wrote: `~` is the home folder; a user whom nobody knows is part of the name."""
    with contextlib.suppress(RuntimeError, ValueError):
        return Path(text).expanduser()
    return Path(text)


def make_importable(folder: Path) -> None:
    """Lets what is in a folder be imported by its name, after everything else that has that name."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def make_importable_here(module: str) -> None:
    """Lets what is in the working folder be imported where a module is nowhere else."""
    if _top_level(module.partition(".")[0]) is None:
        make_importable(Path.cwd())


def module_file(module: str) -> Path | None:
    """The source of a module by its full name, in the working folder last; None where there is none.

    It is looked for, not imported, nor are the packages that it is in: no code of theirs runs.
    """
    top, *inner = module.split(".")
    spec = _top_level(top) or PathFinder.find_spec(top, [str(Path.cwd())])
    if spec is None or not all(part.isidentifier() for part in inner):
        return None
    if not inner:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    files = (_file(Path(folder), inner) for folder in spec.submodule_search_locations or ())
    return next((file for file in files if file is not None), None)


def _top_level(name: str) -> ModuleSpec | None:
    """Where Python would import a module without a package from."""
    try:
        return find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        return None


def is_file(path: Path) -> bool:
    """Whether a file is there; what no file can be called is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source file, in the encoding that the file says it has.

    Raises: ConfigError where it is no Python; StorageError where it cannot be read.
    """
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno or 1}: {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}:1: this is not Python: {error}.") from error
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}.") from error


@lru_cache(maxsize=FILES_KEPT)
def _parsed(path: Path, _modified_ns: int) -> ast.Module:
    return ast.parse(path.read_bytes())


def digest(path: Path) -> str:
    """The sha256 of a file, and of every file beside it or in its package that it imports: their text decides what it does."""
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in sources(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def sources(path: Path) -> tuple[Path, ...]:
    """A file and the files of the user that it imports, they import and so on; each once, the file itself first."""
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    files = [path]
    for file in files:
        files += [other for other in dict.fromkeys(_imported(file, top)) if other not in files]
    return (path, *sorted(files[1:]))


def imports(path: Path) -> set[str]:
    """The full names of the modules that a file imports, and of what it imports from them."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _imported(path: Path, top: Path) -> tuple[Path, ...]:
    """The files that a file imports from `top`, the folder of its package or its own."""
    try:
        tree = parsed(path)
    except ConfigError:
        return ()
    return tuple(file for parts, base in _modules(tree, path, top) if (file := _file(base, parts)) is not None)


def _modules(tree: ast.Module, path: Path, top: Path) -> Iterator[tuple[list[str], Path]]:
    """The parts of each module's name that may be one of the user's, and the folder that it is looked for in."""
    package = path.relative_to(top).parts[0] if path.parent != top else None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, base = [alias.name for alias in node.names], top
        elif isinstance(node, ast.ImportFrom):
            within = [*(node.module or "").split(".")] if node.module else []
            names = [".".join([*within, *more]) for more in ([], *([alias.name] for alias in node.names))]
            base = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else top
        else:
            continue
        for parts in (name.split(".") for name in names if name):
            if base != top or (parts[0] == package if package else "site-packages" not in top.parts):
                yield parts, base


def _file(base: Path, parts: list[str]) -> Path | None:
    place = base.joinpath(*parts)
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)

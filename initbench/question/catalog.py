"""Name -> file -> function, read from the source: nothing is imported until `load`.

A file of the folder of a kind that defines the function of that kind (see `KINDS`) *is* the thing of that name. Its catalogue
entry is that function's or the file's docstring (first line: what `list` shows; last line: `Source: ...`), the keyword-only
arguments of the function, and the module constants `FAMILY` and `ALIASES`, of a rule its `CODE`, of a scheme also
`EXAMPLE_MODEL`, a model that it suits, and `NEEDS`, the arguments of `init_network` (of a rule, of `lint`) without which it does
not work: examples are made of these two. Models and datasets that are not for classification name their tasks in `TASKS`.
Users bring their own as `./mine.py`, `./mine.py:Name`, `package.module:name` or an entry point `initbench.schemes` (...);
those who call from Python also as objects, see `given`.
"""

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from initbench.errors import ConfigError, UserCode, a_or_an, suggestion, unknown_name
from initbench.question import given, user_files
from initbench.question.config import USUAL_TASK, Ref

PACKAGE = Path(__file__).parent.parent
"""Where the folders of the kinds are."""

Kind = Literal["scheme", "model", "dataset", "task", "optimizer", "engine", "metric", "export", "rule"]


@dataclass(frozen=True)
class Convention:
    """What makes a file a thing of its kind: the folder, the function, and the arguments of it that initbench gives itself.

    All its other arguments are parameters, those that can be given by position only where `positional` says so.
    """

    folder: str
    function: str
    given: frozenset[str] = frozenset()
    positional: bool = False


KINDS: dict[Kind, Convention] = {
    "scheme": Convention("schemes", "build"),
    "model": Convention("models", "build", frozenset({"shape", "classes"}), positional=True),
    "dataset": Convention("datasets", "load", frozenset({"root"})),
    "task": Convention("tasks", "build"),
    "optimizer": Convention("optimizers", "build", frozenset({"train"})),
    "engine": Convention("engines", "execute", frozenset({"jobs", "device", "data_dir", "workers", "threads", "report"}), positional=True),
    "metric": Convention("metrics", "build"),
    "export": Convention("exports", "write", frozenset({"runs", "out", "title"})),
    "rule": Convention("rules", "check", frozenset({"subject"}), positional=True),
}
CONSTANTS = {"FAMILY": str, "ALIASES": dict, "CODE": str, "EXAMPLE_MODEL": str, "NEEDS": tuple, "TASKS": tuple}
"""The module constants that belong to an entry, and their types; a value that is computed or of another type is the file's own affair."""
FILE_NAME = re.compile(r"(?P<file>.+\.py)(?::(?P<function>\w+))?", re.DOTALL)
"""A file of the user's own, and what is meant in it."""
USUAL_MODEL = "mlp"
"""The model that examples use where a file names none."""


_RECORDED: ContextVar[Mapping[str, str]] = ContextVar("recorded", default=MappingProxyType({}))
"""Digests of the user's own files by the names that they have in the results that are looked at; see `as_recorded`."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry, as its source says; `choices` where it is a `Literal`."""

    name: str
    annotation: str
    default: Any
    required: bool
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What the catalogue knows of one name without importing it."""

    kind: Kind
    name: str
    path: Path
    function: str
    doc: str
    family: str
    aliases: dict[str, dict[str, Any]]
    parameters: tuple[Parameter, ...]
    module: str | None
    open_parameters: bool = False
    defined: bool = True
    example_model: str = USUAL_MODEL
    needs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = (USUAL_TASK,)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else ""

    @property
    def needs_parameters(self) -> bool:
        """Whether a parameter has no default."""
        return any(parameter.required for parameter in self.parameters)

    @property
    def source(self) -> str:
        """The `Source:` paragraph of the docstring, without its label; empty when there is none."""
        _, label, text = self.doc.rpartition("Source:")
        return " ".join(text.split()) if label else ""


@cache
def entries(kind: Kind) -> tuple[Entry, ...]:
    """All shipped and plugged-in entries of a kind, sorted by name."""
    folder, function = KINDS[kind].folder, KINDS[kind].function
    read = (_read(kind, path.stem, path, function, f"initbench.{folder}.{path.stem}") for path in (PACKAGE / folder).glob("*.py"))
    known = {entry.name: entry for entry in read if entry.defined}
    for point in entry_points(group=f"initbench.{folder}"):
        if point.name not in known:
            module, _, own_function = point.value.partition(":")
            known[point.name] = _read_module(kind, point.name, module, own_function or function)
    return tuple(known[name] for name in sorted(known))


def find(kind: Kind, name: str) -> tuple[Entry, dict[str, Any]]:
    """The entry for a name, alias or user file, and the parameters that the alias implies.

    Raises: ConfigError for an unknown name (with the nearest known one) or a file that is not there.
    """
    if given.is_given(name):
        if name not in _RECORDED.get():
            given.the_object(kind, name)
        return _gone(kind, name), {}
    by_name = {entry.name: entry for entry in entries(kind)}
    if name in by_name:
        return by_name[name], {}
    for entry in by_name.values():
        if name in entry.aliases:
            return entry, entry.aliases[name]
    head, _, tail = name.partition(":")
    if head in by_name and by_name[head].open_parameters and tail:
        return by_name[head], {"name": tail}
    if is_file_name(name):
        return _user_file(kind, name), {}
    if ":" in name:
        module, _, function = name.partition(":")
        return _read_module(kind, name, module, function), {}
    allowed = [*by_name, *(alias for entry in by_name.values() for alias in entry.aliases)]
    own = "Write your own as ./mine.py:NAME or package.module:NAME. " * ("." in name)
    raise unknown_name(kind, name, allowed, f"{own}See: initbench list {KINDS[kind].folder}")


def is_file_name(name: str) -> bool:
    """Whether a name is that of a file: `./mine.py`, `nets.py:Net`, or anything with a folder."""
    return FILE_NAME.fullmatch(name) is not None or "/" in name


def resolve(kind: Kind, ref: Ref) -> Ref:
    """The canonical reference: alias replaced by its name and parameters, parameter names checked.

    Raises: ConfigError for unknown names and parameters.
    """
    entry, implied = find(kind, ref.name)
    params = {**implied, **ref.params}
    known = {parameter.name: parameter for parameter in entry.parameters}
    for key in params:
        if key not in known and not entry.open_parameters:
            allowed = ", ".join(known) or "none"
            raise ConfigError(f"The {kind} '{entry.name}' has no parameter '{key}'.{suggestion(key, known)} It has: {allowed}.")
    params = {key: _fitting(kind, entry, known[key], value) if key in known else value for key, value in params.items()}
    missing = [parameter.name for parameter in entry.parameters if parameter.required and parameter.name not in params]
    if missing:
        raise ConfigError(f"The {kind} '{entry.name}' needs {', '.join(missing)}: write {entry.name}:{missing[0]}=VALUE.")
    params = {
        key: value
        for key, value in params.items()
        if key not in known or known[key].required or known[key].default != value or type(known[key].default) is not type(value)
    }
    return Ref(name=entry.name, params=params)


WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}
"""Python's plain types in the words of a config file."""


def _fitting(kind: Kind, entry: Entry, parameter: Parameter, value: Any) -> Any:
    """The value as its parameter's annotation wants it (1 as 1.0 for a float); annotations that are not plain take anything."""
    if parameter.choices and value not in parameter.choices:
        near, allowed = suggestion(str(value), map(str, parameter.choices)), ", ".join(map(str, parameter.choices))
        raise ConfigError(f"The parameter '{parameter.name}' of the {kind} '{entry.name}' is {value!r}.{near} Allowed: {allowed}.")
    names = [part.strip() for part in parameter.annotation.split("|")]
    if not parameter.annotation or any(name not in WORDS for name in names):
        return value
    if type(value) is int and "int" not in names and "float" in names:
        return float(value)
    given = "None" if value is None else type(value).__name__
    if given in names:
        return value
    allowed = " or ".join(WORDS[name] for name in names)
    raise ConfigError(f"The parameter '{parameter.name}' of the {kind} '{entry.name}' is {value!r}; it must be {allowed}.")


def load(kind: Kind, name: str) -> Callable[..., Any]:
    """Imports the function behind a name: `build`, `load`, `execute` or the user's own.

    Raises: ConfigError when the file or module cannot be imported or lacks the function.
    """
    if given.is_given(name):
        loaded: Callable[..., Any] = given.the_object(kind, name)
        return loaded
    entry, _ = find(kind, name)
    with UserCode(f"Cannot import the {kind} '{name}' from {entry.path}"):
        if entry.module is not None:
            user_files.make_importable_here(entry.module)
            module = importlib.import_module(entry.module)
        else:
            spec = importlib.util.spec_from_file_location(f"initbench_user_{entry.path.stem}", entry.path)
            assert spec is not None
            assert spec.loader is not None
            user_files.make_importable(entry.path.parent)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    function: Callable[..., Any] | None = getattr(module, entry.function, None)
    if function is None:
        raise ConfigError(f"{entry.path} has no '{entry.function}'. {a_or_an(kind).capitalize()} file defines {entry.function}(...).")
    return function


def user_file(kind: Kind, name: str) -> Path | None:
    """The user's own file behind a name, or None for a shipped one."""
    if given.is_given(name):
        return None
    entry, _ = find(kind, name)
    shipped = PACKAGE in entry.path.parents
    return None if shipped else entry.path


def user_digest(kind: Kind, name: str) -> str | None:
    """The digest of the user's own file behind a name and of what it imports, part of a question's identity; None for a shipped one."""
    if name in _RECORDED.get():
        return _RECORDED.get()[name]
    if given.is_given(name):
        return name.rpartition("-")[2]
    path = user_file(kind, name)
    return None if path is None else user_files.digest(path)


@contextmanager
def as_recorded(digests: Mapping[str, str]) -> Iterator[None]:
    """Within it the user's own files of these names count with these digests, whatever is in them now, and need not be there.

    For results that are looked at, maybe on another machine: what they are about is what was trained.
    """
    before = _RECORDED.set(digests)
    try:
        yield
    finally:
        _RECORDED.reset(before)


def _gone(kind: Kind, name: str) -> Entry:
    """The entry of a file that is not here, and took whatever parameters it was given; it cannot be loaded."""
    return Entry(kind, name, Path(name), KINDS[kind].function, "", "own", {}, (), None, open_parameters=True)


def _user_file(kind: Kind, name: str) -> Entry:
    named = FILE_NAME.fullmatch(name)
    path = user_files.own_path(named["file"] if named else name)
    if not named or not user_files.is_file(path):
        if name in _RECORDED.get():
            return _gone(kind, name)
        raise ConfigError(f"There is no file '{path}' for the {kind} '{name}'. Write ./mine.py or ./mine.py:NAME.")
    return _parse(kind, name, path.resolve(), named["function"] or KINDS[kind].function, None)


def _read_module(kind: Kind, name: str, module: str, function: str) -> Entry:
    path = user_files.module_file(module)
    if path is None:
        if name in _RECORDED.get():
            return _gone(kind, name)
        raise ConfigError(f"There is no module '{module}' for the {kind} '{name}'. Is its package installed here?")
    return _read(kind, name, path, function, module)


@cache
def _read(kind: Kind, name: str, path: Path, function: str, module: str | None) -> Entry:
    return _parse(kind, name, path, function, module)


def _parse(kind: Kind, name: str, path: Path, function: str, module: str | None) -> Entry:
    tree = user_files.parsed(path)
    constants: dict[str, Any] = {}
    definition: ast.FunctionDef | ast.ClassDef | None = None
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id in CONSTANTS:
            value = _literal(node.value)
            constants |= {target.id: value} if isinstance(value, CONSTANTS[target.id]) else {}
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == function:
            definition = node
    parameters, open_parameters = _parameters(kind, definition, tree)
    return Entry(
        kind=kind,
        name=name,
        path=path,
        function=function,
        doc=(definition and ast.get_docstring(definition)) or ast.get_docstring(tree) or "",
        family=constants.get("FAMILY", "own" if module is None else ""),
        aliases=constants.get("ALIASES", {}) | ({constants["CODE"]: {}} if "CODE" in constants else {}),
        parameters=parameters,
        module=module,
        open_parameters=open_parameters or definition is None,
        defined=definition is not None,
        example_model=constants.get("EXAMPLE_MODEL", USUAL_MODEL),
        needs=constants.get("NEEDS", ()),
        tasks=constants.get("TASKS", (USUAL_TASK,)),
    )


def _literal_of(name: str, tree: ast.Module) -> tuple[Any, ...]:
    """The values of `name = Literal[...]` in a source, or in the module of initbench that it imports the name from; else none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return _choices(node.value, tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("initbench."):
            meant = next((alias.name for alias in node.names if name in (alias.name, alias.asname)), None)
            path = PACKAGE.joinpath(*(node.module or "").split(".")[1:]).with_suffix(".py")
            if meant and path.is_file():
                return _literal_of(meant, user_files.parsed(path))
    return ()


def _choices(node: ast.expr | None, tree: ast.Module) -> tuple[Any, ...]:
    """The values that an annotation allows, when it is a `Literal` or the name of one; else none."""
    if isinstance(node, ast.Name):
        return _literal_of(node.id, tree)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
        values = ast.literal_eval(node.slice)
        return values if isinstance(values, tuple) else (values,)
    return ()


def _parameters(kind: Kind, node: ast.FunctionDef | ast.ClassDef | None, tree: ast.Module) -> tuple[tuple[Parameter, ...], bool]:
    """The keyword arguments of a function, or of a class's `__init__`; and whether it takes any others (`**kwargs`)."""
    own = int(isinstance(node, ast.ClassDef))
    if isinstance(node, ast.ClassDef):
        node = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
    if node is None:
        return (), False
    arguments = node.args
    positional = arguments.args[own:] if KINDS[kind].positional else []
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=False), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    parameters = [
        Parameter(
            name=argument.arg,
            annotation=ast.unparse(argument.annotation) if argument.annotation else "",
            default=_literal(default),
            required=default is None,
            choices=_choices(argument.annotation, tree),
        )
        for argument, default in pairs
        if argument.arg not in KINDS[kind].given
    ]
    return tuple(parameters), arguments.kwarg is not None


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)

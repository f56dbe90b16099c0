"""The cells of a sweep: each a configuration of its own, with the values of the axes that make it."""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

from initbench.errors import ConfigError
from initbench.question import catalog, config_file
from initbench.question.config import ExperimentConfig, GridConfig, Ref, value_text
from initbench.question.keys import short, split, value_of
from initbench.question.plan import canonical, resolve_config

SCHEME = "scheme"
"""`scheme.std` is the parameter of that name of every scheme."""
NOT_AXES = {
    "schemes": "the schemes are an axis already: name them before the options",
    "seeds": "the seeds are an axis already: use --seeds",
    "tune": "tuning has values of its own; sweep over the key itself",
    "grid": "a grid has no grid",
}
MOST_CELLS = 10_000
LARGEST_POWER = 1000
"""The largest exponent in a condition."""


@dataclass(frozen=True)
class Cell:
    """A combination of the values of all keys, and the question that it asks."""

    values: tuple[tuple[str, Any], ...]
    config: ExperimentConfig

    def __str__(self) -> str:
        """Gives, for example, `depth 16, lr 0.1`."""
        return values_text(self.values)


def values_text(values: Sequence[tuple[str, Any]]) -> str:
    """Keys by their last part, with their values: `depth 16, lr 0.1`."""
    return ", ".join(f"{short(key)} {value_text(value)}" for key, value in values)


def cells(config: ExperimentConfig) -> tuple[Cell, ...]:
    """The cells of a configuration with a grid, the last axis first to change.

    Raises: ConfigError for keys that do not exist, values that are not allowed (naming the cell), axes that clash, too many cells
    or none.
    """
    return _cells(canonical(config))


@lru_cache(maxsize=8)
def _cells(question: str) -> tuple[Cell, ...]:
    config = ExperimentConfig.model_validate_json(question)
    grid = config.grid
    assert grid is not None
    base = config.model_copy(update={"grid": None})
    keys = _keys(grid)
    number = prod(len(values) for values in grid.axes.values())
    if number > MOST_CELLS:
        raise ConfigError(f"The grid has {number:,} cells; at most {MOST_CELLS:,} can be swept. Leave out values.")
    conditions = [_condition(text) for text in grid.where]
    asked: dict[tuple[str, ...], Cell] = {}
    parts = _Parts(base)
    for row in product(*(_rows(key, values) for key, values in grid.axes.items())):
        values = tuple(zip(keys, (value for part in row for value in part), strict=True))
        if not all(_holds(condition, dict(values), base) for condition in conditions):
            continue
        own = parts.of(values)
        cell = Cell(values, parts.base.model_copy(update={part.field: part.value for part in own}))
        twin = asked.setdefault(tuple(part.text for part in own), cell)
        if twin is not cell:
            raise ConfigError(f"The cells '{twin}' and '{cell}' ask the same. Leave out one of the values.")
    if not asked:
        raise ConfigError(f"No cell of the grid meets the condition {' and '.join(grid.where)}. Loosen it.")
    return tuple(asked.values())


class _Part(NamedTuple):
    """A part of the configuration of a cell, such as its `train`, in canonical words, and as text."""

    field: str
    value: Any
    text: str


class _Parts:
    """The parts of cells, each made and checked once: a grid of 100 depths and 100 rates has 200 of them."""

    def __init__(self, base: ExperimentConfig) -> None:
        self.asked = base
        self.base = resolve_config(base)
        self.made: dict[tuple[Any, ...], _Part] = {}

    def of(self, values: Sequence[tuple[str, Any]]) -> list[_Part]:
        """The parts that the values of a cell make. Raises: ConfigError that names the cell."""
        by_section: dict[str, list[tuple[str, Any]]] = {}
        for key, value in values:
            by_section.setdefault(key.partition(".")[0], []).append((key, value))
        return [self._part(section, own, values) for section, own in by_section.items()]

    def _part(self, section: str, own: Sequence[tuple[str, Any]], values: Sequence[tuple[str, Any]]) -> _Part:
        known = (section, *(repr(value) for _, value in own))
        if known not in self.made:
            config = self.asked
            try:
                for key, value in own:
                    config = _with_value(config, key, value)
                config = resolve_config(config)
            except ConfigError as error:
                raise ConfigError(f"The cell '{values_text(values)}' of the grid cannot be used: {error}") from error
            field = "schemes" if section == SCHEME else section
            self.made[known] = _Part(field, getattr(config, field), config.model_dump_json(include={field}))
        return self.made[known]


def _keys(grid: GridConfig) -> list[str]:
    """All keys of the axes. Raises: ConfigError where one cannot be swept over, or two clash."""
    keys = split(grid.axes)
    for index, key in enumerate(keys):
        section = key.partition(".")[0]
        if section in NOT_AXES:
            raise ConfigError(f"'{key}' cannot be an axis of the grid: {NOT_AXES[section]}.")
        for other in keys[:index]:
            if key == other or key.startswith(f"{other}.") or other.startswith(f"{key}."):
                raise ConfigError(f"The axes '{other}' and '{key}' of the grid clash: both set {key}. Give it once.")
    return keys


def _rows(axis: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The values of an axis, of zipped keys one each. Raises: ConfigError where their numbers differ."""
    count = axis.count(",") + 1
    for value in values:
        row = tuple(value) if count > 1 and isinstance(value, list | tuple) else (value,)
        if len(row) != count:
            raise ConfigError(
                f"The axis '{axis}' has {count} keys, and {value_text(value)} is no list of {count} values. Write {axis}=[..],[..]"
            )
        yield row


def _with_value(config: ExperimentConfig, key: str, value: Any) -> ExperimentConfig:
    section, _, name = key.partition(".")
    if section != SCHEME:
        return config_file.with_value(config, key, value, key)
    schemes = (Ref(name=ref.name, params={**ref.params, name: value}) for ref in config.schemes)
    return config.model_copy(update={"schemes": tuple(catalog.resolve("scheme", ref) for ref in schemes)})


# ---- conditions

_ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


def _condition(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"Cannot read the condition '{text}'. Write one such as: model.depth * model.width <= 4096") from error


def _holds(condition: ast.expr, values: Mapping[str, Any], base: ExperimentConfig) -> bool:
    """Whether the values of a cell meet a condition: keys, numbers and words, arithmetic and comparisons; no code of anybody's is run."""
    try:
        return bool(_worth(condition, values, base))
    except (TypeError, ValueError, ArithmeticError) as error:
        cell = values_text(tuple(values.items()))
        raise ConfigError(f"The condition '{ast.unparse(condition)}' cannot be told of the cell '{cell}': {error}.") from error


def _worth(node: ast.expr, values: Mapping[str, Any], base: ExperimentConfig) -> Any:
    match node:
        case ast.BoolOp(op=op, values=parts):
            told = (_worth(part, values, base) for part in parts)
            return all(told) if isinstance(op, ast.And) else any(told)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return not _worth(part, values, base)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_worth(part, values, base)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            first, second = _worth(left, values, base), _worth(right, values, base)
            for each in (first, second):
                if not isinstance(each, int | float):
                    raise TypeError(f"{each!r} is no number")
            if isinstance(op, ast.Pow) and abs(second) > LARGEST_POWER:
                raise ValueError(f"{second} is too large an exponent")
            return _ARITHMETIC[type(op)](float(first) if isinstance(op, ast.Pow) else first, second)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _ARITHMETIC for op in ops):
            chain = [_worth(each, values, base) for each in (left, *others)]
            return all(_ARITHMETIC[type(op)](one, two) for op, one, two in zip(ops, chain, chain[1:], strict=False))
        case ast.Constant(value=int() | float() | str() | bool() as constant):
            return constant
        case ast.Name() | ast.Attribute():
            key = ast.unparse(node)
            worth = values[key] if key in values else value_of(base, key)
            if worth is None:
                raise ValueError(f"there is no key '{key}'")
            return worth
    raise ConfigError(f"The condition '{ast.unparse(node)}' holds more than keys, numbers and comparisons, which is all it may.")

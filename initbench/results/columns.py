"""Records of one kind, such as the layers of a run, kept flat: their numbers in one array, all else once for all runs that have it alike.

A record is made anew whenever one is asked for, so that a run of few layers takes some thousand bytes instead of tens of thousands.
"""

from array import array
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, Generic, NamedTuple, TypeVar, cast, get_args, overload

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

ALIKE = 4096
"""Records, and sequences of them, that differ in more than numbers and are shared by the runs that have them alike."""

Record = TypeVar("Record", bound=BaseModel)


class _Shape(NamedTuple):
    """A record without its numbers: the kind, the names of the numbers that it has, the names and values of all else."""

    kind: type[BaseModel]
    numbers: tuple[str, ...]
    rest: tuple[tuple[str, Any], ...]


@cache
def _numbers_of(kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields that hold a finite number or None."""
    return tuple(name for name, field in kind.model_fields.items() if field.annotation == float | None)


@cache
def _others_of(kind: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name in kind.model_fields if name not in _numbers_of(kind))


@lru_cache(ALIKE)
def _shared(shapes: tuple[_Shape, ...]) -> tuple[_Shape, ...]:
    return tuple(map(_shared_shape, shapes))


@lru_cache(ALIKE)
def _shared_shape(shape: _Shape) -> _Shape:
    return shape


class Columns(Sequence[Record], Generic[Record]):
    """An immutable sequence of records of one kind; equal to a tuple of them."""

    __slots__ = ("_numbers", "_shapes")

    def __init__(self, shapes: tuple[_Shape, ...], numbers: "array[float]") -> None:
        self._shapes, self._numbers = _shared(shapes), numbers

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        return tuple(self)[place]

    def __iter__(self) -> Iterator[Record]:
        return self._made([True] * len(self))

    def column(self, name: str) -> list[Any]:
        """A field that holds no number of its own, such as `step`, of each record; none is made for that."""
        place = _others_of(self._shapes[0].kind).index(name) if self._shapes else 0
        return [shape.rest[place][1] for shape in self._shapes]

    def at(self, step: int) -> Iterator[Record]:
        """The records of a step; no other is made."""
        return self._made([each == step for each in self.column("step")])

    def _made(self, wanted: Sequence[bool]) -> Iterator[Record]:
        start = 0
        for shape, asked in zip(self._shapes, wanted, strict=True):
            end = start + len(shape.numbers)
            if asked:
                yield cast(Record, _record(shape, self._numbers[start:end]))
            start = end

    def __len__(self) -> int:
        return len(self._shapes)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Columns):
            return self._shapes == other._shapes and self._numbers == other._numbers
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Columns, (self._shapes, self._numbers)


def _record(shape: _Shape, numbers: "array[float]") -> BaseModel:
    """What `model_construct` gives, fifteen times as fast."""
    kind = shape.kind
    blank, named = _blank(kind)
    values = blank.copy()  # which keeps the order of the fields
    values.update(shape.rest)
    values.update(zip(shape.numbers, numbers, strict=True))
    record = kind.__new__(kind)
    object.__setattr__(record, "__dict__", values)
    object.__setattr__(record, "__pydantic_fields_set__", named)
    object.__setattr__(record, "__pydantic_extra__", None)
    object.__setattr__(record, "__pydantic_private__", None)
    return record


@cache
def _blank(kind: type[BaseModel]) -> tuple[dict[str, Any], set[str]]:
    return dict.fromkeys(kind.model_fields), set(kind.model_fields)


def columns(kind: type[Record], records: Sequence[Record]) -> Columns[Record]:
    """The records, which are of this kind, as columns."""
    if isinstance(records, Columns):
        return records
    shapes, every = [], array("d")
    for record in records:
        values = record.__dict__
        numbers = tuple(name for name in _numbers_of(kind) if values[name] is not None)
        shapes.append(_Shape(kind, numbers, tuple((name, values[name]) for name in _others_of(kind))))
        every.extend(values[name] for name in numbers)
    return Columns(tuple(shapes), every)


def column(records: Sequence[BaseModel], name: str) -> list[Any]:
    """A field of each of the records, which may be columns."""
    return records.column(name) if isinstance(records, Columns) else [getattr(record, name) for record in records]


def at_step(records: Sequence[Record], step: int) -> Iterator[Record]:
    """The records of a step, which has a field of that name."""
    if isinstance(records, Columns):
        return records.at(step)
    return (record for record in records if record.step == step)  # type: ignore[attr-defined]


class InColumns:
    """Annotates a field `Sequence[Record]`: it is checked and written as a tuple, and kept as columns."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (kind,) = get_args(source)
        as_tuple = handler.generate_schema(tuple.__class_getitem__((kind, ...)))
        checked = core_schema.no_info_after_validator_function(lambda records: columns(kind, records), as_tuple)
        return core_schema.json_or_python_schema(
            checked,
            core_schema.union_schema([core_schema.is_instance_schema(Columns), checked]),
            serialization=core_schema.wrap_serializer_function_ser_schema(_written, schema=as_tuple),
        )


def _written(records: Sequence[BaseModel], write: Any) -> Any:
    return write(tuple(records))

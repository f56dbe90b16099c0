"""Batches from whatever somebody has: tensors, a map-style dataset, a DataLoader, another iterable, or a function that makes one.

A pass over a source depends on its seed and nothing else: it begins with random states of its own (Python's, numpy's, torch's, and
the generators that a DataLoader holds), which go on from batch to batch while the caller's stay as they are.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from initbench.errors import ConfigError, DataError, UserCode, a_or_an
from initbench.nn.inputs import from_array
from initbench.nn.seeds import derived_seed, random_states, seed_generators, set_random_states
from initbench.training.batches import epoch_order

FORMS = (
    "It is tensors or arrays with as many rows each, a dataset with __len__ and __getitem__, a DataLoader, a list of batches, or a "
    "function (of a seed, or of nothing) that makes one of these"
)
GENERATOR_PLACES = ("", "sampler", "batch_sampler", "batch_sampler.sampler", "dataset")
"""Where a DataLoader may hold a generator of its own."""


@dataclass(frozen=True)
class Source:
    """One split. `rows` are tensors by place or name, or a map-style dataset; a source without them is iterated over as it is."""

    given: Any
    name: str
    rows: int | None = None

    def count(self, batch_size: int) -> int | None:
        """How many batches a pass has; None where nobody knows. Of rows the last incomplete batch is dropped."""
        if self.rows is not None:
            return self.rows // batch_size
        made = None if _is_function(self.given) else self.given
        with suppress(TypeError, NotImplementedError):  # which `len` of a loader of an iterable dataset raises
            return len(made) if isinstance(made, Sized) else None
        return None

    @property
    def holds_tensors(self) -> bool:
        """Whether its rows are those of tensors, which can all be had at once."""
        return self.rows is not None and _is_tensors(self.given)

    def one_pass(self, seed: int, number: int, batch_size: int, *, shuffled: bool) -> Iterator[Any]:
        """The batches of a pass: rows in the order of this seed and pass where they are `shuffled`, else as they come, all of them."""
        if self.rows is None:
            return _drawn(lambda: _iterator(self.given, derived_seed(seed, "loader", str(number)), self.name), self.given, seed, number)
        order = epoch_order(seed, number, self.rows) if shuffled else torch.arange(self.rows, device="cpu")
        end = self.rows - self.rows % batch_size if shuffled else self.rows
        parts = (order[start : start + batch_size] for start in range(0, end, batch_size))
        if _is_tensors(self.given):
            return (_taken(self.given, places) for places in parts)
        return _drawn(lambda: (default_collate([self.given[int(place)] for place in places]) for places in parts), None, seed, number)

    def part(self, places: Tensor) -> "Source":
        """Some of the rows. Raises: ConfigError where it has none."""
        if self.rows is None:
            raise ConfigError(
                f"A part of the {self.name} data is to be held out, and {a_or_an(type(self.given).__name__)} cannot be divided. Give "
                "tensors or a dataset with __len__ and __getitem__ in its place."
            )
        given = _taken(self.given, places) if _is_tensors(self.given) else torch.utils.data.Subset(self.given, places.tolist())
        return Source(given, self.name, len(places))


def pair_of(given: object, name: str) -> tuple[Any, Any]:
    """What is trained on and what is evaluated on. Raises: ConfigError for anything but a pair of them."""
    if isinstance(given, Mapping) and set(given) == {"train", "test"}:
        return given["train"], given["test"]
    if not isinstance(given, tuple | list) or len(given) != 2 or hasattr(given, "_fields"):
        raise ConfigError(
            f"The data{name} are {a_or_an(type(given).__name__)}. Give a pair: what is trained on, and what is evaluated on, such as "
            "(train_loader, val_loader)."
        )
    return given[0], given[1]


def source_of(given: object, name: str) -> Source:
    """The source that somebody's data are. Raises: ConfigError for what gives no batches, or only once."""
    if _is_tensors(given):
        rows = {len(tensor) for tensor in _tensors(given)}
        if len(rows) > 1:
            raise ConfigError(f"The {name} data are tensors of {' and '.join(map(str, sorted(rows)))} rows. Give as many of each.")
        return Source(_map(given, lambda each: from_array(each) if isinstance(each, np.ndarray) else each), name, rows.pop())
    if isinstance(given, DataLoader) or _is_function(given):
        return Source(given, name)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, list | tuple | Mapping):
        return Source(given, name, len(given))
    if isinstance(given, Iterator):
        raise ConfigError(
            f"The {name} data are {a_or_an(type(given).__name__)}, which ends after one pass, and each run needs its own. Give the "
            "function that makes it."
        )
    if not hasattr(given, "__iter__") or isinstance(given, Mapping | str | bytes):
        raise ConfigError(f"The {name} data are {a_or_an(type(given).__name__)}. {FORMS}.")
    return Source(given, name)


def _is_function(given: object) -> bool:
    return callable(given) and not hasattr(given, "__iter__") and not hasattr(given, "__getitem__")


def _tensors(given: Any) -> list[Any]:
    parts = given.values() if isinstance(given, Mapping) else given if isinstance(given, tuple) else [given]
    return list(parts)


def _is_tensors(given: object) -> bool:
    """Whether something is rows: a tensor, or a tuple or mapping of tensors; a list is one of batches."""
    parts = [] if isinstance(given, list) else _tensors(given)
    return bool(parts) and all(isinstance(each, Tensor | np.ndarray) and each.ndim > 0 for each in parts)


def _map(given: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(given, Mapping):
        return {key: change(each) for key, each in given.items()}
    if isinstance(given, tuple):
        return type(given)(*map(change, given)) if hasattr(given, "_fields") else tuple(map(change, given))
    return change(given)


def _taken(given: Any, places: Tensor) -> Any:
    return _map(given, lambda tensor: tensor[places.to(tensor.device)])


def _iterator(given: Any, seed: int, name: str) -> Iterator[Any]:
    """A pass over what is no rows; a function is called for each."""
    if not _is_function(given):
        return iter(given)
    made = given(*([seed] if _takes_seed(given) else []))
    if isinstance(made, Iterator):
        return made
    source = source_of(made, name)
    if source.rows is not None:
        raise ConfigError(
            f"The function of the {name} data gives {a_or_an(type(made).__name__)} without batches. Give the data themselves, or a "
            "DataLoader."
        )
    return iter(made)


def _takes_seed(function: Callable[..., Any]) -> bool:
    with suppress(TypeError, ValueError):
        return any(entry.default is entry.empty for entry in inspect.signature(function).parameters.values())
    return False


def _drawn(make: Callable[[], Iterator[Any]], given: Any, seed: int, number: int) -> Iterator[Any]:
    """What an iterator gives, made and advanced under random states of its own that begin with the seed and the number of the pass."""
    own = derived_seed(seed, "loader", str(number))
    with _generators(given, own):
        inside: dict[str, Any] | None = None
        batches: Iterator[Any] = iter(())
        while True:
            outside = random_states()
            try:
                if inside is None:
                    seed_generators(own, own, own)
                    batches = make()
                else:
                    set_random_states(inside)
                batch = next(batches)
            except StopIteration:
                return
            finally:
                inside = random_states()
                set_random_states(outside)
            yield batch


@contextmanager
def _generators(given: Any, seed: int) -> Iterator[None]:
    """Within, the generators that a DataLoader holds begin with the seed; afterwards they are as they were."""
    held: dict[int, torch.Generator] = {}
    for place in GENERATOR_PLACES if isinstance(given, DataLoader) else ():
        owner = given
        for name in filter(None, place.split(".")):
            owner = getattr(owner, name, None)
        found = getattr(owner, "generator", None)
        if isinstance(found, torch.Generator):
            held[id(found)] = found
    before = {key: found.get_state() for key, found in held.items()}
    for found in held.values():
        found.manual_seed(seed)
    try:
        yield
    finally:
        for key, found in held.items():
            found.set_state(before[key])


def first_of(source: Source, size: int) -> Any:
    """The first batch of a fixed pass. Raises: DataError where there is none."""
    batch = next(source.one_pass(0, 0, size, shuffled=True), None)
    if batch is None:
        raise DataError(f"The {source.name} data gave a batch once, and none the next time. Each pass must give all of them.")
    return batch


def refuse_unseeded(source: Source, batch_size: int) -> None:
    """Raises: ConfigError where a pass has no first batch, or where the same seed gives another one."""
    firsts = []
    for _ in range(2):
        with UserCode(f"The {source.name} data cannot be read"):
            firsts.append(next(source.one_pass(0, 0, batch_size, shuffled=source.name == "training"), None))
    if firsts[0] is None:
        raise ConfigError(f"The {source.name} data give no batch.")
    if firsts[1] is None:
        raise ConfigError(
            f"The {source.name} data end for good after one pass, and each run needs its own. Give a function that makes them anew."
        )
    if not _same(*firsts):
        raise ConfigError(
            f"The {source.name} data give other batches for the same seed, so schemes would not see the same. Draw from torch's, numpy's "
            "or Python's global generator or a DataLoader's own, or give a function of the seed that makes them."
        )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor | np.ndarray) and isinstance(other, Tensor | np.ndarray):
        first, second = (torch.as_tensor(each, device="cpu") if isinstance(each, np.ndarray) else each for each in (one, other))
        return first.shape == second.shape and bool(torch.equal(torch.nan_to_num(first.double()), torch.nan_to_num(second.double())))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other)

"""Sums over the tensors of a layer, exact at any magnitude, and what is kept of them for the quantities."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from initbench.quantities import OF_EVERY_RUN, LayerTensor, Quantity, Source, Taken

CHUNK = 2**18
"""Elements that are summed at once on a CPU: 2 MB in float64, which stays in the cache."""

FEW = 2**14
"""Elements for which new memory is taken more quickly than a part of the old."""

SAFE = (1e-12, 1e15)
"""Norms whose squares float32 can hold, also those of single elements that matter."""

LONG_ROW = 2**14
"""Elements of a row that float32 sums to 1e-7."""

SMALL_SHARE = 0.01
"""The variance's share of the mean square below which float32 would take digits from it."""


class Scratch:
    """Memory that sums are made in, kept from one tensor to the next: on a CPU, fresh pages cost more than the sums."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def wide(self, values: Tensor) -> Tensor:
        """At most `CHUNK` values in float64."""
        if values.numel() <= FEW:
            return values.double()
        return self._part(values.numel(), torch.float64).view(values.shape).copy_(values)

    def signs(self, values: Tensor) -> Tensor:
        """1 where a value is not zero, else 0."""
        if values.is_complex():
            return values.ne(0).float()
        if values.device.type != "cpu" or values.dtype != torch.float32 or values.numel() > CHUNK:
            return values.sign().abs_()
        return torch.sign(values, out=self._part(values.numel(), torch.float32).view(values.shape)).abs_()

    def _part(self, count: int, dtype: torch.dtype) -> Tensor:
        if self._memory is None:
            self._memory = torch.empty(CHUNK, dtype=torch.float64, device="cpu")
        return self._memory.view(dtype)[:count]


def sums(values: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """The sum of all elements and their Euclidean norm as float64 scalars on the device (float32 on MPS), and their number.

    Float64 sums keep every magnitude that float32 can hold, so an exploding signal is still a number; two plain sums
    are several times faster on one core than `torch.var_mean`. Of complex values the sum is the magnitude of theirs, so that
    the variance that follows is the mean of |z - mean|^2.
    """
    values, count = values.detach(), values.numel()
    if values.is_complex():
        both = torch.view_as_real(values.resolve_conj())
        return torch.linalg.vector_norm(both.flatten(0, -2).sum(0, dtype=wide_type(both))), sums(both, scratch)[1], count
    if values.device.type != "cpu" or values.dtype == torch.float64 or not count:
        wide = wide_type(values)
        return values.sum(dtype=wide), torch.linalg.vector_norm(values, dtype=wide), count
    if count <= CHUNK:
        wide_values = scratch.wide(values)
        return wide_values.sum(), torch.linalg.vector_norm(wide_values), count
    flat = values.movedim(1, -1) if values.dim() == 4 and not values.is_contiguous() else values
    parts: tuple[Tensor, ...] = flat.reshape(-1).split(CHUNK)  # type: ignore[no-untyped-call]
    pieces = [(part.sum(), torch.linalg.vector_norm(part)) for part in map(scratch.wide, parts)]
    totals = [torch.stack(column) for column in zip(*pieces, strict=True)]
    return totals[0].sum(), torch.linalg.vector_norm(totals[1]), count


def quick_norm(values: Tensor, scratch: Scratch) -> Tensor:
    """The norm of `sums` to 1e-7; three times as fast where rows can be summed in float32: on a CPU, within its range."""
    values = values.detach()
    if (rows := _rows(values)) is not None:
        norm = _norm(rows)
        if SAFE[0] < float(norm) < SAFE[1]:
            return norm
    return sums(values, scratch)[1]


def quick_sums(values: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """As `sums`, three times as fast where float32 is enough for the variance, to 1e-5: where it is no small share of the mean square."""
    values, count = values.detach(), values.numel()
    if (rows := _rows(values)) is not None:
        total, norm = rows.sum(1).sum(dtype=torch.float64), _norm(rows)
        in_range = SAFE[0] < float(norm) < SAFE[1]
        if in_range and float(total) ** 2 < (1 - SMALL_SHARE) * count * float(norm) ** 2:
            return total, norm, count
    return sums(values, scratch)


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(torch.linalg.vector_norm(rows, dim=1), dtype=torch.float64)  # type: ignore[no-any-return]


def _rows(values: Tensor) -> Tensor | None:
    """A matrix of the elements of float32 on a CPU, without a copy where they are stored in order, channels first or last.

    Long rows are cut, since float32 keeps fewer digits of a longer sum; None where they cannot be, and for few elements.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32 or values.dim() < 2 or values.numel() <= FEW:
        return None
    rows = (values.movedim(1, -1) if values.dim() == 4 and not values.is_contiguous() else values).flatten(1)
    length = rows.shape[1]
    fewest = -(-length // LONG_ROW)
    parts = next((parts for parts in range(fewest, 16 * fewest) if length % parts == 0), None)
    return None if parts is None else rows.reshape(-1, length // parts)


def wide_type(values: Tensor) -> torch.dtype:
    """The type that sums run in: float64 where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


class MeasuredTensor:
    """One tensor of a layer, as quantities take it: `quantities.LayerTensor` says what its attributes are."""

    def __init__(
        self,
        values: Tensor,
        scratch: Scratch,
        *,
        unit_dim: int = -1,
        function: Callable[[Tensor], Tensor] | None = None,
        before: Tensor | None = None,
        images: int = 1,
    ) -> None:
        self.values, self.wide = values.detach(), wide_type(values)
        self.unit_dim, self.function, self.before, self.images = unit_dim, function, before, images
        self._scratch = scratch

    def sums(self) -> tuple[Tensor, Tensor, int]:
        """The sum, the norm and the number of the values."""
        return self._sums

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor, int]:
        return quick_sums(self.values, self._scratch)

    def norm(self, values: Tensor) -> Tensor:
        """The norm of a tensor."""
        return quick_norm(values, self._scratch)

    def signs(self) -> Tensor:
        """1 where a value is not zero, else 0; in memory that the next call uses anew."""
        return self._scratch.signs(self.values)


Take = Callable[[LayerTensor], Taken | None]
TAKES: dict[Source, tuple[Take, ...]] = {
    source: tuple(dict.fromkeys(each.take for each in OF_EVERY_RUN if each.of == source and each.take is not None))
    for source in dict.fromkeys(each.of for each in OF_EVERY_RUN)
    if source is not None
}
"""What is taken of each tensor."""


class Statistics:
    """What was kept of one layer's tensors so far."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Source, Take], Taken] = {}

    def add(self, source: Source, tensor: LayerTensor) -> None:
        """Keeps what the quantities of a tensor need."""
        for take in TAKES[source]:
            taken = take(tensor)
            if taken is not None:
                self.kept[source, take] = taken


def columns(statistics: Sequence[Statistics], like: Tensor, quantities: Iterable[Quantity]) -> dict[str, Tensor]:
    """Each quantity as a vector (layers,) on the device of `like`, all layers at once; NaN where nothing was kept of a layer.

    What was kept but is no number, as of a signal that overflowed, is infinite.
    """
    missing = torch.full((), torch.nan, dtype=wide_type(like), device=like.device)
    kept: dict[object, tuple[Tensor, Tensor] | None] = {}
    computed: dict[object, Tensor] = {}
    values: dict[str, Tensor] = {}
    for each in quantities:
        if each.of is None or each.take is None or each.compute is None:
            continue
        key = (each.of, each.take)
        if key not in kept:
            kept[key] = _of_all_layers([layer.kept.get(key) for layer in statistics], missing)
        block = kept[key]
        if block is None:
            values[each.name] = missing.expand(len(statistics))
            continue
        if (key, each.compute) not in computed:
            there = torch.tensor([key in layer.kept for layer in statistics], dtype=torch.bool, device=like.device)
            result = each.compute(*block)
            computed[key, each.compute] = result.masked_fill(there & result.isnan(), torch.inf)
        result = computed[key, each.compute]
        values[each.name] = result if each.row is None else result[each.row]
    return values


def _of_all_layers(kept: Sequence[Taken | None], missing: Tensor) -> tuple[Tensor, Tensor] | None:
    """What was kept, as (numbers, layers) and (counts, layers); None where no layer has anything."""
    first = next((taken for taken in kept if taken is not None), None)
    if first is None:
        return None
    nothing = [missing.to(number.dtype).expand(number.shape) for number in first[0]]
    rows = range(len(first[0]))
    numbers = torch.stack([taken[0][row] if taken is not None else nothing[row] for row in rows for taken in kept])
    counts = [[max(1, taken[1][row]) if taken is not None else 1 for taken in kept] for row in range(len(first[1]))]
    return numbers.T if numbers.dim() > 1 else numbers.view(-1, len(kept)), torch.tensor(counts, dtype=missing.dtype, device="cpu").to(
        missing.device
    )

"""Sums over the tensors of a signal, exact at any magnitude, and the moments that follow from them."""

import torch
from torch import Tensor

MEASURED = ("pre_activation", "activation", "gradient", "weight", "weight_gradient")
"""The tensors of a layer that are summed up; `captured` fills the first three."""

CHUNK = 2**18
"""Elements that are summed at once on a CPU: 2 MB in float64, which stays in the cache."""

ROUNDING = 1e-12
"""A variance below this share of the mean square is rounding of a constant."""


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
        if values.device.type != "cpu" or values.dtype != torch.float32 or values.numel() > CHUNK:
            return values.sign().abs_()
        return torch.sign(values, out=self._part(values.numel(), torch.float32).view(values.shape)).abs_()

    def _part(self, count: int, dtype: torch.dtype) -> Tensor:
        if self._memory is None:
            self._memory = torch.empty(CHUNK, dtype=torch.float64)
        return self._memory.view(dtype)[:count]


def sums(values: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """The sum of all elements and their Euclidean norm as float64 scalars on the device (float32 on MPS), and their number.

    Float64 sums keep every magnitude that float32 can hold, so an exploding signal is still a number; two plain sums
    are several times faster on one core than `torch.var_mean`.
    """
    values, count = values.detach(), values.numel()
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


def moments(sum_: Tensor, norm: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance from what `sums` gives, for any number of tensors at once."""
    mean, square = sum_ / count, norm.square() / count
    variance = square - mean.square()
    return mean, torch.where(variance < ROUNDING * square, 0.0, variance)


def alive(values: Tensor, unit_dim: int, scratch: Scratch) -> tuple[Tensor, Tensor, int]:
    """The number of elements that are not exactly zero, the number of units that are zero throughout, and that of all units.

    A unit is an index along `unit_dim`: a neuron, or a channel, dead when zero in every image at every position.
    """
    values = values.detach()
    unit_dim %= max(1, values.dim())
    others = [dim for dim in range(values.dim()) if dim != unit_dim]
    counts = scratch.signs(values)
    counts = counts.sum(others, dtype=torch.float32) if others else counts.to(torch.float32)
    wide = wide_type(values)
    return counts.sum(dtype=wide), counts.eq(0).sum(dtype=wide), counts.numel()


def wide_type(values: Tensor) -> torch.dtype:
    """The type that sums run in: float64 where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


class Signal:
    """The sums of one layer's signal: scalars on the device, and how many elements went into each."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self.scalars: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Takes up the moments of a tensor under a name."""
        self.scalars[f"{name} sum"], self.scalars[f"{name} norm"], self.counts[name] = quick_sums(values, self._scratch)

    def add_norm(self, name: str, values: Tensor) -> None:
        """Takes up only the norm of a tensor."""
        self.scalars[f"{name} norm"], self.counts[name] = quick_norm(values, self._scratch), values.numel()

    def add_alive(self, values: Tensor, unit_dim: int) -> None:
        """Takes up how many elements and units of an activation are not zero."""
        self.scalars["alive"], self.scalars["dead"], self.counts["units"] = alive(values, unit_dim, self._scratch)

    def same(self, name: str, other: str) -> None:
        """Says that `name` is the tensor that is known as `other`."""
        for kind in ("sum", "norm"):
            self.scalars[f"{name} {kind}"] = self.scalars[f"{other} {kind}"]
        self.counts[name] = self.counts[other]


def columns(signals: list[Signal], like: Tensor) -> dict[str, Tensor]:
    """All that was taken up, as one vector (layers,) a quantity on the device of `like`; NaN where there is nothing."""
    names = [f"{name} {kind}" for kind in ("sum", "norm") for name in MEASURED] + ["alive", "dead"]
    wide, size = wide_type(like), len(MEASURED)
    missing = torch.full((), torch.nan, dtype=wide, device=like.device)
    cells = torch.stack([signal.scalars.get(name, missing) for name in names for signal in signals]).view(len(names), len(signals))
    counts = torch.tensor([[max(1, signal.counts.get(name, 1)) for signal in signals] for name in (*MEASURED, "units")], dtype=wide)
    counts = counts.to(like.device)
    means, variances = moments(cells[:size], cells[size : 2 * size], counts[:size])
    found: dict[str, Tensor] = {}
    for row, name in enumerate(MEASURED):
        found[f"{name}_mean"], found[f"{name}_variance"], found[f"{name}_norm"] = means[row], variances[row], cells[size + row]
    found["zero_fraction"] = 1 - cells[-2] / counts[MEASURED.index("activation")]
    found["dead_fraction"] = cells[-1] / counts[-1]
    return found

"""Statistics of the signal in one forward and backward pass; the model, its buffers and all random state stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from initbench.nn.follow import Follower
from initbench.nn.layers import WeightLayer
from initbench.nn.marks import Use
from initbench.nn.watch import followed, untouched

SIGNAL_COLUMNS = (
    "pre_activation_mean",
    "pre_activation_variance",
    "activation_mean",
    "activation_variance",
    "zero_fraction",
    "dead_fraction",
    "gradient_variance",
)
"""What `captured` measures of each layer, in the order of its columns."""

ROUNDING = 1e-13
"""A variance below this share of the mean square is rounding of a constant."""


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of all elements as float64 scalars on the device (float32 on MPS).

    Float64 sums keep every magnitude that float32 can hold, so an exploding signal is still a number; two plain sums
    are ten times faster on one core than `torch.var_mean`.
    """
    wide = wide_type(values)
    values = values.detach()
    count = max(1, values.numel())
    mean = values.sum(dtype=wide) / count
    square = torch.linalg.vector_norm(values, dtype=wide).square() / count
    variance = square - mean.square()
    return mean, torch.where(variance < ROUNDING * square, 0.0, variance)


def zeros(values: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    """The share of elements that are exactly zero, and the share of units (indices along `unit_dim`) that are zero throughout.

    A unit of a convolution is a channel: dead when zero in every image at every position.
    """
    values = values.detach()
    others = [dim for dim in range(values.dim()) if dim != unit_dim % values.dim()]
    alive = values.float().sign().abs_()
    counts = alive.sum(others) if others else alive
    return 1 - counts.sum(dtype=wide_type(values)) / max(1, values.numel()), counts.eq(0).to(counts.dtype).mean()


def wide_type(values: Tensor) -> torch.dtype:
    """The type that sums run in: float64 where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


@dataclass(frozen=True)
class Captured:
    """One forward pass: what the model gave, and for each layer its statistics so far, by the names in `SIGNAL_COLUMNS`."""

    output: Any
    signals: list[dict[str, Tensor]] = field(default_factory=list)


@contextmanager
def captured(model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Tensor) -> Iterator[Captured]:
    """Runs the model on a batch; a backward pass within completes the statistics with those of the gradients.

    Norms use batch statistics and dropout is off. Everything is measured the moment it is there, so that functions that
    work in place change nothing. A weight that is used several times is measured at its first use; the products inside
    a recurrent module are hidden, its last layer's weights have its states as their activation.
    """
    watch = _Capture(model, layers)
    try:
        with untouched(model, "batch"):
            yield Captured(followed(model, watch, inputs), watch.signals)
    finally:
        for handle in watch.handles:
            handle.remove()


class _Capture(Follower):
    """Takes the statistics of each layer as the signal comes by."""

    def __init__(self, model: nn.Module, layers: tuple[WeightLayer, ...]) -> None:
        super().__init__({id(parameter): name for name, parameter in model.named_parameters()})
        self.signals: list[dict[str, Tensor]] = [{} for _ in layers]
        self.handles: list[RemovableHandle] = []
        self._rows = {layer.parameter: row for row, layer in enumerate(layers)}
        self._first: dict[str, int] = {}

    def on_output(self, use: Use, output: Tensor) -> None:
        row = self._row(use)
        if row is None:
            return
        signal = self.signals[row]
        signal["pre_activation_mean"], signal["pre_activation_variance"] = moments(output)
        self._activation(use, row, output)
        if output.requires_grad:

            def take(gradient: Tensor) -> None:
                signal["gradient_variance"] = moments(gradient)[1]

            self.handles.append(output.register_hook(take))  # type: ignore[no-untyped-call]

    def on_activation(self, uses: frozenset[int], output: Tensor) -> None:
        for index in uses:
            row = self._row(self.uses[index])
            if row is not None:
                self._activation(self.uses[index], row, output)

    def _row(self, use: Use) -> int | None:
        """The layer's row at its first use."""
        name = use.view.name
        first = self._first.setdefault(name, use.index)
        return self._rows.get(name) if first == use.index else None

    def _activation(self, use: Use, row: int, output: Tensor) -> None:
        signal = self.signals[row]
        signal["activation_mean"], signal["activation_variance"] = moments(output)
        channels_first = "conv" in use.function and output.dim() == len(use.output_shape)
        signal["zero_fraction"], signal["dead_fraction"] = zeros(output, 1 if channels_first else -1)

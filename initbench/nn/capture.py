"""Statistics of the signal in one forward and backward pass; the model, its buffers and all random state stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from initbench.nn.layers import WeightLayer

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


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of all elements as float64 scalars on the device (float32 on MPS).

    Float64 sums keep every magnitude that float32 can hold, so an exploding signal is still a number; two plain sums
    are ten times faster on one core than `torch.var_mean`.
    """
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    values = values.detach()
    count = max(1, values.numel())
    mean = values.sum(dtype=wide) / count
    square = torch.linalg.vector_norm(values, dtype=wide).square() / count
    return mean, (square - mean.square()).clamp_(min=0)


def zeros(values: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    """The share of elements that are exactly zero, and the share of units (indices along `unit_dim`) that are zero throughout."""
    values = values.detach()
    others = [dim for dim in range(values.dim()) if dim != unit_dim % values.dim()]
    alive = values.float().sign().abs_()
    counts = alive.sum(others) if others else alive
    return 1 - counts.sum(dtype=torch.float32) / max(1, values.numel()), counts.eq(0).to(counts.dtype).mean()


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Within: dropout off, norms on batch statistics, buffers are copies; afterwards flags, buffers and RNG are as before."""
    modules = list(model.modules())
    flags = [module.training for module in modules]
    buffers = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None]
    copies: dict[int, Tensor] = {}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            for module, name, buffer in buffers:
                module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            for module in modules:
                module.training = isinstance(module, nn.modules.batchnorm._NormBase)
            yield
        finally:
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            for module, flag in zip(modules, flags, strict=True):
                module.training = flag


ACTIVATIONS = frozenset(
    "relu relu_ relu6 leaky_relu leaky_relu_ prelu elu elu_ selu selu_ celu celu_ gelu silu mish sigmoid sigmoid_ tanh tanh_ softplus softsign "
    "hardtanh hardtanh_ hardsigmoid hardswish logsigmoid tanhshrink hardshrink softshrink threshold threshold_ rrelu glu sin cos erf".split()
)
LOOKED_THROUGH = frozenset(
    "batch_norm layer_norm group_norm instance_norm rms_norm dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout max_pool1d "
    "max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d flatten "
    "reshape view permute transpose add add_ __add__ __radd__ __iadd__ mul __mul__ squeeze unsqueeze contiguous mean boolean_dispatch fn".split()
)


@dataclass
class _Watch(TorchFunctionMode):
    rows: dict[int, int]
    unit_dims: list[int]
    values: list[dict[str, Tensor]]
    pending: dict[int, tuple[Tensor, frozenset[int]]] = field(default_factory=dict)
    handles: list[RemovableHandle] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = getattr(func, "__name__", "")
        before = frozenset[int]().union(*(self.pending[id(item)][1] for item in args if id(item) in self.pending))
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        row = next((self.rows[id(item)] for item in args if id(item) in self.rows), None)
        if row is not None and "pre_activation_mean" not in self.values[row]:
            self._output(row, out)
            self.pending[id(out)] = (out, frozenset([row]))
        elif before and name in ACTIVATIONS:
            for row in before:
                self._activation(row, out)
            self.pending.pop(id(out), None)
        elif before and name in LOOKED_THROUGH:
            self.pending[id(out)] = (out, before)
        return out

    def _output(self, row: int, out: Tensor) -> None:
        found = self.values[row]
        found["pre_activation_mean"], found["pre_activation_variance"] = moments(out)
        self._activation(row, out)
        if out.requires_grad:

            def take(gradient: Tensor) -> None:
                found["gradient_variance"] = moments(gradient)[1]

            self.handles.append(out.register_hook(take))

    def _activation(self, row: int, out: Tensor) -> None:
        found = self.values[row]
        found["activation_mean"], found["activation_variance"] = moments(out)
        found["zero_fraction"], found["dead_fraction"] = zeros(out, self.unit_dims[row])


@contextmanager
def captured(model: nn.Module, layers: tuple[WeightLayer, ...]) -> Iterator[list[dict[str, Tensor]]]:
    """Within: a forward pass fills, a backward pass completes, one dict of scalar tensors a layer (keys: `SIGNAL_COLUMNS`)."""
    values: list[dict[str, Tensor]] = [{} for _ in layers]
    unit_dims = [1 if "Conv" in type(layer.module).__name__ else -1 for layer in layers]
    watch = _Watch({id(layer.weight): row for row, layer in enumerate(layers)}, unit_dims, values)
    try:
        with untouched(model), watch:
            yield values
    finally:
        for handle in watch.handles:
            handle.remove()

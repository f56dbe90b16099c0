"""Fans: how many inputs each output sums over, and how many outputs each input reaches, of one part and one group of a weight."""

import math
from dataclasses import dataclass, replace

from torch import nn

from initbench.nn import operations as ops
from initbench.nn.contraction import Axes, Axis
from initbench.nn.graph import Use

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
GATES: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.LSTM, 4), (nn.LSTMCell, 4), (nn.GRU, 3), (nn.GRUCell, 3), (nn.RNN, 1), (nn.RNNCell, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Fans:
    """The fans of a weight and how it is stored: `parts` and `groups` it consists of, `transposed` where (in, out).

    `axes` are as in `WeightLayer`.
    """

    fan_in: int
    fan_out: int
    receptive_field: int = 1
    parts: int = 1
    groups: int = 1
    transposed: bool = False
    axes: Axes = ()


def of_module(module: nn.Module, short: str, shape: tuple[int, ...]) -> Fans | None:
    """The fans of a parameter of one of torch's own modules; None where the module is not known.

    A transposed convolution with stride s sums over k / s of its kernel's positions along each dimension.
    """
    field = math.prod(shape[2:])
    if "weight" not in short:
        return None
    if isinstance(module, CONVOLUTIONS):
        return Fans(shape[1] * field, shape[0] // module.groups * field, field, groups=module.groups)
    if isinstance(module, TRANSPOSED):
        return _transposed(shape, module.groups, math.prod(module.stride))
    if isinstance(module, nn.Linear):
        return Fans(shape[1], shape[0])
    if isinstance(module, nn.Bilinear):
        return Fans(shape[1] * shape[2], shape[0] * shape[2])
    if isinstance(module, nn.MultiheadAttention):
        parts = 3 if short == "in_proj_weight" else 1
        return Fans(shape[1], shape[0] // parts, parts=parts)
    for kind, gates in GATES:
        if isinstance(module, kind):
            parts = 1 if "weight_hr" in short else gates
            return Fans(shape[1], shape[0] // parts, parts=parts)
    return None


def of_use(use: Use, shape: tuple[int, ...]) -> Fans:
    """The fans of a raw parameter of this shape, from what was done with it."""
    seen, kinds = use.weight_shape, use.kinds
    if kinds is None:
        return Fans(seen[-1], seen[-2], transposed=use.weight.flipped)
    found = _seen(use, seen, kinds)
    stacks = _product(seen, kinds, Axis.STACK)
    axes = _stored_axes(use, shape, kinds)
    if (len(shape) == 2 and stacks == 1) or (axes is None and len(shape) == 2):
        turned = kinds.index(Axis.IN) < kinds.index(Axis.OUT) if {Axis.IN, Axis.OUT} <= set(kinds) else False
        halves = _halves(use, shape, kinds, axes)
        groups = max(found.groups, stacks)
        groups = groups if shape[0] % groups == 0 else 1  # rows of a table are looked up, each several times
        return replace(found, groups=groups, parts=halves, transposed=turned != use.weight.flipped)
    if axes is None or _is_plain(axes, len(shape)):
        return found if len(seen) == len(shape) else replace(found, parts=1)
    turned = bool(axes[1] and axes[2]) and axes[2][0] < axes[1][0]
    return replace(found, parts=_halves(use, shape, kinds, axes), transposed=turned, axes=axes)


def _seen(use: Use, seen: tuple[int, ...], kinds: tuple[Axis, ...]) -> Fans:
    """The fans of one matrix or kernel of a weight, as it came into the function that applied it."""
    if use.function in ops.CONVOLUTIONS | ops.TRANSPOSED:
        spatial = len(seen) - 2
        groups = int(ops.argument(use.args, use.kwargs, 6, "groups", 1))
        field = math.prod(seen[2:])
        if use.function in ops.CONVOLUTIONS:
            return Fans(seen[1] * field, seen[0] // groups * field, field, groups=groups)
        stride = ops.argument(use.args, use.kwargs, 3, "stride", 1)
        return _transposed(seen, groups, math.prod(stride) if isinstance(stride, tuple | list) else stride**spatial)
    if use.function == "bilinear":
        return Fans(seen[1] * seen[2], seen[0] * seen[2])
    return Fans(_product(seen, kinds, Axis.IN), _product(seen, kinds, Axis.OUT))


def _product(sizes: tuple[int, ...], kinds: tuple[Axis, ...], kind: Axis) -> int:
    return math.prod(size for size, of in zip(sizes, kinds, strict=True) if of is kind)


def _stored_axes(use: Use, shape: tuple[int, ...], kinds: tuple[Axis, ...]) -> Axes | None:
    """The axes of the parameter that are stacked, made, summed over and the kernel's; those that were left out are stacked."""
    if use.weight.axes is None:
        return None

    def of(wanted: Axis) -> tuple[int, ...]:
        return tuple(axis for run, kind in zip(use.weight.axes or (), kinds, strict=True) if kind is wanted for axis in run)

    made, summed, kernel = of(Axis.OUT), of(Axis.IN), of(Axis.KERNEL)
    stacked = tuple(axis for axis in range(len(shape)) if axis not in {*made, *summed, *kernel})
    return stacked, made, summed, kernel


def _is_plain(axes: Axes, dims: int) -> bool:
    """Whether a weight is stored as torch's modules store it: (out, in, *kernel) or (in, out, *kernel)."""
    stacked, made, summed, kernel = axes
    whole = tuple(range(dims))
    return not stacked and (made + summed + kernel == whole or summed + made + kernel == whole) and len(kernel) == dims - 2


def _halves(use: Use, shape: tuple[int, ...], kinds: tuple[Axis, ...], axes: Axes | None) -> int:
    """How many parts of a packed weight (queries, keys and values) stand one after the other along the axis of the outputs."""
    if axes is None or not use.weight.piece or len(axes[1]) != 1:
        return 1
    stored, made = shape[axes[1][0]], _product(use.weight_shape, kinds, Axis.OUT)
    return stored // made if made and stored % made == 0 else 1


def _transposed(shape: tuple[int, ...], groups: int, strides: int) -> Fans:
    field = math.prod(shape[2:])
    fan_in = max(1, shape[0] // groups * field // strides)
    return Fans(fan_in, shape[1] * field, field, groups=groups, transposed=True)

"""Fans: how many inputs each output sums over, and how many outputs each input reaches, of one part and one group of a weight."""

import math
from dataclasses import dataclass

from torch import nn

from initbench.nn import operations as ops
from initbench.nn.graph import Use

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
GATES: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.LSTM, 4), (nn.LSTMCell, 4), (nn.GRU, 3), (nn.GRUCell, 3), (nn.RNN, 1), (nn.RNNCell, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Fans:
    """The fans of a weight and how it is stored: `parts` and `groups` it consists of, `transposed` where (in, out)."""

    fan_in: int
    fan_out: int
    receptive_field: int = 1
    parts: int = 1
    groups: int = 1
    transposed: bool = False


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
    seen = use.weight_shape
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
    if use.function == "einsum":
        fans = _einsum(use, shape)
        if fans is not None:
            return fans
    if use.function in ops.PRODUCTS and not use.on_left:
        fan_in, fan_out, stored_in_out = seen[-2], seen[-1], not use.weight.flipped
    else:
        fan_in, fan_out, stored_in_out = seen[-1], seen[-2], use.weight.flipped
    parts = math.prod(seen[:-2])
    return Fans(fan_in, fan_out, parts=parts, transposed=stored_in_out and parts == 1)


def _transposed(shape: tuple[int, ...], groups: int, strides: int) -> Fans:
    field = math.prod(shape[2:])
    fan_in = max(1, shape[0] // groups * field // strides)
    return Fans(fan_in, shape[1] * field, field, groups=groups, transposed=True)


def _einsum(use: Use, shape: tuple[int, ...]) -> Fans | None:
    """Letters shared with the data and summed over are inputs; those that only the weight and the result have are outputs."""
    equation = use.args[0] if use.args else None
    if not isinstance(equation, str):
        return None
    left, _, right = equation.replace(" ", "").replace("...", "").partition("->")
    operands = left.split(",")
    if "->" not in equation:
        right = "".join(letter for letter in left if left.count(letter) == 1)
    weight = operands[0 if use.on_left else -1]
    if len(operands) != 2 or len(weight) != len(shape):
        return None
    sizes = dict(zip(weight, use.weight_shape, strict=True))
    summed = [letter for letter in weight if letter not in right]
    made = [letter for letter in weight if letter in right and sum(letter in text for text in operands) == 1]
    if not summed or not made:
        return None
    stored_in_out = (weight[0] in summed) != use.weight.flipped
    shared = math.prod(size for letter, size in sizes.items() if letter not in summed + made)
    return Fans(
        math.prod(sizes[letter] for letter in summed), math.prod(sizes[letter] for letter in made), parts=shared, transposed=stored_in_out
    )

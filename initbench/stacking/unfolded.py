"""A convolution of many models at once as one batched matrix product over unfolded images."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def applies(padding: Any, dilation: Any, groups: int) -> bool:
    """Whether `unfolded_conv2d` can do it: no groups, no dilation, padding given in pixels."""
    return groups == 1 and _pair(dilation) == (1, 1) and not isinstance(padding, str)


def unfolded_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any) -> Tensor:
    """Inputs (runs, N, C, H, W), weight (runs, O, C, kh, kw), bias (runs, O) -> (runs, N, O, H', W'), channels last in memory."""
    return _Unfolded.apply(x, weight, bias, _pair(stride), _pair(padding))  # type: ignore[no-any-return]


class _Unfolded(torch.autograd.Function):
    """The unfolded images are made again in the backward pass rather than kept: they are kh * kw times the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        rows, size = _rows(x, weight.shape[-2:], stride, padding)
        kernel = weight.flatten(2).mT
        out = torch.bmm(rows, kernel) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, kernel)
        return out.view(*x.shape[:2], *size, -1).permute(0, 1, 4, 2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        rows_gradient = gradient.permute(0, 1, 3, 4, 2).flatten(1, 3)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = _folded(torch.bmm(rows_gradient, weight.flatten(2)), gradient.shape[-2:], x, weight.shape[-2:], ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            rows, _ = _rows(x, weight.shape[-2:], ctx.stride, ctx.padding)
            to_weight = torch.bmm(rows_gradient.mT, rows).view(weight.shape)
        if ctx.needs_input_grad[2]:
            to_bias = rows_gradient.sum(1)
        return to_x, to_weight, to_bias, None, None


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)


def _rows(x: Tensor, kernel: torch.Size, stride: tuple[int, int], padding: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """One row (C * kh * kw) for each place of the kernel, (runs, N * H' * W', C * kh * kw), and (H', W')."""
    padded = functional.pad(x, (padding[1], padding[1], padding[0], padding[0])) if any(padding) else x
    places = padded.unfold(3, kernel[0], stride[0]).unfold(4, kernel[1], stride[1])
    rows = places.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(1, 3)
    return rows, (places.shape[3], places.shape[4])


def _folded(rows: Tensor, size: torch.Size, x: Tensor, kernel: torch.Size, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The sum of the rows' gradients at each pixel: the reverse of `_rows`, one addition for each place in the kernel."""
    runs, count, channels, height, width = x.shape
    places = rows.view(runs, count, *size, channels, *kernel)
    padded = rows.new_zeros(runs, count, height + 2 * padding[0], width + 2 * padding[1], channels)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            below = padded[:, :, row : row + stride[0] * size[0] : stride[0], column : column + stride[1] * size[1] : stride[1]]
            below += places[..., row, column]
    inner = padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return inner.permute(0, 1, 4, 2, 3)

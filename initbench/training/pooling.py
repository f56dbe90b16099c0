"""Max pooling of 2 x 2 pixels as two maxima of neighbours, for images stored channels last; several times as fast as torch's.

The values are torch's own and so are the gradients, ties included: of equal pixels the first one gets the gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import has_torch_function_unary


@contextmanager
def fast_pools(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within, the `nn.MaxPool2d(2)` modules of the model are fast on the CPU; the model can be differentiated once only."""
    pools = [module for module in model.modules() if _halves(module)] if device.type == "cpu" else []
    for pool in pools:
        pool.forward = halved
    try:
        yield
    finally:
        for pool in pools:
            del pool.forward


def halved(images: Tensor) -> Tensor:
    """The largest of each 2 x 2 pixels of (N, C, H, W): (N, C, H // 2, W // 2)."""
    plain = images.dim() == 4 and not has_torch_function_unary(images)
    if plain and images.is_contiguous(memory_format=torch.channels_last) and not (images.shape[2] % 2 or images.shape[3] % 2):
        return _Halved.apply(images)  # type: ignore[no-any-return]
    return functional.max_pool2d(images, 2)


def _halves(module: nn.Module) -> bool:
    if type(module) is not nn.MaxPool2d or "forward" in vars(module):
        return False
    sizes = (module.kernel_size, module.stride)
    other = (module.padding, module.dilation, module.return_indices, module.ceil_mode)
    return all(size in (2, (2, 2)) for size in sizes) and other == (0, 1, False, False)


class _Halved(torch.autograd.Function):
    """Neighbours in a row first, then rows: the order in which torch looks for the first of the largest."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        pixels = images.permute(0, 2, 3, 1).view(count, height, width // 2, 2, channels)
        columns = torch.maximum(pixels[:, :, :, 0], pixels[:, :, :, 1])
        rows = columns.view(count, height // 2, 2, width // 2 * channels)
        found = torch.maximum(rows[:, :, 0], rows[:, :, 1])
        ctx.save_for_backward(pixels, rows)
        return found.view(count, height // 2, width // 2, channels).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        pixels, rows = ctx.saved_tensors
        count, height, half, _, channels = pixels.shape
        to_rows, to_pixels = torch.empty_like(rows), torch.empty_like(pixels)
        flat = gradient.permute(0, 2, 3, 1).reshape(count, height // 2, half * channels)
        _share(flat, (rows[:, :, 0], rows[:, :, 1]), (to_rows[:, :, 0], to_rows[:, :, 1]))
        flat = to_rows.view(count, height, half, channels)
        _share(flat, (pixels[:, :, :, 0], pixels[:, :, :, 1]), (to_pixels[:, :, :, 0], to_pixels[:, :, :, 1]))
        return to_pixels.view(count, height, 2 * half, channels).permute(0, 3, 1, 2)


def _share(gradient: Tensor, values: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor]) -> None:
    """Gives the gradient to the larger of two values, to the first where they are equal; zero to the other."""
    torch.ops.aten.threshold_backward.grad_input(gradient, values[1] - values[0], 0, grad_input=out[1])
    torch.sub(gradient, out[1], out=out[0])

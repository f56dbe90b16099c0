"""Linear layers on a CPU by oneDNN, where torch's own way is slower.

torch multiplies float32 matrices with MKL, which stays with AVX2 on an AMD processor even if that has AVX-512. oneDNN, which is
part of torch too, uses it: about twice as fast. docs/performance.md has the figures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from initbench.fast.torch_private import has_linear_product, is_watched, linear_product

PLAIN = functional.linear
LEAST_PRODUCTS = 4_000_000
"""Multiplications in a layer from which the faster product outweighs calling it from Python."""


@cache
def multiplies_faster() -> bool:
    """Whether oneDNN multiplies matrices faster here than what torch calls for it, as far as that was measured: AMD with AVX-512.

    A rule and not a measurement, so that a machine gives the same numbers each time.
    """
    if not torch.backends.mkl.is_available() or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear`, by oneDNN where that is faster: input (..., in), weight (out, in), bias (out,); differentiable, also twice."""
    large = input.numel() * weight.shape[0] >= LEAST_PRODUCTS
    if not large or not multiplies_faster() or not _suits(input, weight) or not has_linear_product():
        return PLAIN(input, weight, bias)
    return _LinearProduct.apply(input, weight, bias)  # type: ignore[no-any-return]


@contextmanager
def linear_by_onednn() -> Iterator[None]:
    """Within, `torch.nn.functional.linear`, and so `nn.Linear`, is `linear`; may be entered again and again."""
    before = functional.linear
    functional.linear = linear
    try:
        yield
    finally:
        functional.linear = before


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Float32 on a CPU; outside of autocast, of `torch.func`, of forward-mode derivatives and of modes that look into each operation."""
    if weight.dim() != 2 or x.dim() < 2 or x.layout is not torch.strided or weight.layout is not torch.strided:
        return False
    if not x.dtype == weight.dtype == torch.float32 or x.device.type != "cpu" or not torch.backends.mkldnn.enabled:
        return False
    return not torch.overrides.has_torch_function((x, weight)) and not torch.is_autocast_enabled("cpu") and not is_watched()


class _LinearProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        rows, inputs = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
        product = PLAIN if torch.is_grad_enabled() else linear_product
        return (
            product(gradient, weight.mT) if of_input else None,
            product(rows.mT, inputs.mT) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )

"""Layers on a CPU as oneDNN computes them, where torch's own way is slower: products of matrices, and pooled convolutions.

torch multiplies float32 matrices with MKL, which stays with AVX2 on an AMD processor even if that has AVX-512; oneDNN, which is
part of torch too, uses it. And torch's max pooling goes through 64-bit indices and a gradient that is cleared and filled in one
number at a time, while oneDNN's does not; it works on tensors in oneDNN's own layout (`Tensor.to_mkldnn`).
Values and gradients are the same within rounding. docs/performance.md has the figures.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST_PRODUCTS = 3_000_000
"""Multiplications in a linear layer from which oneDNN's faster product outweighs calling it from Python."""
FEW_CHANNELS = 4
"""Channels up to which inputs are taken for images, which are small and need no gradient."""
IN_LAYOUT = (nn.Conv2d, nn.MaxPool2d, nn.ReLU, nn.GELU, nn.Identity)
"""Modules that compute, and are differentiated, in oneDNN's layout as they are; others cannot or are slower there."""

Forward = Callable[[Tensor], Tensor]


class FastLayers:
    """Within (`with` may be used again and again): the linear layers and pooled convolutions of a model take oneDNN's way.

    Only what is exactly torch's own module is changed, and only what nobody has hooked: outside, for probes and for what users
    do with a model, all layers are as they were.
    """

    def __init__(self, model: nn.Module) -> None:
        self.ways: list[tuple[nn.Module, Forward]] = []
        for module in model.modules():
            if "forward" in vars(module):
                continue
            if type(module) is nn.Linear and multiplies_faster():
                self.ways.append((module, _linear_way(module)))
            elif type(module) is nn.Sequential and (steps := _steps(list(module))):
                self.ways.append((module, _sequential_way(steps)))

    def __enter__(self) -> None:
        for module, forward in self.ways:
            vars(module)["forward"] = forward

    def __exit__(self, *exception: object) -> None:
        for module, _ in self.ways:
            del vars(module)["forward"]


def fast_layers(model: nn.Module, device: torch.device, precision: str) -> AbstractContextManager[None]:
    """`FastLayers` where it applies: float32 on a CPU, in a torch that has oneDNN. Elsewhere nothing is changed."""
    if device.type != "cpu" or precision == "bfloat16" or not torch.backends.mkldnn.is_available():
        return nullcontext()
    return FastLayers(model)


@cache
def multiplies_faster() -> bool:
    """Whether oneDNN multiplies matrices faster than what torch calls for it, as far as that was measured: AMD with AVX-512.

    A rule and not a measurement, so that a machine gives the same numbers each time.
    """
    if not torch.backends.mkl.is_available() or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    try:
        maker = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        few = torch.arange(6.0).view(2, 3)
        return "AuthenticAMD" in maker and torch.equal(_product(few, few), few @ few.mT)
    except (OSError, AttributeError, RuntimeError):
        return False


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in) times the transposed weight (out, in), plus the bias, by oneDNN; not differentiable."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return] # noqa: SLF001


class _Linear(torch.autograd.Function):
    """`functional.linear` with all three products by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[no-untyped-call, untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            _product(gradient, weight.mT) if of_input else None,
            _product(rows.mT, x.reshape(-1, x.shape[-1]).mT) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _linear_way(layer: nn.Linear) -> Forward:
    plain, product = layer.forward, _Linear.apply
    least = LEAST_PRODUCTS / layer.out_features

    def forward(x: Tensor) -> Tensor:
        if x.numel() < least or x.dtype != torch.float32 or layer.weight.dtype != torch.float32:
            return plain(x)
        return product(x, layer.weight, layer.bias)  # type: ignore[no-any-return,no-untyped-call]

    return forward


def _steps(modules: Sequence[nn.Module]) -> list[tuple[bool, list[nn.Module]]]:
    """The modules of a Sequential in groups, each with whether it is to run in oneDNN's layout; [] when none is.

    Going there and back copies the tensor: it pays from a convolution of the images to the last max pooling behind it.
    """
    first = next((place for place, module in enumerate(modules) if isinstance(module, nn.Conv2d)), len(modules))
    end = next((place for place in range(first, len(modules)) if not _stays(modules[place])), len(modules))
    while end > first and not any(isinstance(module, nn.MaxPool2d) for module in modules[_last_convolution(modules, end) : end]):
        end = _last_convolution(modules, end)
    if end <= first or modules[first].in_channels > FEW_CHANNELS:
        return []
    return [(inside, list(group)) for inside, group in ((False, modules[:first]), (True, modules[first:end]), (False, modules[end:]))]


def _last_convolution(modules: Sequence[nn.Module], end: int) -> int:
    return max(place for place in range(end) if isinstance(modules[place], nn.Conv2d))


def _stays(module: nn.Module) -> bool:
    """Whether a module can run in oneDNN's layout, seen by nobody."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if type(module) not in IN_LAYOUT or "forward" in vars(module) or any(getattr(module, name) for name in hooks):
        return False
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and module.weight.dtype == torch.float32
    if isinstance(module, nn.GELU):
        return module.approximate == "none"
    return not isinstance(module, nn.MaxPool2d) or (module.dilation in (1, (1, 1)) and not module.return_indices and not module.ceil_mode)


def _sequential_way(steps: Sequence[tuple[bool, Sequence[nn.Module]]]) -> Forward:
    def forward(x: Tensor) -> Tensor:
        for inside, group in steps:
            inside = inside and x.dim() == 4 and x.dtype == torch.float32
            x = x.to_mkldnn() if inside else x
            for module in group:
                x = module(x)
            x = x.to_dense() if inside else x
        return x

    return forward

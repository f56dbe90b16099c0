"""Layers that train faster on a CPU: linear ones by oneDNN's products, pooled convolutions in oneDNN's own layout.

torch's max pooling goes through 64-bit indices, and a gradient that is cleared and then filled in one number at a time; oneDNN's
does not, and works on tensors in a layout of its own (`Tensor.to_mkldnn`), in which convolutions are faster too.
Values and gradients are the same within rounding. docs/performance.md has the figures.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from initbench.nn.onednn import linear, multiplies_faster

FEW_CHANNELS = 4
"""Channels up to which inputs are taken for images, which are small and need no gradient."""
IN_LAYOUT = (nn.Conv2d, nn.MaxPool2d, nn.ReLU, nn.GELU, nn.Identity)
"""Modules that compute, and are differentiated, in oneDNN's layout as they are; others cannot or are slower there."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Forward = Callable[[Tensor], Tensor]
Steps = Sequence[tuple[bool, Sequence[nn.Module]]]


class FastLayers:
    """Within (`with` may be used again and again): the linear layers and pooled convolutions of a model take oneDNN's way.

    Only what is exactly torch's own module is changed, and in a chain of convolutions only what nobody has hooked. Outside, for
    probes and for what users do with a model, all layers are as they were.
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
    if device.type != "cpu" or precision == "bfloat16" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return nullcontext()
    return FastLayers(model)


def _linear_way(layer: nn.Linear) -> Forward:
    return lambda x: linear(x, layer.weight, layer.bias)


def _steps(modules: Sequence[nn.Module]) -> Steps:
    """The modules of a Sequential before, within and after a chain in oneDNN's layout; () when there is none.

    Going there and back copies the tensor: it pays from a convolution of the images to the last max pooling behind it.
    """
    first = next((place for place, module in enumerate(modules) if isinstance(module, nn.Conv2d)), len(modules))
    end = next((place for place in range(first, len(modules)) if not _stays(modules[place])), len(modules))
    while end > first and not any(isinstance(module, nn.MaxPool2d) for module in modules[_last_convolution(modules, end) : end]):
        end = _last_convolution(modules, end)
    if end <= first or not _takes_images(modules[first]):
        return ()
    return (False, modules[:first]), (True, modules[first:end]), (False, modules[end:])


def _takes_images(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.in_channels <= FEW_CHANNELS


def _last_convolution(modules: Sequence[nn.Module], end: int) -> int:
    return max(place for place in range(end) if isinstance(modules[place], nn.Conv2d))


def _stays(module: nn.Module) -> bool:
    """Whether a module can run in oneDNN's layout, seen by nobody."""
    if type(module) not in IN_LAYOUT or "forward" in vars(module) or any(getattr(module, name) for name in HOOKS):
        return False
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and module.weight.dtype == torch.float32
    if isinstance(module, nn.GELU):
        return module.approximate == "none"
    if isinstance(module, nn.MaxPool2d):
        return module.dilation in (1, (1, 1)) and not module.return_indices and not module.ceil_mode
    return True


def _sequential_way(steps: Steps) -> Forward:
    ways = [(in_layout, [_in_layout(module) if in_layout else module for module in modules], modules) for in_layout, modules in steps]

    def forward(x: Tensor) -> Tensor:
        for in_layout, fast, plain in ways:
            goes = in_layout and _are_images(x)
            x = x.to_mkldnn() if goes else x
            for way in fast if goes else plain:
                x = way(x)
            x = x.to_dense() if goes else x
        return x

    return forward


def _in_layout(module: nn.Module) -> Forward:
    """How a module computes in oneDNN's layout: never in place, for there a pooling keeps what it has given."""
    return torch.relu if isinstance(module, nn.ReLU) else module


def _are_images(x: Tensor) -> bool:
    """Whether these are data: a derivative by them may be wanted twice, and `torch.func` looks into each operation."""
    return x.dim() == 4 and x.dtype == torch.float32 and not x.requires_grad and not torch._C._are_functorch_transforms_active()

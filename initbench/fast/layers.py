"""Layers that train faster on a CPU: linear ones by oneDNN's products, pooled convolutions in oneDNN's own layout.

torch's max pooling goes through 64-bit indices, and a gradient that is cleared and then filled in one number at a time; oneDNN's
does not, and works on tensors in a layout of its own (`Tensor.to_mkldnn`), in which convolutions are faster too.
Values and gradients are the same within rounding. docs/performance.md has the figures.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor, nn

from initbench.fast.onednn import linear_by_onednn
from initbench.fast.tape import is_plain
from initbench.fast.torch_private import all_are_hooked, has_layout, is_hooked, is_watched

FEW_CHANNELS = 4
"""Channels up to which inputs are taken for images, which are small and need no gradient."""
LARGEST = 1e37
"""Numbers up to which no convolution overflows, with room for rounding."""
IN_LAYOUT = (nn.Conv2d, nn.MaxPool2d, nn.ReLU, nn.GELU, nn.Identity)
"""Modules that compute, and are differentiated, in oneDNN's layout as they are; others cannot or are slower there."""

Forward = Callable[[Tensor], Tensor]
Stretches = Sequence[tuple[bool, Sequence[nn.Module]]]
"""Modules that follow each other, and whether they may run in oneDNN's layout."""


class FastLayers:
    """Within (`with` may be used again and again): linear layers and pooled convolutions of a model take oneDNN's way.

    Backward passes belong inside too: what they compute again (checkpoints) must go the same way. Convolutions are changed
    only in models of torch's and our own modules, and only those that nobody has hooked.
    """

    def __init__(self, model: nn.Module) -> None:
        self.chains: list[tuple[nn.Sequential, Forward]] = []
        self._within = ExitStack()
        if is_plain(model):
            sequences = [module for module in model.modules() if type(module) is nn.Sequential]
            chains = [(module, _sequential_way(stretches)) for module in sequences if (stretches := _stretches(list(module)))]
            self.chains = chains if chains and has_layout() else []

    def __enter__(self) -> None:
        self._within.enter_context(linear_by_onednn())
        for module, forward in self.chains:
            vars(module)["forward"] = forward
            self._within.callback(vars(module).pop, "forward", None)

    def __exit__(self, *exception: object) -> None:
        self._within.close()


def fast_layers(model: nn.Module, device: torch.device, precision: str) -> AbstractContextManager[None]:
    """`FastLayers` where it applies: float32 on a CPU, in a torch that has oneDNN. Elsewhere nothing is changed."""
    if device.type != "cpu" or precision == "bfloat16" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return nullcontext()
    return FastLayers(model)


def _stretches(modules: Sequence[nn.Module]) -> Stretches:
    """The modules of a Sequential before, within and after a chain in oneDNN's layout; () when there is none.

    Going there and back copies the tensor: it pays from a convolution of the images to the last max pooling behind it.
    """
    first = next((place for place, module in enumerate(modules) if isinstance(module, nn.Conv2d)), len(modules))
    end = next((place for place in range(first, len(modules)) if not _runs_in_layout(modules[place])), len(modules))
    while end > first and not any(isinstance(module, nn.MaxPool2d) for module in modules[_last_convolution(modules, end) : end]):
        end = _last_convolution(modules, end)
    if end <= first or not _takes_images(modules[first]):
        return ()
    return (False, modules[:first]), (True, modules[first:end]), (False, modules[end:])


def _takes_images(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.in_channels <= FEW_CHANNELS


def _last_convolution(modules: Sequence[nn.Module], end: int) -> int:
    return max(place for place in range(end) if isinstance(modules[place], nn.Conv2d))


def _runs_in_layout(module: nn.Module) -> bool:
    """Whether a module can run in oneDNN's layout, seen by nobody."""
    if type(module) not in IN_LAYOUT or "forward" in vars(module) or is_hooked(module):
        return False
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and module.padding != "same" and module.weight.dtype == torch.float32
    if isinstance(module, nn.GELU):
        return module.approximate == "none"
    if isinstance(module, nn.MaxPool2d):
        return module.dilation in (1, (1, 1)) and not module.return_indices and not module.ceil_mode
    return True


def _sequential_way(stretches: Stretches) -> Forward:
    ways = [(in_layout, [_in_layout(module) if in_layout else module for module in modules], modules) for in_layout, modules in stretches]

    def forward(x: Tensor) -> Tensor:
        for in_layout, fast, plain in ways:
            goes = in_layout and _are_images(x) and _cannot_overflow(x, plain)
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
    """Whether these are data (a derivative by them may be wanted twice) and nothing looks into each operation."""
    if x.dim() != 4 or x.dtype != torch.float32 or x.requires_grad or not x.numel():
        return False
    return not is_watched() and not all_are_hooked() and not torch.is_autocast_enabled("cpu")


@torch.no_grad()
def _cannot_overflow(x: Tensor, modules: Sequence[nn.Module]) -> bool:
    """Whether all values on the way are sure to be numbers: oneDNN's max pooling and ReLU would turn a NaN into a number."""
    largest = float(x.abs().max())
    for module in modules:
        if isinstance(module, nn.Conv2d):
            largest *= float(module.weight.abs().max()) * module.weight[0].numel()
            largest += 0.0 if module.bias is None else float(module.bias.abs().max())
    return largest < LARGEST

"""Why a scheme does not suit a layer, in one sentence; and what schemes ask of layers to find out."""

from collections.abc import Callable

from torch import nn

from initbench.errors import DoesNotApply
from initbench.nn.layers import WeightLayer

Check = Callable[[nn.Module, tuple[WeightLayer, ...]], None]


def refuse_where(scheme: str, reason: Callable[[WeightLayer], str | None]) -> Check:
    """A check that raises DoesNotApply for the first layer that `reason` has something against."""

    def check(_: nn.Module, layers: tuple[WeightLayer, ...]) -> None:
        for layer in layers:
            against = reason(layer)
            if against is not None:
                raise DoesNotApply(f"'{scheme}' does not apply to '{layer.name}': {against}.")

    return check


def channels(layer: WeightLayer) -> tuple[int, int]:
    """Inputs and outputs of one part and one group of a layer, not counting the kernel."""
    first, second = layer.weight.shape[:2]
    if layer.transposed:
        return first // layer.groups, second
    return second, first // layer.parts // layer.groups


def kernel(layer: WeightLayer) -> tuple[int, ...]:
    """The sizes of the kernel; empty for a matrix."""
    return tuple(layer.weight.shape[2:])


def no_centre(layer: WeightLayer) -> str | None:
    """Against kernels of even size."""
    sizes = kernel(layer)
    if all(size % 2 for size in sizes):
        return None
    return f"its kernel of {' x '.join(map(str, sizes))} has no centre, which needs odd sizes"


def leaves_holes(layer: WeightLayer) -> str | None:
    """Against strided transposed convolutions, of whose outputs a single tap reaches only some."""
    if layer.transposed and any(step > 1 for step in getattr(layer.module, "stride", ())):
        return "a transposed convolution with a stride leaves outputs that the centre of the kernel does not reach"
    return None


def is_convolution(layer: WeightLayer) -> str | None:
    """Against anything but matrices."""
    return f"its weight has {layer.weight.dim()} dimensions, and only matrices are defined" if layer.weight.dim() > 2 else None

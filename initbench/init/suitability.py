"""What a scheme requires of a model and of its layers; where it is not so, one sentence says why the scheme does not apply."""

from collections.abc import Callable

from torch import nn

from initbench.errors import DoesNotApply
from initbench.nn.attention import AttentionLayers, attentions
from initbench.nn.layers import WeightLayer
from initbench.nn.residual import Branch, branches, norms, passes_zero

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
    first, second = layer.shape[:2]
    if layer.transposed:
        return first // layer.groups, second
    return second, first // layer.parts // layer.groups


def kernel(layer: WeightLayer) -> tuple[int, ...]:
    """The sizes of the kernel; empty for a matrix."""
    return layer.shape[2:]


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
    return f"its weight has {len(layer.shape)} dimensions, and only matrices are defined" if len(layer.shape) > 2 else None


def require_branches(scheme: str, model: nn.Module, layers: tuple[WeightLayer, ...]) -> tuple[Branch, ...]:
    """The residual branches. Raises: DoesNotApply where none is found."""
    residual = branches(model, layers)
    if not residual:
        raise DoesNotApply(f"'{scheme}' is for residual networks, and no residual branch was found in this {type(model).__name__}.")
    return residual


def refuse_stuck(scheme: str, residual: tuple[Branch, ...]) -> None:
    """Raises: DoesNotApply where a branch that starts at zero before its last activation would stay there."""
    for branch in residual:
        if branch.ended_by is not None and not passes_zero(branch.ended_by):
            raise DoesNotApply(
                f"'{scheme}' starts branches at zero before the {branch.ended_by} that ends the one of '{branch.name}', and it would stay "
                "there. Use rezero, which puts its number behind it."
            )


def require_attention(scheme: str, model: nn.Module, layers: tuple[WeightLayer, ...]) -> tuple[AttentionLayers, ...]:
    """The attention modules. Raises: DoesNotApply where none is found."""
    modules = attentions(model, layers)
    if not modules:
        raise DoesNotApply(f"'{scheme}' is for transformers, and no attention layer was found in this {type(model).__name__}.")
    return modules


def require_post_norm(scheme: str, branches: tuple[Branch, ...]) -> None:
    """Raises: DoesNotApply unless each residual sum has a skip path that can carry a number, and is followed by a norm."""
    if any(branch.shortcut is None for branch in branches):
        raise DoesNotApply(
            f"'{scheme}' puts a number on the skip path, which it can do in initbench's own residual models only, such as vit:norm=post."
        )
    bare = [branch.name for branch in branches if branch.after_norm is None]
    if bare:
        raise DoesNotApply(f"'{scheme}' needs a norm after each residual sum (vit:norm=post), and none follows '{bare[0]}'.")


def refuse_norm(scheme: str, model: nn.Module) -> None:
    """Raises: DoesNotApply for a model with norm layers."""
    names = norms(model)
    if names:
        raise DoesNotApply(f"'{scheme}' is for networks without norm layers, and this one has {len(names)}, the first is '{names[0]}'.")


def stream_width(scheme: str, residual: tuple[Branch, ...]) -> int:
    """The number of units on the skip path. Raises: DoesNotApply where it changes along the network."""
    widths = {branch.last.shape[1] * branch.last.groups if branch.last.transposed else branch.last.shape[0] for branch in residual}
    if len(widths) > 1:
        raise DoesNotApply(f"'{scheme}' needs one width all along the skip path; here it is {', '.join(map(str, sorted(widths)))}.")
    return int(widths.pop())

"""What `dks` and `tat` share: the activations of a model, its depth, its weights, and transformed activations in their place."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from initbench.errors import ConfigError, DoesNotApply
from initbench.init.assign import Law
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.sampling import centre, haar, matrices
from initbench.init.structural import Number, SchemePlan, Structural
from initbench.init.suitability import refuse_norm
from initbench.nn import hooks
from initbench.nn.activation import is_elementwise, recognized, snake
from initbench.nn.attention import attentions
from initbench.nn.hooks import Slot
from initbench.nn.layers import NORMS, WeightLayer
from initbench.nn.naming import modules_of
from initbench.nn.residual import Branch, PadShortcut, Residual, branches
from initbench.theory import activations
from initbench.theory.functions import Array
from initbench.theory.shaping import Depth, Shaping

Inputs = Literal["image", "location", "none"]


@dataclass(frozen=True)
class Shaped:
    """What takes the place of one activation module: `module` (itself or another) with numbers around it, and a note."""

    module: nn.Module
    numbers: tuple[Number, ...]
    note: str | None = None


Transform = Callable[[str, nn.Module, Depth], Shaped]
"""Makes the transformed activation from the name of an activation, its module and the network's depth."""


def shaped_scheme(name: str, transform: Transform, *, inputs: Inputs, branch_share: float) -> Structural:
    """The scheme: transformed activations, SUO (delta) weights, weighted sums, normalized inputs."""

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        residual = _check(name, model, context.layers)
        places = _activations(name, model, context.layers)
        depth = _depth(model, residual, places, branch_share)
        shaped = {id(module): transform(kind, module, depth) for kind, module in places.values()}
        numbers = [number for item in shaped.values() for number in item.numbers]
        for branch in residual:
            numbers += _weighted_sum(branch, branch_share)

        def change(model: nn.Module) -> None:
            for place, (_, module) in places.items():
                parent, _, last = place.rpartition(".")
                setattr(model.get_submodule(parent), last, shaped[id(module)].module)
            if inputs != "none":
                hooks.normalize_input(model, each=inputs)

        notes = [f"{len(places)} activations transformed for a depth of {depth.plain} plus {len(residual)} branches"]
        notes += dict.fromkeys(item.note for item in shaped.values() if item.note)
        return SchemePlan(Layerwise(name, _fill), tuple(numbers), notes=tuple(notes), change=change)

    return Structural(name, plan, frozenset({Need.HOOKS}))


def around(module: nn.Module, shaping: Shaping) -> Shaped:
    """The module as gamma (phi(alpha x + beta) + delta)."""
    values = (
        (Slot.INPUT_SCALE, shaping.alpha),
        (Slot.INPUT_SHIFT, shaping.beta),
        (Slot.OUTPUT_SCALE, shaping.gamma),
        (Slot.OUTPUT_SHIFT, shaping.gamma * shaping.delta),
    )
    return Shaped(module, tuple(Number(module, slot, value) for slot, value in values))


def is_rectifier(kind: str, module: nn.Module) -> bool:
    """Whether an activation is a ReLU or a leaky one whose slope neither is learned nor drawn, so that another can take its place."""
    plain = kind.partition(":")[0] in {"relu", "leaky_relu"}
    return plain and not isinstance(module, nn.RReLU) and not list(module.parameters())


def function_of(scheme: str, kind: str, module: nn.Module) -> activations.Activation:
    """The activation with its moments: a named one by its name, any other by its values. Raises: DoesNotApply where it has none."""
    if kind.partition(":")[0] in activations.names():
        return activations.find(kind)

    bare = _Bare(module)
    exact = {name: values.detach().cpu().double() for name, values in (*bare.named_parameters(), *bare.named_buffers())}

    def value(x: Array) -> Array:
        with torch.no_grad():
            values = functional_call(bare, exact, (torch.as_tensor(x, dtype=torch.float64, device="cpu"),))
        return np.asarray(values.numpy(), dtype=np.float64)

    try:
        return activations.from_function(value, kind)
    except ConfigError as error:
        said = str(error)
        raise DoesNotApply(f"'{scheme}' does not apply: {said[0].lower()}{said[1:]}") from error


class _Bare(nn.Module):
    """An activation module without the numbers that an earlier scheme has put around it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.module.forward(x)  # type: ignore[no-any-return]


def _check(name: str, model: nn.Module, layers: tuple[WeightLayer, ...]) -> tuple[Branch, ...]:
    """The branches. Raises: DoesNotApply where the theory or our hooks do not reach."""
    refuse_norm(name, model)
    if attentions(model, layers):
        raise DoesNotApply(f"'{name}' is for linear and convolutional networks, and this one has attention.")
    residual = branches(model, layers)
    if residual and not any(isinstance(module, Residual) for module in model.modules()):
        raise DoesNotApply(f"'{name}' weights the sums of residual blocks, which it can do in initbench's own residual models only.")
    if any(isinstance(module, Residual) and recognized_after(module) for module in model.modules()):
        raise DoesNotApply(
            f"'{name}' needs residual blocks without an activation after the sum, which sees no weights in between. "
            "Use resnet:preactivation=true or residual_mlp."
        )
    for layer in layers:
        if layer.parts > 1 or layer.transposed:
            raise DoesNotApply(f"'{name}' is for linear layers and convolutions, and '{layer.name}' is neither.")
        even = [size for size in layer.shape[2:] if size % 2 == 0]
        if even:
            raise DoesNotApply(f"'{name}' needs kernels with a centre, and '{layer.name}' has one of {layer.shape[2:]}.")
    return residual


def recognized_after(block: Residual) -> bool:
    """Whether an activation follows a block's sum."""
    return recognized(block.after) not in {None, "identity"}


def _activations(name: str, model: nn.Module, layers: tuple[WeightLayer, ...]) -> dict[str, tuple[str, nn.Module]]:
    """Full name -> (kind, module) of all activation modules. Raises: DoesNotApply where some activations are no modules."""
    known: dict[str, str | None] = {}
    places = {}
    for place, module in model.named_modules(remove_duplicate=False):
        if list(module.children()) or isinstance(module, NORMS) or any(weight.dim() > 1 for weight in module.parameters()):
            continue
        text = f"{type(module).__qualname__} {module}"
        if text not in known:
            named = recognized(module.forward)  # around the hooks of an earlier scheme
            known[text] = named or (snake(type(module).__name__) if is_elementwise(module.forward) else None)
        kind = known[text]
        if kind is not None and kind != "identity":
            places[place] = (kind, module)
    wanted = [layer for layer in layers if layer.activation is not None]
    own = any(isinstance(module, Residual) for module in model.modules())
    if not places or (not own and len(wanted) > len(places)):
        raise DoesNotApply(
            f"'{name}' transforms activation modules, and this model has {len(places)} for {len(wanted)} layers with an activation. "
            "Give each its own module, such as nn.Tanh()."
        )
    return places


def _depth(model: nn.Module, residual: tuple[Branch, ...], places: dict[str, tuple[str, nn.Module]], share: float) -> Depth:
    names: dict[int, list[str]] = {}
    for name, module in modules_of(model):
        names.setdefault(id(module), []).append(f"{name}.")
    inside = [[place for place in places if place.startswith(tuple(names[id(branch.end)]))] for branch in residual]
    counted = {place for group in inside for place in group}
    return Depth(plain=len(places) - len(counted), branches=tuple(len(group) for group in inside), branch_share=share)


def _weighted_sum(branch: Branch, share: float) -> list[Number]:
    """Factors whose squares add up to 1; a shortcut that pads with zero channels gives back the mean square it loses."""
    skip = math.sqrt(1 - share)
    if isinstance(branch.shortcut, PadShortcut):
        channels = branch.last.weight.shape[0]
        skip *= math.sqrt(channels / (channels - branch.shortcut.extra))
    numbers = [Number(branch.end, Slot.OUTPUT_SCALE, math.sqrt(share))]
    return numbers + ([Number(branch.shortcut, Slot.OUTPUT_SCALE, skip)] if branch.shortcut is not None else [])


def _fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Law:
    """Scaled orthogonal, at the centre of a kernel: max(sqrt(out/in), 1) times orthonormal, so that mean squares are kept."""
    std = 0.0
    for block in matrices(weight, layer):
        rows, columns = block.shape[:2]
        gain = max(math.sqrt(rows / columns), 1.0)
        block.zero_()
        centre(block).copy_(gain * haar(rows, columns, generator))
        std = gain / math.sqrt(max(rows, columns) * math.prod(block.shape[2:]))
    return Law("scaled orthogonal", std)

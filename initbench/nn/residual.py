"""Residual blocks: the module of our own models, and the branches of any model."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.nn.activation import known_function
from initbench.nn.hooks import Slot
from initbench.nn.layers import NORMS, Role, WeightLayer
from initbench.nn.naming import modules_of


class Residual(nn.Module):
    """`after(shortcut(x) + branch(x))`; shortcut and after are the identity unless given."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both paths."""
        return self.after(self.shortcut(x) + self.branch(x))  # type: ignore[no-any-return]


class PadShortcut(nn.Module):
    """The shortcut without parameters of He et al. 2016 (option A): every `stride`-th pixel, then zero channels."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + extra, H / stride, W / stride)."""
        before = self.extra // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


PASSING = ("dropout", "feature_dropout", "avg_pool", "adaptive_avg_pool", "scale", "shift", "gate")
"""How the functions begin that a constant factor can be taken through; where a gate follows the signal itself, none but zero exactly."""
NORMALIZING = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")


@dataclass(frozen=True)
class Branch:
    """One residual branch: its weight layers in order and the modules a scheme can put a number on.

    `end` is the module whose output is added to the skip path, in whose `slot` a number scales the branch: that of its
    output, or, where it is the block as a whole, that of what it adds. `ended_by` is the activation that stands between the
    last weight layer and the sum. `layers` leave out those of a gate on the branch (squeeze and excite). `shortcut` is the
    module on the skip path, None where the model has none that could carry a multiplier. `last_norm` is the norm between the
    last weight layer and the sum, and `after_norm` the one that directly follows the sum.
    """

    name: str
    layers: tuple[WeightLayer, ...]
    end: nn.Module
    shortcut: nn.Module | None = None
    last_norm: nn.Module | None = None
    after_norm: nn.Module | None = None
    norms: tuple[nn.Module, ...] = ()
    starts_with_activation: bool = False
    ended_by: str | None = None
    slot: Slot = Slot.OUTPUT_SCALE

    @property
    def last(self) -> WeightLayer:
        """The weight layer that ends the branch."""
        return self.layers[-1]


def branches(model: nn.Module, layers: tuple[WeightLayer, ...]) -> tuple[Branch, ...]:
    """All residual branches in the order of `layers`: of our own blocks exactly, of other models as far as they were traced."""
    of_module: dict[int, list[WeightLayer]] = {}
    for layer in layers:
        of_module.setdefault(id(layer.module), []).append(layer)
    own = [_own(name, module, of_module) for name, module in modules_of(model) if isinstance(module, Residual)]
    known = [branch for branch in own if branch is not None]
    if known:
        return tuple(sorted(known, key=lambda branch: branch.last.position))
    return tuple(_traced(model, layers))


def norms(model: nn.Module) -> tuple[str, ...]:
    """The names of all norm layers."""
    return tuple(name for name, module in modules_of(model) if isinstance(module, NORMS))


def _own(name: str, block: Residual, of_module: dict[int, list[WeightLayer]]) -> Branch | None:
    inside = [module for _, module in modules_of(block.branch)]
    mine = tuple(sorted((layer for module in inside for layer in of_module.get(id(module), [])), key=lambda layer: layer.position))
    if not mine:
        return None
    parts = [module for module in inside if not module._modules]
    weights = [index for index, module in enumerate(parts) if module is mine[-1].module]
    late = [module for module in parts[weights[-1] + 1 :] if isinstance(module, NORMS)]
    return Branch(
        name=name,
        layers=mine,
        end=block.branch,
        shortcut=block.shortcut,
        last_norm=late[-1] if late else None,
        after_norm=block.after if isinstance(block.after, NORMS) else None,
        norms=tuple(module for module in parts if isinstance(module, NORMS)),
        starts_with_activation=parts[0] is not mine[0].module and not isinstance(parts[0], NORMS),
    )


def _traced(model: nn.Module, layers: tuple[WeightLayer, ...]) -> list[Branch]:
    """The branches of a foreign model by the roles of its layers, which only a model that was run has."""
    traced = []
    for block in sorted({layer.block for layer in layers if layer.block is not None}):
        mine = [layer for layer in layers if layer.block == block and layer.role in {Role.BRANCH, Role.BRANCH_END}]
        main = _main_path(mine)
        if main:
            traced.append(_branch(model, main, layers))
    return traced


def _main_path(layers: list[WeightLayer]) -> tuple[WeightLayer, ...]:
    """The layers that the end of a branch gets its signal from, and the end; those of a gate on it are left out."""
    wanted: set[str] = set()
    for layer in reversed(layers):
        if layer.role is Role.BRANCH_END or layer.name in wanted:
            wanted |= {layer.name, *layer.surroundings.sources}
    main = tuple(layer for layer in layers if layer.name in wanted)
    return main if any(layer.role is Role.BRANCH_END for layer in main) else ()


def _branch(model: nn.Module, main: tuple[WeightLayer, ...], layers: tuple[WeightLayer, ...]) -> Branch:
    """A traced branch, with the module that carries a number for all of it.

    Raises: DoesNotApply where what changes the branch after its last layer is no module, nor is the block.
    """
    last = main[-1]
    left, ends = _left_before_sum(last, layers), last.surroundings.ends
    norms = tuple(norm for norm in map(model.get_submodule, ends.norms) if isinstance(norm, NORMS))
    if not left:
        return Branch(last.name, main, end=_called(model, last))
    if len(left) == len(norms) == 1 and left[0].startswith(NORMALIZING):
        return Branch(last.name, main, end=norms[0], last_norm=norms[0], norms=norms)
    ended_by = next((step for step in reversed(left) if not step.startswith(NORMALIZING)), None)
    last_norm = norms[-1] if norms and ended_by is not None and passes_zero(ended_by) else None
    if ends.added is not None or ends.around is not None:
        return Branch(
            name=last.name,
            layers=main,
            end=model.get_submodule(ends.around or "" if ends.added is None else ends.added),
            last_norm=last_norm,
            norms=norms,
            ended_by=ended_by,
            slot=Slot.BRANCH_SCALE if ends.added is None else Slot.OUTPUT_SCALE,
        )
    raise DoesNotApply(
        f"The residual branch that ends in '{last.name}' goes through {', '.join(left)} before it is added, which no number can be put on. "
        "Make the last of these a module, or the block one that takes x and gives the sum."
    )


def passes_zero(activation: str) -> bool:
    """Whether an activation gives 0 for 0 and has a slope there: a branch that starts at zero before it learns."""
    function = known_function(activation)
    if function is None:
        return False
    with torch.enable_grad():
        x = torch.zeros((), dtype=torch.float32, device="cpu", requires_grad=True)
        value = function(x)
        (slope,) = torch.autograd.grad(value, x)
    return value.item() == 0 and slope.item() != 0


def _left_before_sum(last: WeightLayer, layers: tuple[WeightLayer, ...]) -> list[str]:
    """What a branch passes between its last layer and the sum, but for what a constant factor can be taken through."""
    paths = [layer.surroundings.path for layer in layers if last.name in layer.surroundings.sources]
    tail = next((path[: path.index("add")] for path in paths if "add" in path), ())
    return [step for step in tail if not step.startswith(PASSING)]


def _called(model: nn.Module, last: WeightLayer) -> nn.Module:
    """The module whose output is the layer's: torch's attention never calls its output projection, so it is the attention."""
    parent = model.get_submodule(last.name.rpartition(".")[0])
    return parent if isinstance(parent, nn.MultiheadAttention) else last.module

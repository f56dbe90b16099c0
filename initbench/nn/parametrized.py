"""Weights that a module computes from other parameters in every pass: how they are read, written through and kept current.

Those of `torch.nn.utils.parametrize` (orthogonal, spectral norm, weight norm, a user's own) and the older hooks (spectral
norm, weight norm, pruning). A weight norm's weight is set as its direction and its length, by `initbench.init.assign`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

if TYPE_CHECKING:
    from initbench.nn.layers import WeightLayer

SAME = 1e-3
"""Relative difference of a weight from what was drawn that is rounding on the way."""
ROUNDS, BLOCK, SETTLED = 200, 16, 1e-9
"""Subspace iterations for a largest singular value, the vectors iterated, and the relative change that ends it."""
HOOKS = {SpectralNorm: "_orig", WeightNorm: "_v", BasePruningMethod: "_orig"}
"""The older hooks, and what they call the parameter behind a weight."""


@dataclass(frozen=True)
class Computed:
    """The tensor `name` of a module, which `by` (a ParametrizationList, or a hook) computes."""

    module: nn.Module
    name: str
    by: Any

    @property
    def words(self) -> str:
        """What it goes through."""
        steps = self.by if isinstance(self.by, ParametrizationList) else [self.by]
        return " and ".join(_words(step) for step in steps)

    @property
    def is_weight_norm(self) -> bool:
        """Whether it is a length times a direction, and nothing else."""
        alone = isinstance(self.by, ParametrizationList) and len(self.by) == 1 and isinstance(self.by[0], _WeightNorm)
        return alone or isinstance(self.by, WeightNorm)

    @torch.no_grad()
    def value(self) -> Tensor:
        """The tensor as a pass in evaluation mode uses it."""
        if isinstance(self.by, ParametrizationList):
            with _evaluating(self.by):
                given: Tensor = self.by()
        else:
            self._compute()
            given = getattr(self.module, self.name)
        return given.detach()

    @torch.no_grad()
    def write(self, values: Tensor) -> bool:
        """Sets what the tensor is computed from so that it is `values`, or comes as near as what it goes through lets it.

        False, with nothing changed, where there is no way back (no `right_inverse`, or none for these values) or a part is frozen.
        """
        if isinstance(self.by, SpectralNorm | BasePruningMethod):
            getattr(self.module, f"{self.name}_orig").copy_(values)
            return True
        found: list[Tensor] | None
        if isinstance(self.by, WeightNorm):
            originals, found = [getattr(self.module, self.name + end) for end in ("_g", "_v")], _length_and_direction(self.by.dim, values)
        else:
            originals, found = originals_of(self.by), _back(self.by, values)
        if found is None or not all(original.requires_grad for original in originals):
            return False
        for original, value in zip(originals, found, strict=True):
            original.copy_(value)
        return True

    @torch.no_grad()
    def gives(self, values: Tensor) -> bool:
        """Whether the tensor, brought up to date, is `values` but for rounding."""
        self.refresh()
        given = self.value()
        if given.shape != values.shape:
            return False
        gap = torch.linalg.vector_norm((given - values).float())
        return bool(gap <= SAME * torch.linalg.vector_norm(values.float()))

    @torch.no_grad()
    def refresh(self) -> None:
        """Brings what is kept between passes up to date: a spectral norm's vectors, and the weight that an older hook made."""
        if isinstance(self.by, SpectralNorm):
            hook, original = self.by, getattr(self.module, f"{self.name}_orig")
            _settle(hook.reshape_weight_to_matrix(original), *(getattr(self.module, self.name + end, None) for end in ("_u", "_v")))
        elif isinstance(self.by, ParametrizationList):
            with _evaluating(self.by):
                value: Any = originals_of(self.by)
                for index, step in enumerate(self.by):
                    if isinstance(step, _SpectralNorm) and value[0].dim() > 1:
                        _settle(step._reshape_weight_to_matrix(value[0]), step._u, step._v)
                    value = [step(*value) if index == 0 else step(value[0])]
        else:
            self._compute()

    def _compute(self) -> None:
        if isinstance(self.by, SpectralNorm):
            setattr(self.module, self.name, self.by.compute_weight(self.module, do_power_iteration=False))
        else:
            self.by(self.module, None)


def computed(module: nn.Module, parameter: Tensor) -> Computed | None:
    """What computes a tensor of the module from this parameter; None where the module uses the parameter itself."""
    lists = getattr(module, "parametrizations", None)
    for name, steps in lists.items() if isinstance(lists, nn.ModuleDict) else ():
        if isinstance(steps, ParametrizationList) and any(original is parameter for original in originals_of(steps)):
            return Computed(module, name, steps)
    for hook in module._forward_pre_hooks.values():
        ends = [end for kind, end in HOOKS.items() if isinstance(hook, kind)]
        of = str(getattr(hook, "name", None) or getattr(hook, "_tensor_name", None))
        if ends and module._parameters.get(of + ends[0]) is parameter:
            return Computed(module, of, hook)
    return None


def computed_by_name(model: nn.Module, name: str) -> Computed | None:
    """What is computed from the parameter of this full name where it stands for a weight; None for any other."""
    owner = f".{name}".partition(".parametrizations.")[0].removeprefix(".")
    owner = name.rpartition(".")[0] if owner == name else owner
    parameter = model.get_parameter(name)
    through = computed(model.get_submodule(owner), parameter)
    stands = through is not None and (not isinstance(through.by, ParametrizationList) or main_original(through.by) is parameter)
    return through if stands else None


def weight_of(layer: WeightLayer) -> Tensor:
    """The weight as the layer's forward pass uses it, which may be computed from `layer.weight`; detached."""
    through = computed(layer.module, layer.weight)
    return layer.weight.detach() if through is None else through.value()


def originals_of(steps: ParametrizationList) -> list[Tensor]:
    """The tensors that a parametrization starts from."""
    return [steps.original] if steps.is_tensor else [getattr(steps, f"original{index}") for index in range(steps.ntensors)]


def main_original(steps: ParametrizationList) -> Tensor:
    """The one of them that stands for the weight: a weight norm's direction, else the largest."""
    originals = originals_of(steps)
    return originals[-1] if isinstance(steps[0], _WeightNorm) else max(originals, key=Tensor.numel)


def shape_of(steps: ParametrizationList) -> tuple[int, ...]:
    """The shape of the weight that a parametrization gives."""
    if steps.is_tensor or isinstance(steps[0], _WeightNorm):
        return tuple(main_original(steps).shape)
    with torch.no_grad(), _evaluating(steps):
        return tuple(steps().shape)


def _words(step: object) -> str:
    name = type(step).__name__.removeprefix("_")
    known = {"Orthogonal": "orthogonal", "SpectralNorm": "spectral norm", "WeightNorm": "weight norm"}
    return "pruning" if isinstance(step, BasePruningMethod) else known.get(name, re.sub(r"\W", "", name))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    flags = [(part, part.training) for part in module.modules()]
    for part, _ in flags:
        part.training = False
    try:
        yield
    finally:
        for part, flag in flags:
            part.training = flag


def _back(steps: ParametrizationList, values: Tensor) -> list[Tensor] | None:
    """What a parametrization must start from to give `values`; None where it does not say."""
    found: Any = values
    with torch.random.fork_rng(devices=[values.device] if values.is_cuda else []):
        torch.manual_seed(0)  # orthogonal with trivialization completes its basis at random
        for step in reversed(list(steps)):
            if not hasattr(step, "right_inverse"):
                return None
            back: Any = step.right_inverse
            try:
                found = back(found)
            except (NotImplementedError, RuntimeError, ValueError):  # no way back, or none from these numbers
                return None
    parts = [found] if isinstance(found, Tensor) else list(found)
    fits = [tuple(part.shape) for part in parts] == [tuple(original.shape) for original in originals_of(steps)]
    return parts if fits and all(part.isfinite().all() for part in parts) else None


def _length_and_direction(dim: int, values: Tensor) -> list[Tensor]:
    return [torch.norm_except_dim(values, 2, dim), values]


def _settle(matrix: Tensor, left: Tensor | None, right: Tensor | None) -> None:
    """Writes the first singular vectors of a matrix (rows, columns) to `left` (rows,) and `right` (columns,)."""
    if not matrix.numel() or not matrix.any():
        return
    wide = matrix.detach().to(torch.float32 if matrix.device.type == "mps" else torch.promote_types(matrix.dtype, torch.float64))
    source = torch.Generator(device="cpu").manual_seed(0)
    start = torch.randn(wide.shape[1], min(BLOCK, *wide.shape), generator=source, device="cpu", dtype=torch.float64).to(wide)
    before, basis = 0.0, start
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(wide.mH @ (wide @ basis)).Q
        largest = torch.linalg.matrix_norm(wide @ basis, 2).item()
        if abs(largest - before) <= SETTLED * largest:
            break
        before = largest
    u, _, vh = torch.linalg.svd(wide @ basis, full_matrices=False)
    if left is not None:
        left.copy_(u[:, 0])
    if right is not None:
        right.copy_(basis @ vh[0].conj())

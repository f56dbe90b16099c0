"""The scheme `admin`."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench.init.arguments import whole
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.data_driven import training_batch
from initbench.init.structural import Number, SchemePlan, Structural, layerwise
from initbench.init.suitability import require_attention, require_branches, require_post_norm, stream_width
from initbench.nn import hooks
from initbench.nn.hooks import Slot
from initbench.nn.inputs import arguments
from initbench.nn.naming import parameters_of
from initbench.nn.residual import Branch
from initbench.nn.watch import untouched
from initbench.results.record import InitReport

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32,norm=post"
NEEDS = ("batch",)
ALIASES: dict[str, dict[str, object]] = {}


def build(*, base: str = "xavier:distribution=uniform", batch_size: int = 128) -> "Admin":
    """norm(omega x + f(x)) with a learnable vector omega for each sum, as large as all that was added before it.

    Weights follow `base`. One batch goes through the network once, and every skip path i gets omega_i = sqrt(sum over j < i of
    Var f_j), the same for all its units, with f_0 the input of the first block and f_j the output of branch j; omega_1 = 1,
    as in the authors' code. So a branch's share of its sum falls with depth, and post-norm transformers depend less on each.

    Applies to: transformers with a norm after each sum, such as `vit:depth=2,width=32,norm=post`.
    Needs: data, model hooks (it changes the forward pass itself).

    Source: Liu, Liu, Gao, Chen & Han 2020 (Understanding the Difficulty of Training Transformers), section 4.2;
    LiyuanLucasLiu/Transformer-Clinic, `TransformerEncoderLayer`. The authors' base is fairseq's (Xavier uniform, q, k and v over
    sqrt(2)), and they profile with dropout, which is off here.
    """
    return Admin(layerwise(base), whole("batch_size", batch_size, least=2))


@dataclass(frozen=True)
class Admin:
    """Starts from `base`, then measures what each branch adds."""

    base: Layerwise
    batch_size: int
    name: str = "admin"
    needs: frozenset[Need] = frozenset({Need.DATA, Need.HOOKS})

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply where the model or the data do not suit it."""
        branches = self._branches(model, context)
        inputs, _ = training_batch(self.name, context, self.batch_size)
        width = stream_width(self.name, branches)
        numbers = tuple(
            Number(branch.shortcut, Slot.OUTPUT_SCALE, 1.0, trainable=True, shape=(width,), like=branch.last.weight)
            for branch in branches
            if branch.shortcut is not None
        )
        report = Structural(self.name, lambda *_: SchemePlan(self.base, numbers)).apply(model, context)
        positional, named = arguments(model, inputs)
        with torch.no_grad(), untouched(model, "batch"), _profiling(branches):
            model(*positional, **named)
        found = ", ".join(f"{_omega(branch):.3g}" for branch in branches)
        return hooks.amended(report, parameters_of(model).first, notes=[f"omega: {found}"])

    def _branches(self, model: nn.Module, context: InitContext) -> tuple[Branch, ...]:
        require_attention(self.name, model, context.layers)
        branches = require_branches(self.name, model, context.layers)
        require_post_norm(self.name, branches)
        return branches


def _omega(branch: Branch) -> float:
    """The omega of a branch's skip path as it is now (that of its first unit)."""
    return float(getattr(branch.shortcut, Slot.OUTPUT_SCALE).detach().flatten()[0])


class _Sum:
    """What has been added so far: `omega` is the root of its variance."""

    def __init__(self) -> None:
        self.omega = 1.0
        self.skip = 0.0

    def before_skip(self, module: nn.Module, _: Any) -> None:
        """Sets the skip path's omega just before it is used."""
        getattr(module, Slot.OUTPUT_SCALE).fill_(self.omega)

    def after_skip(self, _: nn.Module, __: Any, output: Tensor) -> None:
        """Notes the variance of omega x."""
        self.skip = output.float().var(correction=0).item()

    def after_branch(self, _: nn.Module, __: Any, output: Tensor) -> None:
        """Adds that of the branch."""
        self.omega = math.sqrt(self.skip + output.float().var(correction=0).item())


@contextmanager
def _profiling(branches: tuple[Branch, ...]) -> Iterator[None]:
    """Within, one pass sets omega block by block. The skip path of a block is computed before its branch."""
    added = _Sum()
    with ExitStack() as stack:
        for branch in branches:
            if branch.shortcut is not None:
                stack.callback(branch.shortcut.register_forward_pre_hook(added.before_skip).remove)
                stack.callback(branch.shortcut.register_forward_hook(added.after_skip).remove)
            stack.callback(branch.end.register_forward_hook(added.after_branch).remove)
        yield

"""The scheme `layer_scale`."""

from torch import nn

from initbench.init.arguments import number
from initbench.init.contract import InitContext, Need
from initbench.init.structural import Number, SchemePlan, Structural, layerwise
from initbench.init.suitability import require_branches
from initbench.nn.attention import attentions
from initbench.nn.residual import Branch

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32"
ALIASES: dict[str, dict[str, object]] = {"cait": {}}

VALUES = ((18, 0.1), (24, 1e-5))
"""The largest depth in layers for which the paper starts at this value; deeper networks start at 1e-6."""
DEEPEST = 1e-6


def build(*, value: float | None = None, base: str = "xavier") -> Structural:
    """A small learnable factor for each unit at the end of each residual branch: deep transformers start close to linear.

    x + diag(s) f(x), all s = `value`; null: 0.1 for up to 18 layers, 1e-5 up to 24 and 1e-6 above, a layer being an
    attention module (in a network without attention a residual branch). Weights follow `base`, b = 0. One factor a
    channel for convolutions.

    Applies to: residual networks and transformers, such as `vit:depth=2,width=32`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Touvron et al. 2021 (Going deeper with Image Transformers), section 2. The law of the weights is our choice.
    """
    given = None if value is None else number("value", value)
    laws = layerwise(base)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        branches = require_branches("layer_scale", model, context.layers)
        depth = len(attentions(model, context.layers)) or len(branches)
        start = next((small for most, small in VALUES if depth <= most), DEEPEST) if given is None else given
        scales = (Number(branch.end, branch.slot, start, trainable=True, shape=_shape(branch)) for branch in branches)
        return SchemePlan(laws, tuple(scales))

    return Structural("layer_scale", plan, frozenset({Need.HOOKS}))


def _shape(branch: Branch) -> tuple[int, ...]:
    last = branch.last
    units = last.shape[1] * last.groups if last.transposed else last.shape[0]
    return (units, *[1] * (len(last.shape) - 2))

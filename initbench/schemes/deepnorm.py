"""The scheme `deepnorm`."""

from torch import nn

from initbench.init.arguments import choose
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.sampling import Distribution
from initbench.init.structural import Number, SchemePlan, Structural
from initbench.init.suitability import require_attention, require_branches, require_post_norm
from initbench.nn.hooks import Slot
from initbench.schemes.t_fixup import xavier_by_part

FAMILY = "transformer"
EXAMPLE_MODEL = "vit:depth=2,width=32,norm=post"
ALIASES: dict[str, dict[str, object]] = {"deep_net": {}}


def build(*, distribution: Distribution = "normal") -> Structural:
    """norm(alpha x + f(x)) with a fixed alpha > 1, and smaller values, outputs and MLPs: post-norm transformers of any depth.

    With N layers, all encoder or all decoder: alpha = (2N)^(1/4) on every skip path; value, attention output and both MLP
    weights are Xavier with gain beta = (8N)^(-1/4), all others Xavier with gain 1; b = 0.

    Applies to: transformers with a norm after each sum, such as `vit:depth=2,width=32,norm=post`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Wang et al. 2022 (DeepNet: Scaling Transformers to 1,000 Layers), figure 2.
    """
    choose("distribution", distribution, Distribution)

    def plan(model: nn.Module, context: InitContext) -> SchemePlan:
        modules = require_attention("deepnorm", model, context.layers)
        branches = require_branches("deepnorm", model, context.layers)
        require_post_norm("deepnorm", branches)
        alpha, beta = (2 * len(modules)) ** 0.25, (8 * len(modules)) ** -0.25
        fill = xavier_by_part(modules, branches, smaller=beta, other=1.0, distribution=distribution)
        skips = (Number(branch.shortcut, Slot.OUTPUT_SCALE, alpha) for branch in branches if branch.shortcut is not None)
        return SchemePlan(Layerwise("deepnorm", fill), tuple(skips))

    return Structural("deepnorm", plan, frozenset({Need.HOOKS}))

"""The scheme `tat`."""

import math

from torch import nn

from initbench.init.arguments import choose, number
from initbench.init.kernel_shaping import Inputs, Shaped, around, function_of, is_rectifier, shaped_scheme
from initbench.init.structural import Number, Structural
from initbench.nn.hooks import Slot
from initbench.schemes.dks import check_share
from initbench.theory.shaping import Depth, tailored_rectifier, tailored_smooth

FAMILY = "critical"
ALIASES: dict[str, dict[str, object]] = {"tailored_activations": {}}


def build(*, curvature: float = 0.3, c_at_zero: float = 0.9, branch_share: float = 0.5, inputs: Inputs = "image") -> Structural:
    """Tailored activations: C'(1) = 1 at any depth, and just as much bend as the whole network is to have.

    Smooth phi becomes gamma (phi(alpha x + beta) + delta) with Q(1) = 1, Q'(1) = 1, C'(1) = 1 and, for the whole network,
    C''(1) = `curvature`. ReLU and leaky ReLU become sqrt(2 / (1 + a^2)) leaky_relu(x, a) with the a for which the
    network's C(0) is `c_at_zero`. Weights, sums and inputs as in `dks`.

    Applies to: linear layers and odd kernels, no norm and no attention, activation modules, such as `mlp`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Zhang, Botev & Martens 2022 (Deep Learning without Shortcuts: Shaping the Kernel with Tailored Rectifiers),
    sections 3 and 4; defaults of google-deepmind/dks. The zero-padding shortcut and `branch_share` are our choice.
    """
    bend = number("curvature", curvature, above=0.0)
    target = number("c_at_zero", c_at_zero, above=0.0, most=0.999999)
    share = check_share(branch_share)
    choose("inputs", inputs, Inputs)

    def transform(kind: str, module: nn.Module, depth: Depth) -> Shaped:
        if is_rectifier(kind, module):
            slope = tailored_rectifier(depth, target)
            tailored = nn.LeakyReLU(slope)
            return Shaped(tailored, (Number(tailored, Slot.OUTPUT_SCALE, math.sqrt(2 / (1 + slope**2))),))
        return around(module, tailored_smooth(function_of("tat", kind, module), depth, bend))

    return shaped_scheme("tat", transform, inputs=inputs, branch_share=share)

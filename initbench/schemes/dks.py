"""The scheme `dks`."""

from dataclasses import replace

from torch import nn

from initbench.errors import ConfigError
from initbench.init.arguments import choose, number
from initbench.init.kernel_shaping import Inputs, Shaped, around, function_of, is_rectifier, shaped_scheme
from initbench.init.structural import Structural
from initbench.theory.shaping import Depth, deep_kernel_shaping, deep_leaky_relu, deep_relu

FAMILY = "critical"
EXAMPLE_MODEL = "mlp:activation=tanh"
ALIASES: dict[str, dict[str, object]] = {"deep_kernel_shaping": {}}


def build(*, slope: float = 1.5, branch_share: float = 0.5, inputs: Inputs = "image") -> Structural:
    """Deep kernel shaping: activations transformed so that networks without norm or skips keep their inputs apart.

    Each activation phi becomes gamma (phi(alpha x + beta) + delta) with fixed numbers that give the kernel maps Q(1) = 1,
    Q'(1) = 1, C(0) = 0 and, for the whole network, C'(1) = `slope`. A leaky ReLU gets another negative slope in place of
    alpha; a ReLU meets all but Q'(1) = 1, and the authors advise against it. Weights are scaled orthogonal, in the centre of a
    kernel (SUO delta), b = 0. Residual sums become sqrt(1 - s) x + sqrt(s) f(x) with s = `branch_share` (our choice).
    `inputs` are divided by the root mean square of each image, of each location (the paper's), or not at all.

    Applies to: linear layers and odd kernels, no norm and no attention, activation modules, such as `mlp:activation=tanh`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Martens et al. 2021 (Rapid training of deep neural networks without skip connections or normalization layers),
    sections 6 and 8; defaults of google-deepmind/dks.
    """
    target = number("slope", slope, above=1.0)
    share = check_share(branch_share)
    choose("inputs", inputs, Inputs)

    def transform(kind: str, module: nn.Module, depth: Depth) -> Shaped:
        if not is_rectifier(kind, module):
            return around(module, deep_kernel_shaping(function_of("dks", kind, module), depth, target))
        if kind == "relu":
            shaping, q_slope = deep_relu(depth, target)
            said = f"a ReLU has no number left for Q'(1) = 1, here it is {q_slope:.4g}: the authors advise leaky ReLU instead"
            return replace(around(module, shaping), note=said)
        slope, shaping = deep_leaky_relu(depth, target)
        return around(nn.LeakyReLU(slope), shaping)

    return shaped_scheme("dks", transform, inputs=inputs, branch_share=share)


def check_share(given: float) -> float:
    """The share. Raises: ConfigError unless it is in (0, 1)."""
    share = number("branch_share", given, above=0.0, most=1.0)
    if share == 1:
        raise ConfigError("branch_share is 1, which leaves nothing of the skip path. Give a number between 0 and 1.")
    return share

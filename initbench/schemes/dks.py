"""The scheme `dks`."""

from torch import nn

from initbench.errors import ConfigError
from initbench.init.arguments import choose, number
from initbench.init.kernel_shaping import Inputs, Shaped, around, shaped_scheme
from initbench.init.structural import Structural
from initbench.theory import activations
from initbench.theory.shaping import Depth, deep_kernel_shaping

FAMILY = "critical"
EXAMPLE_MODEL = "mlp:activation=tanh"
ALIASES: dict[str, dict[str, object]] = {"deep_kernel_shaping": {}}


def build(*, slope: float = 1.5, branch_share: float = 0.5, inputs: Inputs = "image") -> Structural:
    """Deep kernel shaping: activations transformed so that networks without norm or skips keep their inputs apart.

    Each activation phi becomes gamma (phi(alpha x + beta) + delta) with fixed numbers that give the kernel maps Q(1) = 1,
    Q'(1) = 1, C(0) = 0 and, for the whole network, C'(1) = `slope`. Weights are scaled orthogonal, in the centre of a
    kernel (SUO delta), b = 0. Residual sums become sqrt(1 - s) x + sqrt(s) f(x) with s = `branch_share` (our choice).
    `inputs` are divided by the root mean square of each image, of each location (the paper's), or not at all.

    Applies to: linear layers and odd kernels, no norm and no attention, smooth activation modules, such as `mlp:activation=tanh`.
    Needs: model hooks (it changes the forward pass itself).

    Source: Martens et al. 2021 (Rapid training of deep neural networks without skip connections or normalization layers),
    sections 6 and 8; defaults of google-deepmind/dks.
    """
    target = number("slope", slope, above=1.0)
    share = check_share(branch_share)
    choose("inputs", inputs, Inputs)

    def transform(kind: str, module: nn.Module, depth: Depth) -> Shaped:
        return around(module, deep_kernel_shaping(activations.find(kind), depth, target))

    return shaped_scheme("dks", transform, inputs=inputs, branch_share=share)


def check_share(given: float) -> float:
    """The share. Raises: ConfigError unless it is in (0, 1)."""
    share = number("branch_share", given, above=0.0, most=1.0)
    if share == 1:
        raise ConfigError("branch_share is 1, which leaves nothing of the skip path. Give a number between 0 and 1.")
    return share

"""Networks of other kinds than `band.py`'s plain chains, and what is measured of many draws of each.

Real modules: the weights of one model are drawn anew in place, for each network, from the laws that the prediction was made from.
"""

from collections.abc import Callable
from itertools import product

import torch
from band_networks import draw, variance
from torch import Tensor, nn

from initbench.models import cnn, mlp, residual_mlp
from initbench.nn.layers import WeightLayer
from initbench.theory.network import LayerSpec

Shape = tuple[int, ...]


class Adds(nn.Module):
    """x + scale branch(x), `depth` times, between a first and a last layer."""

    def __init__(self, features: int, width: int, depth: int, classes: int, scale: float, branch: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.last, self.scale = nn.Linear(features, width), nn.Linear(width, classes), scale
        self.branches = nn.ModuleList(branch() for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, ...) to logits (B, classes)."""
        x = self.first(x.flatten(1))
        for branch in self.branches:
            x = x + self.scale * branch(x)
        return self.last(x)  # type: ignore[no-any-return]


def linear_chain(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` linear layers and a head, nothing between."""
    return mlp.build(shape, classes, depth=depth, width=width, activation="identity")


def low_rank(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` times ReLU, Linear(width, width / 8), Linear(width / 8, width)."""
    features, rank = torch.Size(shape).numel(), max(1, width // 8)
    pairs = [part for _ in range(depth) for part in (nn.ReLU(), nn.Linear(width, rank), nn.Linear(rank, width))]
    return nn.Sequential(nn.Flatten(), nn.Linear(features, width), *pairs, nn.ReLU(), nn.Linear(width, classes))


def layer_norm(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` times linear, layer norm, ReLU."""
    return mlp.build(shape, classes, depth=depth, width=width, norm="layer")


def residual(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """x + Linear(relu(Linear(relu(x)))), `depth` blocks."""
    return residual_mlp.build(shape, classes, depth=depth, width=width)


def pre_norm(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """x + Linear(relu(norm(Linear(relu(norm(x)))))), `depth` blocks."""
    return residual_mlp.build(shape, classes, depth=depth, width=width, norm="layer")


def linear_branches(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """x + W x / 2, `depth` blocks."""
    return Adds(torch.Size(shape).numel(), width, depth, classes, 0.5, lambda: nn.Linear(width, width))


def tanh_branch(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` times: a linear layer, then x + tanh(W x) / 2."""

    class Block(nn.Module):
        def __init__(self, into: int) -> None:
            super().__init__()
            self.first, self.inner = nn.Linear(into, width), nn.Linear(width, width)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return x + 0.5 * torch.tanh(self.inner(x))  # type: ignore[no-any-return]

    features = torch.Size(shape).numel()
    blocks = [Block(features if index == 0 else width) for index in range(depth)]
    return nn.Sequential(nn.Flatten(), *blocks, nn.Linear(width, classes))


def convolutions(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` convolutions with ReLU and a linear head on all positions, no pooling."""
    return cnn.build(shape, classes, channels=[width] * depth, pooling="none")


def pooled(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` convolutions with ReLU and maximum pooling, a linear head on all positions."""
    return cnn.build(shape, classes, channels=[width] * depth)


def averaged(shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """`depth` convolutions with ReLU, the mean over positions, a linear head."""
    return cnn.build(shape, classes, channels=[width] * depth, pooling="none", head="global")


KINDS: dict[str, Callable[[Shape, int, int, int], nn.Module]] = {
    "linear_chain": linear_chain,
    "low_rank": low_rank,
    "linear_branches": linear_branches,
    "tanh_branch": tanh_branch,
    "residual": residual,
    "pre_norm": pre_norm,
    "layer_norm": layer_norm,
    "convolutions": convolutions,
    "averaged": averaged,
    "pooled": pooled,
}


GRIDS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...], tuple[int, ...]], ...] = (
    (("linear_chain",), ("lecun", "xavier", "orthogonal"), (50, 100, 300), (3, 10, 30)),
    (("linear_chain",), ("lecun",), (500,), (3, 10, 30)),
    (("linear_chain",), ("torch_default", "xavier_uniform"), (1000,), (5,)),
    (("low_rank",), ("kaiming", "orthogonal"), (64, 256), (3, 10)),
    (("linear_branches", "tanh_branch", "residual", "pre_norm"), ("lecun",), (64, 256), (3, 10)),
    (("layer_norm",), ("kaiming",), (64, 256), (3, 10, 30)),
    (("convolutions", "averaged"), ("kaiming",), (16,), (3, 6)),
    (("pooled",), ("kaiming",), (16,), (3,)),
)
"""Kinds, schemes, widths and depths of the benchmark's cells; 1000 wide and 5 deep is the shipped configuration `glorot2010_gradients`."""
CELLS = [cell for grid in GRIDS for cell in product(*grid)]


def build_kind(kind: str, shape: Shape, classes: int, width: int, depth: int) -> nn.Module:
    """A network of a kind."""
    return KINDS[kind](shape, classes, width, depth)


def measured_model(
    model: nn.Module,
    layers: tuple[WeightLayer, ...],
    specs: dict[str, LayerSpec],
    networks: int,
    x: Tensor,
    y: Tensor,
    source: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Pre-activation and gradient variances, each (layers, networks), in the order of `layers`; the model keeps the last draw."""
    model.requires_grad_(requires_grad=False)
    outputs: dict[int, Tensor] = {}
    hooks = []
    for index, layer in enumerate(layers):

        def keep(_module: nn.Module, _inputs: object, output: Tensor, index: int = index) -> Tensor:
            outputs[index] = output if output.requires_grad else output.requires_grad_()
            return output

        hooks.append(layer.module.register_forward_hook(keep))
    forward, backward = [], []
    for _ in range(networks):
        for layer in layers:
            redraw(layer, specs[layer.parameter], source)
        loss = nn.functional.cross_entropy(model(x), y, reduction="sum")
        signals = [outputs[index] for index in range(len(layers))]
        gradients = torch.autograd.grad(loss, signals)
        forward.append([spread(signal) for signal in signals])
        backward.append([spread(gradient) for gradient in gradients])
    for hook in hooks:
        hook.remove()
    return torch.tensor(forward, dtype=torch.float64).T, torch.tensor(backward, dtype=torch.float64).T


def spread(values: Tensor) -> float:
    """The variance of all numbers."""
    return float(variance(values.detach()[None])[0])


def redraw(layer: WeightLayer, spec: LayerSpec, source: torch.Generator) -> None:
    """Draws the weights and biases of a layer anew."""
    weight = layer.weight
    matrix = draw(spec.law, spec.std, (1, spec.units, weight[0].numel()), source)
    weight.data.copy_(matrix[0].view_as(weight))
    bias = getattr(layer.module, "bias", None)
    if bias is not None:
        law = "uniform" if spec.bias_law == "uniform" else "normal"
        bias.data.copy_(draw(law, spec.bias_std, (1, 1, spec.units), source)[0, 0] + spec.bias_mean)

"""The laws that weights must follow after a scheme: fans are counted here from the module, matrices are cut into what is one matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from naive import LAYERS
from torch import Tensor, nn

FEW = 30
"""Of fewer numbers no standard deviation is told."""
SIGMAS = 6.0
NORMED = ("spectral_norm", "orthogonal")


@dataclass(frozen=True)
class Matrix:
    """A weight of a module: `parameter` that holds it, `pieces` that are matrices (out, in) each, the fans of one of them."""

    layer: str
    parameter: str
    weight: Tensor
    fan_in: int
    fan_out: int
    pieces: tuple[Tensor, ...]
    kind: str = ""


def matrices(model: nn.Module) -> Iterator[Matrix]:
    """The weights of all modules whose fans anybody can count; one that is tied has its first name."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    for each in _matrices(model):
        yield replace(each, parameter=first.get(id(each.weight), each.parameter))


def _matrices(model: nn.Module) -> Iterator[Matrix]:
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            yield from _recurrent(name, module)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            weight, parameter = module.in_proj_weight, f"{name}.in_proj_weight"
            yield Matrix(name, parameter, weight, weight.shape[1], weight.shape[0] // 3, weight.detach().chunk(3))
        elif type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            weight = module.weight
            yield Matrix(name, f"{name}.weight", weight, weight.shape[0], weight.shape[1], (weight.detach().t(),))
        elif isinstance(module, LAYERS) and not isinstance(module, nn.Bilinear):
            yield _plain(name, module)


def _plain(name: str, module: nn.Module) -> Matrix:
    kind = ""
    for each in ("ParametrizationList", "_WeightNorm", "_SpectralNorm", "_Orthogonal"):
        lists = getattr(module, "parametrizations", {})
        kind += "".join(type(p).__name__ for held in lists.values() for p in held if type(p).__name__ == each)
    kind += "".join(type(hook).__name__ for hook in module._forward_pre_hooks.values() if "Norm" in type(hook).__name__)
    weight = module.weight
    field = math.prod(weight.shape[2:])
    groups = getattr(module, "groups", 1)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        fan_in = max(1, weight.shape[0] // groups * field // math.prod(module.stride))
        pieces = tuple(part.flatten(1) for part in weight.detach().chunk(groups))  # as torch does: (in, out k k)
        return Matrix(name, f"{name}.weight", weight, fan_in, weight.shape[1] * field, pieces, kind)
    pieces = tuple(part.flatten(1) for part in weight.detach().chunk(groups))
    return Matrix(name, f"{name}.weight", weight, weight.shape[1] * field, weight.shape[0] // groups * field, pieces, kind)


def _recurrent(name: str, module: nn.Module) -> Iterator[Matrix]:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[type(module).__name__.removesuffix("Cell")]
    for short, weight in module.named_parameters(recurse=False):
        if weight.dim() == 2:
            parts = 1 if "_hr" in short else gates
            pieces = weight.detach().chunk(parts)
            yield Matrix(name, f"{name}.{short}", weight, weight.shape[1], weight.shape[0] // parts, pieces)


def expected_std(scheme: str, matrix: Matrix) -> float:
    """The standard deviation by formula."""
    return math.sqrt(2 / matrix.fan_in if scheme == "kaiming" else 2 / (matrix.fan_in + matrix.fan_out))


def off_by(scheme: str, matrix: Matrix) -> str | None:
    """What is wrong with the weight's numbers; None where they follow the law."""
    weight = matrix.weight.detach().double()
    if "Spectral" in matrix.kind:
        largest = torch.linalg.matrix_norm(weight.flatten(1), 2).item()
        return None if abs(largest - 1) < 0.05 else f"largest singular value {largest:.4g} under spectral norm"
    if scheme == "orthogonal" or "Orthogonal" in matrix.kind:
        worst = max(_from_orthogonal(piece.double()) for piece in matrix.pieces)
        return None if worst < 1e-4 else f"{worst:.3g} from orthogonal"
    std, count = expected_std(scheme, matrix), weight.numel()
    if count < FEW:
        return None if weight.isfinite().all() and weight.abs().max() > 0 else "zero or not finite"
    measured, mean = weight.std(correction=0).item(), weight.mean().item()
    if abs(measured / std - 1) > SIGMAS / math.sqrt(2 * count):
        return f"std {measured:.4g} where {std:.4g} is right"
    return None if abs(mean) < SIGMAS * std / math.sqrt(count) else f"mean {mean:.4g}"


def _from_orthogonal(piece: Tensor) -> float:
    """The largest difference of W W^T (or W^T W) from the identity."""
    wide = piece if piece.shape[0] <= piece.shape[1] else piece.t()
    return (wide @ wide.t() - torch.eye(len(wide), dtype=wide.dtype)).abs().max().item()

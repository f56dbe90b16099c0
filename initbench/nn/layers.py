"""The weight layers of any module: fans from the module, roles, the activation that follows, in execution order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "LSTMCell": 4, "GRUCell": 3, "RNNCell": 1}


class Role(StrEnum):
    """Where a layer stands in the network."""

    STEM = "stem"
    HIDDEN = "hidden"
    BRANCH = "branch"
    BRANCH_END = "branch end"
    HEAD = "head"


@dataclass(frozen=True)
class WeightLayer:
    """One weight of a model, with what a scheme must know of it.

    `weight` is stored as torch stores it; `fan_in` and `fan_out` are those of one of its `parts` (the gates of a
    recurrent layer, q, k and v of a packed attention) and of one of its `groups`. `activation` is the name of the
    function that the layer's output goes through (norm, dropout and pooling are looked through), with its parameters
    (`leaky_relu:negative_slope=0.2`); None where nothing follows or it cannot be told. `block` is the index of the
    residual block the layer belongs to, None outside of any.
    """

    name: str
    parameter: str
    module: nn.Module
    weight: nn.Parameter
    fan_in: int
    fan_out: int
    receptive_field: int = 1
    position: int = 0
    parts: int = 1
    groups: int = 1
    transposed: bool = False
    bias: str | None = None
    activation: str | None = None
    role: Role = Role.HIDDEN
    block: int | None = None


def weight_layers(model: nn.Module, inputs: Tensor | None = None, in_out: tuple[str, ...] = ()) -> tuple[WeightLayer, ...]:
    """The weight layers, in execution order when `inputs` (a batch) is given, else in order of registration.

    `in_out` are globs of weights stored (in, out) instead of (out, in).
    """
    found = [
        replace(layer, position=position)
        for position, layer in enumerate(_registered(model, in_out))
    ]
    return tuple(found)


def _registered(model: nn.Module, in_out: tuple[str, ...]) -> Iterator[WeightLayer]:
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for short, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or isinstance(module, (*NORMS, nn.Embedding, nn.EmbeddingBag)):
                continue
            name = f"{prefix}.{short}" if prefix else short
            layer = _layer(module, prefix, short, name, parameter, in_out)
            if layer is not None:
                seen.add(id(parameter))
                yield layer


def _layer(
    module: nn.Module, prefix: str, short: str, name: str, parameter: nn.Parameter, in_out: tuple[str, ...]
) -> WeightLayer | None:
    if parameter.dim() < 2 or "weight" not in short:
        return None
    shape = tuple(parameter.shape)
    field = math.prod(shape[2:])
    bias = f"{name[: -len('weight')]}bias" if short == "weight" and getattr(module, "bias", None) is not None else None
    plain = WeightLayer(
        name=prefix if short == "weight" and prefix else name,
        parameter=name,
        module=module,
        weight=parameter,
        fan_in=shape[1] * field,
        fan_out=shape[0] * field,
        receptive_field=field,
        bias=bias,
    )
    if isinstance(module, CONVOLUTIONS):
        return replace(plain, groups=module.groups, fan_out=shape[0] // module.groups * field)
    if isinstance(module, TRANSPOSED):
        stride = math.prod(module.stride)
        fan_in = max(1, shape[0] // module.groups * field // stride)
        return replace(plain, groups=module.groups, transposed=True, fan_in=fan_in, fan_out=shape[1] * field)
    kind = type(module).__name__
    if kind in GATES:
        return replace(plain, parts=GATES[kind], fan_out=shape[0] // GATES[kind])
    if isinstance(module, nn.MultiheadAttention) and short == "in_proj_weight":
        return replace(plain, parts=3, fan_out=shape[0] // 3)
    if any(fnmatchcase(name, pattern) for pattern in in_out):
        return replace(plain, transposed=True, fan_in=plain.fan_out, fan_out=plain.fan_in)
    return plain

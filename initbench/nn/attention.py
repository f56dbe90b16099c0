"""Self-attention: the module of our own transformers, and the query, key, value and output weights of any model's."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from initbench.nn.layers import WeightLayer


class SelfAttention(nn.Module):
    """Multi-head self-attention over (N, tokens, width) with separate projections.

    `causal`: over the tokens before and itself only. `rotary` turns queries and keys by their place (Su et al. 2021), so that scores
    depend on the distance. Written out rather than through torch's fused kernel, so that it can be differentiated twice and vectorized.
    """

    def __init__(self, width: int, heads: int, *, causal: bool = False, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.causal, self.rotary = heads, causal, rotary
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Each token's mixture of all tokens' values, shape (N, tokens, width)."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        if self.rotary:
            query, key = _rotated(query), _rotated(key)
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if self.causal:
            size = scores.shape[-1]
            later = torch.ones(size, size, dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        mixed = scores.softmax(dim=-1) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


SLOWEST = 10_000.0
"""The base of the angles by which pairs are turned from one place to the next."""


def _rotated(x: Tensor) -> Tensor:
    """Each half of a head's numbers paired with the other and turned by an angle that grows with the place, (..., tokens, size)."""
    size, places = x.shape[-1] // 2, torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)
    speed = SLOWEST ** (-torch.arange(size, device=x.device, dtype=x.dtype) / size)
    angle = places[:, None] * speed
    first, second = x.chunk(2, -1)
    return torch.cat([first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], -1)


@dataclass(frozen=True)
class AttentionLayers:
    """The weight layers of one attention module; `packed` holds query, key and value where one weight holds all three."""

    name: str
    module: nn.Module
    heads: int
    output: WeightLayer
    query: WeightLayer | None = None
    key: WeightLayer | None = None
    value: WeightLayer | None = None
    packed: WeightLayer | None = None


NAMES = {
    "query": ("query", "q", "q_proj", "to_q", "wq", "q_proj_weight", "q_lin"),
    "key": ("key", "k", "k_proj", "to_k", "wk", "k_proj_weight", "k_lin"),
    "value": ("value", "v", "v_proj", "to_v", "wv", "v_proj_weight", "v_lin"),
    "packed": ("qkv", "qkv_proj", "in_proj", "in_proj_weight", "to_qkv", "c_attn", "wqkv"),
    "output": ("output", "out", "o_proj", "out_proj", "to_out", "to_out.0", "wo", "proj", "c_proj", "o", "out_lin"),
}
"""What the projections are called in common code, below the attention module."""
PARTS = {name: part for part, names in NAMES.items() for name in names}


def attentions(model: nn.Module, layers: tuple[WeightLayer, ...]) -> tuple[AttentionLayers, ...]:
    """All attention modules of a model, by the names of their projections, in the order of `layers`."""
    candidates: dict[str, dict[str, WeightLayer]] = {}
    for layer in layers:
        for name in {layer.name, layer.parameter} if layer.weight.dim() == 2 else ():
            prefix, part = projection(name)
            if part is not None:
                candidates.setdefault(prefix, {}).setdefault(part, layer)
    by_name = {layer.name: layer for layer in layers}
    modules = []
    for prefix, parts in candidates.items():
        beside = by_name.get(f"{prefix.rpartition('.')[0]}.output.dense".lstrip("."))
        if beside is not None and {"query", "key", "value"} <= parts.keys():
            parts.setdefault("output", beside)  # BERT's: attention.self.query, attention.output.dense
        separate = {"query", "key", "value", "output"} <= parts.keys()
        if separate or {"packed", "output"} <= parts.keys():
            kept = {part: layer for part, layer in parts.items() if part == "output" or (part == "packed") != separate}
            module = model.get_submodule(prefix)
            modules.append(AttentionLayers(name=prefix, module=module, heads=_heads(module), **kept))
    return tuple(modules)


def projection(name: str) -> tuple[str, str | None]:
    """The attention module's name and the part that a layer of this name is in it; None where the name says nothing."""
    parent, _, last = name.rpartition(".")
    if last == "0":
        parent, _, last = parent.rpartition(".")
        last += ".0"
    return parent, PARTS.get(last)


def _heads(module: nn.Module) -> int:
    for name in ("heads", "num_heads", "n_heads", "n_head", "num_attention_heads"):
        heads = getattr(module, name, None)
        if isinstance(heads, int):
            return heads
    return 1


def thirds(weight: Tensor, layer: WeightLayer) -> tuple[tuple[str, Tensor, WeightLayer], ...]:
    """The query, key and value parts of a packed weight as a filler gets it: name, view, layer with the fans of the part.

    Where `layer.parts` is 3 a filler is handed one part at a time: which one it is shows in where the part begins.
    """
    roles = ("query", "key", "value")
    if layer.parts == len(roles):
        index = weight.storage_offset() // max(1, weight.numel())
        return ((roles[index], weight, layer),)
    part = replace(layer, fan_out=layer.fan_out // len(roles))
    return tuple((role, view, part) for role, view in zip(roles, weight.chunk(len(roles)), strict=True))

"""A small language model: a transformer that looks at the tokens before only."""

from typing import Literal

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.nn.attention import SelfAttention
from initbench.nn.blocks import MOST_LAYERS, one_of, whole_numbers
from initbench.nn.residual import Residual

TASKS = ("language",)
NORM_CHOICES, NORM_KINDS = ("pre", "post", "none"), {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
EMBEDDING_STD = 0.02
"""Standard deviation of token and position embeddings at construction, as in GPT-2."""
HIDDEN = {"gelu": 4.0, "swiglu": 8 / 3}
"""Width of the MLP over that of the stream; both have about as many parameters."""


def build(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 4,
    width: int = 96,
    heads: int = 4,
    norm: Literal["pre", "post", "none"] = "pre",
    norm_kind: Literal["layer", "rms"] = "layer",
    activation: Literal["gelu", "swiglu"] = "gelu",
    positions: Literal["learned", "rotary"] = "learned",
    tied: bool = True,
) -> nn.Module:
    """Language model: tokens, positions, `depth` blocks of causal attention and MLP, a head on the tokens' embedding if `tied`.

    Takes token ids (N, T), at most as many as the context, and gives logits (N, T, tokens). `norm` pre is x + f(norm(x)), post is
    norm(x + f(x)), none has no norm anywhere. Embeddings are N(0, 0.02^2) at construction; their names contain `embedding`, so
    schemes leave them alone unless init.exclude is emptied.
    Raises: ConfigError for sizes that do not fit each other.

    Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023 (LLaMA) for rms, swiglu and rotary.
    """
    if len(shape) != 1:
        raise ConfigError(f"A gpt takes token ids (context,), not {shape}. It is for texts: --dataset text274k.")
    whole_numbers("gpt depth", depth, smallest=1, largest=MOST_LAYERS)
    for what, given in (("width", width), ("heads", heads)):
        whole_numbers(f"gpt {what}", given, smallest=1)
    one_of("gpt norm", norm, NORM_CHOICES)
    one_of("gpt norm_kind", norm_kind, tuple(NORM_KINDS))
    one_of("gpt activation", activation, tuple(HIDDEN))
    one_of("gpt positions", positions, ("learned", "rotary"))
    if width % heads or (positions == "rotary" and (width // heads) % 2):
        wanted = f"{2 * heads}, for pairs to rotate" if positions == "rotary" else str(heads)
        raise ConfigError(f"A gpt's width {width} cannot be split into {heads} heads. Give a multiple of {wanted}.")
    return GPT(shape[0], classes, depth, width, heads, norm, norm_kind, activation, learned=positions == "learned", tied=tied)


class GPT(nn.Module):
    """Embeddings, blocks, norm, head."""

    def __init__(
        self,
        context: int,
        tokens: int,
        depth: int,
        width: int,
        heads: int,
        norm: str,
        norm_kind: str,
        activation: str,
        *,
        learned: bool,
        tied: bool,
    ) -> None:
        super().__init__()
        self.context, make = context, NORM_KINDS[norm_kind]

        def block(branch: nn.Module) -> Residual:
            inside = nn.Sequential(make(width), branch) if norm == "pre" else nn.Sequential(branch)
            return Residual(inside, after=make(width) if norm == "post" else None)

        def layer() -> nn.Sequential:
            attention = SelfAttention(width, heads, causal=True, rotary=not learned)
            return nn.Sequential(block(attention), block(_mlp(width, activation)))

        self.token_embedding = nn.Embedding(tokens, width)
        nn.init.normal_(self.token_embedding.weight, std=EMBEDDING_STD)
        self.position_embedding = nn.Parameter(torch.randn(1, context, width) * EMBEDDING_STD) if learned else None
        self.blocks = nn.Sequential(*(layer() for _ in range(depth)))
        self.norm = make(width) if norm == "pre" else nn.Identity()
        self.head = nn.Linear(width, tokens, bias=False)
        if tied:
            self.head.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (N, T) -> logits of the next one at each place (N, T, tokens)."""
        if tokens.shape[1] > self.context:
            raise ConfigError(f"This gpt was built for {self.context} tokens, and gets {tokens.shape[1]}.")
        stream = self.token_embedding(tokens)
        if self.position_embedding is not None:
            stream = stream + self.position_embedding[:, : tokens.shape[1]]
        return self.head(self.norm(self.blocks(stream)))  # type: ignore[no-any-return]


def _mlp(width: int, activation: str) -> nn.Module:
    hidden = round(width * HIDDEN[activation])
    if activation == "swiglu":
        return Gated(width, hidden)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Gated(nn.Module):
    """w2(silu(w1 x) * w3 x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))  # type: ignore[no-any-return]

"""Networks on sequences that people write by hand in plain torch."""

from __future__ import annotations

import math

import torch
from entry import Entry, normal, tokens
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """Token embedding, a recurrent module of torch, a head on the last state."""

    def __init__(self, kind: str, **how: object) -> None:
        super().__init__()
        self.embed, self.core = nn.Embedding(20, 12), getattr(nn, kind)(12, 16, batch_first=True, **how)
        self.head = nn.Linear((how.get("proj_size") or 16) * (2 if how.get("bidirectional") else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(self.embed(x))[0][:, -1])


class Cells(nn.Module):
    """A cell in a loop."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell, self.head = getattr(nn, kind)(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Elman(nn.Module):
    """A recurrence of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.again, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 16)
        for step in x.unbind(1):
            state = torch.tanh(self.inside(step) + self.again(state))
        return self.head(state)


class WaveNet(nn.Module):
    """Gated dilated convolutions with residuals and skips; the last residual is never used."""

    class Block(nn.Module):
        def __init__(self, width: int, dilation: int) -> None:
            super().__init__()
            self.dilation = dilation
            self.filter, self.gate = nn.Conv1d(width, width, 2, dilation=dilation), nn.Conv1d(width, width, 2, dilation=dilation)
            self.residual, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            padded = functional.pad(x, (self.dilation, 0))
            gated = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
            return x + self.residual(gated), self.skip(gated)

    def __init__(self) -> None:
        super().__init__()
        self.start, self.blocks = nn.Conv1d(1, 16, 1), nn.ModuleList(self.Block(16, 2**level) for level in range(4))
        self.end1, self.end2 = nn.Conv1d(16, 16, 1), nn.Conv1d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.start(x), 0
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return self.end2(torch.relu(self.end1(torch.relu(total))))[..., -1]


class TCN(nn.Module):
    """Temporal blocks of weight-normed causal convolutions, as Bai et al. write them."""

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, dilation: int) -> None:
            super().__init__()
            norm, self.cut = nn.utils.parametrizations.weight_norm, 2 * dilation
            self.conv1 = norm(nn.Conv1d(inside, outside, 3, padding=self.cut, dilation=dilation))
            self.conv2 = norm(nn.Conv1d(outside, outside, 3, padding=self.cut, dilation=dilation))
            self.shortcut = nn.Conv1d(inside, outside, 1) if inside != outside else None

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.conv1(x)[..., : -self.cut])
            y = torch.relu(self.conv2(y)[..., : -self.cut])
            return torch.relu(y + (x if self.shortcut is None else self.shortcut(x)))

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(self.Block(2, 12, 1), self.Block(12, 12, 2), self.Block(12, 12, 4))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x)[..., -1])


class MinGPT(nn.Module):
    """minGPT's pre-norm blocks; the branches are closures over the submodules, and the head is the embedding's transpose."""

    class Attention(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.c_attn, self.c_proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

        def forward(self, x: Tensor) -> Tensor:
            batch, length, width = x.shape
            q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.c_attn(x).split(width, dim=2))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.c_proj(y.transpose(1, 2).reshape(batch, length, width))

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), MinGPT.Attention(width, heads), nn.LayerNorm(width)
            self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
            mlp = self.mlp
            self.mlpf = lambda x: mlp.c_proj(0.5 * (h := mlp.c_fc(x)) * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlpf(self.ln_2(x))

    def __init__(self, *, tied: bool = True, blocks: int = 3) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(40, 32), nn.Embedding(16, 32)
        self.blocks, self.ln_f = nn.ModuleList(self.Block(32, 4) for _ in range(blocks)), nn.LayerNorm(32)
        self.lm_head = nn.Linear(32, 40, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                scale = 1 / math.sqrt(2 * blocks) if name.endswith("c_proj.weight") else 1
                nn.init.normal_(parameter, std=0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids.view(-1, ids.shape[-1])) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))[:, -1]


class Experts(nn.Module):
    """A mixture of experts between two linear layers: a loop over modules, or one stacked parameter."""

    def __init__(self, *, stacked: bool) -> None:
        super().__init__()
        self.inside, self.router, self.head, self.stacked = nn.Linear(16, 24), nn.Linear(24, 4), nn.Linear(24, 5), stacked
        if stacked:
            self.up, self.down = nn.Parameter(torch.randn(4, 48, 24) / 24**0.5), nn.Parameter(torch.randn(4, 24, 48) / 48**0.5)
        else:
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(24, 48), nn.SiLU(), nn.Linear(48, 24)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.inside(x))
        gates = self.router(x).softmax(-1)
        if self.stacked:
            hidden = functional.silu(torch.einsum("ni,eoi->neo", x, self.up))
            each = torch.einsum("neo,eio->nei", hidden, self.down)
        else:
            each = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.head(x + (gates.unsqueeze(-1) * each).sum(1))


class Perceiver(nn.Module):
    """Learned latents that look at the input, then at themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.02 * torch.randn(6, 24))
        self.enter = nn.Linear(8, 24)
        self.q, self.k, self.v, self.o = (nn.Linear(24, 24) for _ in range(4))
        self.up, self.down, self.head = nn.Linear(24, 48), nn.Linear(48, 24), nn.Linear(24, 5)
        self.norm1, self.norm2 = nn.LayerNorm(24), nn.LayerNorm(24)

    def forward(self, x: Tensor) -> Tensor:
        x, latents = self.enter(x), self.latents.expand(len(x), -1, -1)
        seen = functional.scaled_dot_product_attention(self.q(self.norm1(latents)), self.k(x), self.v(x))
        latents = latents + self.o(seen)
        latents = latents + self.down(functional.gelu(self.up(self.norm2(latents))))
        return self.head(latents.mean(1))


class DETR(nn.Module):
    """A small convolution, nn.Transformer, learned queries; the classes of all queries as one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.queries = nn.Conv2d(3, 32, 4, 4), nn.Parameter(torch.rand(5, 32))
        self.place = nn.Parameter(torch.rand(16, 32))
        self.transformer = nn.Transformer(32, 4, 2, 2, 64, dropout=0.1, batch_first=True)
        self.classes = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.stem(x).flatten(2).transpose(1, 2) + self.place
        return self.classes(self.transformer(seen, self.queries.expand(len(x), -1, -1))).flatten(1)


class Translator(nn.Module):
    """nn.Transformer from a sequence to itself, shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.transformer = nn.Embedding(20, 32), nn.Transformer(32, 4, 2, 2, 64, batch_first=True)
        self.head = nn.Linear(32, 20)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head(self.transformer(x, x.roll(1, 1)))[:, -1]


def encoder(*, norm_first: bool) -> nn.Module:
    """A stack of torch's encoder layers on a sequence of vectors, with logits of its mean."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.stack, self.head = (
                nn.Linear(8, 32),
                nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
                nn.Linear(32, 5),
            )
            for parameter in self.stack.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stack(self.enter(x)).mean(1))

    return Encoder()


IDS, VECTORS = tokens(20, 7), normal(6, 7, 8)

ENTRIES = (
    Entry("lstm", lambda: Recurrent("LSTM"), IDS, least=1, healthy=True),
    Entry("gru", lambda: Recurrent("GRU"), IDS, least=1, healthy=True),
    Entry("rnn-tanh", lambda: Recurrent("RNN"), IDS, least=1, healthy=True),
    Entry("rnn-relu", lambda: Recurrent("RNN", nonlinearity="relu"), IDS, least=1),
    Entry("lstm-bidirectional", lambda: Recurrent("LSTM", bidirectional=True, num_layers=2), IDS, least=1, healthy=True),
    Entry("lstm-projection", lambda: Recurrent("LSTM", proj_size=8), IDS, least=1, healthy=True),
    Entry("lstm-cell", lambda: Cells("LSTMCell"), normal(4, 5, 6), least=1),
    Entry("gru-cell", lambda: Cells("GRUCell"), normal(4, 5, 6), least=1),
    Entry("elman", Elman, normal(8, 5, 6)),
    Entry("wavenet", WaveNet, normal(4, 1, 40), healthy=True),
    Entry("tcn", TCN, normal(4, 2, 24), healthy=True),
    Entry("mingpt-closures", lambda: MinGPT(tied=False), tokens(40, 12), healthy=True),
    Entry("mingpt-tied", MinGPT, tokens(40, 12), healthy=True),
    Entry("moe-loop", lambda: Experts(stacked=False), normal(16, 16), healthy=True),
    Entry("moe-stacked", lambda: Experts(stacked=True), normal(16, 16), healthy=True),
    Entry("perceiver", Perceiver, VECTORS, healthy=True),
    Entry("detr", DETR, lambda: torch.randn(4, 3, 16, 16), healthy=True),
    Entry("transformer", Translator, IDS, healthy=True),
    Entry("encoder-pre-norm", lambda: encoder(norm_first=True), VECTORS, healthy=True),
    Entry("encoder-post-norm", lambda: encoder(norm_first=False), VECTORS, healthy=True),
)

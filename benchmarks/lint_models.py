"""Eight healthy models, as people write them, for faults to be put into: `MODELS`, each with what it is given."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, WIDTH, DEPTH = 512, 64, 6


class MLP(nn.Module):
    """Six ReLU layers, He et al."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [64, 128, 128, 96, 96, 128]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 10)
        for layer in self.hidden:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


class CNN(nn.Module):
    """Five convolutions with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 16, 24, 32, 48, 64]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.head = nn.Linear(widths[-1], 10)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class PlainBlock(nn.Module):
    """Two convolutions around a skip, the last norm starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """A stem, six blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.blocks = nn.ModuleList(PlainBlock(32) for _ in range(6))
        self.head = nn.Linear(32, 10)
        nn.init.kaiming_normal_(self.stem.weight)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Heads with separate projections; the output is scaled by the depth."""

    def __init__(self, depth: int, *, causal: bool) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.causal = causal
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.output.weight, std=0.02 / math.sqrt(2 * depth))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = (each(x).view(batch, length, 4, -1).transpose(1, 2) for each in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, WIDTH))


class Gated(nn.Module):
    """w2(silu(w1 x) * w3 x), w2 scaled by the depth."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.w2 = nn.Linear(3 * WIDTH, WIDTH, bias=False)
        for layer in (self.w1, self.w3):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.normal_(self.w2.weight, std=0.02 / math.sqrt(2 * depth))

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Pre-norm attention and gated MLP."""

    def __init__(self, depth: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mlp = Attention(depth, causal=causal), Gated(depth)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Six blocks over token ids, with a padding row."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.positions = nn.Parameter(torch.empty(1, 32, WIDTH))
        self.blocks = nn.ModuleList(Block(DEPTH, causal=True) for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)
        with torch.no_grad():
            self.tokens.weight[0].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class ViT(nn.Module):
    """Patches, a class token, six blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.empty(1, 17, WIDTH))
        self.blocks = nn.ModuleList(Block(DEPTH, causal=False) for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)
        nn.init.normal_(self.patches.weight, std=0.02)
        nn.init.zeros_(self.patches.bias)
        nn.init.normal_(self.token, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class UNet(nn.Module):
    """Down, up by a transposed convolution, skips by concatenation, group norm; averaged for a class."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.middle = nn.Conv2d(32, 32, 3, padding=1)
        self.up = nn.ConvTranspose2d(32, 24, 2, 2)
        self.merge = nn.Conv2d(40, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in (16, 32, 32, 16))
        self.head = nn.Conv2d(16, 10, 1)
        for conv in (self.down1, self.down2, self.middle, self.merge):
            nn.init.kaiming_normal_(conv.weight)
            nn.init.zeros_(conv.bias)
        nn.init.normal_(self.up.weight, std=1 / math.sqrt(32))
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.norms[0](self.down1(x)))
        x = F.relu(self.norms[1](self.down2(F.max_pool2d(first, 2))))
        x = F.relu(self.norms[2](self.middle(x)))
        x = torch.cat([self.up(x), first], 1)
        return self.head(F.relu(self.norms[3](self.merge(x)))).mean((2, 3))


class LSTM(nn.Module):
    """Two recurrent layers over steps; orthogonal gates, a forget bias of one."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(16, 48)
        self.core = nn.LSTM(48, 48, num_layers=2, batch_first=True)
        self.head = nn.Linear(48, 10)
        nn.init.xavier_normal_(self.enter.weight)
        for name, value in self.core.named_parameters():
            if name.startswith("weight"):
                for gate in value.data.chunk(4):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(value)
        for layer in range(2):
            getattr(self.core, f"bias_ih_l{layer}").data[48:96].fill_(1)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(torch.tanh(self.enter(x)))[0][:, -1])


class Experts(nn.Module):
    """A mixture of four experts behind a router, between ReLU layers."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(32, 64)
        self.router = nn.Linear(64, 4, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64)) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 10)
        for layer in (self.enter, *(expert[0] for expert in self.experts), *(expert[2] for expert in self.experts)):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.router.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.enter(x))
        gates = self.router(x).softmax(-1)
        mixed = torch.stack([expert(x) for expert in self.experts], -2)
        return self.head(self.norm(x + (gates.unsqueeze(-1) * mixed).sum(-2)))


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "MLP": (MLP, "64"), "CNN": (CNN, "3x16x16"), "ResNet": (ResNet, "3x16x16"), "ViT": (ViT, "3x32x32"),
    "GPT": (GPT, f"int:{VOCABULARY}:32"),
    "U-Net": (UNet, "3x16x16"), "LSTM": (LSTM, "12x16"), "experts": (Experts, "32"),
}  # fmt: skip

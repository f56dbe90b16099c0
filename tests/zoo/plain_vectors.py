"""Networks on vectors, graphs and coordinates, and plain chains that are known to keep or to lose the signal."""

from __future__ import annotations

import itertools
import math

import torch
from entry import Entry, normal
from torch import Tensor, nn
from torch.nn import functional


class GNN(nn.Module):
    """Three graph convolutions on one fixed graph; the batch is that of graphs."""

    def __init__(self) -> None:
        super().__init__()
        ring = torch.eye(9) + torch.eye(9).roll(1, 0) + torch.eye(9).roll(-1, 0)
        self.register_buffer("adjacency", ring / 3)
        self.first, self.second, self.third = nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.adjacency @ self.first(x))
        x = torch.relu(self.adjacency @ self.second(x))
        return self.third(self.adjacency @ x).mean(1)


class GraphAttention(nn.Module):
    """One layer of graph attention with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.score = nn.Parameter(torch.empty(6, 24)), nn.Parameter(torch.empty(48, 1))
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.score)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = x @ self.weight
        scores = h @ self.score[:24] + (h @ self.score[24:]).transpose(1, 2)
        return self.head(functional.elu(functional.leaky_relu(scores, 0.2).softmax(-1) @ h).mean(1))


class KAN(nn.Module):
    """Two layers of learned functions: SiLU and Gaussian bumps on every edge."""

    class Layer(nn.Module):
        def __init__(self, inside: int, outside: int, bumps: int = 6) -> None:
            super().__init__()
            self.register_buffer("grid", torch.linspace(-2, 2, bumps))
            self.base = nn.Parameter(torch.empty(outside, inside))
            self.spline = nn.Parameter(0.1 * torch.randn(outside, inside * bumps))
            nn.init.kaiming_uniform_(self.base, a=math.sqrt(5))

        def forward(self, x: Tensor) -> Tensor:
            bumps = torch.exp(-((x.unsqueeze(-1) - self.grid) ** 2) * 2).flatten(1)
            return functional.linear(functional.silu(x), self.base) + functional.linear(bumps, self.spline)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(self.Layer(8, 16), self.Layer(16, 16), self.Layer(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Siren(nn.Module):
    """Sines with w0 = 30 on coordinates, with the authors' start."""

    def __init__(self, depth: int = 4, width: int = 64) -> None:
        super().__init__()
        sizes = [2] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.last = nn.Linear(width, 3)
        for index, layer in enumerate([*self.layers, self.last]):
            bound = 1 / layer.in_features if index == 0 else math.sqrt(6 / layer.in_features) / 30
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        return self.last(x)


class ActorCritic(nn.Module):
    """Two heads on one trunk, orthogonal as in PPO; gives (logits, value)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, 4), nn.Linear(64, 1)
        for module, gain in [(self.trunk[0], 2**0.5), (self.trunk[2], 2**0.5), (self.actor, 0.01), (self.critic, 1.0)]:
            nn.init.orthogonal_(module.weight, gain)
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x)
        return self.actor(x), self.critic(x)


class ReZero(nn.Module):
    """x + alpha * relu(W x) with alpha = 0, ReZero's own network."""

    def __init__(self, depth: int = 12) -> None:
        super().__init__()
        self.enter, self.layers, self.head = nn.Linear(16, 48), nn.ModuleList(nn.Linear(48, 48) for _ in range(depth)), nn.Linear(48, 5)
        self.alpha = nn.Parameter(torch.zeros(depth))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer, alpha in zip(self.layers, self.alpha, strict=True):
            x = x + alpha * torch.relu(layer(x))
        return self.head(x)


class TwoTowers(nn.Module):
    """Two inputs: an image and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.vector, self.mix, self.head = nn.Conv2d(3, 16, 3, 2), nn.Linear(6, 16), nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.conv(image)).mean(dim=(2, 3)), torch.tanh(self.vector(vector))], dim=1)
        return self.head(torch.relu(self.mix(both)))


class Heads(nn.Module):
    """A dictionary of outputs, the gradient of which is that of all."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 5), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.trunk(x))
        return {"first": self.first(x), "second": self.second(x)}


def two_inputs() -> tuple[Tensor, Tensor]:
    """An image and a vector."""
    return torch.randn(6, 3, 10, 10), torch.randn(6, 6)


def chain(depth: int, activation: type[nn.Module], start, width: int = 64) -> nn.Module:
    """A plain chain of linear layers, its weights started by a function."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for module in model:
        if isinstance(module, nn.Linear):
            start(module.weight)
            nn.init.zeros_(module.bias)
    return model


def normed(norm, **how: object) -> nn.Module:
    """A chain in which each weight is parametrized."""
    linear = [norm(nn.Linear(a, b), **how) for a, b in [(16, 32), (32, 32), (32, 32), (32, 5)]]
    return nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2], nn.ReLU(), linear[3])


class Swish(nn.Module):
    """x * sigmoid(x), by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


def std(value: float):
    """Normal weights of this standard deviation."""
    return lambda weight: nn.init.normal_(weight, std=value)


def kaiming(weight: Tensor) -> None:
    """He et al.'s start."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


ROWS = normal(32, 64)
parametrizations = nn.utils.parametrizations

ENTRIES = (
    Entry("gnn", GNN, normal(6, 9, 6), healthy=True),
    Entry("graph-attention", GraphAttention, normal(6, 9, 6), least=1),
    Entry("kan", KAN, normal(16, 8)),
    Entry("siren", Siren, lambda: torch.rand(64, 2) * 2 - 1, healthy=True),
    Entry("actor-critic", ActorCritic, normal(16, 8), logits=False, healthy=True),
    Entry("rezero", ReZero, normal(16, 16), healthy=True),
    Entry("two-inputs", TwoTowers, two_inputs, healthy=True),
    Entry("two-inputs-by-name", TwoTowers, lambda: dict(zip(("image", "vector"), two_inputs(), strict=True)), healthy=True),
    Entry("dictionary-of-heads", Heads, normal(16, 8), logits=False, healthy=True),
    Entry("weight-norm", lambda: normed(parametrizations.weight_norm), normal(32, 16), healthy=True),
    Entry("weight-norm-old", lambda: normed(nn.utils.weight_norm), normal(32, 16), healthy=True),
    Entry("spectral-norm", lambda: normed(parametrizations.spectral_norm), normal(32, 16), healthy=True),
    Entry("spectral-norm-old", lambda: normed(nn.utils.spectral_norm), normal(32, 16), healthy=True),
    Entry("orthogonal-parametrization", lambda: normed(parametrizations.orthogonal), normal(32, 16), healthy=True),
    Entry("chain-relu-kaiming", lambda: chain(12, nn.ReLU, kaiming), ROWS, healthy=True),
    Entry("chain-tanh-orthogonal", lambda: chain(12, nn.Tanh, nn.init.orthogonal_), ROWS, healthy=True),
    Entry("chain-swish-by-hand", lambda: chain(4, Swish, kaiming), ROWS, healthy=True),
    Entry("chain-sigmoid", lambda: chain(3, nn.Sigmoid, nn.init.xavier_normal_), ROWS),
    Entry("chain-relu-std-1", lambda: chain(20, nn.ReLU, std(1.0)), ROWS, broken=True),
    Entry("chain-relu-std-1e-4", lambda: chain(20, nn.ReLU, std(1e-4)), ROWS, broken=True),
    Entry("chain-gelu-std-1", lambda: chain(20, nn.GELU, std(1.0)), ROWS, broken=True),
    Entry("chain-tanh-std-1e-4", lambda: chain(20, nn.Tanh, std(1e-4)), ROWS, broken=True),
    Entry("chain-linear-std-1", lambda: chain(20, nn.Identity, std(1.0)), ROWS, broken=True),
)

"""Draws many fully connected networks at once and measures their signals, for `band.py`.

A wide layer is not drawn whole. Only its products with the batch and with the gradients of the batch are ever seen, so
just these are drawn, from their exact joint law: with A the B inputs (B, in) and A^T = Q R, a Gaussian W gives A W^T = R^T Z
with Z = Q^T W^T standard normal, and D W = (D Z^T) Q^T + (D G)(1 - Q Q^T) with G fresh. A random rotation maps Q to a random
frame P and what is at right angles to Q to what is at right angles to P. Nothing is approximated: a `twin` test compares them.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from initbench.nn.activation import activation_function
from initbench.theory.network import LayerSpec

WIDE = 4
"""A layer whose sides are both so many times the batch is seen only through the batch."""
GAUSSIAN = frozenset({"normal", "trunc_normal"})


class Layer(Protocol):
    """The weights of one layer in many networks."""

    def forward(self, signal: Tensor) -> Tensor:
        """The signal (networks, B, in) times the weights: (networks, B, out)."""

    def backward(self, delta: Tensor) -> Tensor:
        """The gradient (networks, B, out) times the weights: (networks, B, in)."""


@dataclass
class Whole:
    """Weights (networks, out, in) that are there."""

    weight: Tensor

    def forward(self, signal: Tensor) -> Tensor:
        return torch.bmm(signal, self.weight.transpose(1, 2))

    def backward(self, delta: Tensor) -> Tensor:
        return torch.bmm(delta, self.weight)


class Gaussian:
    """Independent normal weights, seen through the batch."""

    def __init__(self, spec: LayerSpec, source: torch.Generator) -> None:
        self.spec, self.source = spec, source

    def forward(self, signal: Tensor) -> Tensor:
        self.q, r = torch.linalg.qr(signal.transpose(1, 2))
        self.z = self.spec.std * normal((*signal.shape[:2], self.spec.units), self.source)
        return torch.bmm(r.transpose(1, 2), self.z)

    def backward(self, delta: Tensor) -> Tensor:
        r = torch.linalg.qr(delta.transpose(1, 2), mode="r").R
        fresh = torch.bmm(r.transpose(1, 2), self.spec.std * normal((*delta.shape[:2], self.spec.fan_in), self.source))
        seen = torch.bmm(delta, self.z.transpose(1, 2)) - torch.bmm(fresh, self.q)
        return fresh + torch.bmm(seen, self.q.transpose(1, 2))


class Rotation:
    """Orthogonal weights, seen through the batch; backwards only where the layer is square."""

    def __init__(self, spec: LayerSpec, source: torch.Generator) -> None:
        self.spec, self.source = spec, source
        self.scale = spec.std * math.sqrt(max(spec.units, spec.fan_in))

    def forward(self, signal: Tensor) -> Tensor:
        many, batch, _ = signal.shape
        self.q, r = torch.linalg.qr(signal.transpose(1, 2))
        self.p = frame(normal((many, max(self.spec.units, self.spec.fan_in), batch), self.source))[:, : self.spec.units]
        return self.scale * torch.bmm(r.transpose(1, 2), self.p.transpose(1, 2))

    def backward(self, delta: Tensor) -> Tensor:
        seen = torch.bmm(delta, self.p)
        rest = torch.linalg.qr((delta - torch.bmm(seen, self.p.transpose(1, 2))).transpose(1, 2), mode="r").R
        fresh = normal(tuple(self.q.shape), self.source)
        fresh = frame(fresh - torch.bmm(self.q, torch.bmm(self.q.transpose(1, 2), fresh)))
        return self.scale * (torch.bmm(seen, self.q.transpose(1, 2)) + torch.bmm(rest.transpose(1, 2), fresh.transpose(1, 2)))


def normal(shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=source, device=source.device)


def frame(matrix: Tensor) -> Tensor:
    """Orthonormal columns of normal ones (networks, rows, columns), uniformly distributed (Mezzadri 2007)."""
    q, r = torch.linalg.qr(matrix)
    return q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]


def draw(law: str, std: float, shape: tuple[int, int, int], source: torch.Generator) -> Tensor:
    """`shape[0]` independent matrices (out, in) from a law with this standard deviation of an entry."""
    many, out, into = shape
    if law == "orthogonal":
        q = frame(normal((many, max(out, into), min(out, into)), source))
        return (q if out >= into else q.transpose(1, 2)) * (std * math.sqrt(max(out, into)))
    if law == "uniform":
        return (torch.rand(shape, generator=source, device=source.device) * 2 - 1) * (std * math.sqrt(3))
    if law in GAUSSIAN or law == "constant":
        return normal(shape, source) * std
    raise SystemExit(f"The benchmark cannot draw from the law '{law}'.")


def layer(spec: LayerSpec, networks: int, batch: int, source: torch.Generator) -> Layer:
    """One layer of many networks, drawn whole only where it must be."""
    wide = min(spec.units, spec.fan_in) >= WIDE * batch
    if wide and spec.law in GAUSSIAN:
        return Gaussian(spec, source)
    if wide and spec.law == "orthogonal":
        return Rotation(spec, source)
    return Whole(draw(spec.law, spec.std, (networks, spec.units, spec.fan_in), source))


@torch.no_grad()
def measured(
    specs: list[LayerSpec], activation: str, networks: int, x: Tensor, y: Tensor, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pre-activation and gradient variances, each (layers, networks), of networks drawn from the specs; x is (B, features)."""
    function = activation_function(activation)
    signal, pre, forward = x.expand(networks, -1, -1), [], []
    layers = [layer(spec, networks, x.shape[0], source) for spec in specs]
    for spec, weights in zip(specs, layers, strict=True):
        h = weights.forward(signal)
        if spec.bias_std:
            law = "uniform" if spec.law == "uniform" else "normal"
            h += draw(law, spec.bias_std, (networks, 1, spec.units), source)
        pre.append(h)
        forward.append(variance(h))
        signal = function(h)
    logits = pre.pop()
    delta = torch.softmax(logits, -1) - nn.functional.one_hot(y, logits.shape[-1])
    backward = [variance(delta)]
    while pre:
        h = pre.pop().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(function(h).sum(), h)
        delta = layers.pop().backward(delta) * slope
        backward.append(variance(delta))
    return torch.stack(forward).cpu(), torch.stack(backward[::-1]).cpu()


def variance(values: Tensor) -> Tensor:
    """The variance of each network's numbers; in double precision, where the squares of small gradients are still numbers."""
    flat = values.flatten(1)
    mean = flat.mean(1, keepdim=True, dtype=torch.float64)
    norm = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
    return norm.square() / flat.shape[1] - mean[:, 0].square()

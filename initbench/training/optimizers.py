"""SGD, Adam and AdamW over one flat buffer, and the learning rate of each step.

The same updates as torch.optim's, but a whole step is a few operations on one tensor, and importing torch.optim's
machinery (about a second) is not needed. A parameter that gets no gradient is treated as if its gradient were zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench.question.config import TrainConfig

CLIP_EPSILON = 1e-6
"""Added to the gradient norm before dividing by it, as torch does."""
ADAM_EPSILON = 1e-8
"""Added to the root of the second moment, as torch does by default."""


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of the update after `step` updates: linear warm-up, then constant, cosine or linear decay to zero."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "linear":
        return config.lr * (1 - progress)
    return config.lr


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate: their values and gradients as one vector each, and the optimizer's state."""

    weights: Tensor
    gradients: Tensor
    state: tuple[Tensor, ...]
    multiplier: float


class Optimizer:
    """Call `before_backward`, then backward on the loss, then `update`. Gradients are written where the parameters' `.grad` point.

    For SGD without Nesterov and clipping the gradients are accumulated straight into the momentum buffer.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, multipliers: Mapping[str, float]) -> None:
        """Moves the trainable parameters into flat buffers; the model keeps its Parameter objects."""
        self.config = config
        self.updates = 0
        self.direct = config.optimizer == "sgd" and not config.nesterov and config.clip_norm is None
        chosen: dict[tuple[float, torch.dtype], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                chosen.setdefault((multipliers.get(name, 1.0), parameter.dtype), []).append(parameter)
        self.groups = [self._group(parameters, multiplier) for (multiplier, _), parameters in chosen.items()]

    def _group(self, parameters: list[nn.Parameter], multiplier: float) -> Group:
        sizes = [parameter.numel() for parameter in parameters]
        weights = torch.empty(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
        gradients = torch.zeros_like(weights)
        for parameter, piece, gradient in zip(parameters, torch.split(weights, sizes), torch.split(gradients, sizes), strict=True):
            view = _shaped(piece, parameter)
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = _shaped(gradient, parameter)
        states = {"sgd": 0 if self.direct or self.config.momentum == 0 else 1, "adam": 2, "adamw": 2}[self.config.optimizer]
        return Group(weights, gradients, tuple(torch.zeros_like(weights) for _ in range(states)), multiplier)

    @torch.no_grad()
    def before_backward(self) -> None:
        """Clears the gradients, or leaves in their place what momentum keeps of the last ones."""
        for group in self.groups:
            if self.direct and self.config.momentum:
                group.gradients.mul_(self.config.momentum)
            else:
                group.gradients.zero_()
            if self.direct and self.config.weight_decay:
                group.gradients.add_(group.weights, alpha=self.config.weight_decay)

    @torch.no_grad()
    def update(self, lr: float) -> None:
        """Takes one step with the gradients that are there."""
        self.updates += 1
        if self.config.clip_norm is not None:
            self._clip(self.config.clip_norm)
        for group in self.groups:
            rate = lr * group.multiplier
            if self.config.optimizer == "sgd":
                self._sgd(group, rate)
            else:
                self._adam(group, rate)

    def _clip(self, largest: float) -> None:
        norms = [torch.linalg.vector_norm(group.gradients, dtype=torch.float32) for group in self.groups]
        factor = (largest / (torch.linalg.vector_norm(torch.stack(norms)) + CLIP_EPSILON)).clamp_(max=1.0)
        for group in self.groups:
            group.gradients.mul_(factor)

    def _sgd(self, group: Group, rate: float) -> None:
        direction = group.gradients
        if not self.direct:
            if self.config.weight_decay:
                direction.add_(group.weights, alpha=self.config.weight_decay)
            if self.config.momentum:
                (moving,) = group.state
                moving.mul_(self.config.momentum).add_(direction)
                direction = direction.add_(moving, alpha=self.config.momentum) if self.config.nesterov else moving
        group.weights.add_(direction, alpha=-rate)

    def _adam(self, group: Group, rate: float) -> None:
        first, second = group.state
        beta1, beta2 = self.config.betas
        if self.config.optimizer == "adamw":
            group.weights.mul_(1 - rate * self.config.weight_decay)
        elif self.config.weight_decay:
            group.gradients.add_(group.weights, alpha=self.config.weight_decay)
        first.lerp_(group.gradients, 1 - beta1)
        second.mul_(beta2).addcmul_(group.gradients, group.gradients, value=1 - beta2)
        scale = second.sqrt().div_(math.sqrt(1 - beta2**self.updates)).add_(ADAM_EPSILON)
        group.weights.addcdiv_(first, scale, value=-rate / (1 - beta1**self.updates))


def _shaped(piece: Tensor, parameter: Tensor) -> Tensor:
    """A piece of a flat buffer in the shape of a parameter, channels last where it is."""
    if parameter.dim() == 4 and not parameter.is_contiguous() and parameter.is_contiguous(memory_format=torch.channels_last):
        out, channels, height, width = parameter.shape
        return piece.view(out, height, width, channels).permute(0, 3, 1, 2)
    return piece.view(parameter.shape)

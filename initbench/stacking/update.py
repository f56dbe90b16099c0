"""SGD, Adam and AdamW for all runs of a stack at once, each with its own numbers; nothing waits for the device."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from initbench.question.config import TrainConfig
from initbench.stacking.stack import Stack
from initbench.training.optimizers import ADAM_EPSILON, CLIP_EPSILON, learning_rate


class StackedOptimizer:
    """The same updates as `initbench.training.optimizers.Optimizer`, on rows (runs, numbers)."""

    def __init__(self, stack: Stack, configs: Sequence[TrainConfig], multipliers: Sequence[Mapping[str, float]], steps: int) -> None:
        """`multipliers` are the runs' factors on the learning rate by parameter name."""
        self.stack, self.kind = stack, configs[0]
        self.device = stack.weights.device
        self.direct = self.kind.optimizer == "sgd" and not self.kind.nesterov and self.kind.clip_norm is None
        self.momentum = self._column([config.momentum for config in configs])
        self.decay = self._column([config.weight_decay for config in configs])
        self.beta1 = self._column([config.betas[0] for config in configs])
        self.beta2 = self._column([config.betas[1] for config in configs])
        self.largest = self._column([config.clip_norm or math.inf for config in configs])
        self.has_momentum = any(config.momentum for config in configs)
        self.has_decay = any(config.weight_decay for config in configs)
        self.factors = self._factors(multipliers)
        self.table = self._table(configs, steps)
        states = 2 if self.kind.optimizer != "sgd" else 1 if self.has_momentum and not self.direct else 0
        self.state = [torch.zeros_like(stack.weights) for _ in range(states)]

    def _column(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64).to(torch.float32).to(self.device).unsqueeze(1)

    def _factors(self, multipliers: Sequence[Mapping[str, float]]) -> Tensor | None:
        """The factor on each number's learning rate, None where all are 1."""
        if not any(factor != 1.0 for own in multipliers for factor in own.values()):
            return None
        factors = torch.ones_like(self.stack.weights)
        for run, own in enumerate(multipliers):
            for name, factor in own.items():
                if name in self.stack.offsets:
                    self.stack.region(factors, name, self.stack.parameters[name][0])[run] = factor
        return factors

    def _table(self, configs: Sequence[TrainConfig], steps: int) -> Tensor:
        """What each step multiplies with, (steps, 3, runs, 1): rate over 1 - beta1^t, 1 over sqrt(1 - beta2^t), rate times decay."""
        known: dict[TrainConfig, list[tuple[float, float, float]]] = {}
        for config in dict.fromkeys(configs):
            known[config] = [_coefficients(config, step, steps) for step in range(steps)]
        table = torch.tensor([known[config] for config in configs], dtype=torch.float64).reshape(len(configs), steps, 3)
        return table.permute(1, 2, 0).unsqueeze(-1).float().to(self.device).contiguous()

    @torch.no_grad()
    def before_backward(self) -> None:
        """Clears the gradients, or leaves in their place what momentum keeps of the last ones."""
        gradients = self.stack.gradients
        if self.direct and self.has_momentum:
            gradients.mul_(self.momentum)
        else:
            gradients.zero_()
        if self.direct and self.has_decay:
            gradients.addcmul_(self.stack.weights, self.decay)

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Takes the step of this number, an int64 tensor (1,) on the device."""
        rate, root, shrink = self.table.index_select(0, step)[0].unbind()
        gradients, weights = self.stack.gradients, self.stack.weights
        if self.kind.clip_norm is not None:
            norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            gradients.mul_((self.largest / (norms + CLIP_EPSILON)).clamp_(max=1.0))
        direction = self._sgd_direction() if self.kind.optimizer == "sgd" else self._adam_direction(root, shrink)
        if self.factors is not None:
            direction = direction * self.factors
        weights.addcmul_(direction, rate, value=-1)

    def _sgd_direction(self) -> Tensor:
        gradients = self.stack.gradients
        if self.direct:
            return gradients
        if self.has_decay:
            gradients.addcmul_(self.stack.weights, self.decay)
        if not self.has_momentum:
            return gradients
        (moving,) = self.state
        moving.mul_(self.momentum).add_(gradients)
        return gradients.addcmul_(moving, self.momentum) if self.kind.nesterov else moving

    def _adam_direction(self, root: Tensor, shrink: Tensor) -> Tensor:
        gradients, weights = self.stack.gradients, self.stack.weights
        first, second = self.state
        if self.has_decay and self.kind.optimizer == "adamw":
            weights.mul_(1 - shrink * (1.0 if self.factors is None else self.factors))
        elif self.has_decay:
            gradients.addcmul_(weights, self.decay)
        first.lerp_(gradients, 1 - self.beta1)
        second.mul_(self.beta2).addcmul_(gradients, gradients * (1 - self.beta2))
        return first / second.sqrt().mul_(root).add_(ADAM_EPSILON)


def _coefficients(config: TrainConfig, step: int, steps: int) -> tuple[float, float, float]:
    rate = learning_rate(config, step, steps)
    if config.optimizer == "sgd":
        return rate, 1.0, rate * config.weight_decay
    beta1, beta2 = config.betas
    return rate / (1 - beta1 ** (step + 1)), 1 / math.sqrt(1 - beta2 ** (step + 1)), rate * config.weight_decay

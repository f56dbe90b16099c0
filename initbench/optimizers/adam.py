"""The optimizer `adam`."""

import math
from dataclasses import dataclass

from initbench.optimizers import Number, Part, Rule, add_scaled, add_square, multiply
from initbench.question.config import TrainConfig

EPSILON = 1e-8
"""Added to the root of the second moment, as torch does by default."""


def build(train: TrainConfig) -> "Adam":
    """Adam: each number moves by its mean gradient over the root of its mean squared gradient; `train.betas`.

    g = gradient + weight_decay * w; m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2;
    w -= lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + 1e-8).

    Source: Kingma & Ba 2015, algorithm 1, as torch.optim.Adam.
    """
    return Adam(*train.betas, decay=train.weight_decay)


@dataclass(frozen=True)
class Adam(Rule):
    """Adam, and AdamW where the decay is `decoupled`; `rate_factor` is one on the learning rate."""

    beta1: float
    beta2: float
    decay: float
    decoupled: bool = False
    epsilon: float = EPSILON
    rate_factor: float = 1.0
    state = (0.0, 0.0)

    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """Rate and inverse root with the corrections for the start at zero, then decay or what is decayed, beta1 and beta2."""
        rate *= self.rate_factor
        decay = rate * self.decay if self.decoupled else self.decay
        return rate / (1 - self.beta1**step), 1 / math.sqrt(1 - self.beta2**step), decay, self.beta1, self.beta2

    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """One step."""
        rate, inverse_root, decay, beta1, beta2 = numbers
        first, second = part.state
        if self.decoupled:
            part.shrink(decay)
        else:
            add_scaled(part.gradients, part.weights, decay)
        first.lerp_(part.gradients, 1 - beta1)
        add_square(second.mul_(beta2), part.gradients, 1 - beta2)
        part.move(first, rate, over=multiply(second.sqrt(), inverse_root).add_(self.epsilon))

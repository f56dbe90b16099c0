"""The optimizer `lion`."""

from dataclasses import dataclass

from initbench.init.arguments import number
from initbench.optimizers import Number, Part, Rule
from initbench.question.config import TrainConfig


def build(train: TrainConfig, *, beta1: float = 0.9, beta2: float = 0.99) -> "Lion":
    """Lion: each number moves by the learning rate, in the direction of a running mean of its gradients.

    c = sign(beta1 * m + (1 - beta1) * gradient); w *= 1 - lr * weight_decay; w -= lr * c; m = beta2 * m + (1 - beta2) * gradient.
    The authors take a learning rate 3 to 10 times smaller than AdamW's, and a weight decay as much larger.

    Source: Chen et al. 2023 (Symbolic Discovery of Optimization Algorithms), algorithm 2 and the code of google/automl.
    """
    return Lion(number("beta1", beta1, least=0.0, most=1.0), number("beta2", beta2, least=0.0, most=1.0), train.weight_decay)


@dataclass(frozen=True)
class Lion(Rule):
    """The state is the running mean of gradients."""

    beta1: float
    beta2: float
    decay: float
    state = (0.0,)

    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """Rate, and what is decayed."""
        return rate, rate * self.decay

    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """One step."""
        rate, decay = numbers
        (mean,) = part.state
        direction = (mean * self.beta1).add_(part.gradients, alpha=1 - self.beta1).sign_()
        part.shrink(decay)
        part.move(direction, rate)
        mean.mul_(self.beta2).add_(part.gradients, alpha=1 - self.beta2)

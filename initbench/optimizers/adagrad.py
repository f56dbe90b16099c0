"""The optimizer `adagrad`."""

from dataclasses import dataclass

from initbench.init.arguments import number
from initbench.optimizers import Number, Part, Rule, add_scaled
from initbench.question.config import TrainConfig


def build(train: TrainConfig, *, lr_decay: float = 0.0, initial: float = 0.0, epsilon: float = 1e-10) -> "Adagrad":
    """Adagrad: each number moves by its gradient over the root of the sum of all its squared gradients.

    g = gradient + weight_decay * w; s = s + g^2, `initial` at the start;
    w -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + epsilon).

    Source: Duchi, Hazan & Singer 2011, figure 1 (diagonal), as torch.optim.Adagrad.
    """
    lr_decay, epsilon = number("lr_decay", lr_decay, least=0.0), number("epsilon", epsilon, least=0.0)
    return Adagrad(train.weight_decay, lr_decay, epsilon, (number("initial", initial, least=0.0),))


@dataclass(frozen=True)
class Adagrad(Rule):
    """The state is the sum of squared gradients."""

    decay: float
    lr_decay: float
    epsilon: float
    state: tuple[float, ...]

    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """Rate, decay."""
        return rate / (1 + (step - 1) * self.lr_decay), self.decay

    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """One step."""
        rate, decay = numbers
        (squares,) = part.state
        gradient = add_scaled(part.gradients, part.weights, decay)
        squares.addcmul_(gradient, gradient)
        part.move(gradient, rate, over=squares.sqrt().add_(self.epsilon))

"""The optimizer `sgd`."""

from dataclasses import dataclass

from initbench.optimizers import Number, Part, Rule, add_scaled, is_zero
from initbench.question.config import TrainConfig


def build(train: TrainConfig) -> "Sgd":
    """Stochastic gradient descent, with momentum: `train.momentum`, `train.nesterov`.

    g = gradient + weight_decay * w; v = momentum * v + g; w -= lr * v, with Nesterov w -= lr * (g + momentum * v).

    Source: Polyak 1964 and Sutskever et al. 2013 in the form of torch.optim.SGD: the learning rate is not in v.
    """
    return Sgd(train.momentum, train.weight_decay, train.nesterov, direct=not train.nesterov and train.clip_norm is None)


@dataclass(frozen=True)
class Sgd(Rule):
    """`direct`: gradients are added straight to what momentum keeps, which saves two passes over the numbers."""

    momentum: float
    decay: float
    nesterov: bool
    direct: bool
    size = "gradient"

    @property
    def state(self) -> tuple[float, ...]:  # type: ignore[override]
        """The running sum of gradients; none where it is where the gradients are."""
        return () if self.direct or self.momentum == 0 else (0.0,)

    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """Rate, momentum, decay."""
        return rate, self.momentum, self.decay

    def before_backward(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """Clears the gradients, or leaves in their place what momentum keeps of the last ones."""
        _, momentum, decay = numbers
        if self.direct and not is_zero(momentum):
            part.gradients.mul_(momentum)
        else:
            part.gradients.zero_()
        if self.direct:
            add_scaled(part.gradients, part.weights, decay)

    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """One step."""
        rate, momentum, decay = numbers
        direction = part.gradients
        if not self.direct:
            add_scaled(direction, part.weights, decay)
            if not is_zero(momentum):
                (moving,) = part.state
                moving.mul_(momentum).add_(direction)
                direction = add_scaled(direction, moving, momentum) if self.nesterov else moving
        part.move(direction, rate)

"""The optimizer `rmsprop`."""

from dataclasses import dataclass

from initbench.init.arguments import number, switch
from initbench.optimizers import Number, Part, Rule, add_scaled
from initbench.question.config import TrainConfig


def build(train: TrainConfig, *, alpha: float = 0.99, momentum: float = 0.0, centered: bool = False, epsilon: float = 1e-8) -> "RmsProp":
    """RMSprop: each number moves by its gradient over the root of its mean squared gradient.

    g = gradient + weight_decay * w; v = alpha * v + (1 - alpha) * g^2; w -= lr * g / (sqrt(v) + epsilon). `centered`: the
    variance in place of v, v - a^2 with a = alpha * a + (1 - alpha) * g. `momentum`: w -= lr * b with
    b = momentum * b + g / (sqrt(v) + epsilon).

    Source: Tieleman & Hinton 2012 (lecture 6.5), centered: Graves 2013, as torch.optim.RMSprop.
    """
    return RmsProp(
        train.weight_decay,
        number("alpha", alpha, least=0.0, most=1.0),
        number("momentum", momentum, least=0.0),
        switch("centered", centered),
        number("epsilon", epsilon, least=0.0),
    )


@dataclass(frozen=True)
class RmsProp(Rule):
    """The state is the mean square, then the mean where it is centered, then what momentum keeps where there is any."""

    decay: float
    alpha: float
    momentum: float
    centered: bool
    epsilon: float

    @property
    def state(self) -> tuple[float, ...]:  # type: ignore[override]
        """All zero."""
        return (0.0,) * (1 + self.centered + (self.momentum > 0))

    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """Rate, decay."""
        return rate, self.decay

    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """One step."""
        rate, decay = numbers
        square, *more = part.state
        gradient = add_scaled(part.gradients, part.weights, decay)
        square.mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
        if self.centered:
            mean = more[0].lerp_(gradient, 1 - self.alpha)
            root = square.addcmul(mean, mean, value=-1).sqrt_()
        else:
            root = square.sqrt()
        root.add_(self.epsilon)
        if self.momentum:
            part.move(more[-1].mul_(self.momentum).addcdiv_(gradient, root), rate)
        else:
            part.move(gradient, rate, over=root)

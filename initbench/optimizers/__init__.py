"""The optimizers: a file here with `build(train, *, ...) -> Rule` is the optimizer of its name; this is the contract.

A rule is written once and updates a run alone as well as a stack of runs. Whatever may differ from run to run comes to it as a
`Number`: a float for a run alone, a column (runs, 1) in a stack; `add_scaled`, `add_square` and `multiply` take either.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from initbench.errors import ConfigError, DoesNotApply, UserCode, a_or_an
from initbench.question import catalog
from initbench.question.config import TrainConfig
from initbench.question.given import is_given

__all__ = ["Matrix", "Number", "Part", "Rule", "add_scaled", "add_square", "build_rule", "is_zero", "multiply"]

Number = float | Tensor
"""A number of a run alone, or of each run of a stack, (runs, 1). What is zero for all runs and steps is the float 0.0 there too."""
Size = Literal["gradient", "sign", "spectral"]
"""What the size of an update follows: the gradient's size; nothing, each number moves by about the learning rate; nothing, each
direction of a matrix moves by about the learning rate."""


@dataclass(frozen=True)
class Matrix:
    """Where a weight lies among the numbers of a part, and its shape: outputs x inputs (times the kernel), as it is stored."""

    start: int
    rows: int
    columns: int

    def of(self, numbers: Tensor) -> Tensor:
        """The view (..., rows, columns) of the weight's part of (..., numbers)."""
        own = numbers[..., self.start : self.start + self.rows * self.columns]
        return own.view(*numbers.shape[:-1], self.rows, self.columns)


@dataclass(frozen=True)
class Part:
    """Parameters that are updated together: their numbers in one tensor (numbers,), in a stack (runs, numbers).

    `state` are the tensors that the rule keeps, shaped as the weights; `matrices` the hidden weights in it, for a rule that
    asks for them (`Rule.others`); `factors` those on each number's learning rate, where they are not in the rate already.
    """

    rule: "Rule"
    weights: Tensor
    gradients: Tensor
    state: tuple[Tensor, ...]
    matrices: tuple[Matrix, ...] = ()
    factors: Tensor | None = None

    def move(self, direction: Tensor, rate: Number, over: Tensor | None = None) -> None:
        """Weights -= rate * direction / over."""
        if isinstance(rate, float):
            if over is None:
                self.weights.add_(direction, alpha=-rate)
            else:
                self.weights.addcdiv_(direction, over, value=-rate)
            return
        direction = direction if over is None else direction / over
        self.weights.addcmul_(direction if self.factors is None else direction * self.factors, rate, value=-1)

    def shrink(self, amount: Number) -> None:
        """Weights *= 1 - amount: weight decay that does not go through the gradient."""
        if not is_zero(amount):
            self.weights.mul_(1 - (amount if self.factors is None else amount * self.factors))


class Rule(ABC):
    """How an optimizer turns gradients into an update. What it keeps from step to step is in a part's `state`."""

    state: tuple[float, ...] = ()
    """What each tensor of the state is filled with at the start."""
    size: Size = "sign"
    others: "Rule | None" = None
    """For a rule of matrices: the rule of everything that is no weight between the first layer and the head."""

    @abstractmethod
    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """The numbers of an update, of which the first has `step` 1; `rate` is its learning rate."""

    def before_backward(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """Clears the gradients: the backward pass adds to them."""
        part.gradients.zero_()

    @abstractmethod
    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """Changes weights and state by the gradients, which nobody needs afterwards."""


def build_rule(train: TrainConfig) -> Rule:
    """The rule of the optimizer that a run is trained with.

    Raises: ConfigError where it cannot be built; DoesNotApply where the optimizer is an object, whose rule nobody knows.
    """
    ref = train.optimizer
    if is_given(ref.name):
        raise DoesNotApply(
            "the scheme sets learning rates by the rule of the optimizer, which is not known of a function's; name one, such as "
            "train.optimizer=adamw"
        )
    _, implied = catalog.find("optimizer", ref.name)
    with UserCode(f"The optimizer '{ref}' cannot be built"):
        rule = catalog.load("optimizer", ref.name)(train, **implied, **ref.params)
    if not isinstance(rule, Rule):
        raise ConfigError(f"The optimizer '{ref}' gives {a_or_an(type(rule).__name__)}. Its build(train) must return a Rule.")
    return rule


def is_zero(number: Number) -> bool:
    """Whether a number is zero for every run."""
    return isinstance(number, float) and number == 0.0


def add_scaled(target: Tensor, values: Tensor, factor: Number) -> Tensor:
    """Target += factor * values, in place; nothing is touched where the factor is zero."""
    if is_zero(factor):
        return target
    return target.add_(values, alpha=factor) if isinstance(factor, float) else target.addcmul_(values, factor)


def add_square(target: Tensor, values: Tensor, factor: Number) -> Tensor:
    """Target += factor * values^2, in place."""
    return target.addcmul_(values, values, value=factor) if isinstance(factor, float) else target.addcmul_(values, values * factor)


def multiply(target: Tensor, factor: Number) -> Tensor:
    """Target *= factor, in place; a run alone divides by its inverse, which rounds as torch.optim does."""
    return target.div_(1 / factor) if isinstance(factor, float) else target.mul_(factor)

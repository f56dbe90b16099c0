"""The optimizer `muon`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from initbench.init.arguments import number, switch
from initbench.optimizers import Number, Part, Rule
from initbench.optimizers.adam import Adam
from initbench.question.config import TrainConfig

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x^3 and x^5 in the polynomial that is applied to the singular values."""
ITERATIONS = 5
"""How often it is applied; singular values that are not tiny then lie between about 0.7 and 1.2."""
SMALLEST_NORM = 1e-7
"""Added to the norm before dividing by it."""
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.95), 1e-10
"""Of AdamW, for what is no hidden matrix."""


def build(train: TrainConfig, *, momentum: float = 0.95, nesterov: bool = True, adam_lr: float = 3e-4) -> "Muon":
    """Muon: the momentum of each hidden weight matrix is orthogonalized: all its directions move by the learning rate.

    m = momentum * m + (1 - momentum) * gradient; u = (1 - momentum) * gradient + momentum * m (Nesterov), else m; five times
    x -> 3.4445 x - 4.7750 (x x') x + 2.0315 (x x')^2 x, from u over its Frobenius norm; w *= 1 - lr * weight_decay;
    w -= lr * sqrt(max(1, rows / columns)) * x. A convolution is the matrix of outputs and all the rest. Everything but the
    weights between the first layer and the head is trained by AdamW (betas 0.9 and 0.95, epsilon 1e-10) with the rate
    `adam_lr`, on which `train.schedule` acts as well. The authors train with lr 0.02; a packed attention is one matrix.

    Source: Jordan et al. 2024 (Muon: An optimizer for hidden layers in neural networks) and the code of KellerJordan/Muon,
    but for the iteration, which is in float32, theirs in bfloat16, and the factor of a convolution, which is that of the
    matrix. torch.optim.Muon with adjust_lr_fn "original" (its default) is the same for matrices; its "match_rms_adamw" has
    0.2 sqrt(max(rows, columns)) for the factor, "spectral_unclamped" sqrt(rows / columns). It takes nothing but matrices.
    """
    adam_lr = number("adam_lr", adam_lr, least=0.0)
    adamw = Adam(*ADAM_BETAS, train.weight_decay, decoupled=True, epsilon=ADAM_EPSILON, rate_factor=adam_lr / train.lr)
    momentum = number("momentum", momentum, least=0.0, most=1.0)
    return Muon(momentum, switch("nesterov", nesterov), train.weight_decay, adamw)


@dataclass(frozen=True)
class Muon(Rule):
    """The state is the running mean of gradients."""

    momentum: float
    nesterov: bool
    decay: float
    others: Adam
    state = (0.0,)
    size = "spectral"

    def numbers(self, step: int, rate: float) -> tuple[float, ...]:
        """Rate, and what is decayed."""
        return rate, rate * self.decay

    def update(self, part: Part, numbers: tuple[Number, ...]) -> None:
        """One step."""
        rate, decay = numbers
        mean = part.state[0].lerp_(part.gradients, 1 - self.momentum)
        direction = part.gradients.lerp_(mean, self.momentum) if self.nesterov else mean.clone()
        for matrix in part.matrices:
            update = matrix.of(direction)
            update.copy_(orthogonalized(update).mul_(max(1.0, matrix.rows / matrix.columns) ** 0.5))
        part.shrink(decay)
        part.move(direction, rate)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (..., rows, columns) with singular values near 1, and the singular vectors that they had."""
    linear, cubic, quintic = COEFFICIENTS
    turned = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if turned else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = linear * x + (cubic * gram + quintic * gram @ gram) @ x
    return x.mT if turned else x  # type: ignore[no-any-return]

"""The optimizer `adamw`."""

from initbench.optimizers.adam import Adam
from initbench.question.config import TrainConfig


def build(train: TrainConfig) -> Adam:
    """Adam with weight decay that does not go through the gradient: w *= 1 - lr * weight_decay before each step.

    Source: Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW: the decay is multiplied by the learning rate.
    """
    return Adam(*train.betas, decay=train.weight_decay, decoupled=True)

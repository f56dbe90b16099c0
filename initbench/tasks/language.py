"""The task `language`."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from initbench.data.splits import DataSplits
from initbench.errors import ConfigError, DataError
from initbench.tasks import Task


def build(*, context: int = 64) -> Task:
    """The next token at each place of a text: mean cross entropy of logits (N, context, tokens), in nats a token.

    Examples are `context` tokens in a row that do not overlap, each with the one that follows. Accuracy is the share of tokens that the
    model names first. Raises: ConfigError for a context below 1 or longer than the text.
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise ConfigError(f"The context of language is {context}; it must be a whole number from 1, such as language:context=64.")
    return Task(
        losses=_losses,
        pair=lambda tokens, _: (tokens[:, :-1].long(), tokens[:, 1:].long()),
        hits=lambda logits, targets: (logits.argmax(-1) == targets).float().mean(1),
        output=lambda targets, tokens: (*targets.shape, tokens),
        chance=_entropy,
        examples=lambda data: _windows(data, context),
        takes="a text",
        gives="logits (N, context, tokens)",
        fits=lambda data: data.x_train.dim() == 1,
    )


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(1)


def _windows(data: DataSplits, context: int) -> DataSplits:
    def cut(stream: Tensor, split: str) -> tuple[Tensor, Tensor]:
        if len(stream) <= context:
            raise DataError(f"The {split} split of {data.name} has {len(stream)} tokens; a context of {context} needs {context + 1}.")
        windows = stream.unfold(0, context + 1, context)
        return windows, torch.zeros(len(windows), dtype=torch.int64, device=stream.device)

    (x_train, y_train), (x_test, y_test) = cut(data.x_train, "training"), cut(data.x_test, "test")
    return replace(data, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def _entropy(data: DataSplits) -> float:
    """The cross entropy of how often each token comes, without its neighbours, on the training split."""
    counts = torch.bincount(data.x_train.flatten().long(), minlength=data.classes).double()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())

"""Runs a model once and tells which weights its signal met, in order; the model is left as it was."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.nn import operations as ops
from initbench.nn.follow import Follower
from initbench.nn.marks import Use
from initbench.nn.watch import followed, untouched

FAILURES = (
    RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, NotImplementedError, ArithmeticError,
)  # fmt: skip
"""What a forward pass raises when the input does not fit the model."""


@dataclass(frozen=True)
class Trace:
    """The uses of weights in order of execution, and which of them the model's output comes from directly."""

    uses: tuple[Use, ...]
    heads: frozenset[int]


def trace(model: nn.Module, inputs: Tensor) -> Trace:
    """Follows `inputs` (a batch) through the model, in evaluation mode and without gradients.

    Raises: ConfigError when the model cannot be run on them.
    """
    follower = Follower({id(parameter): name for name, parameter in model.named_parameters()})
    try:
        with torch.no_grad(), untouched(model, "stored"):
            result = followed(model, follower, inputs)
    except FAILURES as error:
        shape = " x ".join(str(length) for length in inputs.shape)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        kind = str(inputs.dtype).removeprefix("torch.")
        raise ConfigError(
            f"The model cannot be run on a batch of shape {shape} ({kind}): {said}. Give it a batch of the shape that it takes."
        ) from error
    heads = frozenset[int]()
    for tensor in ops.tensors_in(result):
        node = follower.node(tensor)
        heads |= node.last if node else frozenset()
    follower.forget(result)
    return Trace(tuple(follower.uses), heads)

"""From what somebody gives (a name, a class, a function, a module; a batch or a shape) to the subject that rules look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, a_or_an
from initbench.linting.builds import Build, Builds, built, from_function, seeded
from initbench.linting.run import model_ref
from initbench.linting.subject import Subject
from initbench.nn.build import build_model
from initbench.nn.inputs import as_inputs
from initbench.nn.naming import parameters_of, refuse_without_storage, unwrapped
from initbench.nn.restore import restored
from initbench.question.user_files import own_path
from initbench.training.checkpoints import read_checkpoint
from initbench.training.inputs import Given, as_labels, default_batch_size, read_input, refuse_not_finite, tokens_of

CLASSES, OTHERWISE = {"torchvision": 1000}, 10
"""Outputs of a model whose builder asks for them, where nobody says how many."""
SHAPE = (3, 224, 224)
"""What a builder that asks for the shape of an input is told where there is none."""
MOST_INPUTS, LARGE_INPUTS = 32, 8
"""Inputs of a batch that is made of a shape where nobody says how many, and of large ones, of which more take memory and say little."""
FEW = 64
"""A batch that would be smaller elsewhere is of large inputs."""


@contextmanager
def looked_at(
    model: nn.Module | Callable[[], nn.Module] | str,
    *,
    inputs: Any,
    labels: Any,
    checkpoint: str | Path | Mapping[str, Tensor] | None,
    batch: int | None,
    classes: int | None,
    then: Callable[[nn.Module], object] | None = None,
) -> Iterator[tuple[str, Subject]]:
    """The name of the model and the subject; afterwards a module that was given is as it was.

    `then` is called with the model each time that it is built, or with the module that was given.
    Raises: ConfigError for what is no model, or cannot be built.
    """
    if classes is None and isinstance(model, str) and isinstance(inputs, str):
        classes = tokens_of(model_ref(model), inputs)
    given = _given(inputs, labels, batch, classes)
    name, module, builds, build = _model(model, given, classes, then)
    tensors = read_checkpoint(own_path(checkpoint)) if isinstance(checkpoint, str | Path) else checkpoint
    with ExitStack() as stack:
        module = stack.enter_context(unwrapped(module))
        if builds is None:
            stack.enter_context(restored(module))
            if then is not None:
                then(module)
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        yield name, Subject(module, builds, None if given is None else given.to(device), tensors, build)


def _given(inputs: Any, labels: Any, batch: int | None, classes: int | None) -> Given | None:
    if inputs is None:
        if labels is not None:
            raise ConfigError("There are labels, and no batch that they belong to. Give the batch as `inputs`.")
        return None
    if isinstance(inputs, str):
        logits = inputs.replace(":", "x").removeprefix("intx")  # of token ids: as many as the vocabulary has words, at each place
        usual = max(LARGE_INPUTS, default_batch_size(logits)) if inputs.startswith("int:") else default_batch_size(inputs)
        count = batch or min(usual, LARGE_INPUTS if usual < FEW else MOST_INPUTS)
        values, own = read_input(inputs, count)
        return Given(values, own if labels is None else as_labels(labels, len(values)), classes or OTHERWISE)
    values = as_inputs(inputs)
    if len(values) < 2:
        raise ConfigError(f"The batch has {len(values)} {'input' if len(values) == 1 else 'inputs'}. Give at least 2.")
    refuse_not_finite(values)
    return Given(values, None if labels is None else as_labels(labels, len(values)), classes or OTHERWISE)


def _model(
    model: object, given: Given | None, classes: int | None, then: Callable[[nn.Module], object] | None
) -> tuple[str, nn.Module, Builds | None, Build | None]:
    if isinstance(model, nn.Module):
        refuse_without_storage(parameters_of(model).first)
        return type(model).__name__, model, None, None
    if isinstance(model, str):
        ref = model_ref(model)
        shape = SHAPE if given is None else given.shape
        count = classes or CLASSES.get(ref.name, OTHERWISE)
        example = None if given is None else given.inputs
        build = seeded(_continued(lambda seed, device="cpu": build_model(ref, shape, count, seed, example, device), then))
        return str(ref), *built(build), build
    if callable(model):
        build = seeded(_continued(from_function(model), then)) if then is not None else from_function(model)
        return getattr(model, "__name__", type(model).__name__), *built(build), build
    raise ConfigError(f"The model is {a_or_an(type(model).__name__)}. Give a class, a function, a module or a name such as './net.py:Net'.")


def _continued(build: Build, then: Callable[[nn.Module], object] | None) -> Build:
    """The same build, and what comes after it."""

    def both(seed: int, device: str = "cpu") -> nn.Module:
        model = build(seed, device)
        if then is not None:
            then(model)
        return model

    return both

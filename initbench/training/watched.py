"""Measures a network that somebody else trains: one of their batches goes through it as it is now, and nothing of it changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, UserCode, a_or_an, reason_of
from initbench.fast.tape import Tape, is_plain
from initbench.measure.probes import ProbeAtStep, measure, to_stats
from initbench.nn.build import own_model
from initbench.nn.inputs import Inputs, ModelInputs, as_inputs, described, device_of, shape_words
from initbench.nn.layers import Explanation
from initbench.nn.naming import parameters_of, refuse_without_storage, unwrapped
from initbench.nn.operations import tensors_in
from initbench.nn.outputs import main_output, outputs_in
from initbench.nn.restore import restored
from initbench.nn.watch import FAILURES, uncached_weights
from initbench.results.probe_run import ProbedLayer, ProbeRun
from initbench.results.record import RunStatus
from initbench.training.devices import device_name
from initbench.training.inputs import Given, Objective, as_labels, parted
from initbench.training.untrained import check, refuse_outside

MOST = 128
"""Inputs of a batch that are measured, the first ones; more make the numbers hardly surer."""

OwnLoss = Callable[[Any], Any]
"""The mean loss over the batch, of what the model gives."""


class GivenLoss:
    """The user's own loss as what gradients are of; `loss` and `output_std` are those of the last call."""

    words = "the loss that was given"
    chance = None

    def __init__(self, of: OwnLoss, count: int) -> None:
        self._of, self._count = of, count
        self.loss: Tensor | None = None
        self.output_std: Tensor | None = None

    def __call__(self, result: Any) -> Tensor:
        """The loss summed over the batch. Raises: ConfigError for what is no number, or does not depend on the output."""
        with UserCode("The loss that the monitor was given fails on the model's output"):
            loss = self._of(result)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            what = a_or_an(type(loss).__name__) if not isinstance(loss, Tensor) else f"a tensor of shape {tuple(loss.shape)}"
            what += " without a gradient" if isinstance(loss, Tensor) and loss.numel() == 1 else ""
            raise ConfigError(f"The loss that the monitor was given is {what}. It is one number: the mean over the batch, of the output.")
        outputs = outputs_in(result)
        self.loss, self.output_std = loss.detach(), outputs[main_output(outputs, labelled=False)].detach().std(correction=0)
        return loss.reshape(()).to(torch.promote_types(loss.dtype, torch.float32)) * self._count


@dataclass(frozen=True)
class _Known:
    """What a pass has shown of the model, and for which inputs and parameters that holds; `whole`: it takes no part of a batch."""

    explained: Explanation
    width: int | None
    whole: bool
    shape: str
    parameters: tuple[int, ...]
    tape: Tape | None


class Watched:
    """A model that is trained elsewhere; `measure` sends a batch through it."""

    def __init__(self, model: nn.Module) -> None:
        """Raises: ConfigError for what is no module."""
        self.model = own_model(model)
        self._known: _Known | None = None

    @property
    def name(self) -> str:
        """The class of the model, without wrappers."""
        with unwrapped(self.model) as inside:
            return type(inside).__name__

    def wait(self) -> None:
        """Waits until the device has done what it was given, so that a clock that is started now measures nothing else."""
        device = device_of(self.model)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def measure(self, step: int, inputs: Any, labels: Any = None, loss: OwnLoss | None = None) -> ProbeRun:
        """Every layer as it is now, with gradients of the cross entropy with `labels` (N,), of a `loss` of the output, or of a projection.

        The first `MOST` inputs are measured; with a `loss`, which may hold the targets of them all, the whole batch.
        Raises: ConfigError with one sentence for a model or a batch that cannot be measured.
        """
        given = _given(inputs, labels, loss)
        with unwrapped(self.model) as model:
            refuse_without_storage(parameters_of(model).first)
            with restored(model, weights=False), uncached_weights(forget=False):
                return self._measured(model, step, given.to(device_of(model)), loss)

    def _measured(self, model: nn.Module, step: int, given: Given, loss: OwnLoss | None) -> ProbeRun:
        known = self._known_of(model, given)
        refuse_outside(given.labels, known.width)
        layers, batch, count = known.explained.layers, (given.as_whole() if known.whole else given).inputs, len(given.inputs)
        classes = None if given.labels is None else known.width  # random labels would tell nothing about a network that is trained
        objective = GivenLoss(loss, count) if loss is not None else Objective(given.labels, classes, count)
        try:
            values = measure(model, layers, batch, objective, known.tape)
        except FAILURES as error:
            self._known = None
            raise ConfigError(
                f"The model cannot be measured on {described(model, batch)}: {reason_of(error).removesuffix('.')}."
            ) from error
        stats = to_stats(layers, [ProbeAtStep(step, values)])
        return ProbeRun(
            scheme=f"step {step}",
            seed=0,
            status=RunStatus.COMPLETED,
            layers=tuple(ProbedLayer(**dict(entry)) for entry in stats),
            objective=objective.words,
            first_loss=None if objective.loss is None else objective.loss.item(),
            chance_loss=objective.chance,
            output_std=None if objective.output_std is None else objective.output_std.item(),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            device=device_name(device_of(model)),
            notes=known.explained.notes,
        )

    def _known_of(self, model: nn.Module, given: Given) -> _Known:
        """What is known of the model, found anew where the inputs have another shape or its parameters are others."""
        shape, parameters = shape_words(given.inputs), tuple(id(each) for each in model.parameters())
        if self._known is None or (self._known.shape, self._known.parameters) != (shape, parameters):
            checked = check(model, given)
            whole = isinstance(checked.batch.inputs, ModelInputs) and checked.batch.inputs.whole
            tape = Tape() if is_plain(model) else None
            self._known = _Known(checked.explained, checked.width, whole, shape, parameters, tape)
        return self._known


def _given(inputs: Any, labels: Any, loss: OwnLoss | None) -> Given:
    if labels is not None and loss is not None:
        raise ConfigError("There are labels and a loss. Give labels (N,) for the cross entropy, or a loss of the output.")
    if loss is not None and not callable(loss):
        raise ConfigError(f"The loss is {a_or_an(type(loss).__name__)}. Give a function of the output: loss=lambda output: ...")
    batch = as_inputs(inputs)
    if not len(batch):
        raise ConfigError("The batch has no inputs. Give at least 1.")
    if loss is not None:
        return Given(batch, None, 1)
    try:
        whole = None if labels is None else as_labels(labels, len(batch))
    except ConfigError as error:
        raise ConfigError(f"{error} Targets of another kind are for a loss of the output: loss=lambda output: ...") from error
    return Given(batch[:MOST], None if whole is None else whole[:MOST], 1)


def of_batch(content: Any) -> tuple[Inputs, Tensor | None]:
    """The inputs and the labels (N,) of what a loader gives: of a pair the first is the inputs, of a mapping labels go by their names."""
    inputs, labels = parted(content)
    pair = (
        labels is None
        and isinstance(inputs, tuple)
        and len(inputs) == 2
        and all(next(tensors_in(each), None) is not None for each in inputs)
    )
    return as_inputs(inputs[0] if pair else inputs), labels

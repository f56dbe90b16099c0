"""Looks at untrained networks: each scheme is applied to the model once a seed, and the signal is measured; nothing is trained."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, UserCode, enumerated
from initbench.init.initialize import initialize
from initbench.init.known_laws import laws_of
from initbench.measure.attention import AttentionStart, attention_starts
from initbench.measure.embeddings import embedding_starts
from initbench.measure.jacobians import correlations, singular_values
from initbench.measure.predict import filled, predictions
from initbench.measure.probes import ProbeAtStep, measure, to_stats
from initbench.nn.build import build_model
from initbench.nn.inputs import called, device_of
from initbench.nn.layers import Explanation, WeightLayer, explain
from initbench.nn.naming import parameters_of, refuse_without_storage, unwrapped
from initbench.nn.operations import tensors_in
from initbench.nn.outputs import classes_of, main_output, outputs_in
from initbench.nn.restore import restored
from initbench.nn.watch import untouched
from initbench.question.config import Ref
from initbench.results.probe_run import AttentionLayer, EmbeddingLayer, ProbedLayer, ProbeRun, Question, scheme_name
from initbench.results.record import InitReport, RunStatus, Setter
from initbench.theory.prediction import LayerPrediction
from initbench.training.batches import memory_format
from initbench.training.checkpoints import load_checkpoint
from initbench.training.devices import choose_device, device_name, small_runs
from initbench.training.inputs import Given, Objective, given
from initbench.training.job import Failure, attempt

TRACE_INPUTS = 8
"""Inputs that a model is traced and checked with."""
ATTENTION_INPUTS = 16
"""Inputs that attention is looked at with."""
KEPT = 2**26
"""Parameters of built models, all seeds together, that are kept for the next scheme."""


class Prober:
    """The models and the batch of one question; `run` applies a scheme to a model for each seed and measures."""

    def __init__(
        self,
        question: Question,
        *,
        device: str | None = None,
        data_dir: str | None = None,
        model: nn.Module | None = None,
        batch: Given | None = None,
        as_is: bool = False,
    ) -> None:
        """Builds and checks the model; the user's own `model` is only lent: it is put back as it was, whatever happens.

        `as_is`: nothing is ever applied to it, so that no copy of it has to be kept.
        Raises: InitbenchError where the model cannot be built or run on the input, or has no weights.
        """
        self.question, self.own, self.as_is = question, model, as_is
        self.device = device_of(model) if device is None and model is not None else choose_device(device or "cpu")
        self.moved_to = None if device is None else self.device
        self.attends = True  # until a pass shows no attention, which is then not looked for again
        self.built: dict[int, nn.Module] = {}
        if model is not None:
            refuse_without_storage(parameters_of(model).first)
        with small_runs():
            self.given = batch.to(self.device) if batch else given(question, device=self.device, data_dir=data_dir)
            with self.lent(question.seeds[0]) as first:
                checked = check(first, self.given)
                self.given, self.width = checked.batch, checked.width

    @property
    def schemes(self) -> tuple[Ref | None, ...]:
        """What is applied: each scheme, or nothing."""
        return self.question.schemes or (None,)

    @contextmanager
    def lent(self, seed: int) -> Iterator[nn.Module]:
        """The user's own model, or the one built for a seed, without wrappers; afterwards it is as it was before."""
        with unwrapped(self._model(seed)) as model:
            refuse_without_storage(parameters_of(model).first)
            with nullcontext() if self.as_is else restored(model, self.moved_to):
                if self.own is not None and self.question.checkpoint:
                    load_checkpoint(model, self.question.checkpoint)
                yield model

    def _model(self, seed: int) -> nn.Module:
        if self.own is not None:
            return self.own
        if seed in self.built:
            return self.built[seed]
        model = self._build(seed)
        room = KEPT // max(1, sum(parameter.numel() for parameter in model.parameters()))
        if len(self.built) < room:
            self.built[seed] = model
        return model

    def run(self, scheme: Ref | None) -> Iterator[ProbeRun]:
        """The scheme with each seed, as they come; never raises."""
        expected: dict[str, LayerPrediction] = {}
        for seed in self.question.seeds:
            with small_runs():
                start = time.perf_counter()
                result = attempt(lambda seed=seed: self._measured(scheme, seed, expected), str(self.device))  # type: ignore[misc]
                if isinstance(result, Failure):
                    name = scheme_name(scheme, self.question)
                    result = ProbeRun(scheme=name, seed=seed, status=result.status, reason=result.reason)
            yield result.model_copy(update={"seconds": round(time.perf_counter() - start, 4)})

    def _build(self, seed: int) -> nn.Module:
        example = None if self.given.data is not None else self.given.inputs.to(torch.device("cpu"))
        model = build_model(self.question.model, self.given.shape, self.given.classes, seed, example)
        if self.question.checkpoint:
            load_checkpoint(model, self.question.checkpoint)
        model = model.to(self.device)
        return model.to(memory_format=memory_format(model, self.device)) if self.given.data is not None else model

    def _measured(self, scheme: Ref | None, seed: int, expected: dict[str, LayerPrediction]) -> ProbeRun:
        with self.lent(seed) as model:
            return self.measured_on(model, scheme, seed, expected)

    def measured_on(
        self,
        model: nn.Module,
        scheme: Ref | None,
        seed: int,
        expected: dict[str, LayerPrediction],
        *,
        signal_only: bool = False,
        pairs: bool = True,
        known: Explanation | None = None,
    ) -> ProbeRun:
        """What a model that is the prober's to change gives with a scheme, or as it is; `expected` keeps theory's part for other seeds.

        `signal_only`: without singular values and the laws of weights, which take longer than all the rest. `pairs`: with the
        correlation of pairs of inputs, which takes a pass. `known` are the weight layers of a model as it is, where they were traced.
        """
        batch = self.given.for_model(model)
        objective = Objective(batch.labels, self.width, len(batch.inputs))
        report, layers = _prepare(model, scheme, seed, self.question, batch, objective, known)
        values = measure(model, layers, batch.inputs, objective)
        if not expected:
            expected.update(predictions(model, layers, report, batch.inputs, objective.labels, self.width))
        stats = filled(to_stats(layers, [ProbeAtStep(0, values)]), expected)
        alike = correlations(model, layers, batch.inputs) if pairs else (None,) * len(layers)
        jacobians = [None] * len(layers) if signal_only else singular_values(model, layers, batch.inputs)
        of_passes: list[dict[str, Any]] = [
            {"correlation": cosine, **(vars(jacobian) if jacobian else {})} for cosine, jacobian in zip(alike, jacobians, strict=True)
        ]
        looked_at: tuple[AttentionStart, ...] = ()
        if self.attends and not signal_only:
            with suppress(ConfigError), UserCode("The attention of the model cannot be followed"):
                looked_at = attention_starts(model, batch.inputs[:ATTENTION_INPUTS])
                self.attends = bool(looked_at)
        embeddings = () if signal_only else embedding_starts(model, layers, batch.inputs)
        return ProbeRun(
            scheme=scheme_name(scheme, self.question),
            seed=seed,
            status=RunStatus.COMPLETED,
            embeddings=tuple(EmbeddingLayer(**vars(each)) for each in embeddings),
            attention=tuple(
                AttentionLayer(module=each.module, keys=each.keys, entropy=each.entropy, largest=each.largest, apart=each.apart)
                for each in looked_at
            ),
            layers=tuple(ProbedLayer(**dict(entry), **numbers) for entry, numbers in zip(stats, of_passes, strict=True)),
            init=report,
            left_alone=left_alone(report, layers),
            laws=laws_of(layers) if scheme is None and not signal_only else (),
            objective=objective.words,
            first_loss=None if objective.loss is None else objective.loss.item(),
            chance_loss=objective.chance,
            output_std=None if objective.output_std is None else objective.output_std.item(),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            device=device_name(self.device),
            notes=report.notes,
        )


def left_alone(report: InitReport, layers: tuple[WeightLayer, ...]) -> dict[str, str]:
    """The weight layers whose weight nobody set because it is excluded by name or frozen, each with why."""
    by_parameter = {layer.parameter: layer.name for layer in layers}
    kept = [entry for entry in report.parameters if entry.setter in {Setter.EXCLUDED, Setter.FROZEN}]
    return {by_parameter[entry.parameter]: entry.by for entry in kept if entry.parameter in by_parameter}


@dataclass(frozen=True)
class Checked:
    """The batch as the model takes it, the weight layers that a few of its inputs show, and the number of classes: None of no logits."""

    batch: Given
    explained: Explanation
    width: int | None


def check(model: nn.Module, batch: Given) -> Checked:
    """Runs the model on a part of the batch; `width` is there where it gives logits (N, classes).

    Raises: ConfigError for a model that cannot be run on the input, that has no weight layer, or whose output has no gradient.
    """
    batch, explained = _traced(model, batch)
    if not explained.layers:
        raise ConfigError("The model has no weight layer, so there is no signal to follow.")
    inputs = batch.for_model(model).inputs[:TRACE_INPUTS]
    with torch.no_grad(), untouched(model, "batch"):
        result = called(model, inputs)
    outputs = outputs_in(result)
    if not outputs:
        kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors_in(result)})
        what = f"only {enumerated(kinds, 'and') if len(kinds) > 1 else kinds[0]} numbers, which have no gradient" if kinds else "no tensor"
        raise ConfigError(f"The model gives {what}, so there is nothing to take a gradient of. Have it return its logits.")
    width = classes_of(outputs[main_output(outputs, labelled=batch.labels is not None)])
    refuse_outside(batch.labels, width)
    return Checked(batch, explained, width)


def refuse_outside(labels: Tensor | None, width: int | None) -> None:
    """Raises: ConfigError for a label that the model has no output for."""
    if labels is not None and width is not None and int(labels.max()) >= width:
        raise ConfigError(f"The highest label is {int(labels.max())}, and the model has {width} outputs: labels go from 0 to {width - 1}.")


def _traced(model: nn.Module, batch: Given) -> tuple[Given, Explanation]:
    """The weight layers, found with a few inputs; with all where the model takes no fewer (one that was exported, or a graph).

    Raises: ConfigError for a model that cannot be run on the batch.
    """
    given = batch.for_model(model)
    try:
        return batch, explain(model, given.inputs[:TRACE_INPUTS])
    except ConfigError as error:
        failed = error
    try:
        if given.data is None and len(given.inputs) > TRACE_INPUTS:
            return batch.as_whole(), explain(model, given.inputs)
    except ConfigError as error:
        failed = failed if isinstance(given.inputs, Tensor) else error
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    if not tables or not isinstance(given.inputs, Tensor) or not given.inputs.is_floating_point():
        raise failed
    size = tables[0].num_embeddings
    raise ConfigError(
        f"{failed} It looks numbers up in an embedding: write --input int:{size}:128 for 128 whole numbers below {size}."
    ) from failed


def _prepare(
    model: nn.Module, scheme: Ref | None, seed: int, question: Question, batch: Given, objective: Objective, known: Explanation | None
) -> tuple[InitReport, tuple[WeightLayer, ...]]:
    inputs = batch.inputs[:TRACE_INPUTS]
    if scheme is None:
        explained = known or explain(model, inputs, question.init.in_out)
        return InitReport(scheme="", parameters=(), notes=explained.notes), explained.layers
    batches = batch.batches(model, seed, objective)
    return initialize(model, scheme, seed=seed, rules=question.init, inputs=inputs, batch=batches)

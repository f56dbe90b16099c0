"""The model that rules look at, with everything that they ask about it; each thing is found once, when it is first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.errors import ConfigError, DoesNotApply, InitbenchError, UserCode, is_out_of_memory
from initbench.init.known_laws import law_of
from initbench.linting import zero
from initbench.linting.builds import AGAIN, Build, Builds, is_constant, looks_random, needs_builds, tensors_of
from initbench.linting.causes import Causes, causes_of
from initbench.linting.chance import deviations, error_of_std
from initbench.linting.finding import CannotTell
from initbench.linting.start import Start, start_of
from initbench.measure.attention import AttentionStart, attention_starts
from initbench.measure.capture import captured
from initbench.measure.probes import normed
from initbench.nn.attention import AttentionLayers, attentions
from initbench.nn.inputs import called, first_tensor
from initbench.nn.layers import Explanation, Role, WeightLayer, explain
from initbench.nn.naming import Parameters, parameters_of
from initbench.nn.operations import NORMALIZATIONS
from initbench.nn.residual import Branch, branches
from initbench.nn.watch import untouched
from initbench.probing.health import SchemeHealth, health
from initbench.question.config import Ref
from initbench.results.probe_run import LayerLaw, ProbedLayer, ProbeRun, Question
from initbench.results.propagation import LossKind, Way, loss_on, strays
from initbench.theory.prediction import LayerPrediction
from initbench.training.inputs import Given, Objective
from initbench.training.untrained import TRACE_INPUTS, Prober

UNSEEN = torch.finfo(torch.float32).eps ** 2
"""A variance so many times smaller is lost in the rounding of what it is added to."""
FEW_INPUTS, MANY_POSITIONS = 8, 32
"""Inputs that show as much as a larger batch, where each is a row of so many ids."""


class Growth(NamedTuple):
    """The variance of a residual stream behind its last block over that in front of its first, and over how many branches."""

    times: float
    branches: int


class Subject:
    """A model as it starts. What needs an input, or building it again, raises CannotTell where there is none.

    `model` is the linter's own to run, never to change; `given` is the batch that it is run on, with labels where the task is known;
    `checkpoint` are the tensors that it should hold, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        builds: Builds | None = None,
        given: Given | None = None,
        checkpoint: Mapping[str, Tensor] | None = None,
        build: Build | None = None,
    ) -> None:
        self.model, self.given, self.checkpoint = model, given, checkpoint
        self._builds, self._build = builds, build
        self._expected: dict[str, LayerPrediction] = {}
        self._pairs = True

    def has(self, need: str) -> bool:
        """Whether there is what a rule needs: `inputs`, `factory`, `checkpoint`, `labels`."""
        there = {
            "inputs": self.given is not None,
            "factory": self._builds is not None,
            "checkpoint": self.checkpoint is not None,
            "labels": self.given is not None and self.given.labels is not None,
        }
        return there[need]

    def refuse_misfit(self) -> None:
        """Raises: ConfigError where the model cannot be run on the batch: rules that need it would find nothing, and say no more."""
        if self.given is None:
            return
        inputs = self.given.for_model(self.model).inputs
        refused = f"The model cannot be run on the input, whose shape is {tuple(first_tensor(inputs).shape)}"
        try:
            with torch.no_grad(), untouched(self.model, "batch"), UserCode(refused):
                called(self.model, inputs[:TRACE_INPUTS])
        except ConfigError:  # one that was exported takes the whole batch alone
            with torch.no_grad(), untouched(self.model, "batch"), UserCode(refused):
                called(self.model, inputs)

    def anew(self, *, pairs: bool) -> Subject:
        """The same model after numbers of it have changed: what they decide is measured again; how it is built and theory are not.

        `pairs`: the correlation of pairs of inputs, too. It is run on fewer inputs, where each has many positions.
        """
        given, prober = self._fewer
        other = Subject(self.model, given=given)
        kept = {"explained": self.explained, "parameters": self.parameters, "outside": self.outside}
        vars(other).update(kept, _prober=prober, _expected=self._expected, _pairs=pairs)
        return other

    @property
    def builds(self) -> Builds:
        """What building the model several times has shown."""
        return needs_builds(self._builds)

    @property
    def build(self) -> Build:
        """Builds the model anew."""
        if self._build is None:
            raise CannotTell(AGAIN)
        return self._build

    @cached_property
    def parameters(self) -> Parameters:
        """All parameters, by name; see `Parameters`."""
        return parameters_of(self.model)

    @cached_property
    def explained(self) -> Explanation:
        """The weight layers with what could not be told about them; without an input in order of registration."""
        inputs = None if self.given is None else self.given.for_model(self.model).inputs[:TRACE_INPUTS]
        return explain(self.model, inputs)

    @property
    def layers(self) -> tuple[WeightLayer, ...]:
        """The weight layers."""
        return self.explained.layers

    @cached_property
    def layer_of(self) -> dict[str, WeightLayer]:
        """The weight layer of each weight, by the name of the parameter."""
        return {layer.parameter: layer for layer in self.layers}

    @cached_property
    def laws(self) -> dict[str, LayerLaw]:
        """What the numbers of each weight look like, by the name of the parameter."""
        return {layer.parameter: law_of(layer) for layer in self.layers}

    def has_std(self, layer: WeightLayer, std: float) -> bool:
        """Whether a weight has this standard deviation, within chance over all layers of the model."""
        own = self.laws[layer.parameter].std
        return bool(own) and abs((own or 0.0) / std - 1) < 2 * deviations(len(self.layers)) * error_of_std(layer.weight.numel())

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The residual branches. Raises: CannotTell without an input, or where a branch cannot be followed."""
        self._need_inputs()
        try:
            return branches(self.model, self.layers)
        except DoesNotApply as error:
            raise CannotTell(str(error).rstrip(".")) from error

    @cached_property
    def _fewer(self) -> tuple[Given, Prober]:
        """The first inputs of a batch of long rows of ids, or else the batch, and the prober that runs on them."""
        given = self._need_inputs()
        inputs = given.inputs
        long = isinstance(inputs, Tensor) and not inputs.is_floating_point() and inputs[0].numel() >= MANY_POSITIONS
        if not long or given.labels is not None or given.data is not None or len(inputs) <= FEW_INPUTS:
            return given, self._prober
        few = replace(given, inputs=inputs[:FEW_INPUTS])
        try:
            return few, self._prober_of(few)
        except InitbenchError:  # a model that takes the whole batch alone
            return given, self._prober

    @cached_property
    def _prober(self) -> Prober:
        return self._prober_of(self._need_inputs())

    def _prober_of(self, given: Given) -> Prober:
        question = Question(schemes=(), seeds=(0,), model=Ref(name=type(self.model).__name__), input="the input")
        return Prober(question, model=self.model, batch=given, as_is=True)

    @cached_property
    def probe(self) -> ProbeRun:
        """The signal forward and back through the model as it starts. Raises: CannotTell without an input."""
        try:
            return self._prober.measured_on(self.model, None, 0, self._expected, signal_only=True, pairs=self._pairs, known=self.explained)
        except InitbenchError as error:
            raise CannotTell(str(error).rstrip(".")) from error

    @cached_property
    def measured(self) -> dict[str, ProbedLayer]:
        """What was measured of each weight layer, by the name of its parameter."""
        by_name = {layer.layer: layer for layer in self.probe.layers}
        return {layer.parameter: by_name[layer.name] for layer in self.layers if layer.name in by_name}

    @cached_property
    def health(self) -> SchemeHealth:
        """The ways of the signal, forward and back."""
        found = health(self.probe.scheme, [self.probe])
        if found.lost is not None and self._goes_around(found.lost.layer):
            found = _on_ways(found, tuple(point for point in found.forward if point.value), found.back)
        while found.lost is not None and self._is_beside(found):
            name = found.lost.layer
            forward, back = (tuple(point for point in way if point.layer != name) for way in (found.forward, found.back))
            found = _on_ways(found, forward, back)
        return found

    def _is_beside(self, found: SchemeHealth) -> bool:
        """Whether the gradient that vanishes at a layer comes back on a way past it, as past the step size of a state space model."""
        lost = found.lost
        if lost is None or (lost.what, lost.how) != ("gradients", LossKind.VANISHES) or self.head is None:
            return False
        there = next((point.value for point in found.back if point.layer == lost.layer), 0.0)
        if there < UNSEEN * found.back[0].value or loss_on("gradients", (found.back[0], found.back[-1])) is not None:
            return False
        by_name = {layer.name: layer for layer in self.layers}
        seen, waiting = {lost.layer}, [self.head.name]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in by_name:
                continue
            seen.add(name)
            if not by_name[name].surroundings.sources:
                return True
            waiting += by_name[name].surroundings.sources
        return False

    def _goes_around(self, name: str) -> bool:
        """Whether a layer is a branch of zeros, and the signal comes to the head beside it."""
        layer = next((layer for layer in self.layers if layer.name == name), None)
        head = None if self.head is None else self.measured.get(self.head.parameter)
        if layer is None or layer.role is not Role.BRANCH_END or layer.weight.any():
            return False
        return head is not None and bool(head.value("pre_activation_variance"))

    @cached_property
    def gradients(self) -> dict[str, float | None]:
        """The norm of the gradient of the mean loss by each parameter that is trained, by its first name; None where there is none.

        Gradients are dropped as they come, so that no more than one is held.
        """
        return self.backward({})

    @cached_property
    def outside(self) -> frozenset[str]:
        """The parameters that are not part of the loss; none where it has no gradient."""
        try:
            return frozenset(name for name, norm in self.gradients.items() if norm is None)
        except CannotTell:
            return frozenset()

    def backward(self, kept: dict[str, Tensor | None]) -> dict[str, float | None]:
        """As `gradients`, of the model as it is now; the gradients of the names in `kept` are put there."""
        given = self._need_inputs().for_model(self.model)
        objective = Objective(given.labels, self._prober.width, len(given.inputs))
        norms: dict[str, float | None] = {}
        handles = []
        for name, parameter in self.parameters.first.items():
            if parameter.requires_grad and parameter.is_leaf:
                norms[name] = None
                handles.append(parameter.register_post_accumulate_grad_hook(_noted(norms, kept, name, len(given.inputs))))  # type: ignore[no-untyped-call]
        before = {id(parameter): parameter.grad for parameter in self.model.parameters()}
        for parameter in self.model.parameters():
            parameter.grad = None
        try:
            with torch.enable_grad(), captured(self.model, (), given.inputs) as passed:
                objective(passed.output).backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise CannotTell(f"the loss has no gradient that can be computed: {str(error).partition('.')[0]}") from error
        finally:
            for handle in handles:
                handle.remove()
            for parameter in self.model.parameters():
                parameter.grad = before[id(parameter)]
        return norms

    @cached_property
    def settled(self) -> tuple[dict[str, nn.Parameter], dict[str, float | None]]:
        """See `zero.settled`."""
        return zero.settled(self)

    @cached_property
    def stuck(self) -> zero.Stuck:
        """Zero weights without a gradient, also when every other zero that gets one has moved: they never learn.

        Raises: CannotTell without an input.
        """
        self._need_inputs()
        return zero.stuck(self)

    @cached_property
    def causes(self) -> Causes:
        """The parameters that are behind what goes wrong in the pass. Raises: CannotTell without an input."""
        self._need_inputs()
        return causes_of(self)

    @cached_property
    def growth(self) -> Growth | None:
        """The residual stream that grows most; None where there is none. Another one begins where no branch before reaches a branch."""
        way = self.health.forward
        places = {point.layer: place for place, point in enumerate(way)}
        streams: list[list[str]] = []
        for branch in self.branches:
            if branch.last.name in places and way[places[branch.last.name]].stream:
                if not streams or not set(branch.layers[0].surroundings.sources) & set(streams[-1]):
                    streams.append([])
                streams[-1].append(branch.last.name)
        found = []
        for names in streams:
            first, last = places[names[0]], places[names[-1]]
            begin = way[first - 1].value if first and not way[first - 1].stream else way[first].value
            if begin:
                found.append(Growth(way[last].value / begin, len(names)))
        return max(found, default=None)

    @cached_property
    def input_correlation(self) -> float | None:
        """The mean cosine of pairs of inputs; None where they are no floats."""
        values = first_tensor(self._need_inputs().inputs)
        if not values.is_floating_point() or len(values) < 2:
            return None
        flat = values.flatten(1).double()
        return functional.cosine_similarity(flat[: len(flat) // 2 * 2 : 2], flat[1::2]).mean().item()

    @cached_property
    def queries(self) -> set[str]:
        """The weights of queries and keys, whose scale is that of attention's scores."""
        return {layer.parameter for each in self.attentions for layer in (each.query, each.key) if layer is not None}

    @cached_property
    def packed(self) -> set[str]:
        """The weights that hold queries, keys and values in one."""
        return {each.packed.parameter for each in self.attentions if each.packed is not None}

    @cached_property
    def normed(self) -> set[str]:
        """The names of the layers whose scale a norm behind takes out: directly, or behind layers without an activation between."""
        found = normed(self.layers)
        linear = [layer for layer in self.layers if layer.activation is None]
        behind: dict[str, set[str]] = {}
        for layer in self.layers:
            for source in layer.surroundings.sources:
                behind.setdefault(source, set()).add(layer.name)
        for layer in reversed(linear):
            if behind.get(layer.name) and behind[layer.name] <= found:
                found.add(layer.name)
        return found

    @cached_property
    def has_norms(self) -> bool:
        """Whether the signal passes a norm anywhere."""
        return any(NORMALIZATIONS.intersection(layer.surroundings.path + layer.surroundings.between) for layer in self.layers)

    @cached_property
    def drawn(self) -> set[str]:
        """The parameters that are not the same for every seed; where the model cannot be built again, those whose numbers look drawn."""
        tensors = tensors_of(self.model)
        if self._builds is None:
            return {name for name, tensor in tensors.items() if looks_random(tensor)}
        mine, other = self._builds.digests, self._builds.other
        return {name for name, tensor in tensors.items() if not is_constant(tensor) and mine.get(name, "") != other.get(name)}

    @cached_property
    def head(self) -> WeightLayer | None:
        """The layer that gives the logits, where it is known."""
        return next((layer for layer in reversed(self.layers) if layer.role is Role.HEAD), None)

    @cached_property
    def start(self) -> Start | None:
        """Loss and logits before the first step; None where the model gives no logits of known classes.

        Raises: CannotTell without an input.
        """
        given = self._need_inputs().for_model(self.model)
        return start_of(self.model, given)

    @cached_property
    def attention(self) -> tuple[AttentionStart, ...]:
        """What each softmax over keys gives. Raises: CannotTell without an input."""
        return attention_starts(self.model, self._need_inputs().for_model(self.model).inputs)

    @cached_property
    def attentions(self) -> tuple[AttentionLayers, ...]:
        """The attention modules whose projections have usual names."""
        return attentions(self.model, self.layers)

    def _need_inputs(self) -> Given:
        if self.given is None:
            raise CannotTell("it needs an input (--input)")
        return self.given


def _noted(norms: dict[str, float | None], kept: dict[str, Tensor | None], name: str, count: int) -> Callable[[Tensor], None]:
    def note(parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        if gradient is None:
            return
        norms[name] = (norms[name] or 0.0) + gradient.norm(dtype=torch.float64).item() / count
        if name in kept:
            former = kept[name]
            kept[name] = gradient if former is None else former + gradient

    return note


def _on_ways(found: SchemeHealth, forward: Way, back: Way) -> SchemeHealth:
    """The same, judged by these points of its ways."""
    lost = loss_on("activations", forward) or loss_on("gradients", back)
    return replace(found, forward=forward, back=back, lost=lost, decades=max((*strays(forward), *strays(back)), default=math.inf))

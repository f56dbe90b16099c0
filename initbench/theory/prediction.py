"""Predicts what a probe will find at initialization: each layer's pre-activation and gradient variance, with a 95 % band.

The line is the theory of infinite width, fed with the actual inputs and the actual law of each layer. The band holds the
middle 95 % of replicas (`forward.py`), so it is what networks of this width do, their mean included: where fluctuations
are large it need not lie symmetrically around the line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from initbench.theory import backward, forward
from initbench.theory.activations import Activation
from initbench.theory.backward import Gradient
from initbench.theory.deep import DEPTH, deep_prediction
from initbench.theory.functions import Array
from initbench.theory.network import (
    INPUT,
    Add,
    Apply,
    Flatten,
    InputStats,
    LayerSpec,
    NetworkSpec,
    Node,
    Norm,
    Pool,
    Scale,
    Unknown,
    Weight,
    sources,
)
from initbench.theory.pooling import pool, through_pool
from initbench.theory.signal import Activated, Measured, NoPrediction, TheorySignal

REPLICAS = 800
"""Imaginary networks a prediction; a deep network gets fewer, so that the work stays the same."""
FEWEST_REPLICAS = 100
WORK = 24_000
"""Replicas times nodes, about."""
DEEP_WORK = 200_000
"""The same for a deep plain network, whose layers cost less."""
ROUNDING = 1e-5
"""What float32 and the digits kept may move: a band without any width must still hold the number that it is about."""
BAND = (0.025, 0.975)


@dataclass(frozen=True)
class Range:
    """A predicted variance: the infinite-width line and the limits of the 95 % band."""

    line: float
    low: float
    high: float


@dataclass(frozen=True)
class LayerPrediction:
    """What theory expects of one weight layer; None where there is no formula, and then `note` says why."""

    name: str
    pre_activation: Range | None
    gradient: Range | None
    note: str | None = None


@lru_cache(maxsize=64)
def predict(network: NetworkSpec, inputs: InputStats, *, seed: int = 0, replicas: int | None = None) -> tuple[LayerPrediction, ...]:
    """One prediction for each weight layer, in the order of execution; the same for the same arguments.

    Never raises for a network that it cannot follow: the layers concerned get a note.
    """
    count = replicas or int(min(REPLICAS, max(FEWEST_REPLICAS, WORK / max(1, len(network.nodes)))))
    random = np.random.default_rng(seed)
    chain = _plain_chain(network) if len(network.nodes) >= DEPTH and inputs.class_shares and inputs.squares.ndim == 1 else None
    if chain is not None and replicas is None:
        with np.errstate(all="ignore"):
            measured, gradients = deep_prediction(
                *chain, inputs, min(REPLICAS, max(FEWEST_REPLICAS, DEEP_WORK // len(network.nodes))), random
            )
        ranges = zip(_ranges(measured), _ranges(gradients), strict=True)
        return tuple(LayerPrediction(spec.name, *both) for spec, both in zip(chain[0], ranges, strict=True))
    pass_ = _Pass(network, inputs, count, random, np.random.default_rng([seed, 1]))
    with np.errstate(all="ignore"):
        pass_.forward()
        pass_.backward()
    return tuple(pass_.result(index, node) for index, node in enumerate(network.nodes) if isinstance(node, Weight))


def _plain_chain(network: NetworkSpec) -> tuple[tuple[LayerSpec, ...], tuple[str | Activation, ...]] | None:
    """The layers and the activations between them of a network that is nothing else, and whose layers all have a formula."""
    weights = [node for node in network.nodes if isinstance(node, Weight)]
    applied = [node for node in network.nodes if isinstance(node, Apply)]
    in_order = all(
        isinstance(node, Weight if index % 2 == 0 else Apply) and node.source == index - 1 for index, node in enumerate(network.nodes)
    )
    known = all(node.spec.why is None and node.spec.mean == 0 and not node.spec.kernel for node in weights)
    if not (in_order and known and network.has_loss and len(weights) == len(applied) + 1):
        return None
    return tuple(node.spec for node in weights), tuple(node.activation for node in applied)


class _Pass:
    """One forward and one backward pass; lives as long as `predict`.

    What units and sums add where no activation stands is drawn from `between`, all else from `random`: the line of the
    gradients, an average over draws, is the same whatever stands between the layers.
    """

    def __init__(
        self, network: NetworkSpec, inputs: InputStats, replicas: int, random: np.random.Generator, between: np.random.Generator
    ) -> None:
        self.network = network
        self.inputs = inputs
        self.random, self.between = random, between
        self.signals: dict[int, TheorySignal] = {INPUT: forward.start(inputs, replicas)}
        self.activated: dict[int, Activated] = {}
        self.passed: dict[int, Activated] = {}
        self.pooled: dict[int, float] = {}
        self.measured: dict[int, Measured] = {}
        self.gradients: dict[int, Gradient] = {}
        self.why: dict[int, str] = {}
        self.why_no_gradient: dict[int, str] = {}

    def forward(self) -> None:
        """Fills `signals`, `activated` and `measured`, or `why`."""
        for index, node in enumerate(self.network.nodes):
            broken = next((self.why[source] for source in sources(node) if source in self.why), None)
            if broken is not None:
                self.why[index] = broken
                continue
            try:
                self.signals[index] = self._forward(index, node)
            except NoPrediction as reason:
                self.why[index] = str(reason)

    def _forward(self, index: int, node: Node) -> TheorySignal:
        if isinstance(node, Unknown):
            raise NoPrediction(node.why)
        if isinstance(node, Add):
            return forward.add(self.signals[node.first], self.signals[node.second], self.between)
        source = self._entering(index, node)
        match node:
            case Weight():
                after = forward.weigh(source, node.spec, self.random)
                self.measured[index] = forward.measure(after, self.random)
                return after
            case Apply():
                after, self.activated[index] = forward.activate(source, node.activation, self.random)
                return after
            case Norm():
                return forward.normalize(source, node.kind)
            case Pool():
                inner = self.network.nodes[node.source] if node.source >= 0 else None
                before = self.signals[inner.source] if isinstance(inner, Apply) else None
                after, self.pooled[index] = pool(source, node, before, inner.activation if isinstance(inner, Apply) else None)
                return after
            case Flatten():
                return forward.flattened(source)
            case Scale():
                return forward.scaled(source, node.factor)

    def _entering(self, index: int, node: Weight | Apply | Norm | Pool | Flatten | Scale) -> TheorySignal:
        """What a node takes; where it mixes the units of a Gaussian signal, with the noise of these units."""
        source = self.signals[node.source]
        mixes = isinstance(node, Weight | Flatten) or (isinstance(node, Pool) and node.kind == "avg")
        if mixes and source.gaussian and source.noise is not None:
            source, self.passed[index] = forward.passed_on(source, self.between)
        elif isinstance(node, Weight) and node.source >= 0 and isinstance(self.network.nodes[node.source], Add):
            self.passed[index] = forward.unbent(source)
        return source

    def backward(self) -> None:
        """Fills `gradients`, or `why_no_gradient`."""
        last = len(self.network.nodes) - 1
        try:
            if not (self.network.has_loss and self.inputs.class_shares):
                raise NoPrediction("there are no labels")
            if last not in self.signals:
                raise NoPrediction(self.why.get(last, "the network is empty"))
            self.gradients[last] = backward.of_logits(self.signals[last], self.inputs.class_shares, self.random)
        except NoPrediction as reason:
            self.why_no_gradient = {index: str(reason) for index in range(last + 1)}
            return
        for index in range(last, -1, -1):
            node = self.network.nodes[index]
            if index in self.why_no_gradient or index not in self.gradients:
                why = self.why_no_gradient.setdefault(index, "the loss does not depend on it in a way that theory can follow")
                self.why_no_gradient |= dict.fromkeys(sources(node), why)
                continue
            try:
                arriving = self._backward(index, node)
            except NoPrediction as reason:
                self.why_no_gradient |= {source: str(reason) for source in sources(node)}
                continue
            for source, gradient in arriving:
                if source >= 0:
                    if index in self.passed:
                        gradient = backward.through_activation(gradient, self.passed[index], self.signals[source])
                    self.gradients[source] = backward.summed(self.gradients.get(source), gradient, self.signals[source].units, self.between)

    def _backward(self, index: int, node: Node) -> tuple[tuple[int, Gradient], ...]:
        gradient = self.gradients[index]
        match node:
            case Unknown():
                return ()
            case Add():
                return (node.first, gradient), (node.second, gradient)
            case Weight():
                before, after = self.signals[node.source], self.signals[index]
                return ((node.source, backward.through_weight(gradient, node.spec, before, after, self.random)),)
            case Apply():
                return ((node.source, backward.through_activation(gradient, self.activated[index], self.signals[node.source])),)
            case Norm():
                return ((node.source, backward.through_norm(gradient, self.signals[node.source], node.kind)),)
            case Pool():
                return ((node.source, through_pool(gradient, node, self.signals[node.source], self.pooled[index])),)
            case Flatten():
                positions = self.signals[index].units / self.signals[node.source].units
                return ((node.source, backward.spread_out(gradient, positions)),)
            case Scale():
                return ((node.source, backward.scaled(gradient, node.factor)),)

    def result(self, index: int, node: Weight) -> LayerPrediction:
        """The prediction of one layer."""
        measured = self.measured.get(index)
        gradient = None if index in self.why_no_gradient else self.gradients.get(index)
        head = index == len(self.network.nodes) - 1
        spread = None
        if gradient is not None:
            spread = gradient.replicas if head else backward.variances(gradient, self.signals[index].units, self.random)
        note = self.why.get(index) or self.why_no_gradient.get(index)
        return LayerPrediction(
            name=node.spec.name,
            pre_activation=None if measured is None else _range(measured.line, measured.replicas),
            gradient=None if gradient is None or spread is None else _range(gradient.line, spread),
            note=f"no prediction: {note}" if note else None,
        )


def _range(line: float, replicas: Array) -> Range:
    return _ranges((Measured(line, replicas),))[0]


def _ranges(layers: Sequence[Measured]) -> list[Range]:
    """The middle of the replicas of each layer, in one go."""
    replicas = np.stack([layer.replicas for layer in layers])
    finite = np.where(np.isfinite(replicas), replicas, np.inf)
    limits = np.quantile(finite, BAND, axis=1, method="weibull")
    return [
        Range(float(layer.line), float(low) * (1 - ROUNDING), float(high) * (1 + ROUNDING))
        for layer, low, high in zip(layers, *limits, strict=True)
    ]

"""A network as theory sees it: nodes in the order of execution, each with the nodes it takes its input from."""

from dataclasses import dataclass, field
from typing import Literal

from initbench.theory.activations import Activation
from initbench.theory.functions import Array


@dataclass(frozen=True)
class LayerSpec:
    """One weight layer: what its weights and biases were drawn from, and its shape.

    `fan_in` counts the inputs of one output (of one group), `units` the outputs a position (channels). Spatial layers
    give `kernel`, `stride`, `padding` and `dilation` a spatial axis; others leave them empty. `why` says why there is no
    formula for the layer, None where there is one.
    """

    name: str
    fan_in: int
    units: int
    law: str = "normal"
    std: float = 0.0
    mean: float = 0.0
    bias_std: float = 0.0
    bias_mean: float = 0.0
    bias_law: str = "normal"
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    why: str | None = None


@dataclass(frozen=True)
class Weight:
    """Applies a weight layer."""

    source: int
    spec: LayerSpec


@dataclass(frozen=True)
class Apply:
    """Applies an activation function."""

    source: int
    activation: str | Activation


@dataclass(frozen=True)
class Norm:
    """Normalizes with scale 1 and shift 0: `batch` each unit over the batch, `layer` each image over its units."""

    source: int
    kind: Literal["batch", "layer"]


@dataclass(frozen=True)
class Pool:
    """Averages or takes the largest of a window."""

    source: int
    kind: Literal["avg", "max"]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


@dataclass(frozen=True)
class Flatten:
    """Makes features of all units at all positions."""

    source: int


@dataclass(frozen=True)
class Scale:
    """Multiplies by a number."""

    source: int
    factor: float


@dataclass(frozen=True)
class Add:
    """Adds two signals that come from different weights."""

    first: int
    second: int


@dataclass(frozen=True)
class Unknown:
    """Something with no formula; `why` in words."""

    sources: tuple[int, ...]
    why: str


Node = Weight | Apply | Norm | Pool | Flatten | Scale | Add | Unknown

INPUT = -1
"""The source of a node that takes the network's input."""


@dataclass(frozen=True)
class InputStats:
    """The probe batch in the numbers that theory needs.

    `squares`: mean over features or channels of x^2, shape (images,) or (images, height, width). `correlation`: root mean
    square over pairs of inputs of their (uncentred) correlation, `mean_correlation` the mean, `class_correlation` the mean
    over pairs of one class: of whole inputs, or of the patches that the first spatial layer sees; each input counts as a
    pair with itself. `samples`: inputs in the batch. `near_correlations`: of patches of one image 1, 2, 4, ... positions
    apart; `aligned_correlations`: mean, mean within a class and root mean square over patches of two images at one place
    (both empty for whole inputs). `signed_correlation`: the mean of the correlations of patches, each pair weighted as in
    `correlation` by both lengths squared; None where all are positive. `class_shares` (classes,): the share of each label in the batch.
    """

    squares: Array = field(compare=False)
    correlation: float
    mean_correlation: float
    class_correlation: float = 0.0
    samples: int = 256
    class_shares: tuple[float, ...] = ()
    near_correlations: tuple[float, ...] = ()
    aligned_correlations: tuple[float, ...] = ()
    signed_correlation: float | None = None
    channels: int = 1
    digest: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hash((self.squares.shape, self.squares.tobytes())))


@dataclass(frozen=True)
class NetworkSpec:
    """The nodes in order of execution; `has_loss` where a softmax cross entropy of the last node is taken."""

    nodes: tuple[Node, ...]
    has_loss: bool = True


def sources(node: Node) -> tuple[int, ...]:
    """The indices of the nodes that a node takes its input from."""
    if isinstance(node, Add):
        return (node.first, node.second)
    return node.sources if isinstance(node, Unknown) else (node.source,)

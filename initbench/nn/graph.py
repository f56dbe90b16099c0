"""The traced graph: the tensors of one forward pass that descend from the model's input, and the weights that they meet."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import torch

from initbench.nn.activation import Function, called, recognized
from initbench.nn.contraction import Axes, Axis
from initbench.nn.operations import SCALINGS, SUMS

INPUT = 1
"""The bit of the model's own input in `Origin.sources`; use number i has bit i + 1."""


class Kind(StrEnum):
    """What made a tensor. Functions, modules, layouts, masks and biases continue their input's elementwise run; the rest begin one."""

    INPUT = "input"
    WEIGHT = "weight"
    BIAS = "bias added to the output of a weight"
    FUNCTION = "elementwise function"
    MODULE = "activation module of the user's own, as a whole"
    LAYOUT = "another shape, layout or precision"
    MASK = "comparison"
    OTHER = "anything else"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a signal comes from.

    `sources` has one bit for the input and one for each use upstream; `last` are the nearest uses; `waiting` are the uses
    that are still without an activation, with what they passed; `path` is what was passed since the nearest use.
    """

    sources: int = 0
    last: frozenset[int] = frozenset()
    waiting: dict[int, tuple[str, ...]] = field(default_factory=dict)
    path: "Path" = ()

    def after(self, *passed: str) -> "Origin":
        """The same signal, after it has passed what is named."""
        waiting = {use: (*between, *passed) for use, between in self.waiting.items()}
        return replace(self, waiting=waiting, path=(*self.path, *passed))


@dataclass(eq=False)
class Node:
    """A tensor that descends from the input: the call that made it, and what its signal has been through.

    In `args` and `kwargs` nodes stand in the place of the tensors they describe. `base` is the index of the node that the
    elementwise run begins with, and `function` gives this tensor from that one; `nonlinear` where that is no straight line.
    `activation_of` are the uses whose activation this is; `earlier` are the value-changing functions of the run before this
    node; `label` is the name that the user's code has for it; `output_of` is the use that this is the untouched output of.
    `discrete` ones hold integers: beside a signal they only say which part of it is meant.
    """

    index: int
    kind: Kind
    name: str
    shape: tuple[int, ...]
    origin: Origin
    inputs: tuple["Node", ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    base: int = -1
    function: Function = torch.clone
    nonlinear: bool = False
    activation_of: frozenset[int] = frozenset()
    earlier: tuple["Node", ...] = ()
    label: str | None = None
    output_of: int | None = None
    discrete: bool = False

    @property
    def steps(self) -> tuple["Node", ...]:
        """The functions of the elementwise run that change values, in order, this one included."""
        return (*self.earlier, self) if self.kind is Kind.FUNCTION else self.earlier

    @property
    def path(self) -> "Path":
        """What was passed since the nearest use, this activation included."""
        return (*self.origin.path, self) if self.nonlinear and self.kind is not Kind.MASK else self.origin.path

    @cached_property
    def known_activation(self) -> str | None:
        """The full name of the run up to here where it is a known activation."""
        steps = self.steps
        if len(steps) == 1 and (name := called(steps[0].name, steps[0].args, steps[0].kwargs)) is not None:
            return name
        if steps and steps[-1].name in {"sin", "cos"} and all(step.name in SUMS | SCALINGS for step in steps[:-1]):
            return _wave(steps[-1])
        name = recognized(self.function)
        return None if name == "identity" else name

    @property
    def activation(self) -> str:
        """The name of the run up to here: the known one, else the user's, else what it is made of."""
        return self.known_activation or self.label or "_".join(step.name for step in self.steps) or "unnamed"


Path = tuple[str | Node, ...]
"""What a signal has passed since the last weight: names, and nodes for activations."""


@dataclass(frozen=True, slots=True)
class ParameterTensor:
    """A tensor that is a parameter (`name`), or was computed from parameters only (the largest counts).

    `axes` are those of the parameter that each of its own runs through, None where that cannot be told.
    """

    name: str
    flipped: bool = False
    computed: bool = False
    piece: bool = False
    axes: Axes | None = None


@dataclass(slots=True)
class Use:
    """One application of a weight; filled in as the signal goes on.

    `origin` is that of the signal that comes in; `args` and `kwargs` are as in `Node`. `kinds` is what is done with each
    axis of the weight, None where it cannot be told; `learned` is the parameter that stands in the place of a signal.
    `nonlinearity` is the activation that a recurrent module has inside; `stopped` names what ended the search for one.
    `block` numbers the residual block, in which the use may be in the `branch` and at its `end`.
    """

    index: int
    weight: ParameterTensor
    function: str
    origin: Origin
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[Axis, ...] | None = None
    learned: str | None = None
    weight_shape: tuple[int, ...] = ()
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    bias: str | None = None
    activation: Node | None = None
    nonlinearity: str | None = None
    between: tuple[str, ...] = ()
    stopped: str | None = None
    block: int | None = None
    branch: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Ends:
    """The modules at the ends of a residual branch, None where none is there.

    `added` gives what is added to the skip path; `around` takes the skip path, as its first argument, and gives the sum;
    `norms` normalize between the branch's last weight and the sum, in order of execution. `held`: the skip path comes straight out
    of a norm, as behind the first of a post-norm stack.
    """

    added: str | None = None
    around: str | None = None
    norms: tuple[str, ...] = ()
    held: bool = False


NO_ENDS = Ends()


@dataclass(frozen=True)
class Graph:
    """What was traced: nodes and uses of weights in order of execution, and the node of the output where that is one tensor.

    `heads` are the uses that the model's outputs come from directly; `ends` are those of the residual blocks, by number.
    """

    nodes: tuple[Node, ...]
    uses: tuple[Use, ...]
    output: Node | None
    heads: frozenset[int]
    ends: tuple[Ends, ...] = ()


def joined_branch(node: Node, uses: Sequence[Use]) -> frozenset[int]:
    """The uses that end the residual branch which this sum adds to a skip path; none where it is no such sum."""
    if node.name in SUMS and len(node.inputs) == 2:
        for branch, skip in (node.inputs, node.inputs[::-1]):
            last = branch.origin.last
            if last and all(uses[index].end and not skip.origin.sources >> (index + 1) & 1 for index in last):
                return last
    return frozenset()


def _wave(step: Node) -> str | None:
    """The name of a sine or cosine of a multiple of the run's beginning."""
    inner = step.args[0] if step.args else None
    if not isinstance(inner, Node):
        return None
    low, high = inner.function(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu")).tolist()
    return f"{step.name}:omega={high:g}" if low == 0 else None

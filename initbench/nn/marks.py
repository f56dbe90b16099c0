"""What a tensor carries while the signal is followed: where it comes from and what it has been through."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from initbench.nn.activation import Function

INPUT = 1
"""The bit of the model's own input in `Node.sources`; use number i has bit i + 1."""


@dataclass(frozen=True, slots=True)
class Step:
    """An elementwise function in a chain; earlier parts of the chain stand in its arguments in place of tensors."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chain:
    """A tensor as an elementwise function of an earlier one, `base`; `bent` where it is not a straight line.

    `owners` are the uses whose activation this is; `steps` are the value-changing functions applied, in order;
    `label` is the name that the user's code has for it.
    """

    base: object
    function: Function = torch.clone
    bent: bool = False
    owners: frozenset[int] = frozenset()
    steps: tuple[Step, ...] = ()
    label: str | None = None


Path = tuple[str | Chain, ...]
"""What a signal has passed since the last weight: names, and chains for activations."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a tensor that descends from the input.

    `sources` has one bit for the input and one for each use upstream; `last` are the nearest uses; `pending` are those
    still without an activation, with what they passed; `path` is what was passed since the last use; `fresh` is the use
    that this is the untouched output of.
    """

    sources: int
    chain: Chain
    last: frozenset[int] = frozenset()
    pending: dict[int, tuple[str, ...]] = field(default_factory=dict)
    path: Path = ()
    fresh: int | None = None

    def apart(self, *passed: str) -> "Node":
        """The same signal after something that is not elementwise: a new base."""
        pending = {use: (*between, *passed) for use, between in self.pending.items()}
        return replace(self, chain=Chain(object()), pending=pending, path=(*self.path, *passed), fresh=None)


@dataclass(frozen=True, slots=True)
class View:
    """A tensor that is a parameter, or was computed from parameters only (the largest counts)."""

    name: str
    flipped: bool = False
    computed: bool = False
    piece: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a use gets its signal: `sources`, nearest uses and path as in `Node`."""

    sources: int = 0
    last: frozenset[int] = frozenset()
    path: Path = ()


@dataclass(slots=True)
class Use:
    """One application of a weight; filled in as the signal goes on.

    `shapes` are the arguments with each tensor replaced by its shape. `on_left` tells W x from x W.
    """

    index: int
    view: View
    function: str
    entry: Entry
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    on_left: bool = False
    weight_shape: tuple[int, ...] = ()
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    bias: str | None = None
    activation: Chain | None = None
    label: str | None = None
    between: tuple[str, ...] = ()
    stopped: str | None = None
    block: int | None = None
    branch: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a torch function on a followed signal: `others` are its tensors that are neither signal nor parameter."""

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    nodes: tuple[Node, ...]
    sizes: tuple[tuple[int, ...], ...]
    views: tuple[tuple[Tensor, View], ...]
    others: tuple[Tensor, ...]

    @property
    def together(self) -> bool:
        """Whether all signals are functions of one and the same tensor."""
        return len({id(node.chain.base) for node in self.nodes}) == 1

    @property
    def plain(self) -> bool:
        """Whether every other tensor is a number."""
        return all(tensor.numel() == 1 for tensor in self.others)


def merged(nodes: tuple[Node, ...]) -> Node:
    """Signals that come together: all their sources, nearest uses and pending uses; the first one's path; a new base."""
    sources, last = 0, frozenset[int]()
    pending: dict[int, tuple[str, ...]] = {}
    for node in nodes:
        sources |= node.sources
        last |= node.last
        pending = {**node.pending, **pending}
    return Node(sources, Chain(object()), last, pending, max((node.path for node in nodes), key=len))


def chains_for(values: Any, known: dict[int, Chain]) -> Any:
    """The arguments with every followed tensor replaced by its chain."""
    if isinstance(values, Tensor):
        return known.get(id(values), values)
    if isinstance(values, tuple | list):
        return type(values)(chains_for(value, known) for value in values) if type(values) in {tuple, list} else values
    if isinstance(values, dict):
        return {key: chains_for(value, known) for key, value in values.items()}
    return values


def filled(values: Any, x: Tensor) -> Any:
    """The arguments with every chain replaced by its value at `x`."""
    if isinstance(values, Chain):
        return values.function(x)
    if isinstance(values, tuple | list):
        return type(values)(filled(value, x) for value in values) if type(values) in {tuple, list} else values
    if isinstance(values, dict):
        return {key: filled(value, x) for key, value in values.items()}
    return values

"""Traces a forward pass into the one graph that layers, predictions and probes are read from.

A torch function mode sees every call; each tensor that descends from the model's input carries its `Node`. Nothing is
known by registration, so functional code and raw parameters are traced like modules.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any
from uuid import uuid4

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initbench.nn import operations as ops
from initbench.nn.activation import Function, is_elementwise
from initbench.nn.branching import Branches
from initbench.nn.contraction import Axis, chained, followed, is_chain, kinds, of_sum
from initbench.nn.graph import INPUT, Graph, Kind, Node, Origin, ParameterTensor, Use
from initbench.nn.outputs import outputs_in

SUMS_WITHOUT_ACTIVATION = 2
"""An output that has been added to others this often no longer counts as going through the activation that follows."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a torch function on signals (`nodes`) or parameters; `others` are its tensors that are neither."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    parameters: tuple[tuple[Tensor, ParameterTensor], ...]
    others: tuple[Tensor, ...]

    @property
    def one_base(self) -> bool:
        """Whether all signals are functions of one and the same tensor."""
        return len({node.base for node in self.nodes}) == 1

    @property
    def only_numbers(self) -> bool:
        """Whether every other tensor is a number."""
        return all(tensor.numel() == 1 for tensor in self.others)


class Tracer(TorchFunctionMode):
    """Traces one forward pass of a model into `nodes` and `uses`. Subclasses may look at the tensors as they come."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.uses: list[Use] = []
        self._parameters = {
            id(parameter): ParameterTensor(name, axes=tuple((axis,) for axis in range(parameter.dim())))
            for name, parameter in model.named_parameters()
        }
        self._products: dict[int, Call] = {}
        self._key = f"_initbench_{uuid4().hex}"
        self._paused = False
        self._branches = Branches(self.uses)
        self._modules: list[tuple[str, Node, Node]] = []

    def on_output(self, use: Use, output: Tensor) -> None:
        """Called with the output of every use (once more where a bias is added to it afterwards)."""

    def on_activation(self, uses: frozenset[int], output: Tensor) -> None:
        """Called with the activation of these uses (once more where it turns out to go on)."""

    def result(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function gives that is traced; called outside of this mode."""
        return func(*args, **kwargs)

    def start(self, inputs: object) -> None:
        """Marks the model's inputs."""
        for tensor in ops.tensors_in(inputs):
            self.add(tensor, Kind.INPUT, "input", Origin(INPUT))

    def graph(self, result: object) -> Graph:
        """The graph of a pass that gave this result."""
        ends = [node for tensor in ops.tensors_in(result) if (node := self.node(tensor)) is not None]
        outputs = outputs_in(result)
        output = self.node(outputs[0]) if len(outputs) == 1 else None
        heads = frozenset[int]().union(*(node.origin.last for node in ends))
        return Graph(tuple(self.nodes), tuple(self.uses), output, heads, self._branches.ends(self._modules))

    def left(self, module: str, first: object, result: object) -> None:
        """Notes that a module has made its result of its first argument."""
        if isinstance(first, Tensor) and isinstance(result, Tensor):
            before, after = self.node(first), self.node(result)
            if before is not None and after is not None:
                self._modules.append((module, before, after))

    def name_of(self, parameter: Tensor, otherwise: str) -> str:
        """The canonical name of a parameter (a tied one has several)."""
        known = self._parameters.get(id(parameter))
        return known.name if known else otherwise

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, nothing is traced."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def unmark(self, values: object) -> None:
        """Takes the marks off tensors that outlive the pass."""
        for tensor in ops.tensors_in(values):
            tensor.__dict__.pop(self._key, None)

    def node(self, tensor: Tensor) -> Node | None:
        """What is known of a tensor; None where it does not descend from the input."""
        mark = tensor.__dict__.get(self._key)
        return mark if isinstance(mark, Node) else None

    def parameter(self, tensor: Tensor) -> ParameterTensor | None:
        """The parameter that a tensor is or comes from."""
        mark = self._parameters.get(id(tensor)) or tensor.__dict__.get(self._key)
        return mark if isinstance(mark, ParameterTensor) else None

    def add(self, output: Tensor, kind: Kind, name: str, origin: Origin, **more: Any) -> Node:
        """Makes the node of a tensor, which then carries it; it begins an elementwise run unless a `base` is given."""
        index = len(self.nodes)
        node = Node(index, kind, name, tuple(output.shape), origin, **{"base": index, "discrete": _is_discrete(output), **more})
        self.nodes.append(node)
        self._mark(output, node)
        return node

    def activate(self, node: Node, waiting: dict[int, tuple[str, ...]], output: Tensor) -> None:
        """Notes the activation of the uses that this node is the activation of."""
        for index in node.activation_of:
            use = self.uses[index]
            use.between = waiting.get(index, use.between)
            use.activation = node
        if node.activation_of:
            self.on_activation(node.activation_of, output)

    def _no_activation(self, node: Node) -> None:
        """The function is only the beginning of a statistic: its uses go on to wait for an activation."""
        for index in node.activation_of:
            if self.uses[index].activation is node:
                self.uses[index].activation, self.uses[index].between = None, ()

    def without_activation(self, origin: Origin) -> frozenset[int]:
        """The uses whose signal this is and that have no activation yet."""
        return frozenset(use for use in origin.waiting if self.uses[use].activation is None)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Calls the function and marks what it gives."""
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            inside = ops.opened(func)
            with self:
                return inside(*args, **kwargs)
        given = (*ops.tensors_in(args), *ops.tensors_in(kwargs))
        nodes = {id(tensor): node for tensor in given if (node := self.node(tensor)) is not None}
        if not all(node.discrete for node in nodes.values()):
            nodes = {key: node for key, node in nodes.items() if not node.discrete}
        parameters = tuple((tensor, origin) for tensor in given if (origin := self.parameter(tensor)) is not None)
        if not nodes and not parameters:
            return func(*args, **kwargs)
        if nodes and is_chain(ops.plain_name(func), args, [tensor for tensor, _ in parameters]):
            with self:
                return chained(ops.plain_name(func), args, lambda tensor: id(tensor) in nodes)
        known = nodes.keys() | {id(tensor) for tensor, _ in parameters}
        call = Call(
            name=ops.plain_name(func),
            func=func,
            args=_with_nodes(args, nodes),
            kwargs=_with_nodes(kwargs, nodes),
            given=given,
            nodes=tuple(nodes[id(tensor)] for tensor in given if id(tensor) in nodes),
            parameters=parameters,
            others=tuple(tensor for tensor in given if id(tensor) not in known),
        )
        result = self.result(func, args, kwargs)
        for output in ops.tensors_in(result):
            self._take_up(call, output)
        return result

    def _mark(self, tensor: Tensor, mark: Node | ParameterTensor) -> None:
        if id(tensor) not in self._parameters:
            tensor.__dict__[self._key] = mark

    def _add(self, call: Call, output: Tensor, origin: Origin, kind: Kind = Kind.OTHER, **more: Any) -> Node:
        return self.add(output, kind, call.name, origin, inputs=call.nodes, args=call.args, kwargs=call.kwargs, **more)

    def _take_up(self, call: Call, output: Tensor) -> None:
        """Marks an output of a call."""
        if call.name in ops.COMPARISONS:
            if call.nodes and call.one_base and call.only_numbers and not call.nodes[0].discrete:
                self._mask(call, output)
        elif call.name in ops.FRESH:
            return
        elif _is_discrete(output):
            if call.nodes:
                self._add(call, output, replace(_merged(call.nodes), waiting={}))
        elif not (output.is_floating_point() or output.is_complex()):
            return
        elif (weight := self._weight_of(call)) is not None:
            self._use(call, output, *weight)
        elif not call.nodes or _chooses(call):
            self._derive(call, output)
        else:
            self._pass(call, output)

    def _weight_of(self, call: Call) -> tuple[Tensor, tuple[Axis, ...] | None] | None:
        """The weight that is applied and what is done with its axes; None where none is: nothing is summed over, or it makes a parameter.

        Products of parameters with constants only make other parameters; a layer function on unknown data is a layer.
        """
        if call.name == "sum":
            return self._weight_of_sum(call)
        if call.name not in ops.WEIGHTED:
            return None
        matrices = [tensor for tensor, _ in call.parameters if tensor.dim() > 1]
        if call.name in ops.LAYERS:
            given = ops.argument(call.args, call.kwargs, 2 if call.name == "bilinear" else 1, "weight", None)
            matrices = [tensor for tensor in matrices if tensor is given] or (matrices if call.nodes else [])
        elif not call.nodes:
            return None
        if not matrices:
            return None
        found = kinds(call.name, call.args, call.kwargs, call.given, matrices[0])
        return (matrices[0], found) if found is None or Axis.IN in found else None

    def _weight_of_sum(self, call: Call) -> tuple[Tensor, tuple[Axis, ...]] | None:
        """The weight of (signal * weight).sum(dim), where the sum goes along axes of the weight."""
        product = self._products.get(call.nodes[0].index) if len(call.nodes) == 1 else None
        if product is None:
            return None
        weight, dims = product.parameters[0][0], len(call.nodes[0].shape)
        along = ops.argument(call.args, call.kwargs, 1, "dim", call.kwargs.get("axis"))
        places = range(dims) if along is None else [along] if isinstance(along, int) else list(along)
        found = of_sum(tuple(weight.shape), product.nodes[0].shape, {place % dims for place in places})
        return (weight, found) if Axis.IN in found else None

    def _mask(self, call: Call, output: Tensor) -> None:
        first = call.nodes[0]
        self._add(
            call,
            output,
            replace(first.origin, waiting={}, path=first.path),
            Kind.MASK,
            base=first.base,
            function=_function(call),
            nonlinear=first.nonlinear,
            activation_of=first.activation_of,
            earlier=first.steps,
            label=first.label,
        )

    def _derive(self, call: Call, output: Tensor) -> None:
        """Something computed from parameters only: the largest of them counts."""
        tensor, largest = max(call.parameters, key=lambda pair: pair[0].numel())
        flips = call.name in ops.FLIPS and (tensor.dim() == 2 or tensor.shape[-2:] == output.shape[-2:][::-1])
        plain = call.name in ops.LAYOUT | ops.PIECES and len(call.parameters) == 1
        mark = ParameterTensor(
            largest.name,
            largest.flipped != flips,
            largest.computed or not plain,
            largest.piece or output.numel() < tensor.numel(),
            followed(tensor, largest.axes, output),
        )
        if mark.axes is None and largest.axes is not None and _chooses(call) and output.shape[1 - tensor.dim() :] == tensor.shape[1:]:
            mark = replace(mark, axes=(*[()] * (output.dim() - tensor.dim() + 1), *largest.axes[1:]))
        self._mark(output, mark)

    def _use(self, call: Call, output: Tensor, weight: Tensor, found: tuple[Axis, ...] | None) -> None:
        """A weight is applied."""
        if call.name == "sum":
            call = replace(self._products[call.nodes[0].index], name="sum")
        signals = [tensor for tensor in call.given if self.parameter(tensor) is None]
        learned = None if signals else next(known.name for tensor, known in call.parameters if tensor is not weight or known.piece)
        data = next((tensor for tensor in signals if self.node(tensor) is not None), (signals or call.given)[0])
        parameter = self.parameter(weight)
        assert parameter is not None
        use = Use(
            index=len(self.uses),
            weight=parameter,
            function=call.name,
            origin=_merged(call.nodes),
            args=call.args,
            kwargs=call.kwargs,
            kinds=found,
            learned=learned,
            weight_shape=tuple(weight.shape),
            input_shape=tuple(data.shape),
            output_shape=tuple(output.shape),
            bias=next((other.name for tensor, other in call.parameters if tensor.dim() == 1), None),
        )
        self.uses.append(use)
        origin = Origin(use.origin.sources | 1 << (use.index + 1), frozenset([use.index]), {use.index: ()})
        self._add(call, output, origin, Kind.WEIGHT, output_of=use.index)
        self.on_output(use, output)

    def _pass(self, call: Call, output: Tensor) -> None:
        """Something that happens to the signal between weights."""
        name, first = call.name, call.nodes[0]
        if name in ops.STATISTICS and first.steps and first.steps[-1].name in ops.EVEN:
            self._no_activation(first)
        arithmetic = name in ops.SUMS | ops.SCALINGS
        if first.output_of is not None and name in ops.SUMS and [tensor.shape for tensor, _ in call.parameters] == [output.shape[-1:]]:
            self._late_bias(call, first.output_of, output)
        elif arithmetic and (call.parameters or not call.only_numbers):
            if name in ops.SUMS and len(call.nodes) == 1:
                self._branches.of_learned(call.nodes[0], {known.name for _, known in call.parameters}, len(self.nodes))
            node = self._add(call, output, self._joined(call).after("shift" if name in ops.SUMS else "scale"))
            if name in ops.MULTIPLICATIONS and len(call.nodes) == 1 and len(call.parameters) == 1 and call.parameters[0][0].dim() > 1:
                self._products[node.index] = call
        elif name in ops.WEIGHTED and call.parameters:
            self._add(call, output, self._joined(call).after("scale"))
        elif name == "glu" or (call.one_base and (name in ops.LAYOUT or (call.only_numbers and (arithmetic or name in ops.BENT)))):
            self._extend(call, output)
        elif name in ops.PASSING | ops.PIECES:
            passed = () if name in ops.PIECES else (ops.described(name, call.args, call.kwargs),)
            self._add(call, output, _merged(call.nodes).after(*passed))
        elif len(call.nodes) == 1 and name not in ops.ENDS and tuple(output.shape) == first.shape and _is_activation(call):
            self._extend(call, output)
        elif len(call.nodes) > 1 and (arithmetic or name in ops.BENT):
            self._add(call, output, self._joined(call).after("add" if name in ops.SUMS else "gate"))
        else:
            self._stop(call, output)

    def _late_bias(self, call: Call, index: int, output: Tensor) -> None:
        """`x @ W + b`: the sum is the layer's output."""
        use, node = self.uses[index], call.nodes[0]
        if use.bias is None:
            use.bias = call.parameters[0][1].name
            self._add(call, output, node.origin, Kind.BIAS, base=node.base, output_of=index)
            self.on_output(use, output)
        else:
            self._add(call, output, node.origin.after("shift"))

    def _extend(self, call: Call, output: Tensor) -> None:
        """The output is an elementwise function of what all inputs are functions of."""
        nodes, first = call.nodes, call.nodes[0]
        layout = call.name in ops.LAYOUT
        product = call.name in ops.SCALINGS and len(nodes) > 1
        inverse = call.name in ops.SCALINGS and "div" in call.name and not isinstance(call.args[0] if call.args else first, Tensor | Node)
        curved = product or inverse or call.name == "rtruediv" or call.name not in ops.SUMS | ops.SCALINGS
        already = any(node.nonlinear for node in nodes)
        nonlinear = already or (curved and not layout)
        origin = _merged(nodes)
        uses = frozenset[int]().union(*(node.activation_of for node in nodes))
        if nonlinear and not already:
            uses |= self.without_activation(origin)
        waiting, path = origin.waiting, origin.path
        if nonlinear:
            path = tuple(part for part in path if not isinstance(part, Node) or part.base != first.base)
            origin = replace(origin, waiting={}, path=path)
        node = self._add(
            call,
            output,
            origin,
            Kind.LAYOUT if layout else Kind.FUNCTION,
            base=first.base,
            function=first.function if layout and call.name not in ops.PRECISIONS else _function(call),
            nonlinear=nonlinear,
            activation_of=uses,
            earlier=max((node.steps for node in nodes), key=len),
            output_of=first.output_of if layout and tuple(output.shape) == first.shape else None,
        )
        if nonlinear and not layout:
            self.activate(node, waiting, output)

    def _stop(self, call: Call, output: Tensor) -> None:
        origin = _merged(call.nodes)
        for index in origin.waiting:
            use = self.uses[index]
            if use.activation is None and use.stopped is None:
                use.stopped = call.name
        self._add(call, output, replace(origin.after(call.name), waiting={}))

    def _joined(self, call: Call) -> Origin:
        """Where several signals meet: a sum, in which one may be a residual branch on the other, or a gate."""
        origin = _merged(call.nodes)
        if len(call.nodes) < 2:
            return origin
        still = self.without_activation(origin)
        waiting = {
            use: between for use, between in origin.waiting.items() if use in still and between.count("add") < SUMS_WITHOUT_ACTIVATION
        }
        origin = replace(origin, waiting=waiting)
        if call.name in ops.SUMS:
            branch = self._branches.of_sum(call.nodes, len(self.nodes))
            return origin if branch is None else replace(origin, last=branch.origin.last, path=branch.path)
        most = max(prod(node.shape) for node in call.nodes)
        large = [node for node in call.nodes if prod(node.shape) == most]
        main = [node for node in large if not _is_gate(node)] or large
        path = max((node.path for node in main), key=len)
        return replace(origin, last=frozenset[int]().union(*(node.origin.last for node in large)), path=path)


def _merged(nodes: tuple[Node, ...]) -> Origin:
    """Signals that come together: all their sources, nearest and waiting uses; the longest path."""
    if not nodes:
        return Origin()
    sources, last = 0, frozenset[int]()
    waiting: dict[int, tuple[str, ...]] = {}
    for node in nodes:
        sources |= node.origin.sources
        last |= node.origin.last
        waiting = {**node.origin.waiting, **waiting}
    return Origin(sources, last, waiting, max((node.path for node in nodes), key=len))


def _chooses(call: Call) -> bool:
    """Whether matrices are chosen from a stack of them by an index that was computed: experts. Of a table, what is chosen is a signal."""
    chosen = call.name in {"getitem", "index_select"} and len(call.parameters) == 1 and call.parameters[0][0].dim() > 2
    return chosen and all(node.discrete for node in call.nodes)


def _is_gate(node: Node) -> bool:
    """Whether a signal is only what another is multiplied by."""
    while node.inputs and node.name in ops.PIECES | ops.LAYOUT:
        node = node.inputs[0]
    return node.name in ops.GATES


def _is_discrete(tensor: Tensor) -> bool:
    """Whether a tensor holds integers."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _is_activation(call: Call) -> bool:
    """Whether a function that is not known by name gives each element its own value."""
    return bool(call.args) and isinstance(call.args[0], Node) and is_elementwise(lambda x: call.func(x, *call.args[1:], **call.kwargs))


def _function(call: Call) -> Function:
    """The output of a call as a function of the tensor that the elementwise run begins with."""
    func, args, kwargs = call.func, call.args, call.kwargs
    return lambda x: func(*_at(args, x), **_at(kwargs, x))


def _with_nodes(values: Any, nodes: dict[int, Node]) -> Any:
    """Arguments with every traced tensor replaced by its node."""
    if isinstance(values, Tensor):
        return nodes.get(id(values), values)
    return _each(values, lambda value: _with_nodes(value, nodes))


def _at(values: Any, x: Tensor) -> Any:
    """Arguments with every node replaced by its value where the run begins with `x`."""
    return values.function(x) if isinstance(values, Node) else _each(values, lambda value: _at(value, x))


def _each(values: Any, change: Callable[[Any], Any]) -> Any:
    """Plain tuples, lists and dicts with all that is in them changed; anything else as it is."""
    if type(values) in {tuple, list}:
        return type(values)(change(value) for value in values)
    return {key: change(value) for key, value in values.items()} if type(values) is dict else values

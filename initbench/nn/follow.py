"""Follows the signal through one forward pass: which weights it meets, in what order, and what lies between them.

A torch function mode sees every call; each tensor that descends from the model's input carries a `Node`. Nothing is
known by registration, so functional code and raw parameters are followed like modules.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor
from torch.overrides import TorchFunctionMode

from initbench.nn import operations as ops
from initbench.nn.activation import is_elementwise
from initbench.nn.joins import Joins
from initbench.nn.marks import INPUT, Call, Chain, Entry, Node, Step, Use, View, chains_for, filled, merged


class Follower(TorchFunctionMode):
    """Watches one forward pass; `uses` are the weights it met, in order. Subclasses may look at the tensors as they come."""

    def __init__(self, parameters: dict[int, str]) -> None:
        super().__init__()
        self.uses: list[Use] = []
        self._joins = Joins(self.uses)
        self._views = {identity: View(name) for identity, name in parameters.items()}
        self._key = f"_initbench_{uuid4().hex}"
        self._aside = False

    def on_output(self, use: Use, output: Tensor) -> None:
        """Called with the output of every use (once more where a bias is added to it afterwards)."""

    def on_activation(self, uses: frozenset[int], output: Tensor) -> None:
        """Called with the activation of these uses (once more where it turns out to go on)."""

    def result(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function gives that is followed; called outside of this mode."""
        return func(*args, **kwargs)

    def start(self, inputs: object) -> None:
        """Marks the model's inputs."""
        for tensor in ops.tensors_in(inputs):
            self.mark(tensor, Node(INPUT, Chain(object())))

    def name_of(self, parameter: Tensor, otherwise: str) -> str:
        """The canonical name of a parameter (a tied one has several)."""
        view = self._views.get(id(parameter))
        return view.name if view else otherwise

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, nothing is followed."""
        before, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = before

    def forget(self, values: object) -> None:
        """Takes the marks off tensors that outlive the pass."""
        for tensor in ops.tensors_in(values):
            tensor.__dict__.pop(self._key, None)

    def node(self, tensor: Tensor) -> Node | None:
        """What is known of a tensor; None where it does not descend from the input."""
        found = tensor.__dict__.get(self._key)
        return found if isinstance(found, Node) else None

    def view(self, tensor: Tensor) -> View | None:
        """The parameter that a tensor is or comes from."""
        found = self._views.get(id(tensor)) or tensor.__dict__.get(self._key)
        return found if isinstance(found, View) else None

    def mark(self, tensor: Tensor, mark: Node | View) -> None:
        """Lets a tensor carry what is known of it."""
        if id(tensor) not in self._views:
            tensor.__dict__[self._key] = mark

    def add(self, use: Use, output: Tensor) -> None:
        """Takes up a use and marks its output."""
        self.uses.append(use)
        sources = use.entry.sources | 1 << (use.index + 1)
        self.mark(output, Node(sources, Chain(object()), frozenset([use.index]), {use.index: ()}, (), use.index))
        self.on_output(use, output)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Calls the function and marks what it gives."""
        kwargs = kwargs or {}
        if self._aside:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            inside = ops.opened(func)
            with self:
                return inside(*args, **kwargs)
        given = [*ops.tensors_in(args), *ops.tensors_in(kwargs)]
        nodes = [(tensor, node) for tensor in given if (node := self.node(tensor)) is not None]
        views = [(tensor, view) for tensor in given if (view := self.view(tensor)) is not None]
        if not nodes and not views:
            return func(*args, **kwargs)
        known = {id(tensor) for tensor, _ in (*nodes, *views)}
        call = Call(
            name=ops.plain_name(func),
            func=func,
            args=args,
            kwargs=kwargs,
            nodes=tuple(node for _, node in nodes),
            sizes=tuple(tuple(tensor.shape) for tensor, _ in nodes),
            views=tuple(views),
            others=tuple(tensor for tensor in given if id(tensor) not in known),
        )
        chains = {id(tensor): node.chain for tensor, node in nodes}
        result = self.result(func, args, kwargs)
        for output in ops.tensors_in(result):
            self._mark_output(call, chains, given, output)
        return result

    def _mark_output(self, call: Call, chains: dict[int, Chain], given: list[Tensor], output: Tensor) -> None:
        if call.name in ops.COMPARISONS:
            if call.nodes and call.together and call.plain:
                function = self._function(call, chains)
                self.mark(output, replace(call.nodes[0], chain=replace(call.nodes[0].chain, function=function), pending={}))
        elif call.name in ops.FRESH or not (output.is_floating_point() or output.is_complex()):
            return
        elif self._applies_weight(call):
            self.add(self._use(call, given, output), output)
        elif not call.nodes:
            self._derive(call, output)
        else:
            self._pass(call, chains, output)

    def _applies_weight(self, call: Call) -> bool:
        """Products of parameters with constants only make other parameters; a layer function on unknown data is a layer."""
        if call.name not in ops.WEIGHTED or not any(tensor.dim() > 1 for tensor, _ in call.views):
            return False
        return bool(call.nodes) or (bool(call.others) and call.name not in ops.PRODUCTS | {"einsum", "inner"})

    def _derive(self, call: Call, output: Tensor) -> None:
        """Something computed from parameters only: the largest of them counts."""
        tensor, view = max(call.views, key=lambda pair: pair[0].numel())
        flips = call.name in ops.FLIPS and (tensor.dim() == 2 or tensor.shape[-2:] == output.shape[-2:][::-1])
        plain = call.name in ops.LAYOUT | ops.PIECES and len(call.views) == 1
        self.mark(output, View(view.name, view.flipped != flips, view.computed or not plain, view.piece or output.numel() < tensor.numel()))

    def _use(self, call: Call, given: list[Tensor], output: Tensor) -> Use:
        weight, view = next((tensor, view) for tensor, view in call.views if tensor.dim() > 1)
        known = [tensor for tensor in given if self.view(tensor) is None]
        data = next((tensor for tensor in known if self.node(tensor) is not None), known[0])
        node = merged(call.nodes) if call.nodes else None
        order = [id(tensor) for tensor in given]
        return Use(
            index=len(self.uses),
            view=view,
            function=call.name,
            entry=Entry(node.sources, node.last, node.path) if node else Entry(),
            args=tuple(tuple(item.shape) if isinstance(item, Tensor) else item for item in call.args),
            kwargs={key: tuple(item.shape) if isinstance(item, Tensor) else item for key, item in call.kwargs.items()},
            on_left=order.index(id(weight)) < order.index(id(data)),
            weight_shape=tuple(weight.shape),
            input_shape=tuple(data.shape),
            output_shape=tuple(output.shape),
            bias=next((other.name for tensor, other in call.views if tensor.dim() == 1), None),
        )

    def _pass(self, call: Call, chains: dict[int, Chain], output: Tensor) -> None:
        """Something that happens to the signal between weights."""
        name, first = call.name, call.nodes[0]
        arithmetic = name in ops.SUMS | ops.SCALINGS
        if first.fresh is not None and name in ops.SUMS and [tuple(tensor.shape) for tensor, _ in call.views] == [output.shape[-1:]]:
            self._late_bias(self.uses[first.fresh], call.views[0][1], first, output)
        elif arithmetic and (call.views or not call.plain):
            self.mark(output, self._joined(call).apart("shift" if name in ops.SUMS else "scale"))
        elif name == "glu" or (call.together and (name in ops.LAYOUT or (call.plain and (arithmetic or name in ops.BENT)))):
            self._extend(call, chains, output)
        elif name in ops.PASSING | ops.PIECES:
            passed = () if name in ops.PIECES else (ops.described(name, call.args, call.kwargs),)
            self.mark(output, merged(call.nodes).apart(*passed))
        elif len(call.nodes) == 1 and name not in ops.ENDS and tuple(output.shape) == call.sizes[0] and self._acts(call):
            self._extend(call, chains, output)
        elif len(call.nodes) > 1 and (name in ops.SUMS | ops.SCALINGS or name in ops.BENT):
            self.mark(output, self._joined(call).apart("add" if name in ops.SUMS else "gate"))
        else:
            self._stop(call, output)

    def _joined(self, call: Call) -> Node:
        if len(call.nodes) < 2:
            return call.nodes[0]
        return self._joins.join(call) if call.name in ops.SUMS else self._joins.gate(call)

    def _late_bias(self, use: Use, bias: View, node: Node, output: Tensor) -> None:
        """`x @ W + b`: the sum is the layer's output."""
        if use.bias is None:
            use.bias = bias.name
            self.mark(output, node)
            self.on_output(use, output)
        else:
            self.mark(output, node.apart("shift"))

    def _acts(self, call: Call) -> bool:
        rest = call.args[1:]
        if not call.args or not isinstance(call.args[0], Tensor):
            return False
        return is_elementwise(lambda x: call.func(x, *rest, **call.kwargs))

    def _function(self, call: Call, chains: dict[int, Chain]) -> Callable[[Tensor], Tensor]:
        args, kwargs, func = chains_for(call.args, chains), chains_for(call.kwargs, chains), call.func
        return lambda x: func(*filled(args, x), **filled(kwargs, x))

    def _extend(self, call: Call, chains: dict[int, Chain], output: Tensor) -> None:
        """The output is an elementwise function of what all inputs are functions of."""
        nodes, first = call.nodes, call.nodes[0]
        layout = call.name in ops.LAYOUT
        product = call.name in ops.SCALINGS and len(nodes) > 1
        divided = call.name in {"rtruediv"} or (call.name in ops.SCALINGS and len(call.args) > 1 and not isinstance(call.args[0], Tensor))
        curved = product or (divided and "div" in call.name) or call.name not in ops.SUMS | ops.SCALINGS
        bent = (curved and not layout) or any(node.chain.bent for node in nodes)
        whole = merged(nodes)
        owners = frozenset[int]().union(*(node.chain.owners for node in nodes))
        if bent and not any(node.chain.bent for node in nodes):
            owners |= {use for use in whole.pending if self.uses[use].activation is None}
        step = () if layout else (Step(call.name, chains_for(call.args, chains), chains_for(call.kwargs, chains)),)
        steps = max((node.chain.steps for node in nodes), key=len) + step
        chain = Chain(first.chain.base, self._function(call, chains), bent, owners, steps)
        path = (*(part for part in whole.path if not isinstance(part, Chain) or part.base is not chain.base), chain) if bent else whole.path
        pending = {} if bent else whole.pending
        fresh = first.fresh if layout and tuple(output.shape) == call.sizes[0] else None
        self.mark(output, Node(whole.sources, chain, whole.last, pending, path, fresh))
        if bent and not layout:
            self.activate(chain, whole.pending, output)

    def activate(self, chain: Chain, pending: dict[int, tuple[str, ...]], output: Tensor) -> None:
        """Notes the activation of the chain's owners."""
        for index in chain.owners:
            use = self.uses[index]
            use.between = pending.get(index, use.between)
            use.activation = chain
        if chain.owners:
            self.on_activation(chain.owners, output)

    def _stop(self, call: Call, output: Tensor) -> None:
        node = merged(call.nodes)
        for index in node.pending:
            use = self.uses[index]
            if use.activation is None and use.stopped is None:
                use.stopped = call.name
        self.mark(output, replace(node.apart(call.name), pending={}))

"""What a probe should find, measured without initbench: forward hooks, hooks on tensors, and autograd's own graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LAYERS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
BENT = (
    "Relu", "Silu", "Gelu", "Sigmoid", "Tanh", "Hardswish", "Hardtanh", "LeakyRelu", "Elu", "Softplus", "Mish", "Hardsigmoid", "Sin",
    "Prelu", "LogSigmoid", "Clamp", "Pow", "Glu", "Exp", "Abs",
)  # fmt: skip
"""Names of autograd's nodes of activation functions."""
AROUND = ("Add", "Mul", "Div", "Sub", "View", "Alias", "ToCopy")
"""Steps that an activation by hand consists of, beside the bent one: x * sigmoid(x), x * relu6(x + 3) / 6."""
FUNCTIONS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear")


@dataclass
class Seen:
    """A layer at the first call that is given a signal and no constant (where there is none, the first).

    Variance of its output, of the gradient by it, and what autograd knows of it.
    """

    pre_activation: float
    square: float
    shape: tuple[int, ...]
    node: object = None
    gradient: float | None = None
    gradient_square: float = 0.0
    finite: bool = True
    signal: bool = True
    calls: int = 1
    direct: float | None = None
    """Variance of the activation that takes this very output, where one does."""
    candidates: list[float] = field(default_factory=list)
    """Variances of everything that a chain of elementwise functions with a bent one makes of what comes from this layer alone."""


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass: layers by name, the loss, whether every number was finite."""

    layers: dict[str, Seen]
    finite: bool
    output: Tensor


def batch_mode(model: nn.Module) -> None:
    """Dropout off, batch norms by the statistics of the batch."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train()
        if getattr(module, "inplace", False):
            module.inplace = False  # so that autograd's graph shows the activation of a view, too


def run(model: nn.Module, inputs: object) -> object:
    """Calls a model the way its batch is meant: a tuple is positional, a dict is by keywords."""
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def tensors(values: object) -> Iterator[Tensor]:
    """All floating tensors in an output, in order."""
    if isinstance(values, Tensor):
        if values.is_floating_point() or values.is_complex():
            yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)


def variance(values: Tensor) -> float:
    """Population variance of all numbers, in float64."""
    values = values.detach()
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.double().var(correction=0).item()


def square(values: Tensor) -> float:
    """Mean square of all numbers."""
    values = values.detach()
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.double().square().mean().item()


def passed(model: nn.Module, inputs: object, labels: Tensor | None) -> Pass:
    """A pass of a model nobody else uses; gradients are of the cross entropy of its logits, summed over the batch, given labels."""
    batch_mode(model)
    layers: dict[str, Seen] = {}
    last: list[object] = [None]
    names = {id(parameter): name.removesuffix(".weight") for name, parameter in model.named_parameters() if parameter.dim() > 1}
    names |= {id(module.weight): name for name, module in model.named_modules() if isinstance(module, LAYERS)}

    def see(name: str, given: object, output: Tensor) -> None:
        if not isinstance(output, Tensor) or output is last[0]:
            return
        last[0] = output
        earlier, signal = layers.get(name), isinstance(given, Tensor) and given.requires_grad
        if earlier is not None:
            earlier.calls += 1
            if earlier.signal or not signal:
                return
        calls = 1 if earlier is None else earlier.calls
        seen = layers[name] = Seen(variance(output), square(output), tuple(output.shape), output.grad_fn, signal=signal, calls=calls)
        seen.finite = bool(torch.isfinite(output.detach()).all())

        def back(gradient: Tensor) -> None:
            if seen.gradient is None:
                seen.gradient, seen.gradient_square = variance(gradient), square(gradient)
                seen.finite &= bool(torch.isfinite(gradient).all())

        if output.requires_grad:
            output.register_hook(back)

    hooks = [
        module.register_forward_hook(lambda module, args, output, name=name: see(name, args[0], output))
        for name, module in model.named_modules()
        if isinstance(module, LAYERS) or type(module).__name__ == "Conv1D"
    ]
    steps = Steps()
    hooks += [
        module.register_forward_hook(steps.of_module)
        for module in model.modules()
        if not list(module.parameters()) and not list(module.children())
    ]
    with patched(names, see), torch.enable_grad(), torch.random.fork_rng(devices=[]), steps:
        output = run(model, _followed(inputs))
    for hook in hooks:
        hook.remove()
    first = next(tensors(output))
    if labels is not None:
        functional.cross_entropy(first.float(), labels, reduction="sum").backward()
    steps.follow(layers)
    finite = all(seen.finite for seen in layers.values()) and all(bool(torch.isfinite(each.detach()).all()) for each in tensors(output))
    return Pass(layers, finite, first.detach())


def _followed(values: object) -> object:
    """The inputs with floating tensors that autograd follows."""
    if isinstance(values, Tensor):
        values = values.detach().clone()
        return values.requires_grad_() if values.is_floating_point() else values
    if isinstance(values, dict):
        return {key: _followed(value) for key, value in values.items()}
    return type(values)(_followed(value) for value in values) if isinstance(values, tuple | list) else values


@contextlib.contextmanager
def patched(names: dict[int, str], see) -> Iterator[None]:
    """Within, layers that are called as functions with a parameter are seen too."""
    originals = {name: getattr(functional, name) for name in FUNCTIONS}

    def watched(function):
        def call(*args, **kwargs):
            output = function(*args, **kwargs)
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            if id(weight) in names:
                see(names[id(weight)], args[0], output)
            return output

        return call

    try:
        for name, function in originals.items():
            setattr(functional, name, watched(function))
        yield
    finally:
        for name, function in originals.items():
            setattr(functional, name, function)


class Steps(TorchFunctionMode):
    """Notes the variance of every bent or elementwise step, with autograd's node of it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[object, float] = {}
        self.own: set[object] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.grad_fn is not None and output.grad_fn.name().startswith((*BENT, *AROUND)):
            self.steps[output.grad_fn] = variance(output)
        return output

    def of_module(self, module: nn.Module, args: tuple[object, ...], output: object) -> None:
        """A module without weights may be an activation that is hidden in a function of its own."""
        if isinstance(output, Tensor) and output.grad_fn is not None and output.grad_fn not in self.steps:
            self.steps[output.grad_fn] = variance(output)
            if type(output.grad_fn).__module__ != "torch.autograd.graph" and "Backward0" not in output.grad_fn.name():
                self.own.add(output.grad_fn)

    def follow(self, layers: dict[str, Seen]) -> None:
        """Tells each layer which activations come of it."""
        known = {seen.node: name for name, seen in layers.items() if seen.node is not None}
        takers: dict[object, set[object]] = {}
        for node in self.steps:
            for before, _ in node.next_functions:
                takers.setdefault(before, set()).add(node)
        for seen in layers.values():
            bent = [node for node in takers.get(seen.node, ()) if node.name().startswith(BENT)]
            others = [node for node in takers.get(seen.node, ()) if not node.name().startswith(BENT)]
            goes_on = any(node.name().startswith("Pow") for one in bent for node in takers.get(one, ()))
            if len(bent) == 1 and not others and not goes_on and not bent[0].name().startswith("Clamp"):
                seen.direct = self.steps[bent[0]]
            elif len(bent) == 1 and len(others) == 1 and others[0].name().startswith("Mul"):
                pair = {before for before, _ in others[0].next_functions}
                seen.direct = self.steps[others[0]] if pair == {seen.node, bent[0]} else None
        for node, value in self.steps.items():
            found, bend = _layers_behind(node, known) if node not in known else (set(), False)
            if bend or node in self.own:
                for name in found:
                    layers[name].candidates.append(value)


def _layers_behind(node: object, known: dict[object, str], limit: int = 400) -> tuple[set[str], bool]:
    """Names of the layers from which a step comes without another layer between, and whether a bent function is on the way."""
    found: set[str] = set()
    bend, stack, seen = node.name().startswith(BENT), [before for before, _ in node.next_functions], set()
    while stack and len(seen) < limit:
        here = stack.pop()
        if here is None or here in seen:
            continue
        seen.add(here)
        if here in known:
            found.add(known[here])
            continue
        bend = bend or here.name().startswith(BENT)
        stack += [before for before, _ in here.next_functions]
    return found, bend

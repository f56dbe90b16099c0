"""Many models of one structure as one: each parameter and buffer a tensor whose first dimension is the run."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from initbench.errors import InitbenchError
from initbench.nn.seeds import random_states, same_random_states
from initbench.training.optimizer import shaped

ALIGNMENT = 32
"""Every parameter starts at a multiple of so many numbers in its run's row, so that matrix products can load it in full words."""


ROUNDING = 1e-4
"""The largest relative difference between two ways to compute the same output."""


class CannotStack(InitbenchError):
    """Models that cannot be trained as one; the message says why."""


class Stack:
    """The models' trainable parameters are views of `weights` (runs, numbers); so are their buffers of `buffers`.

    What is measured on one of the models is therefore measured on the stack as it is. `parameters` are the leaves to
    differentiate with respect to; `gradients` (runs, numbers) is theirs, laid out like `weights`. The trainable parameters
    named `first` are in the first `width_of_first` columns.
    """

    def __init__(self, models: Sequence[nn.Module], first: Collection[str] = ()) -> None:
        """Moves the models' parameters and buffers into the stack. Raises: CannotStack with what differs."""
        self.runs, self.base = len(models), models[0]
        trainable = {name: parameter for name, parameter in self.base.named_parameters() if parameter.requires_grad}
        kinds = {(parameter.dtype, parameter.device) for parameter in trainable.values()}
        if len(kinds) != 1:
            raise CannotStack("its trainable parameters have more than one type or device" if kinds else "it has no trainable parameter")
        if len({signature(model) for model in models}) > 1:
            raise CannotStack("the models differ in their parameters")
        ((dtype, device),) = kinds
        self.first = [name for name in trainable if name in first]
        self.offsets: dict[str, int] = {}
        width = self.width_of_first = 0
        for name in (*self.first, *(name for name in trainable if name not in first)):
            self.offsets[name] = width
            width += -(-trainable[name].numel() // ALIGNMENT) * ALIGNMENT
            if name in self.first:
                self.width_of_first = width
        self.weights = torch.zeros(self.runs, width, dtype=dtype, device=device)
        self.gradients = torch.zeros_like(self.weights)
        self._adopt(models, trainable)

    def _adopt(self, models: Sequence[nn.Module], trainable: dict[str, nn.Parameter]) -> None:
        self.parameters, self.gradient_views, self.fixed = {}, {}, {}
        for name, parameter in trainable.items():
            values = self.region(self.weights, name, parameter)
            for own, model in zip(values.unbind(), models, strict=True):
                theirs = model.get_parameter(name)
                own.copy_(theirs.detach())
                theirs.data = own
            self.parameters[name] = values.detach().requires_grad_()
            self.gradient_views[name] = self.region(self.gradients, name, parameter)
        for name, _ in self.base.named_parameters():
            if name not in trainable:
                self.fixed[name] = torch.stack([model.get_parameter(name).detach() for model in models])
        for name, _ in self.base.named_buffers():
            values = torch.stack([model.get_buffer(name) for model in models])
            self.fixed[name] = values
            for own, model in zip(values.unbind(), models, strict=True):
                owner, _, short = name.rpartition(".")
                model.get_submodule(owner)._buffers[short] = own

    def region(self, rows: Tensor, name: str, like: Tensor) -> Tensor:
        """The part of `rows` (runs, numbers) that is one parameter, (runs, *its shape), in the memory layout of `like`."""
        start = self.offsets[name]
        return shaped(rows[:, start : start + like.numel()], like)

    def call(self, inputs: Tensor) -> Tensor:
        """Outputs (runs, N, ...) of inputs (runs, N, ...), each run by its own model, in the base model's mode."""

        def one(parameters: dict[str, Tensor], fixed: dict[str, Tensor], own: Tensor) -> Tensor:
            return functional_call(self.base, (parameters, fixed), (own,))  # type: ignore[no-any-return]

        return torch.vmap(one, randomness="different")(self.parameters, self.fixed, inputs)


def signature(model: nn.Module) -> tuple[object, ...]:
    """What models must share to be stacked: the names of their modules' types, and the names, shapes and types of their numbers."""
    numbers = [(name, tuple(p.shape), p.dtype, p.requires_grad) for name, p in model.named_parameters()]
    buffers = [(name, tuple(b.shape), b.dtype) for name, b in model.named_buffers()]
    modules = [(name, type(module).__qualname__) for name, module in model.named_modules()]
    return (tuple(modules), tuple(numbers), tuple(buffers))


@torch.no_grad()
def refuse_different(models: Sequence[nn.Module], inputs: Tensor) -> None:
    """Raises: CannotStack where the first model, given another's numbers, does not compute what that other one computes."""
    base = models[0]
    for model in models[1:]:
        with _evaluating(base), _evaluating(model):
            numbers = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            if not _alike(functional_call(base, numbers, (inputs,)), model(inputs)):
                raise CannotStack("the models compute different functions of the same parameters")


@contextmanager
def refuse_draws() -> Iterator[None]:
    """Raises: CannotStack where what is within draws random numbers that no run has for itself: they would depend on the other runs."""
    before = random_states()
    yield
    if not same_random_states(before, random_states()):
        raise CannotStack("its forward draws random numbers, which in a stack would depend on the other runs")


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs differ by rounding only, relative to their largest number."""
    scale = float(other.nan_to_num(0.0, 0.0, 0.0).abs().max()) if other.numel() else 0.0
    return one.shape == other.shape and torch.allclose(one, other, rtol=ROUNDING, atol=ROUNDING * scale, equal_nan=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Within: evaluation mode, in which nothing is drawn and no buffer changes."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag

"""What carries out the rule of an optimizer (`initbench.optimizers`), a whole step as a few operations on flat buffers.

Importing torch.optim's machinery (about a second) is not needed. A parameter that gets no gradient is treated as if its
gradient were zero.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, UserCode, a_or_an
from initbench.init.structural import head_of
from initbench.nn.layers import WeightLayer
from initbench.optimizers import Matrix, Number, Part, Rule, build_rule
from initbench.question import catalog
from initbench.question.config import TrainConfig
from initbench.question.given import is_given
from initbench.training.learning_rate import learning_rate

CLIP_EPSILON = 1e-6
"""Added to the gradient norm before dividing by it, as torch does."""

Step = TypeVar("Step", int, Tensor)
"""The updates so far: an int, or in a stack an int64 tensor (1,) on the device."""


class Optimizer(Generic[Step]):
    """Call `before_backward`, then backward on the loss, then `update`. Gradients are written where the parts' `gradients` are."""

    def __init__(self, parts: Sequence[Part], numbers: Callable[[Step], Sequence[tuple[Number, ...]]], largest_norm: Number | None) -> None:
        """`numbers` gives those of each part's rule at a step; the global gradient norm is clipped at `largest_norm`."""
        self.parts, self.largest_norm = parts, largest_norm
        self.numbers: Callable[[Step], Sequence[tuple[Number, ...]]] = numbers
        self.now: Sequence[tuple[Number, ...]] = ()

    @torch.no_grad()
    def before_backward(self, step: Step) -> None:
        """Clears the gradients, or leaves in their place what the rule wants the next ones to be added to."""
        self.now = self.numbers(step)
        for part, numbers in zip(self.parts, self.now, strict=True):
            part.rule.before_backward(part, numbers)

    @torch.no_grad()
    def update(self) -> None:
        """Takes the step with the gradients that are there."""
        if self.largest_norm is not None:
            norms = [torch.linalg.vector_norm(part.gradients, dim=-1, keepdim=True, dtype=torch.float32) for part in self.parts]
            norm = torch.linalg.vector_norm(torch.cat(norms, -1), dim=-1, keepdim=True)
            factor = (self.largest_norm / (norm + CLIP_EPSILON)).clamp_(max=1.0)
            for part in self.parts:
                part.gradients.mul_(factor)
        for part, numbers in zip(self.parts, self.now, strict=True):
            part.rule.update(part, numbers)


class OwnOptimizer(Optimizer[int]):
    """A torch optimizer that somebody's function made; it has no parts."""

    def __init__(self, made: torch.optim.Optimizer, largest_norm: float | None) -> None:
        super().__init__((), lambda _step: (), largest_norm)
        self.made = made
        self.parameters = [parameter for group in made.param_groups for parameter in group["params"]]

    def before_backward(self, step: int) -> None:  # noqa: ARG002 - the optimizer counts itself
        """Clears the gradients."""
        self.made.zero_grad()

    def update(self) -> None:
        """Takes the step with the gradients that are there."""
        if self.largest_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, float(self.largest_norm))
        self.made.step()


def own_optimizer(model: nn.Module, config: TrainConfig, multipliers: Mapping[str, float]) -> torch.optim.Optimizer:
    """What somebody's function makes of the trainable parameters; factors on the learning rate are groups of their own.

    Raises: ConfigError for anything but an optimizer of torch's that has every parameter.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(multipliers.get(name, 1.0), []).append(parameter)
    function = catalog.load("optimizer", config.optimizer.name)
    with UserCode(f"The optimizer '{config.optimizer.shown}' cannot be built"):
        made = function(groups[1.0] if set(groups) == {1.0} else [{"params": own} for own in groups.values()])
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(
            f"The optimizer '{config.optimizer.shown}' gives {a_or_an(type(made).__name__)}. It must give an optimizer of torch.optim, "
            "such as lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)."
        )
    if set(groups) != {1.0}:
        for group, factor in zip(made.param_groups, groups, strict=True):
            group["lr"] *= factor
    if {id(each) for group in made.param_groups for each in group["params"]} != {id(each) for own in groups.values() for each in own}:
        raise ConfigError(f"The optimizer '{config.optimizer.shown}' does not have the parameters that it was given, each once.")
    return made


def check_optimizer(config: TrainConfig, model: nn.Module) -> None:
    """Raises: ConfigError where the optimizer cannot be built."""
    if is_given(config.optimizer.name):
        own_optimizer(model, config, {})
    else:
        build_rule(config)


def optimizer_of(
    model: nn.Module, layers: Sequence[WeightLayer], config: TrainConfig, multipliers: Mapping[str, float], steps: int
) -> Optimizer[int]:
    """The optimizer of a run alone; `multipliers` are factors on the learning rate by parameter name.

    Moves the trainable parameters into flat buffers, one for each factor and type; the model keeps its Parameter objects.
    """
    if is_given(config.optimizer.name):
        return OwnOptimizer(own_optimizer(model, config, multipliers), config.clip_norm)
    rule = build_rule(config)
    matrices = hidden_matrices(layers) if rule.others else set()
    chosen: dict[tuple[float, torch.dtype, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            chosen.setdefault((multipliers.get(name, 1.0), parameter.dtype, name in matrices), []).append(parameter)
    parts = [
        _flat(rule if is_matrix or rule.others is None else rule.others, parameters, is_matrix=is_matrix)
        for (_, _, is_matrix), parameters in chosen.items()
    ]
    factors = [factor for factor, _, _ in chosen]

    def numbers(step: int) -> list[tuple[float, ...]]:
        rate = learning_rate(config, step, steps)
        return [part.rule.numbers(step + 1, rate * factor) for part, factor in zip(parts, factors, strict=True)]

    return Optimizer(parts, numbers, config.clip_norm)


def hidden_matrices(layers: Sequence[WeightLayer]) -> set[str]:
    """The names of the weights between the first layer and the head."""
    head = head_of(tuple(layers))
    return {layer.parameter for layer in layers[1:] if layer is not head}


def matrix_at(start: int, parameter: Tensor) -> Matrix:
    """Where a weight lies that begins at a place: its outputs (the first dimension) and everything else."""
    return Matrix(start, parameter.shape[0], parameter.numel() // parameter.shape[0])


def _flat(rule: Rule, parameters: Sequence[nn.Parameter], *, is_matrix: bool) -> Part:
    sizes = [parameter.numel() for parameter in parameters]
    weights = torch.empty(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
    gradients = torch.zeros_like(weights)
    for parameter, piece, gradient in zip(parameters, torch.split(weights, sizes), torch.split(gradients, sizes), strict=True):
        view = shaped(piece, parameter)
        view.copy_(parameter.detach())
        parameter.data = view
        parameter.grad = shaped(gradient, parameter)
    places = [sum(sizes[:number]) for number in range(len(sizes))]
    matrices = tuple(matrix_at(place, parameter) for place, parameter in zip(places, parameters, strict=True)) if is_matrix else ()
    return Part(rule, weights, gradients, tuple(torch.full_like(weights, start) for start in rule.state), matrices)


def shaped(numbers: Tensor, like: Tensor) -> Tensor:
    """The view (..., *shape) of (..., numbers) that has the shape of a parameter and is laid out like it: channels last where it is."""
    if like.dim() == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
        out, channels, height, width = like.shape
        return numbers.view(*numbers.shape[:-1], out, height, width, channels).movedim(-1, -3)
    return numbers.view((*numbers.shape[:-1], *like.shape))

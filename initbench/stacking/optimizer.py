"""The optimizer of all runs of a stack at once, each with its own numbers; nothing waits for the device."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from initbench.optimizers import Number, Part, Rule
from initbench.question.config import TrainConfig
from initbench.stacking.stack import Stack
from initbench.training.learning_rate import learning_rate
from initbench.training.optimizer import Optimizer, matrix_at


def stacked_optimizer(
    stack: Stack, rules: Sequence[Rule], configs: Sequence[TrainConfig], multipliers: Sequence[Mapping[str, float]], steps: int
) -> Optimizer[Tensor]:
    """The same updates as those of each run alone, on rows (runs, numbers).

    `rules` are those of `configs`, of one optimizer with the same parameters; `multipliers` the runs' factors on the learning
    rate by parameter name.
    """
    factors = _factors(stack, multipliers)
    parts, tables = [], []
    for own, names, columns in _divided(stack, rules):
        kept = max((rule.state for rule in own), key=len)
        weights = stack.weights[:, columns]
        matrices = tuple(matrix_at(stack.offsets[name] - columns.start, stack.parameters[name][0]) for name in names)
        states = tuple(torch.full_like(weights, start) for start in kept)
        part = Part(own[0], weights, stack.gradients[:, columns], states, matrices, None if factors is None else factors[:, columns])
        parts.append(part)
        tables.append(_Table(own, configs, steps, stack.weights.device))
    clips = configs[0].clip_norm is not None
    largest = torch.tensor(
        [config.clip_norm or math.inf for config in configs], dtype=torch.float32, device=stack.weights.device
    ).unsqueeze(1)
    return Optimizer(parts, lambda step: [table.at(step) for table in tables], largest if clips else None)


def _divided(stack: Stack, rules: Sequence[Rule]) -> list[tuple[list[Rule], Sequence[str], slice]]:
    """The rules of each part of the stack, the matrices in it and its columns: the matrices, which come first, and the others."""
    everything = slice(0, stack.weights.shape[1])
    others = [rule.others for rule in rules if rule.others is not None]
    if not others:
        return [(list(rules), (), everything)]
    parts: list[tuple[list[Rule], Sequence[str], slice]] = [
        (list(rules), stack.first, slice(0, stack.width_of_first)),
        (list(others), (), slice(stack.width_of_first, everything.stop)),
    ]
    return [part for part in parts if part[2].start < part[2].stop]


def _factors(stack: Stack, multipliers: Sequence[Mapping[str, float]]) -> Tensor | None:
    """The factor on each number's learning rate, None where all are 1."""
    if not any(factor != 1.0 for own in multipliers for factor in own.values()):
        return None
    factors = torch.ones_like(stack.weights)
    for run, own in enumerate(multipliers):
        for name, factor in own.items():
            if name in stack.offsets:
                stack.region(factors, name, stack.parameters[name][0])[run] = factor
    return factors


class _Table:
    """The numbers of a rule at every step, for each run: what is zero everywhere is the float 0.0, all else comes from the device."""

    def __init__(self, rules: Sequence[Rule], configs: Sequence[TrainConfig], steps: int, device: torch.device) -> None:
        known: dict[TrainConfig, list[tuple[float, ...]]] = {}
        for config, rule in zip(configs, rules, strict=True):
            if config not in known:
                known[config] = [rule.numbers(step + 1, learning_rate(config, step, steps)) for step in range(max(1, steps))]
        table = torch.tensor([known[config] for config in configs], dtype=torch.float64, device="cpu").permute(1, 2, 0).unsqueeze(-1)
        self.is_zero = [not bool(numbers.any()) for numbers in table.unbind(1)]
        self.rows = table.float().to(device).contiguous()

    def at(self, step: Tensor) -> tuple[Number, ...]:
        """The numbers of the step of this number, an int64 tensor (1,) on the device."""
        columns = self.rows.index_select(0, step)[0].unbind()
        return tuple(0.0 if zero else column for zero, column in zip(self.is_zero, columns, strict=True))

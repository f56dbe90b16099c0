"""The rule `coarse_numbers`."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from initbench.linting.builds import tensors_of
from initbench.linting.finding import Finding, Severity, alike
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB110"
FEWEST = 1000
"""Numbers from which on shares of them say something."""
AT_AN_END = 0.005
"""The share of the numbers at the lowest or highest value that no law has: where values were cut, or rounded to one."""
SKEWED = 6.0
"""Standard errors of a mean that is not zero."""
COARSE = {torch.bfloat16: "bfloat16", torch.float16: "float16"}


def check(subject: Subject) -> Iterator[Finding]:
    """Random numbers that low precision has spoiled: many at one end, a mean that is off, hardly any different values.

    Measured: of each parameter that is stored in 16 bits, or holds nothing but such numbers in 32: the different values, the share at
    the lowest and the highest, and the mean beside its standard error.
    Expected: what the same law has in float32, but for rounding.
    Remedy:
        weight = torch.empty(shape, dtype=torch.float32)
        nn.init.trunc_normal_(weight, std=0.02)
        layer.weight.data.copy_(weight)                   # draw in float32, then round

    Source: torch.nn.init.trunc_normal_ draws by the inverse error function in the precision of the tensor, which bfloat16 cannot
    resolve near the ends (pytorch issue 155588 and others).
    """
    found: dict[str, list[str]] = {}
    for name, tensor in tensors_of(subject.model).items():
        message = _message(tensor) if name in subject.parameters.first and name in subject.drawn else None
        if message is not None:
            found.setdefault(message, []).append(name)
    merged: dict[str, list[str]] = {}
    for message, names in found.items():
        merged.setdefault(message.partition(":")[0], []).extend(names)
    for what, names in merged.items():
        for same in alike(names):
            told = next(message for message, own in found.items() if same[0] in own)
            yield Finding(
                severity=Severity.WARNING,
                parameters=same,
                message=f"random numbers spoiled by low precision: {what}",
                measured=told.partition(": ")[2],
                effect="the numbers are not those of the law that was asked for",
                fix="weight = torch.empty(shape, dtype=torch.float32)      # draw in float32, then round",
            )


def _message(tensor: Tensor) -> str | None:
    """What is wrong, and the numbers that show it after a colon."""
    if not tensor.is_floating_point() or tensor.numel() < FEWEST:
        return None
    kind = COARSE.get(tensor.dtype) or next((name for dtype, name in COARSE.items() if _fits(tensor, dtype)), None)
    if kind is None or not tensor.isfinite().all():
        return None
    values = tensor.flatten().double()
    low, high = values.min(), values.max()
    ends = max((values == low).double().mean().item(), (values == high).double().mean().item())
    different, count = len(torch.unique(values)), len(values)
    mean, std = values.mean().item(), values.std(correction=0).item()
    if different > 8 and ends > AT_AN_END and min(abs(low.item()), abs(high.item())) > 0:
        share = f"{100 * ends:.2g} %"
        return f"{share} at one end: {share} of {count} numbers of {kind} precision are {low:.4g} or {high:.4g}, std {std:.4g}"
    if different <= 8 and std:
        return f"few different values: {different} different values among {count} numbers of {kind} precision"
    if abs(mean) > SKEWED * std / math.sqrt(count) and abs(low.item() + high.item()) < 0.5 * std and abs(mean) < 0.2 * std:
        return f"a mean that is off: mean {mean:.3g}, where chance gives {std / math.sqrt(count):.2g}, std {std:.4g}, of {kind} precision"
    return None


def _fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether 32-bit numbers are all numbers of 16 bits."""
    return tensor.dtype == torch.float32 and torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)

"""Whether values follow the mean and the deviation that a report promises: by chi-square, with what was drawn as its own scale."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from initbench.results import InitReport, ParameterInit

SIGMAS = 5.5
"""Deviations of an estimate beyond which it is no chance: about one in thirty million."""
ROUNDING = 1e-5
"""Relative difference that float32 explains."""
PLAIN = {"normal", "uniform", "trunc_normal", "orthogonal", "constant"}
FEWEST, FEWEST_OF_OTHERS = 32, 5000
"""Below so many values nothing is said, of a plain law or of another (which may have rare large values)."""


def deviation(starts: Sequence[tuple[InitReport, Mapping[str, Tensor]]]) -> str | None:
    """What is wrong with the first parameter whose values, of all starts together, do not fit the promise; else None.

    The sum of squares around the promised mean over the promised variance is n on average, and its variance is n (k - 1)
    with k the kurtosis, 2 n for normal values (chi-square); k is taken from the values, so any law can be promised.
    """
    for index, entry in enumerate(starts[0][0].parameters):
        entries = [report.parameters[index] for report, _ in starts]
        wrong = _wrong(entries, [values[entry.parameter] for _, values in starts])
        if wrong:
            return f"{entry.parameter}: {wrong}"
    return None


def _wrong(entries: Sequence[ParameterInit], tensors: Sequence[Tensor]) -> str | None:
    scaled = []
    for entry, tensor in zip(entries, tensors, strict=True):
        if entry.target_mean is None or entry.target_std is None or tensor.is_complex():
            return None
        values = tensor.double().flatten() - entry.target_mean
        if entry.target_std == 0:
            if values.numel() and values.abs().max() > ROUNDING * max(1e-3, abs(entry.target_mean)):
                return f"the law is the constant {entry.target_mean:.6g}, and there are other values."
            continue
        scaled.append(values / entry.target_std)
    count = sum(values.numel() for values in scaled)
    if count < (FEWEST if entries[0].law in PLAIN else FEWEST_OF_OTHERS):
        return None
    z = torch.cat(scaled)
    square, mean = z.square().mean().item(), z.mean().item()
    kurtosis = z.pow(4).mean().item() / square**2 if square > 0 else 1.0
    entry = entries[0]
    if abs(square - 1) > SIGMAS * math.sqrt(max(0.0, kurtosis - 1) / count) * max(1.0, square) + ROUNDING:
        found = entry.target_std * math.sqrt(square) if entry.target_std else 0.0
        return f"std {entry.target_std:.5g} is promised, and over {count:,} values it is {found:.5g}."
    if abs(mean) > SIGMAS / math.sqrt(count) + ROUNDING:
        found = (entry.target_mean or 0.0) + mean * (entry.target_std or 0.0)
        return f"mean {entry.target_mean:.5g} is promised, and over {count:,} values it is {found:.5g}."
    return None

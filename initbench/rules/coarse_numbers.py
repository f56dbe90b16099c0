"""The rule `coarse_numbers`."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from initbench.linting.builds import is_constant, is_unordered, looks_random, tensors_of
from initbench.linting.chance import deviations
from initbench.linting.finding import Finding, Severity, alike
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB110"
FEWEST = 1000
"""Numbers from which on shares of them say something."""
AT_AN_END = 0.02
"""The share of the numbers at the lowest or highest value that rounding a law to 16 bits does not give: where values were cut."""
FAR, SHARE_FAR = 4.0, 1e-4
"""An end so many robust standard deviations away, with such a share of the numbers on it, is none of the law's own tail."""
MEAN_OFF = 0.02
"""A mean that is off by less, in standard deviations, changes nothing."""
STEPS = 4.0
"""A std of fewer steps between neighbouring numbers leaves hardly any different values."""
FEWEST_VALUES, FEW, MOST_VALUES = 3, 16, 64
"""More different values than two signs; fewer than any precision that people draw in; more than any grid so coarse has."""
SEEN_FIRST = 10_000
"""Numbers that show whether there are more."""
ON_GRID = 1e-3
"""Numbers that are off a grid by less of its step are on it."""
COARSE = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
NORMAL = 1.349
"""The middle half of normal numbers is so many standard deviations wide."""


class Spoiled(NamedTuple):
    """What low precision has done to a tensor, and the numbers that show it."""

    what: str
    numbers: str


def check(subject: Subject) -> Iterator[Finding]:
    """Random numbers that low precision has spoiled: many at one end, a std or mean that is off, hardly any different values.

    Measured: of each trained parameter how many different values it has, and whether these are multiples of a step that is more than a
    quarter of the std. Of each parameter that is stored in 16 bits, or holds nothing but such numbers in 32: the share at the lowest and
    the highest value, the std beside that of the middle half of the numbers, the mean beside its standard error, and how many steps of
    the precision the std has.
    Expected: what the same law has in float32, but for rounding. Two values are no finding: signs are drawn on purpose.
    Remedy:
        weight = torch.empty(shape, dtype=torch.float32)
        nn.init.trunc_normal_(weight, std=0.02)
        layer.weight.data.copy_(weight)                   # draw in float32, then round

    Source: inverse transform sampling of a truncated normal in bfloat16 (torch.nn.init.trunc_normal_ of older versions): 8 bits of a
    uniform number do not resolve the tails, and what rounds to 1 is cut at the bound.
    """
    limit = deviations(len(subject.parameters.first))
    found: dict[str, dict[str, str]] = {}
    for name, tensor in tensors_of(subject.model).items():
        known = subject.parameters.first.get(name)
        wanted = known is not None and (name in subject.drawn or not subject.has("factory"))
        spoiled = _spoiled(tensor, limit) or (_few(tensor) if known is not None and known.requires_grad else None) if wanted else None
        if spoiled is not None:
            found.setdefault(spoiled.what, {})[name] = spoiled.numbers
    for what, numbers in found.items():
        for same in alike(numbers):
            yield Finding(
                severity=Severity.WARNING,
                parameters=same,
                message=f"random numbers spoiled by low precision: {what}",
                measured=f"{same[0]}: {numbers[same[0]]}",
                effect="the numbers are not those of the law that was asked for",
                fix="# draw in float32, then round:\n"
                f"weight = model.{same[0]}\nweight.data.copy_(nn.init.trunc_normal_(torch.empty(weight.shape), std=0.02))",
            )


def _few(tensor: Tensor) -> Spoiled | None:
    """Whether numbers in no order have a few values, or only those of a coarse grid."""
    if not tensor.is_floating_point() or tensor.numel() < FEWEST or is_constant(tensor) or not tensor.isfinite().all():
        return None
    flat = tensor.flatten()
    if len(torch.unique(flat[:SEEN_FIRST])) > MOST_VALUES:
        return None
    different = torch.unique(flat).double()
    if not FEWEST_VALUES <= len(different) <= MOST_VALUES or not is_unordered(tensor):
        return None
    std, step = tensor.double().std(correction=0).item(), different.diff().min().item()
    places = different / step
    coarse = std < STEPS * step and bool(((places - places.round()).abs() < ON_GRID).all())
    if not coarse and len(different) > FEW:
        return None
    grid = f", multiples of {step:.3g}" if coarse else ""
    return Spoiled("few different values", f"{len(different)} among {len(flat)} numbers{grid}, std {std:.3g}")


def _spoiled(tensor: Tensor, limit: float) -> Spoiled | None:
    """What is wrong with numbers of 16 bits."""
    if not tensor.is_floating_point() or tensor.numel() < FEWEST or is_constant(tensor) or not tensor.isfinite().all():
        return None
    dtype = tensor.dtype if tensor.dtype in COARSE else next((kind for kind in COARSE if _fits(tensor, kind)), None)
    if dtype is None:
        return None
    values = tensor.flatten().double()
    count, mean, std = len(values), values.mean().item(), values.std(correction=0).item()
    step = _step(values.abs().median().item(), dtype)
    if std < STEPS * step:
        return Spoiled(
            "few different values",
            f"{len(torch.unique(values))} among {count} numbers, std {std:.3g}, where {COARSE[dtype]} has steps of {step:.3g}",
        )
    if not looks_random(tensor):
        return None
    low, middle, high = values.sort().values[torch.tensor([count // 4, count // 2, 3 * count // 4])].tolist()
    robust, kind = (high - low) / NORMAL, f"of {COARSE[dtype]} precision"
    for end in (values.min(), values.max()):
        share = (values == end).double().mean().item()
        chance = limit * math.sqrt(AT_AN_END / count)
        away = abs(end.item() - middle) / robust if robust else 0.0
        if share > AT_AN_END + chance or (away > FAR and share * count > limit**2 and share > SHARE_FAR):
            return Spoiled(
                "many at one end",
                f"{100 * share:.2g} % of {count} numbers {kind} are {end.item():.4g}; std {std:.4g}, {robust:.4g} by the middle half",
            )
    off = abs(mean) > max(MEAN_OFF * std, limit * std / math.sqrt(count)) and abs(mean) < std / 4
    if off and abs(values.min().item() + values.max().item()) < std / 2:
        return Spoiled("a mean that is off", f"mean {mean:.3g}, where chance gives {std / math.sqrt(count):.2g}, std {std:.4g}, {kind}")
    return None


def _step(size: float, dtype: torch.dtype) -> float:
    """The distance of neighbouring numbers of a precision at a size."""
    info = torch.finfo(dtype)
    return float(info.eps) * 2.0 ** math.floor(math.log2(max(size, info.tiny)))


def _fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether 32-bit numbers are all numbers of 16 bits."""
    return tensor.dtype == torch.float32 and torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)

"""Which known law the numbers of a weight follow: their shape by Kolmogorov and Smirnov's distance, their scale by the catalogue."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from initbench.errors import InitbenchError
from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.init.initialize import build_scheme
from initbench.init.sampling import STD_OF_NORMAL_CUT_AT_2
from initbench.nn.layers import WeightLayer
from initbench.nn.numbers import central_moment, mean_and_std
from initbench.nn.parametrized import weight_of
from initbench.nn.seeds import generator
from initbench.question.config import parse_ref
from initbench.results.probe_run import LayerLaw

CANDIDATES = (
    "torch_default", "kaiming", "xavier", "lecun", "kaiming:distribution=uniform", "xavier:distribution=uniform", "kaiming:mode=fan_out",
    "kaiming:nonlinearity=linear", "lecun:distribution=uniform", "lecun:distribution=trunc_normal", "kaiming:distribution=trunc_normal",
    "kaiming:nonlinearity=auto", "gaussian_gain", "normal", "normal:std=0.02", "normal:std=0.01", "trunc_normal", "trunc_normal:std=0.02",
    "small_init", "vit_default", "flax_default",
)  # fmt: skip
"""Schemes whose law is a distribution and a scale, the best known first."""
CUT_FAR_OUT = {"trunc_normal:std=0.02", "vit_default"}
"""Schemes whose truncated normal is cut a hundred deviations out: its shape is the normal one."""
SAMPLE = 50_000
"""Numbers of a weight whose distribution is looked at; the scale is taken from all of them."""
DISTANCE = 1.95
"""sqrt(n) times Kolmogorov and Smirnov's distance beyond which a law is ruled out: one time in a thousand where it holds."""
DEVIATIONS = 3.5
"""A mean or scale so many standard errors away is another one."""
CLOSE = 2e-3
"""Relative difference of a scale, or of W W^T from a multiple of the identity, that is rounding."""
FEWEST_FOR_TAILS = 300
"""Of so many normal numbers one in a thousand times none is beyond where a truncated normal ends."""
FEW_VECTORS = 8
"""Rows or columns that are tried before all of them are multiplied with each other."""
FEWEST = 16
"""Fewer numbers than this say nothing about a law."""
NAMED = 3
"""Schemes that are named at most."""


def laws_of(layers: tuple[WeightLayer, ...]) -> tuple[LayerLaw, ...]:
    """What each weight layer's numbers look like now."""
    return tuple(law_of(layer) for layer in layers)


def law_of(layer: WeightLayer) -> LayerLaw:
    """What one weight's numbers look like; of a complex one sqrt(2) times the real and imaginary parts, whose variance is E|w|^2."""
    weight = weight_of(layer)
    values = torch.cat([weight.real, weight.imag]) * math.sqrt(2) if weight.is_complex() else weight
    mean, std = mean_and_std(values)
    name, gain = _shape(values, mean, std)
    schemes = (_orthogonal_schemes(gain) if name == "orthogonal" else _schemes(layer, name, mean, std))[:NAMED]
    description, drawn_by = _words(values, name, mean, std, gain, schemes)
    return LayerLaw(
        layer=layer.name,
        parameter=layer.parameter,
        shape=tuple(values.shape),
        mean=mean,
        std=std,
        law=name,
        schemes=schemes,
        description=description,
        drawn_by=drawn_by,
    )


def _shape(values: Tensor, mean: float, std: float) -> tuple[str, float]:
    """The name of the law, and for orthogonal weights their gain."""
    if not values.isfinite().all():
        return "none", 0.0
    if std <= 1e-12 * max(abs(mean), 1e-300):
        return ("zero" if mean == 0 else "constant"), 0.0
    gain = _orthogonal_gain(values)
    if gain is not None:
        return "orthogonal", gain
    if values.numel() < FEWEST:
        return "none", 0.0
    flat = values.flatten()
    count = min(SAMPLE, len(flat))
    flat = flat[torch.arange(count, device=flat.device) * (len(flat) - 1) // max(1, count - 1)]
    ordered = ((flat.to("cpu", torch.float64) - mean) / std).sort().values
    distances = {name: _distance(ordered, cumulative) for name, cumulative in SHAPES.items()}
    farthest, slack = ordered.abs().max().item(), 1 + DEVIATIONS / math.sqrt(2 * len(flat))
    possible = {name for name, end in ENDS.items() if farthest <= end * slack}
    if not possible or len(flat) < FEWEST_FOR_TAILS:
        possible.add("normal")
    best = min(possible, key=lambda name: distances[name])
    return (best if distances[best] * math.sqrt(len(flat)) < DISTANCE else "none"), 0.0


def _normal(z: Tensor) -> Tensor:
    cumulative: Tensor = torch.special.ndtr(z)
    return cumulative


def _uniform(z: Tensor) -> Tensor:
    return ((z / math.sqrt(3) + 1) / 2).clamp(0, 1)


def _trunc_normal(z: Tensor) -> Tensor:
    """Of a normal cut at two deviations, in units of what is left of its deviation."""
    low = torch.special.ndtr(torch.tensor(-2.0, dtype=torch.float64, device="cpu"))
    cumulative: Tensor = ((torch.special.ndtr(z * STD_OF_NORMAL_CUT_AT_2) - low) / (1 - 2 * low)).clamp(0, 1)
    return cumulative


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {"normal": _normal, "uniform": _uniform, "trunc_normal": _trunc_normal}
"""Cumulative distributions of mean 0 and standard deviation 1."""


ENDS = {"uniform": math.sqrt(3), "trunc_normal": 2 / STD_OF_NORMAL_CUT_AT_2}
"""Where the laws that end do so, in standard deviations."""


def _distance(ordered: Tensor, cumulative: Callable[[Tensor], Tensor]) -> float:
    expected = cumulative(ordered)
    steps = torch.arange(len(ordered) + 1, dtype=torch.float64, device="cpu") / len(ordered)
    return max((expected - steps[:-1]).max().item(), (steps[1:] - expected).max().item())


def _orthogonal_gain(values: Tensor) -> float | None:
    """The g with which W, as a matrix (out, rest), has rows or columns that are orthogonal and of length g; None for none."""
    matrix = values.flatten(1) if values.dim() > 1 else values[:, None]
    if min(matrix.shape) < 2:
        return None
    few = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if len(few) > FEW_VECTORS and _gain_of(few[:FEW_VECTORS].to("cpu", torch.float64)) is None:
        return None
    return _gain_of(few.to("cpu", torch.float64))


def _gain_of(vectors: Tensor) -> float | None:
    gram = vectors @ vectors.T
    square = gram.diagonal().mean().item()
    apart = (gram - square * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max().item()
    return math.sqrt(square) if apart < CLOSE * square else None


def _orthogonal_schemes(gain: float) -> tuple[str, ...]:
    known = {"orthogonal": 1.0, "orthogonal:gain=1.41421": math.sqrt(2), "orthogonal:gain=1.66667": 5 / 3}
    return tuple(name for name, value in known.items() if abs(gain / value - 1) < CLOSE)


@cache
def _candidates() -> tuple[tuple[str, Layerwise], ...]:
    candidates = []
    for name in CANDIDATES:
        scheme = build_scheme(parse_ref(name))
        if isinstance(scheme, Layerwise):
            candidates.append((name, scheme))
    return tuple(candidates)


def _schemes(layer: WeightLayer, name: str, mean: float, std: float) -> tuple[str, ...]:
    if name not in SHAPES:
        return {"zero": ("zeros",), "constant": ("constant",)}.get(name, ())
    count = layer.weight.numel()
    # The variance of a sample variance of a normal law is 2 / n, of flatter ones less.
    tolerance = DEVIATIONS / math.sqrt(2 * count) + 1e-6
    fitting = []
    for candidate, scheme in _candidates():
        law = _law(scheme, layer)
        if law is None or not law.std or name != ("normal" if candidate in CUT_FAR_OUT else law.name):
            continue
        if abs(std / law.std - 1) < tolerance and abs(mean - law.mean) < DEVIATIONS * std / math.sqrt(count):
            fitting.append(candidate)
    return tuple(fitting)


def _law(scheme: Layerwise, layer: WeightLayer) -> Law | None:
    """What a scheme would draw here: one row is enough to ask."""
    try:
        return scheme.fill(torch.empty((1, *layer.weight.shape[1:]), dtype=torch.float32, device="cpu"), layer, generator(0, "known laws"))
    except (InitbenchError, RuntimeError, ValueError, TypeError):
        return None


def _words(values: Tensor, name: str, mean: float, std: float, gain: float, schemes: tuple[str, ...]) -> tuple[str, str]:
    """The law and its scale, and who draws so or what the numbers look like."""
    if name == "zero":
        return "all zero", ""
    if name == "constant":
        return f"all {mean:.4g}", ""
    if name == "orthogonal":
        return f"orthogonal, gain {gain:.4g}", ""
    if name == "none":
        if not values.isfinite().all():
            return "not finite", ""
        if values.numel() < FEWEST:
            return f"too few numbers to tell, std {std:.4g}", ""
        tails = central_moment(values, mean, 4) / std**4 if std else math.nan
        return "none of the known laws", f"std {std:.4g}, kurtosis {tails:.3g} (normal 3, uniform 1.8)"
    guess = "perhaps " if values.numel() < FEWEST_FOR_TAILS else ""
    known = " or ".join(schemes) if schemes else "no known scheme has this scale"
    return f"{guess}{name.replace('trunc_normal', 'truncated normal')}, std {std:.4g}", known

"""Whether values follow the mean and the deviation that a report promises: by chi-square, with what was drawn as its own scale."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.results.record import InitReport, ParameterInit

SIGMAS = 5.5
"""Deviations of an estimate beyond which it is no chance: about one in thirty million."""
ROUNDING = 1e-5
"""Relative difference that float32 explains."""
PLAIN = {"normal", "uniform", "trunc_normal", "orthogonal", "constant"}
FEWEST, FEWEST_OF_OTHERS = 32, 5000
"""Below so many values nothing is said, of a plain law or of another (which may have rare large values)."""
SEEDS = 4
LAYER_KINDS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(128, 24),
    lambda: nn.Linear(24, 128),
    lambda: nn.Conv1d(16, 48, 5),
    lambda: nn.Conv2d(32, 16, 3, dilation=2),
    lambda: nn.Conv3d(8, 24, 3),
    lambda: nn.Conv2d(32, 64, 3, groups=4),
    lambda: nn.Conv2d(128, 256, 3, groups=128),
    lambda: nn.ConvTranspose2d(32, 16, 3),
    lambda: nn.ConvTranspose2d(32, 16, 4, stride=2, groups=2),
    lambda: nn.MultiheadAttention(48, 4),
    lambda: nn.MultiheadAttention(48, 4, kdim=24, vdim=24, add_bias_kv=True),
    lambda: nn.LSTM(24, 40),
    lambda: nn.LSTM(24, 40, proj_size=16),
    lambda: nn.GRU(40, 24),
    lambda: nn.Bilinear(8, 12, 24),
    lambda: nn.Linear(1, 1),
    lambda: nn.Linear(0, 3),
    lambda: nn.Linear(3, 0),
)
"""Layers of every kind, wide to narrow and narrow to wide, and shapes in which a formula may divide by zero."""


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


def on_layer_kinds(start: Callable[[nn.Module, int], InitReport]) -> str | None:
    """What is wrong on the first kind of layer that does not get what is promised; None where all do, or are refused.

    `start` initializes a module with a seed and gives the report.
    """
    for make in LAYER_KINDS:
        starts = []
        for seed in range(SEEDS):
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch's about empty tensors
                module = make()
            try:
                report = start(module, seed)
            except DoesNotApply:
                break
            except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
                return f"{_called(module)}: it ends with {type(error).__name__}: {' '.join(str(error).split())[:200].removesuffix('.')}."
            starts.append((report, {name: parameter.detach() for name, parameter in module.named_parameters()}))
        wrong = deviation(starts) if starts else None
        if wrong:
            return f"{_called(module)}: {wrong}"
    return None


def _called(module: nn.Module) -> str:
    parts = [part for part in module.modules() if not list(part.children())] if isinstance(module, nn.Sequential) else [module]
    return " ".join(str(parts[0]).split()) if parts else type(module).__name__


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

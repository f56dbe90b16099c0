"""How an untrained network's signal does, layer by layer and scheme by scheme: what `health.py` finds."""

import math
from dataclasses import dataclass

from initbench.results.probe_record import ProbedLayer
from initbench.results.record import RunStatus

HEALTHY_DECADES = 2.0
"""A layer is outside of the healthy range where a variance is so many powers of ten away from where the signal entered."""
KEPT_DECADES = 1.0
"""A scheme keeps the signal that stays within so many powers of ten."""
UNDERFLOW = 1e-76
"""The variance of numbers that are the smallest that float32 holds with all of its digits."""


@dataclass(frozen=True)
class LayerHealth:
    """One weight layer, medians over seeds; None where there is no number (or where it overflowed)."""

    layer: str
    pre_activation_variance: float | None
    activation_variance: float | None
    zero_fraction: float | None
    dead_fraction: float | None
    gradient_variance: float | None
    gradient_energy: float | None
    correlation: float | None
    jacobian_mean: float | None
    jacobian_max: float | None
    jacobian_min: float | None
    condition: float | None
    expected: ProbedLayer
    outside: int
    bands: int


@dataclass(frozen=True)
class SchemeHealth:
    """One scheme: its layers, and how far the signal strays.

    `activations` is the variance after the last hidden layer over that after the first; `gradients` the squared length of
    the gradient at the first hidden layer over that at the last; both None where something overflowed or is zero.
    `decades` is the farthest that either strays on its way, infinite where it is gone; `leaves_at` the first layer,
    counted the way the signal goes, that is outside of the healthy range.
    """

    scheme: str
    status: RunStatus
    reason: str | None
    seeds: int
    layers: tuple[LayerHealth, ...] = ()
    activations: float | None = None
    gradients: float | None = None
    decades: float = math.inf
    leaves_at: str | None = None
    first_loss: float | None = None
    chance_loss: float | None = None
    output_std: float | None = None
    verdict: str = ""

    @property
    def keeps(self) -> bool:
        """Whether the signal stays within `KEPT_DECADES` on its way."""
        return self.status is RunStatus.COMPLETED and self.decades <= KEPT_DECADES


def inside_bands(layer: ProbedLayer) -> tuple[bool, ...]:
    """For each predicted variance of a layer whether the measured one is inside of its band."""
    found = []
    for quantity in ("pre_activation_variance", "gradient_variance"):
        value = getattr(layer, quantity)
        low, high = getattr(layer, f"predicted_{quantity}_low"), getattr(layer, f"predicted_{quantity}_high")
        if low is not None and high is not None:
            found.append(inside(value, low, high))
    return tuple(found)


def inside(value: float | None, low: float, high: float) -> bool:
    """Whether a variance is in a band; below what float32 can hold all of them are one."""
    return value is not None and max(low, UNDERFLOW) <= max(value, UNDERFLOW) <= max(high, UNDERFLOW)

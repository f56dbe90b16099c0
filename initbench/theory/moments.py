"""The expectations of an activation function that the recursions need."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Moments:
    """Expectations over u ~ N(mean, q): of phi, phi^2, phi^4, phi', phi'^2, phi'^4, and d/dq of E[phi^2]."""

    mean: float
    second: float
    fourth: float
    slope: float
    slope_second: float
    slope_fourth: float
    second_by_q: float

    @property
    def variance(self) -> float:
        """Of phi(u)."""
        return self.second - self.mean**2

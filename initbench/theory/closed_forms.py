"""The Gaussian expectations of an activation, and their closed forms: the fast path for some activations, a check on quadrature for others.

Source: Cho & Saul 2009 (rectifiers), Williams 1997 (erf); sin and cos from E[e^(iu)].
"""

from dataclasses import dataclass
from math import acos, asin, cos, exp, expm1, pi, sin, sqrt

from initbench.question.config import Ref


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


def negative_slope(key: Ref) -> float | None:
    """The slope below zero of a function that is the identity above; None for every other function."""
    match key.name:
        case "identity":
            return 1.0
        case "relu":
            return 0.0
        case "abs":
            return -1.0
        case "leaky_relu":
            return float(key.params["negative_slope"])
        case "prelu":
            return float(key.params["init"])
        case "rrelu":
            return (float(key.params["lower"]) + float(key.params["upper"])) / 2
    return None


def closed_moments(key: Ref, q: float, mean: float) -> Moments | None:
    """All moments in closed form: rectifiers at mean zero, sin and cos; None for the rest."""
    slope = negative_slope(key)
    if slope is not None and mean == 0:
        return rectifier_moments(slope, q)
    if key.name in {"sin", "cos"}:
        return wave_moments(float(key.params["omega"]), 0.0 if key.name == "sin" else pi / 2, q, mean)
    return None


def closed_pair(key: Ref, q1: float, q2: float, c: float, what: str) -> float | None:
    """E[phi phi] (`what` is value) or E[phi' phi'] (slope) in closed form; None where there is none here."""
    slope = negative_slope(key)
    if slope is not None:
        return rectifier_pair(slope, q1, q2, c) if what == "value" else rectifier_slope_pair(slope, c)
    if key.name in {"sin", "cos"}:
        omega = float(key.params["omega"])
        sine = (key.name == "sin") == (what == "value")
        factor = 1.0 if what == "value" else omega**2
        return factor * wave_pair(omega, q1, q2, c, odd=sine)
    if key.name == "erf":
        return erf_pair(q1, q2, c) if what == "value" else erf_slope_pair(q1, q2, c)
    return None


def rectifier_moments(a: float, q: float) -> Moments:
    """Of phi(x) = x above 0 and a x below."""
    half = (1 + a * a) / 2
    quarter = (1 + a**4) / 2
    return Moments(
        mean=(1 - a) * sqrt(q / (2 * pi)),
        second=half * q,
        fourth=3 * quarter * q * q,
        slope=(1 + a) / 2,
        slope_second=half,
        slope_fourth=quarter,
        second_by_q=half,
    )


def rectifier_pair(a: float, q1: float, q2: float, c: float) -> float:
    """E[phi(u1) phi(u2)] of a leaky rectifier: the arc-cosine kernel of order 1."""
    c = min(1.0, max(-1.0, c))
    bent = (sqrt(1 - c * c) + c * (pi - acos(c))) / (2 * pi)
    return sqrt(q1 * q2) * ((1 - a) ** 2 * bent + a * c)


def rectifier_slope_pair(a: float, c: float) -> float:
    """E[phi'(u1) phi'(u2)] of a leaky rectifier: the arc-cosine kernel of order 0."""
    both = (pi - acos(min(1.0, max(-1.0, c)))) / (2 * pi)
    return both * (1 + a * a) + (1 - 2 * both) * a


def wave_moments(omega: float, phase: float, q: float, mean: float) -> Moments:
    """Of phi(x) = sin(omega x + phase)."""
    angle, s = omega * mean + phase, omega * omega * q
    one, two, four = exp(-s / 2), exp(-2 * s), exp(-8 * s)
    second = sin(angle) ** 2 * two - expm1(-2 * s) / 2
    return Moments(
        mean=sin(angle) * one,
        second=second,
        fourth=(3 - 4 * cos(2 * angle) * two + cos(4 * angle) * four) / 8,
        slope=omega * cos(angle) * one,
        slope_second=omega**2 * (1 - second),
        slope_fourth=omega**4 * (3 + 4 * cos(2 * angle) * two + cos(4 * angle) * four) / 8,
        second_by_q=omega**2 * cos(2 * angle) * two,
    )


def wave_pair(omega: float, q1: float, q2: float, c: float, *, odd: bool) -> float:
    """E[sin(omega u1) sin(omega u2)], or with cosines where not `odd`."""
    near = exp(-(omega**2) * (q1 + q2 - 2 * c * sqrt(q1 * q2)) / 2)
    far = exp(-(omega**2) * (q1 + q2 + 2 * c * sqrt(q1 * q2)) / 2)
    return (near - far) / 2 if odd else (near + far) / 2


def erf_pair(q1: float, q2: float, c: float) -> float:
    """E[erf(u1) erf(u2)]."""
    return 2 / pi * asin(2 * c * sqrt(q1 * q2) / sqrt((1 + 2 * q1) * (1 + 2 * q2)))


def erf_slope_pair(q1: float, q2: float, c: float) -> float:
    """E[erf'(u1) erf'(u2)]."""
    return 4 / pi / sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * c * c * q1 * q2)

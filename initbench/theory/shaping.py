"""Transformed activations gamma (phi(alpha x + beta) + delta) whose Gaussian kernel maps are what DKS and TAT ask for.

With z ~ N(0, 1) and f the transformed activation: Q(1) = E f(z)^2, Q'(1) = E[f(z) f'(z) z], C(0) = E[f(z)]^2,
C'(1) = E f'(z)^2 and C''(1) = E f''(z)^2.

Source: Martens et al. 2021 (Rapid training without skip connections or normalization layers), section 6; Zhang, Botev &
Martens 2022 (Deep Learning without Shortcuts), sections 3 and 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import erfc, exp, inf, pi, sqrt

import numpy as np

from initbench.errors import DoesNotApply
from initbench.theory.activations import Activation
from initbench.theory.closed_forms import rectifier_pair
from initbench.theory.functions import Array
from initbench.theory.quadrature import gaussian

CLOSE = 1e-7
"""The largest violation of a condition with which a solution is accepted."""
STEP = 1e-4
"""Half-width of the central difference that gives phi'' from phi'; the error is of order STEP^2 for smooth functions."""
FARTHEST = 20.0
"""The largest shift that is accepted: farther out only rounding errors and periods are found."""
JUMPS = ((1e-9, 1e-6), (4e-6, 1e-3))
"""A derivative that changes by more than the second from so near before a break point to behind it has no second derivative there.

Break points that were found by looking, of functions without a name, are known less exactly.
"""
STEEPEST = 2.0
"""A smooth tailored activation with alpha gamma of this or more has an unstable Q map: as in the authors' code, another is preferred."""
RELU_SLOPE = pi / (pi - 1)
"""C'(1) of a shaped ReLU whose shift is 0, for which it is 1 / (2 Var relu(z)); more of it needs a negative shift."""
STARTS = [(scale, shift) for shift in (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0) for scale in (1.0, 0.3, 0.1, 2.0)]
"""Where the search for (alpha, beta) begins, one after the other."""


@dataclass(frozen=True)
class Shaping:
    """The four numbers of a transformed activation; alpha and gamma are positive."""

    alpha: float
    beta: float
    gamma: float
    delta: float


@dataclass(frozen=True)
class KernelMaps:
    """What the conditions are about, at q = 1."""

    q: float
    q_slope: float
    c_at_zero: float
    c_slope: float
    c_curvature: float


@dataclass(frozen=True)
class Depth:
    """How often the activation occurs in a network: `plain` times outside of branches, and so often in each branch.

    A block with variance share s of its branch maps c to (1 - s) c + s C(...(C(c))).
    """

    plain: int
    branches: tuple[int, ...] = ()
    branch_share: float = 0.5

    def slope(self, local: float) -> float:
        """The network's C'(1) for a local C'(1)."""
        total = local**self.plain
        for count in self.branches:
            total *= 1 - self.branch_share + self.branch_share * local**count
        return total

    @property
    def curvature_terms(self) -> float:
        """The network's C''(1) over the local C''(1), where the local C'(1) is 1."""
        return self.plain + self.branch_share * sum(self.branches)

    def value(self, local: Callable[[float], float], c: float) -> float:
        """The network's C(c) for a local map, outside activations first."""
        for _ in range(self.plain):
            c = local(c)
        for count in self.branches:
            inner = c
            for _ in range(count):
                inner = local(inner)
            c = (1 - self.branch_share) * c + self.branch_share * inner
        return c


def kernel_maps(phi: Activation, shaping: Shaping) -> KernelMaps:
    """The five numbers of the transformed activation, by quadrature."""
    z, weight = gaussian(phi.breaks, shaping.beta, shaping.alpha)
    u = shaping.alpha * z + shaping.beta
    value = shaping.gamma * (phi.value(u) + shaping.delta)
    slope = shaping.gamma * shaping.alpha * phi.slope(u)
    bend = shaping.gamma * shaping.alpha**2 * (phi.slope(u + STEP) - phi.slope(u - STEP)) / (2 * STEP)
    return KernelMaps(
        q=float(weight @ value**2),
        q_slope=float(weight @ (value * slope * z)),
        c_at_zero=float(weight @ value) ** 2,
        c_slope=float(weight @ slope**2),
        c_curvature=float(weight @ bend**2),
    )


@cache
def deep_kernel_shaping(phi: Activation, depth: Depth, slope: float) -> Shaping:
    """The transformation with Q(1) = 1, Q'(1) = 1, C(0) = 0 and the network's C'(1) = `slope`.

    Raises: DoesNotApply where the activation admits none. Rectifiers: `deep_leaky_relu`, `deep_relu`.
    """
    local = _local_slope(depth, slope)

    def shaped(alpha: float, beta: float) -> Shaping:
        z, weight = gaussian(phi.breaks, beta, alpha)
        value = phi.value(alpha * z + beta)
        mean = float(weight @ value)
        variance = float(weight @ (value - mean) ** 2)
        return Shaping(alpha, beta, 1 / sqrt(variance) if variance > 0 else inf, -mean)

    def violation(maps: KernelMaps) -> tuple[float, float]:
        return maps.q_slope - 1, (maps.c_slope - local) / (local - 1) if local > 1 else maps.c_slope - local

    return _search(phi, [shaped], violation, "dks")


@cache
def tailored_smooth(phi: Activation, depth: Depth, curvature: float) -> Shaping:
    """The transformation with Q(1) = 1, Q'(1) = 1, C'(1) = 1 and the network's C''(1) = `curvature`.

    Raises: DoesNotApply where the activation admits none.
    """
    if depth.curvature_terms == 0:
        raise DoesNotApply("The network has no activation to transform.")
    points = np.array(phi.breaks)
    if any(np.abs(phi.slope(points + near) - phi.slope(points - near)).max(initial=0.0) > jump for near, jump in JUMPS):
        raise DoesNotApply(
            f"'tat' transforms smooth activations and leaky rectifiers, and the slope of {phi.name} jumps. Use relu, tanh or gelu."
        )
    local = curvature / depth.curvature_terms

    def shaped(sign: float) -> Callable[[float, float], Shaping]:
        def make(alpha: float, beta: float) -> Shaping:
            z, weight = gaussian(phi.breaks, beta, alpha)
            u = alpha * z + beta
            value, slope = phi.value(u), phi.slope(u)
            gamma = 1 / (alpha * sqrt(max(float(weight @ slope**2), 1e-300)))
            mean = float(weight @ value)
            variance = float(weight @ (value - mean) ** 2)
            return Shaping(alpha, beta, gamma, sign * sqrt(max(0.0, gamma**-2 - variance)) - mean)

        return make

    def violation(maps: KernelMaps) -> tuple[float, float]:
        return maps.q_slope - 1, maps.c_curvature / local - 1

    def steep(shaping: Shaping) -> bool:
        return shaping.alpha * shaping.gamma >= STEEPEST

    return _search(phi, [shaped(1.0), shaped(-1.0)], violation, "tat", steep)


@cache
def tailored_rectifier(depth: Depth, c_at_zero: float) -> float:
    """The negative slope a in [0, 1) of the rectifier sqrt(2/(1+a^2)) leaky_relu(x) with the network's C(0) = `c_at_zero`.

    0 (plain ReLU) where even that stays below, which a network that shallow does not need to avoid.
    """

    def network(a: float) -> float:
        return depth.value(lambda c: 2 / (1 + a * a) * rectifier_pair(a, 1.0, 1.0, c), 0.0)

    if network(0.0) <= c_at_zero:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if network(middle) > c_at_zero else (low, middle)
    return (low + high) / 2


@cache
def deep_leaky_relu(depth: Depth, slope: float) -> tuple[float, Shaping]:
    """The negative slope a and the transformation gamma (leaky_relu(x + beta) + delta) with the conditions of DKS.

    Raises: DoesNotApply where there is none.
    """
    from scipy.optimize import root

    local = _local_slope(depth, slope)

    def violation(x: Array) -> Array:
        _, q_slope, c_slope = _shifted_rectifier(float(x[0]), float(x[1]))
        return np.array([q_slope - 1, (c_slope - local) / (local - 1)])

    for a, beta in ((0.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.5, 0.0), (0.5, 1.0), (0.5, -1.0)):
        solved = root(violation, np.array([a, beta]), tol=1e-12)
        if np.abs(violation(solved.x)).max() < CLOSE and abs(solved.x[0]) < 1:
            negative, shift = float(solved.x[0]), float(solved.x[1])
            return negative, _shifted_rectifier(negative, shift)[0]
    raise DoesNotApply("'dks' finds no leaky ReLU that meets its conditions. Use a smooth activation such as tanh or gelu.")


@cache
def deep_relu(depth: Depth, slope: float) -> tuple[Shaping, float]:
    """The transformation gamma (relu(alpha x + beta) + delta), beta = 1 or -1, with all conditions of DKS but one, and its Q'(1)."""
    local = _local_slope(depth, slope)
    low, high = (0.0, 40.0) if local < RELU_SLOPE else (-40.0, 0.0)
    for _ in range(100):  # C'(1) falls with the shift, from infinity to 1
        middle = (low + high) / 2
        low, high = (middle, high) if _shifted_rectifier(0.0, middle)[2] > local else (low, middle)
    shift = (low + high) / 2
    shaping, q_slope, _ = _shifted_rectifier(0.0, shift)
    alpha = 1 / max(abs(shift), 1e-12)
    return Shaping(alpha, 1.0 if shift > 0 else -1.0, shaping.gamma / alpha, shaping.delta * alpha), q_slope


def _shifted_rectifier(a: float, beta: float) -> tuple[Shaping, float, float]:
    """The shaping gamma (leaky_relu(z + beta) + delta) with Q(1) = 1 and C(0) = 0; its Q'(1) and C'(1), in closed form."""
    above, density = erfc(-beta / sqrt(2)) / 2, exp(-beta * beta / 2) / sqrt(2 * pi)
    first, second = beta * above + density, (beta * beta + 1) * above + beta * density
    mean = first + a * (beta - first)
    square = second + a * a * (1 + beta * beta - second)
    gamma = 1 / sqrt(max(square - mean * mean, 1e-300))
    with_z = second - beta * first + a * a * (1 + beta * first - second) - mean * (1 - a) * density
    return Shaping(1.0, beta, gamma, -mean), gamma * gamma * with_z, gamma * gamma * (above + a * a * (1 - above))


def _local_slope(depth: Depth, slope: float) -> float:
    if depth.curvature_terms == 0:
        raise DoesNotApply("The network has no activation to transform.")
    return _solve_local(depth, slope)


def _solve_local(depth: Depth, slope: float) -> float:
    """The local C'(1) >= 1 with which the network's is `slope`, by halving."""
    low, high = 1.0, max(2.0, slope / min(1.0, depth.branch_share or 1.0) + 1)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if depth.slope(middle) < slope else (low, middle)
    return (low + high) / 2


def _search(
    phi: Activation,
    makers: Sequence[Callable[[float, float], Shaping]],
    violation: Callable[[KernelMaps], tuple[float, float]],
    method: str,
    avoid: Callable[[Shaping], bool] = lambda _: False,
) -> Shaping:
    """The first (alpha, beta), from any start and maker, with which both conditions hold; one that is not to be avoided if there is one."""
    from scipy.optimize import root

    avoided: Shaping | None = None
    for alpha, beta in STARTS:
        for make in makers:

            def conditions(x: Array, make: Callable[[float, float], Shaping] = make) -> Array:
                candidate = make(exp(float(np.clip(x[0], -12.0, 4.0))), float(x[1]))
                return np.array(violation(kernel_maps(phi, candidate)))

            with np.errstate(all="ignore"):
                solved = root(conditions, np.array([np.log(alpha), beta]), tol=1e-12)
                left = np.abs(conditions(solved.x)).max()
            solution = make(exp(float(np.clip(solved.x[0], -12.0, 4.0))), float(solved.x[1]))
            if np.isfinite(left) and left < CLOSE and abs(solution.beta) <= FARTHEST:
                if not avoid(solution):
                    return solution
                avoided = avoided or solution
    if avoided is not None:
        return avoided
    raise DoesNotApply(
        f"'{method}' finds no transformation of {phi.name} that meets its conditions. Use a smooth activation such as tanh or gelu."
    )

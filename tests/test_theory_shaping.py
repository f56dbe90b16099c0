"""Transformed activations meet the conditions on their kernel maps, checked by sampling and by a second quadrature."""

import math

import numpy as np
import pytest

from initbench.errors import DoesNotApply
from initbench.theory.activations import find, from_function
from initbench.theory.shaping import (
    Depth,
    deep_kernel_shaping,
    deep_leaky_relu,
    deep_relu,
    kernel_maps,
    tailored_rectifier,
    tailored_smooth,
)

SMOOTH = ["tanh", "softplus", "gelu", "silu", "elu", "mish", "sigmoid", "erf", "softsign"]
DEPTHS = [Depth(3), Depth(100), Depth(19, (1,) * 18), Depth(1, (2,) * 10, 0.1)]


def transformed(phi, shaping):
    return from_function(lambda x: shaping.gamma * (phi.value(shaping.alpha * x + shaping.beta) + shaping.delta), "transformed")


@pytest.mark.parametrize("name", SMOOTH)
def test_deep_kernel_shaping_meets_its_four_conditions(name):
    phi, depth = find(name), Depth(50)
    moments = transformed(phi, deep_kernel_shaping(phi, depth, 1.5)).moments(1.0)
    assert moments.second == pytest.approx(1, abs=1e-5)
    assert moments.second_by_q == pytest.approx(1, abs=1e-3)
    assert moments.mean == pytest.approx(0, abs=1e-5)
    assert moments.slope_second**50 == pytest.approx(1.5, rel=1e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SMOOTH)
def test_a_tailored_smooth_activation_meets_its_four_conditions(name):
    phi, depth = find(name), Depth(50)
    shaping = tailored_smooth(phi, depth, 0.3)
    moments = transformed(phi, shaping).moments(1.0)
    assert moments.second == pytest.approx(1, abs=1e-5)
    assert moments.second_by_q == pytest.approx(1, abs=1e-3)
    assert moments.slope_second == pytest.approx(1, abs=1e-3)
    curve = transformed(phi, shaping)
    near = 0.01
    bend = 2 * (curve.pair(1.0, 1.0, 1 - near) - 1 + near) / near**2
    assert 50 * bend == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_network_s_slope_is_the_target_whatever_its_shape(depth):
    phi = find("tanh")
    assert depth.slope(kernel_maps(phi, deep_kernel_shaping(phi, depth, 1.5)).c_slope) == pytest.approx(1.5, abs=1e-6)
    bend = kernel_maps(phi, tailored_smooth(phi, depth, 0.3)).c_curvature
    assert bend * (depth.plain + depth.branch_share * sum(depth.branches)) == pytest.approx(0.3, rel=1e-6)


def test_kernel_maps_agree_with_sampling():
    phi, depth = find("gelu"), Depth(4)
    shaping = deep_kernel_shaping(phi, depth, 1.5)
    z = np.random.default_rng(0).standard_normal(2_000_000)
    value = shaping.gamma * (phi.value(shaping.alpha * z + shaping.beta) + shaping.delta)
    slope = shaping.gamma * shaping.alpha * phi.slope(shaping.alpha * z + shaping.beta)
    maps = kernel_maps(phi, shaping)
    assert (value**2).mean() == pytest.approx(maps.q, abs=0.01)
    assert (value * slope * z).mean() == pytest.approx(maps.q_slope, abs=0.01)
    assert (slope**2).mean() == pytest.approx(maps.c_slope, abs=0.01)


@pytest.mark.parametrize("depth", [Depth(20), Depth(100), Depth(19, (1,) * 18)])
def test_a_tailored_rectifier_brings_orthogonal_inputs_to_the_target(depth):
    a = tailored_rectifier(depth, 0.9)
    assert 0 < a < 1

    def local(c):
        return c + (1 - a) ** 2 / (math.pi * (1 + a * a)) * (math.sqrt(max(0.0, 1 - c * c)) - c * math.acos(min(1.0, c)))

    c = 0.0
    for _ in range(depth.plain):
        c = local(c)
    for count in depth.branches:
        assert count == 1
        c = 0.5 * c + 0.5 * local(c)
    assert c == pytest.approx(0.9, abs=1e-6)


def test_a_shallow_network_keeps_its_relu():
    assert tailored_rectifier(Depth(2), 0.9) == 0.0


def maps_by_sampling(a, shaping, alpha):
    """Q(1), Q'(1), C(0) and C'(1) of gamma (leaky_relu(alpha z + beta) + delta) over a fine grid, not by the closed forms."""
    z = np.linspace(-12, 12, 2_000_001)
    weight = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    u = alpha * z + shaping.beta
    value = shaping.gamma * (np.where(u > 0, u, a * u) + shaping.delta)
    slope = shaping.gamma * alpha * np.where(u > 0, 1.0, a)
    return weight @ value**2, weight @ (value * slope * z), (weight @ value) ** 2, weight @ slope**2


@pytest.mark.parametrize("depth", [Depth(3), Depth(40), Depth(9, (1,) * 18)])
@pytest.mark.parametrize("slope", [1.2, 1.5, 4.0])
def test_a_leaky_relu_meets_all_conditions_of_dks(depth, slope):
    a, shaping = deep_leaky_relu(depth, slope)
    q, q_slope, c_at_zero, c_slope = maps_by_sampling(a, shaping, 1.0)
    assert (q, q_slope) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))
    assert c_at_zero == pytest.approx(0, abs=1e-8)
    assert depth.slope(c_slope) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(("depth", "slope"), [(Depth(40), 1.5), (Depth(3), 1.5), (Depth(1), 1.4), (Depth(1), 1.6), (Depth(1), 4.0)])
def test_a_relu_meets_all_but_one(depth, slope):
    shaping, q_slope = deep_relu(depth, slope)
    assert shaping.beta == (1.0 if depth.slope(math.pi / (math.pi - 1)) > slope else -1.0)
    q, there, c_at_zero, c_slope = maps_by_sampling(0.0, shaping, shaping.alpha)
    assert q == pytest.approx(1, abs=1e-5)
    assert c_at_zero == pytest.approx(0, abs=1e-8)
    assert there == pytest.approx(q_slope, abs=1e-4)
    assert depth.slope(c_slope) == pytest.approx(slope, rel=1e-4)


def test_the_numbers_are_those_of_the_authors_package():
    # google-deepmind/dks, depth 10 and 40, c_slope_1_target 1.5
    for depth, negative, scale in ((10, 0.589807, 1.243069), (40, 0.774820, 1.123593)):
        a, shaping = deep_leaky_relu(Depth(depth), 1.5)
        assert (a, shaping.gamma) == (pytest.approx(negative, abs=1e-4), pytest.approx(scale, abs=1e-4))
        assert shaping.beta == pytest.approx(0, abs=1e-9)
    for depth, alpha, gamma in ((10, 0.623944, 1.681988), (40, 0.448526, 2.255526)):
        shaping, _ = deep_relu(Depth(depth), 1.5)
        assert (shaping.alpha, shaping.gamma) == (pytest.approx(alpha, rel=2e-3), pytest.approx(gamma, rel=2e-3))


@pytest.mark.parametrize(
    ("name", "depth", "alpha", "gamma"),
    [("tanh", 10, 0.18464, 7.23496), ("tanh", 40, None, None), ("erf", 10, 0.16231, 7.46955), ("erf", 40, 0.08032, 14.86437)],
)
def test_of_several_tailored_activations_the_one_with_a_stable_q_map_is_taken(name, depth, alpha, gamma):
    shaping = tailored_smooth(find(name), Depth(depth), 0.3)
    assert shaping.alpha * shaping.gamma < 2
    if alpha is not None:  # as the authors' package has it
        assert (shaping.alpha, shaping.gamma) == (pytest.approx(alpha, rel=1e-3), pytest.approx(gamma, rel=1e-3))


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_what_cannot_be_transformed_is_refused(name):
    with pytest.raises(DoesNotApply, match="finds no transformation"):
        deep_kernel_shaping(find(name), Depth(10), 1.5)
    with pytest.raises(DoesNotApply, match="slope of"):
        tailored_smooth(find(name), Depth(10), 0.3)


def test_a_network_without_activations_has_nothing_to_transform():
    for method in (deep_kernel_shaping, tailored_smooth):
        with pytest.raises(DoesNotApply, match="no activation"):
            method(find("tanh"), Depth(0), 1.2)

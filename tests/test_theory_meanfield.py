import re
from math import exp, inf, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

from initbench.errors import ConfigError
from initbench.theory import meanfield
from initbench.theory.activations import find
from initbench.theory.closed_forms import rectifier_pair
from initbench.theory.meanfield import Phase


@pytest.mark.parametrize(
    ("q", "sigma_w2", "sigma_b2"),
    [
        (1 / 64, 1.03056, 0.0), (1 / 16, 1.11538, 0.00024), (0.25, 1.39396, 0.00813),
        (0.5, 1.68798, 0.03804), (1, 2.15330, 0.15096), (2, 2.86116, 0.51226),
    ],
)  # fmt: skip
def test_the_edge_of_chaos_of_tanh(q, sigma_w2, sigma_b2):
    assert meanfield.edge_of_chaos("tanh", q) == pytest.approx((sigma_w2, sigma_b2), abs=5.1e-6)


@pytest.mark.parametrize(("sigma_b2", "sigma_w2", "q"), [(0.05**2, 1.26009, 0.15369), (0.05, 1.76095, 0.57005)])
def test_the_critical_point_of_tanh_for_a_bias(sigma_b2, sigma_w2, q):
    assert meanfield.critical_point("tanh", sigma_b2) == pytest.approx((sigma_w2, q), abs=5.1e-6)


@pytest.mark.parametrize(("activation", "sigma_w2"), [("tanh", 1), ("sin", 1), ("softsign", 1), ("erf", pi / 4)])
def test_without_biases_the_critical_point_is_at_zero(activation, sigma_w2):
    assert meanfield.edge_of_chaos(activation, 1e-10)[0] == pytest.approx(sigma_w2, rel=1e-4)


@pytest.mark.parametrize(("step", "xi"), [(0, 3.627), (10, 29.44), (25, 11.53)])
def test_the_depth_scales_of_schoenholz(step, xi):
    sigma_w2 = 1 + 3 * step / 49
    point = meanfield.fixed_point("tanh", sigma_w2, 0.05)
    assert meanfield.depth_scale_c("tanh", point.q, sigma_w2, 0.05) == pytest.approx(xi, abs=0.006)


def test_gelu_and_silu_have_one_doubly_critical_point_and_tanh_none():
    ((sigma_w2, sigma_b2, q),) = meanfield.doubly_critical_points("gelu")
    assert (sigma_w2, sigma_b2, q) == pytest.approx((1.983058, 0.172922, (3 + sqrt(17)) / 2), abs=1e-6)
    ((sigma_w2, sigma_b2, q),) = meanfield.doubly_critical_points("silu")
    assert meanfield.chi_1("silu", q, sigma_w2) == pytest.approx(1, abs=1e-9)
    assert meanfield.chi_parallel("silu", q, sigma_w2) == pytest.approx(1, abs=1e-9)
    assert meanfield.next_q("silu", q, sigma_w2, sigma_b2) == pytest.approx(q, rel=1e-9)
    assert meanfield.doubly_critical_points("tanh") == ()


def test_gain_five_thirds_is_chaotic_for_tanh():
    zero, point = meanfield.fixed_points("tanh", (5 / 3) ** 2)
    assert (point.q, point.chi_1) == pytest.approx((1.1785, 1.2098), abs=5e-5)
    assert point.phase is Phase.CHAOTIC
    assert point.stable
    assert zero.q == 0
    assert not zero.stable
    assert meanfield.gradient_factors("tanh", (point.q,) * 11, (5 / 3) ** 2)[0] == pytest.approx(6.72, abs=0.01)


@pytest.mark.parametrize(("sigma_w2", "q", "chi"), [(0.75**2, 0.023, 1.0037), (1.0, 1.0, 1.0716)])
def test_selu_at_its_two_gains(sigma_w2, q, chi):
    point = meanfield.fixed_point("selu", sigma_w2)
    assert (point.q, point.chi_1) == pytest.approx((q, chi), abs=5e-5)


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_gain_root_two_collapses_gelu_and_silu(activation):
    (point,) = meanfield.fixed_points(activation, 2.0)
    assert point.q == 0
    assert point.chi_1 == pytest.approx(0.5)
    assert point.phase is Phase.ORDERED


def test_a_repeller_of_gelu_is_found_and_called_unstable():
    zero, repeller = meanfield.fixed_points("gelu", 2.2)
    assert zero.stable
    assert not repeller.stable
    assert meanfield.fixed_point("gelu", 2.2, start=repeller.q * 0.9).q == 0
    assert meanfield.fixed_point("gelu", 2.2, start=repeller.q * 1.1) is None


def test_the_default_of_torch_loses_gradient_variance_sixfold_a_layer():
    assert 1 / meanfield.chi_1("relu", 1.0, 1 / 3) == pytest.approx(6)


def test_relu_at_criticality_follows_its_closed_correlation_map():
    c = 0.3
    for _ in range(400):
        c = meanfield.next_correlation("relu", c, 1.0, 2.0)
    assert 1 - c == pytest.approx(9 * pi**2 / (2 * 400**2), rel=0.08)
    assert meanfield.correlation_fixed_point("relu", 1.0, 2.0) == 1.0
    assert meanfield.depth_scale_c("relu", 1.0, 2.0) == inf


def test_the_chaotic_phase_has_a_stable_correlation_below_one():
    point = meanfield.fixed_point("tanh", 4.0, 0.05)
    c = meanfield.correlation_fixed_point("tanh", point.q, 4.0, 0.05)
    assert 0 < c < 0.5
    assert meanfield.next_correlation("tanh", c, point.q, 4.0, 0.05) == pytest.approx(c, abs=1e-9)
    assert meanfield.chi_c("tanh", point.q, c, 4.0) < 1


def test_dropout_has_no_critical_point():
    kept = meanfield.fixed_point("tanh", 2.0, 0.05, keep=0.8)
    assert kept.q > meanfield.fixed_point("tanh", 2.0, 0.05).q
    assert meanfield.next_q("tanh", kept.q, 2.0, 0.05, keep=0.8) == pytest.approx(kept.q, rel=1e-9)
    assert meanfield.next_correlation("tanh", 1.0, kept.q, 2.0, 0.05, keep=0.8) < 1


def test_batch_norm_grows_relu_gradients_by_pi_over_pi_minus_one():
    assert meanfield.batch_norm_growth("relu") == pytest.approx(pi / (pi - 1), rel=1e-9)


def test_chi_parallel_is_the_slope_of_the_length_map():
    for activation in ("relu", "tanh", "elu", "gelu", "sin"):
        difference = (meanfield.next_q(activation, 1.001, 1.7) - meanfield.next_q(activation, 0.999, 1.7)) / 0.002
        assert meanfield.chi_parallel(activation, 1.0, 1.7) == pytest.approx(difference, rel=1e-5)


def test_lengths_of_residual_networks_double_with_he_branches_and_stay_with_scaled_ones():
    q = 1.0
    for _ in range(32):
        q = meanfield.residual_next_q(q, meanfield.next_q("relu", q, 2.0))
    assert q == pytest.approx(2**32)
    assert meanfield.residual_next_q(1.0, 1.0, alpha=1 / sqrt(32)) ** 32 == pytest.approx((1 + 1 / 32) ** 32)


@pytest.mark.parametrize(
    ("activation", "sigma_w2", "width", "depth", "sd"),
    [("relu", 2.0, 256, 20, 1.379), ("tanh", 1.0, 64, 20, 0.0132), ("tanh", 1.0, 256, 20, 0.0064)],
)
def test_the_vertex_gives_the_spread_of_the_theory_page(activation, sigma_w2, width, depth, sd):
    qs = meanfield.lengths(activation, 2.0 if activation == "relu" else 1.0, depth, sigma_w2)
    v = meanfield.vertex(activation, qs, sigma_w2, width)[-1]
    assert sqrt(v + 2 * (qs[-1] ** 2 + v) / width) == pytest.approx(sd, rel=0.12)


def test_the_spread_of_deep_relu_networks_of_hanin():
    ratio, log_sd = meanfield.relu_length_spread(256, 20)
    assert ratio == pytest.approx(1.472, abs=5e-4)
    assert log_sd == 0.625
    assert ratio == pytest.approx((1 + 5 / 256) ** 20)
    rng = np.random.default_rng(0)
    logs = np.zeros(3000)
    for _ in range(20):
        logs += np.log(np.square(np.maximum(rng.standard_normal((3000, 256)), 0)).mean(axis=1) * 2)
    assert logs.std() == pytest.approx(log_sd, rel=0.06)


@pytest.mark.parametrize(("bound", "mean"), [(1, 0.490), (sqrt(3), 0.849)])
def test_the_layer_jacobian_of_glorot_in_the_linear_regime(bound, mean):
    n = 300
    weight = np.random.default_rng(0).uniform(-bound, bound, (n, n)) / sqrt(n)
    assert np.linalg.svd(weight, compute_uv=False).mean() == pytest.approx(mean, abs=0.004)
    assert 8 / (3 * pi) * sqrt(meanfield.chi_1("identity", 1.0, bound**2 / 3)) == pytest.approx(mean, abs=5e-4)


def test_the_arithmetic_of_he_for_vgg_b():
    gains = [sqrt(meanfield.chi_1("relu", 1.0, fan * 0.01**2)) for fan in (9 * 512,) * 2 + (9 * 256,) * 2 + (9 * 128,) * 4]
    assert 1 / meanfield.chi_1("relu", 1.0, 9 * 64 * 0.01**2) ** 0.5 == pytest.approx(5.9, abs=0.05)
    assert 1 / gains[-1] == pytest.approx(4.2, abs=0.05)
    assert 1 / gains[2] == pytest.approx(2.9, abs=0.05)
    assert 1 / gains[0] == pytest.approx(2.1, abs=0.05)
    attenuation = 5.9 * 4.2**2 * 2.9**2 * 2.1**4
    assert attenuation == pytest.approx(1.7e4, rel=0.01)


@pytest.mark.parametrize(("width", "depth", "share"), [(2, 5, 0.51), (2, 10, 0.88), (3, 10, 0.60), (4, 10, 0.29), (8, 20, 0.036)])
def test_born_dead_networks_stay_below_the_bound_of_lu(width, depth, share):
    rng = np.random.default_rng(3)
    signal = np.broadcast_to(np.linspace(-1, 1, 41)[None, None], (2000, 1, 41))
    for _ in range(depth - 1):
        weight = rng.standard_normal((2000, width, signal.shape[1])) * sqrt(2 / signal.shape[1])
        signal = np.maximum(weight @ signal, 0)
    dead = (signal.max(axis=(1, 2)) == 0).mean()
    bound = 1 - (1 - 2.0**-width) ** (depth - 1)
    assert dead <= bound + 4 * sqrt(bound / 2000)
    assert dead == pytest.approx(share, abs=0.12)


def test_covariances_of_inputs_of_different_lengths():
    assert meanfield.next_covariance("relu", 1.0, 4.0, 0.5, 2.0) == pytest.approx(2 * rectifier_pair(0, 1.0, 4.0, 0.5))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: meanfield.edge_of_chaos("sigmoid", 1.0), "no edge of chaos at q = 1"),
        (lambda: meanfield.critical_point("relu", 0.5), "no point with a bias variance of 0.5"),
        (lambda: meanfield.edge_of_chaos(lambda x: 0 * x, 1.0), "flat"),
    ],
)
def test_what_cannot_be_critical_says_so(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()


def test_depth_scale_of_lengths_is_the_rate_at_which_they_settle():
    point = meanfield.fixed_point("tanh", 1.5, 0.05)
    xi = meanfield.depth_scale_q("tanh", point.q, 1.5)
    qs = meanfield.lengths("tanh", point.q * 1.001, 20, 1.5, 0.05)
    assert (qs[10] - point.q) / (qs[0] - point.q) == pytest.approx(exp(-10 / xi), rel=0.01)


def test_a_function_and_its_name_are_the_same_activation():
    assert meanfield.chi_1(np.tanh, 1.0, 2.0) == pytest.approx(meanfield.chi_1("tanh", 1.0, 2.0), rel=1e-8)
    assert meanfield.chi_1(find("tanh"), 1.0, 2.0) == meanfield.chi_1("tanh", 1.0, 2.0)


def test_the_theory_page_names_every_public_function():
    page = (Path(__file__).parent.parent / "docs" / "theory.md").read_text(encoding="utf-8")
    own = [name for name, value in vars(meanfield).items() if getattr(value, "__module__", "") == meanfield.__name__ and name.islower()]
    assert len(own) > 15
    assert [name for name in own if not name.startswith("_") and not re.search(rf"\b{name}\b", page)] == []

import dataclasses
from math import atan, pi, sqrt

import numpy as np
import pytest

from initbench.errors import ConfigError
from initbench.theory.activations import find, from_function, names

# name: E phi^2, E phi'^2, E phi, forward gain, backward gain, 1/std(phi), and for the edge of chaos at q* = 1: sigma_w^2, sigma_b^2
CONSTANTS = """
relu                            .500000   .500000  .398942  1.4142  1.4142  1.712859  2.00000  .00000
leaky_relu                      .50005    .50005   .39495   1.4141  1.4141  1.7048    1.9998   .0
leaky_relu:negative_slope=0.2   .52       .52      .31915   1.3868  1.3868  1.5465    1.92308  .0
elu                             .644945   .668102  .160521  1.2452  1.2234  1.270843  1.49678  .03466
selu                            1.000000  1.071575 .000000  1.0000  .9660   1.000000  .93321   .06679
gelu                            .425221   .455851  .282095  1.5335  1.4811  1.700926  2.19370  .06719
silu                            .355776   .379482  .206621  1.6765  1.6233  1.787187  2.63517  .06247
tanh                            .394294   .464403  .000000  1.5925  1.4674  1.592537  2.15330  .15096
erf                             .464559   .569410  .000000  1.4672  1.3252  -         1.75620  .18414
sin                             .432332   .567668  .000000  1.5209  1.3273  -         1.76159  .23841
sigmoid                         .293379   .044836  .500000  -       4.7226  4.801313  -        -
softplus                        .921246   .293379  .8061    -       1.8462  1.919126  -        -
""".strip().splitlines()


@pytest.mark.parametrize("line", CONSTANTS)
def test_the_constants_of_the_theory_page_come_out_to_the_digits_given(line):
    name, *expected = line.split()
    m = find(name).moments(1.0)
    sigma_w2 = 1 / m.slope_second
    ours = (
        m.second, m.slope_second, m.mean, m.second**-0.5, m.slope_second**-0.5, m.variance**-0.5, sigma_w2, 1 - sigma_w2 * m.second,
    )  # fmt: skip
    for value, text in zip(ours, expected, strict=True):
        if text != "-":
            digits = len(text.partition(".")[2])
            assert abs(value - float(text)) <= 0.5001 * 10.0**-digits


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["relu", "leaky_relu:negative_slope=0.2", "abs", "identity", "sin", "sin:omega=3", "cos", "erf"])
@pytest.mark.parametrize("q", [0.01, 1.0, 4.0])
def test_closed_forms_and_quadrature_agree_to_nine_digits(name, q):
    closed = find(name)
    quadrature = dataclasses.replace(closed, key=None)
    for field in dataclasses.fields(closed.moments(q)):
        ours, theirs = getattr(closed.moments(q), field.name), getattr(quadrature.moments(q), field.name)
        assert theirs == pytest.approx(ours, rel=1e-9, abs=1e-9), field.name
    for c in (-1.0, -0.6, 0.0, 0.5, 0.99, 1.0):
        assert quadrature.pair(q, 2 * q, c) == pytest.approx(closed.pair(q, 2 * q, c), rel=1e-9, abs=1e-9)
        assert quadrature.slope_pair(q, 2 * q, c) == pytest.approx(closed.slope_pair(q, 2 * q, c), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("q", [0.01, 1.0, 3.56155, 100.0])
def test_gelu_has_its_published_second_moment(q):
    """Tsuchida et al. 2020."""
    root = sqrt(1 + 2 * q)
    assert find("gelu").moments(q).second == pytest.approx(q * ((q / ((q + 1) * root) + atan(q / root) / 2) / pi + 0.25), rel=1e-10)


@pytest.mark.parametrize("name", [name for name in names() if name not in {"threshold", "square"}])
def test_moments_agree_with_monte_carlo_within_four_standard_errors(name):
    phi = find(name)
    u = 0.3 + 1.3 * np.random.default_rng(1).standard_normal(40_000)
    m = phi.moments(1.69, 0.3)
    value, slope = phi.value(u), phi.slope(u)
    z = (u - 0.3) / 1.3
    samples = {
        "mean": value, "second": value**2, "fourth": value**4, "slope": slope, "slope_second": slope**2, "slope_fourth": slope**4,
        "second_by_q": value**2 * (z * z - 1) / (2 * 1.69),
    }  # fmt: skip
    for field, sample in samples.items():
        assert abs(getattr(m, field) - sample.mean()) <= 4 * sample.std() / 200 + 1e-12, field


@pytest.mark.parametrize("name", ["tanh", "elu", "hardtanh", "silu"])
def test_pair_moments_agree_with_monte_carlo_within_four_standard_errors(name):
    phi = find(name)
    z1, z2 = np.random.default_rng(2).standard_normal((2, 40_000))
    u1, u2 = 1.5 * z1, 0.7 * (0.8 * z1 + 0.6 * z2)
    for ours, sample in (
        (phi.pair(2.25, 0.49, 0.8), phi.value(u1) * phi.value(u2)),
        (phi.slope_pair(2.25, 0.49, 0.8), phi.slope(u1) * phi.slope(u2)),
    ):
        assert abs(ours - sample.mean()) <= 4 * sample.std() / 200


@pytest.mark.parametrize("name", [name for name in names() if name != "threshold"])
def test_every_slope_is_the_derivative_of_its_function(name):
    phi = find(name)
    x = np.linspace(-7, 7, 1501) + 1e-4
    difference = (phi.value(x + 1e-6) - phi.value(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(phi.slope(x), difference, atol=2e-8, rtol=1e-7)


@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "hardtanh", "hardswish", "softshrink", "hardshrink", "gelu"])
def test_a_python_function_has_the_same_moments_as_the_named_one(name):
    named, own = dataclasses.replace(find(name), key=None), from_function(find(name).value)
    for q in (0.05, 1.0, 9.0):
        for field in ("mean", "second", "fourth", "slope", "slope_second"):
            assert getattr(own.moments(q), field) == pytest.approx(getattr(named.moments(q), field), rel=1e-7, abs=1e-7)
    assert own.continuous == (name != "hardshrink")


def test_a_kink_away_from_any_grid_is_found():
    m = from_function(lambda x: np.abs(x - 0.3)).moments(1.0)
    assert m.second == pytest.approx(1.09, abs=1e-9)
    assert m.slope_second == pytest.approx(1.0, abs=1e-9)
    assert m.mean == pytest.approx(0.8335224842, abs=1e-9)


def test_torch_class_names_and_aliases_mean_the_same_function():
    assert find("LeakyReLU:negative_slope=0.2") == find("leaky_relu:negative_slope=0.2")
    assert find("SiLU") == find("swish")
    assert find(None) == find("linear")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("rellu", "Did you mean 'relu'?"),
        ("elu:alfa=2", "has no parameter 'alfa'. Did you mean 'alpha'?"),
        ("threshold:value=0", "needs threshold"),
        ("gelu:approximate=fast", "cannot be used"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_a_remedy(given, sentence):
    with pytest.raises(ConfigError) as caught:
        find(given)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("function", [lambda x: x.sum(), lambda x: x.nothing, lambda x: np.log(x), np.floor, lambda x: 1 / x])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_function_without_moments_says_why(function):
    with pytest.raises(ConfigError, match="has no moments"):
        from_function(function)


def test_the_error_function_is_that_of_scipy():
    from scipy.special import erf

    x = np.concatenate([np.linspace(-9, 9, 20001), 10.0 ** -np.arange(1, 60)])
    assert np.abs(find("erf").value(x) / np.where(erf(x) == 0, 1, erf(x)) - 1)[x != 0].max() < 2e-15
    assert np.isnan(find("erf").value(np.array([np.nan]))).all()
    assert find("erf").value(np.array([np.inf, -np.inf])).tolist() == [1.0, -1.0]

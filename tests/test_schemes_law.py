"""Each scheme draws the law it names, with the standard deviation its formula gives, on every kind of layer."""

import math

import pytest
import torch
from schemes_support import assert_law, cases, init, layer_of, weight_of
from torch import nn

from initbench.errors import ConfigError
from initbench.nn.seeds import generator

NAMES = list(cases())


def empty(inputs, outputs):
    layer = nn.Linear(1, 1)
    layer.weight = nn.Parameter(torch.empty(outputs, inputs))
    layer.bias = nn.Parameter(torch.empty(outputs))
    return layer


FORMULAS = {
    "xavier": ("normal", lambda i, o: math.sqrt(2 / (i + o))),
    "glorot_uniform:gain=2": ("uniform", lambda i, o: 2 * math.sqrt(2 / (i + o))),
    "xavier:distribution=trunc_normal": ("trunc_normal", lambda i, o: math.sqrt(2 / (i + o))),
    "kaiming": ("normal", lambda i, o: math.sqrt(2 / i)),
    "he_uniform": ("uniform", lambda i, o: math.sqrt(2 / i)),
    "kaiming:mode=fan_out": ("normal", lambda i, o: math.sqrt(2 / o)),
    "kaiming:a=0.5": ("normal", lambda i, o: math.sqrt(1.6 / i)),
    "kaiming:nonlinearity=tanh": ("normal", lambda i, o: 5 / 3 / math.sqrt(i)),
    "kaiming:nonlinearity=gelu": ("normal", lambda i, o: math.sqrt(1 / 0.425221 / i)),
    "lecun": ("normal", lambda i, o: math.sqrt(1 / i)),
    "lecun_uniform": ("uniform", lambda i, o: math.sqrt(1 / i)),
    "variance_scaling:scale=3,mode=fan_geo_avg": ("trunc_normal", lambda i, o: math.sqrt(3 / math.sqrt(i * o))),
    "variance_scaling:mode=fan_avg,distribution=uniform": ("uniform", lambda i, o: math.sqrt(2 / (i + o))),
    "variance_scaling:mode=fan_out,distribution=normal": ("normal", lambda i, o: math.sqrt(1 / o)),
}


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", FORMULAS)
@pytest.mark.parametrize("name", NAMES)
def test_a_weight_follows_the_law_of_its_scheme(scheme, name):
    case, (law, std) = cases()[name], FORMULAS[scheme]
    report = init(case.module, scheme)
    expected = std(case.fan_in, case.fan_out)
    assert_law(weight_of(case), law, expected)
    entry = next(entry for entry in report.parameters if entry.parameter == case.weight)
    assert entry.target_std == pytest.approx(expected, rel=1e-5)
    assert (entry.law, entry.fan_in, entry.fan_out) == (law, case.fan_in, case.fan_out)


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
def test_elementary_schemes_ignore_the_fans(name):
    case = cases()[name]
    init(case.module, "normal")
    assert_law(weight_of(case), "normal", 1.0)
    init(case.module, "normal:mean=3,std=0.1")
    assert_law(weight_of(case), "normal", 0.1, 3.0)
    init(case.module, "uniform:a=-1,b=3")
    assert_law(weight_of(case), "uniform", 2 / math.sqrt(3), 1.0)
    init(case.module, "uniform")
    assert_law(weight_of(case), "uniform", 1 / math.sqrt(12), 0.5)
    for text, value in (("zeros", 0.0), ("ones", 1.0), ("constant:value=-2.5", -2.5)):
        init(case.module, text)
        assert (weight_of(case) == value).all()


def test_trunc_normal_cuts_where_it_says():
    layer = nn.Linear(200, 200)
    init(layer, "trunc_normal")
    assert_law(layer.weight, "trunc_normal", 0.87962566103423978)
    init(layer, "trunc_normal:std=0.02")
    assert_law(layer.weight, "normal", 0.02)
    init(layer, "trunc_normal:std=0.02,cut=std")
    assert_law(layer.weight, "trunc_normal", 0.02 * 0.87962566103423978)
    init(layer, "trunc_normal:mean=1,std=0.5,a=0,b=2")
    assert_law(layer.weight, "trunc_normal", 0.5 * 0.87962566103423978, 1.0)


@pytest.mark.parametrize("bounds", ["a=0,b=1", "a=-3,b=0.5", "a=4,b=5", "a=-9,b=-6", "a=7,b=40"])
def test_the_report_gives_the_moments_after_a_lopsided_cut(bounds):
    layer = nn.Linear(200, 300)
    (entry, _) = init(layer, f"trunc_normal:{bounds}").parameters
    low, high = (float(part.partition("=")[2]) for part in bounds.split(","))
    assert low <= layer.weight.min()
    assert layer.weight.max() <= high
    assert entry.mean == pytest.approx(entry.target_mean, abs=6 * entry.target_std / math.sqrt(60000))
    assert entry.std == pytest.approx(entry.target_std, rel=0.04)


@pytest.mark.parametrize(
    ("scheme", "theirs"),
    [
        ("xavier", nn.init.xavier_normal_),
        ("xavier:distribution=uniform,gain=2.5", lambda w, generator: nn.init.xavier_uniform_(w, 2.5, generator)),
        ("kaiming", nn.init.kaiming_normal_),
        ("kaiming_uniform:a=0.3", lambda w, generator: nn.init.kaiming_uniform_(w, 0.3, generator=generator)),
        ("kaiming:mode=fan_out,nonlinearity=selu", lambda w, generator: nn.init.kaiming_normal_(w, 0, "fan_out", "selu", generator)),
        ("normal:mean=1,std=0.3", lambda w, generator: nn.init.normal_(w, 1, 0.3, generator)),
        ("uniform:a=-2,b=0.1", lambda w, generator: nn.init.uniform_(w, -2, 0.1, generator)),
        ("torch_default", lambda w, generator: nn.init.kaiming_uniform_(w, math.sqrt(5), generator=generator)),
    ],
)
@pytest.mark.parametrize("layer", [nn.Linear(30, 70), nn.Linear(70, 30), nn.Conv1d(7, 9, 4), nn.Conv2d(8, 6, 3), nn.Conv3d(3, 5, 2)])
def test_the_values_are_those_of_torch_from_the_same_generator(scheme, theirs, layer):
    expected = theirs(torch.empty(layer.weight.shape), generator=generator(5, "init", "weight"))
    init(layer, scheme, seed=5)
    assert torch.equal(layer.weight, expected)


@pytest.mark.parametrize(
    "layer", [nn.Linear(30, 70), nn.Linear(70, 30), nn.Conv2d(8, 6, 3), nn.Conv1d(2, 40, 3), nn.ConvTranspose2d(6, 4, 3)]
)
def test_orthogonal_values_are_those_of_torch_from_the_same_generator(layer):
    expected = nn.init.orthogonal_(torch.empty(layer.weight.shape), 1.7, generator(5, "init", "weight"))
    init(layer, "orthogonal:gain=1.7", seed=5)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=5e-6)


def test_gain_auto_follows_the_activation_after_each_layer():
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300), nn.GELU(), nn.Linear(300, 300))
    for scheme in ("kaiming:nonlinearity=auto", "xavier:gain=auto", "orthogonal:gain=auto"):
        report = initialize_traced(model, scheme)
        stds = [entry.target_std * math.sqrt(300) for entry in report.parameters if entry.parameter.endswith("weight")]
        assert stds == pytest.approx([math.sqrt(2), 1 / math.sqrt(0.425221), 1.0], rel=1e-5)


def initialize_traced(model, scheme):
    from initbench.init.initialize import initialize
    from initbench.question.config import parse_ref

    return initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, 300))[0]


@pytest.mark.parametrize(
    "text",
    [
        "kaiming:mode=fan_inn", "kaiming:nonlinearity=rellu", "kaiming:a=x", "xavier:distribution=gauss", "xavier:gain=-1",
        "xavier:gain=true", "normal:std=-1", "uniform:a=2,b=1", "trunc_normal:std=0", "trunc_normal:a=2,b=-2", "constant:value=x",
        "trunc_normal:a=50,b=60", "variance_scaling:scale=-1", "orthogonal:gain=gelo", "trunc_normal:cut=relative", "constant",
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_used_is_one_sentence(text):
    layer = nn.Linear(3, 4)
    before = layer.weight.clone()
    with pytest.raises(ConfigError) as caught:
        init(layer, text)
    assert text.partition(":")[0] in str(caught.value)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("scheme", ["zeros", "normal", "trunc_normal", "xavier", "kaiming", "orthogonal", "torch_default", "lecun"])
@pytest.mark.parametrize("layer", [nn.Linear(1, 1), nn.Conv2d(1, 1, 1), *(empty(*shape) for shape in ((0, 5), (5, 0), (0, 0)))])
def test_tiny_and_empty_weights_are_fine(scheme, layer):
    init(layer, scheme)
    assert torch.isfinite(layer.weight).all()


def test_the_layer_of_each_case_has_the_fans_counted_by_hand():
    for name, case in cases().items():
        if name != "raw (in, out)":
            layer = layer_of(case.module, case.weight)
            assert (layer.fan_in, layer.fan_out, layer.parts) == (case.fan_in, case.fan_out, case.parts), name

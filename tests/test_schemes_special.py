"""RAI and SIREN: their laws, and what their papers promise."""

import math

import pytest
import torch
from schemes_support import init
from scipy import stats
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.nn.seeds import generator
from initbench.question.config import parse_ref


def split(layer, std):
    """The entries of [W b] that cannot have come from N(0, std^2), and the rest."""
    rows = (
        torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1).detach()
        if layer.bias is not None
        else layer.weight.detach().flatten(1)
    )
    far = rows > 6 * std
    return rows, far


@pytest.mark.parametrize("layer", [nn.Linear(400, 2000), nn.Conv2d(100, 2000, 2)])
def test_rai_replaces_one_entry_of_each_row_by_a_beta_draw(layer):
    std = 0.6007 / 20
    report = init(layer, "rai")
    rows, far = split(layer, std)
    assert far.sum(dim=1).max() == 1
    drawn = rows[far]
    assert len(drawn) == pytest.approx(2000 * (1 - (6 * std) ** 2), rel=0.02)
    assert stats.kstest(drawn.numpy(), lambda x: (x**2 - (6 * std) ** 2) / (1 - (6 * std) ** 2)).pvalue > 1e-6
    rest = rows[~far & (rows < 6 * std)]
    assert rest.std().item() == pytest.approx(std, rel=0.02)
    assert far[:, -1].sum() <= 25
    assert report.parameters[0].std == pytest.approx(report.parameters[0].target_std, rel=0.05)


def test_rai_hits_the_bias_as_often_as_any_weight():
    layer = nn.Linear(4, 5000)
    init(layer, "rai:std=0.001")
    _, far = split(layer, 0.001)
    assert far.sum(dim=1).float().mean() == pytest.approx(1.0, abs=0.002)
    assert far.float().mean(dim=0) == pytest.approx(torch.full((5,), 0.2), abs=0.03)


@pytest.mark.parametrize("rules", [{"bias": 0.0}, {"layers": {"bias": "zeros"}}, {"exclude": ("bias",)}])
def test_rai_puts_the_entry_into_the_weight_where_the_bias_is_not_its_own(rules):
    layer = nn.Linear(4, 500)
    init(layer, "rai:std=0.001", **rules)
    assert ((layer.weight > 0.006).sum(dim=1)).float().mean() > 0.99


@pytest.mark.heavy
def test_rai_makes_deep_narrow_relu_networks_die_less_often():
    def dead(scheme):
        count = 0
        for seed in range(80):
            model = nn.Sequential(*[part for index in range(10) for part in (nn.Linear(1 if index == 0 else 2, 2), nn.ReLU())])
            init(model, scheme, seed)
            x = torch.linspace(-math.sqrt(3), math.sqrt(3), 50)[:, None]
            count += model(x).std(dim=0).max().item() == 0
        return count / 80

    assert dead("kaiming") > 0.7
    assert dead("rai") < 0.45


def test_rai_refuses_networks_without_relu():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    with pytest.raises(DoesNotApply, match="tanh follows '0'"):
        initialize(model, parse_ref("rai"), seed=0, inputs=torch.randn(2, 4))


class Sine(nn.Module):
    def __init__(self, omega):
        super().__init__()
        self.omega = omega

    def forward(self, x):
        return torch.sin(self.omega * x)


def sines(omega, width=256, depth=5):
    layers = [part for index in range(depth) for part in (nn.Linear(2 if index == 0 else width, width), Sine(omega))]
    return nn.Sequential(*layers, nn.Linear(width, 100))


@pytest.mark.parametrize("omega", [1.0, 30.0])
def test_siren_bounds_are_the_papers(omega):
    model = sines(omega)
    report, _ = initialize(model, parse_ref("siren"), seed=0, inputs=torch.randn(2, 2))
    assert model[0].weight.abs().max().item() == pytest.approx(0.5, rel=0.02)
    for index in (2, 8, 10):
        bound = math.sqrt(6 / 256) / omega
        assert model[index].weight.abs().max().item() == pytest.approx(bound, rel=0.001)
        assert model[index].weight.abs().max().item() <= bound
        assert stats.kstest(model[index].weight.detach().flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-6
        assert model[index].bias.abs().max().item() == pytest.approx(1 / 16, rel=0.05)
    assert report.parameters[4].target_std == pytest.approx(math.sqrt(2 / 256) / omega)


def test_the_pre_activation_variance_of_a_siren_settles_at_the_exact_fixed_point():
    model = sines(30.0, width=400, depth=6)
    initialize(model, parse_ref("siren"), seed=0, inputs=torch.randn(2, 2))
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.bias.zero_()
        x = torch.rand(400, 2, generator=generator(0, "test")) * 2 - 1
        z = 30 * model[:11](x)
    assert z.square().mean().item() == pytest.approx(0.7968, rel=0.08)


def test_siren_refuses_other_networks_unless_it_is_told_omega():
    with pytest.raises(DoesNotApply, match="relu follows '0'"):
        initialize(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), parse_ref("siren"), seed=0, inputs=torch.randn(2, 4))
    with pytest.raises(DoesNotApply, match="none was found"):
        init(nn.Linear(4, 4), "siren")
    layer = nn.Sequential(nn.Linear(9, 200), nn.Linear(200, 200))
    init(layer, "siren:omega=3")
    assert layer[1].weight.abs().max().item() == pytest.approx(math.sqrt(6 / 200) / 3, rel=0.001)

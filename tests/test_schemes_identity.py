"""The identity-like and the sparse schemes, entry by entry."""

import math

import pytest
import torch
from schemes_support import assert_law, init
from torch import nn

from initbench.nn.seeds import generator
from initbench.schemes.zero_hadamard import hadamard


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 5), (5, 8), (8, 5)])
def test_identity_is_torchs_eye(inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    init(layer, "identity:gain=3")
    assert torch.equal(layer.weight, 3 * nn.init.eye_(torch.empty(outputs, inputs)))


def test_each_gate_of_a_recurrent_layer_is_an_identity():
    lstm = nn.LSTM(4, 4)
    init(lstm, "identity")
    assert torch.equal(lstm.weight_hh_l0, torch.eye(4).repeat(4, 1))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_dirac_is_torchs_with_the_groups_of_the_layer(groups, kernel):
    layer = nn.Conv2d(4, 6, kernel, groups=groups)
    init(layer, "dirac")
    assert torch.equal(layer.weight, nn.init.dirac_(torch.empty(layer.weight.shape), groups))


def test_a_network_of_dirac_layers_passes_positive_images_on():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU())
    x = torch.rand(2, 3, 6, 6)
    init(model, "dirac")
    assert torch.equal(model(x)[:, :3], x)


def test_the_hadamard_matrix_is_orthogonal_and_symmetric():
    for bits in range(6):
        h = hadamard(2**bits, 2**bits, bits)
        assert torch.equal(h @ h, 2**bits * torch.eye(2**bits))
        assert set(h.flatten().tolist()) <= {1.0, -1.0}
    assert torch.equal(hadamard(4, 4, 2), torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).float())


def test_zero_hadamard_narrows_by_identity_and_widens_by_hadamard():
    narrow, wide = nn.Linear(8, 5), nn.Linear(6, 8)
    init(narrow, "zero_hadamard")
    assert torch.equal(narrow.weight, nn.init.eye_(torch.empty(5, 8)))
    init(wide, "zero_hadamard:normalization=repo")
    torch.testing.assert_close(wide.weight.T @ wide.weight, torch.eye(6))
    init(wide, "zero_hadamard")
    torch.testing.assert_close(wide.weight.T @ wide.weight, 2 * torch.eye(6))


def test_a_widening_network_of_zero_hadamard_loses_no_rank():
    layer = nn.Linear(10, 23)
    init(layer, "zero_hadamard")
    assert torch.linalg.matrix_rank(layer.weight) == 10
    assert set(layer.weight.abs().flatten().tolist()) == {0.25}


def test_zero_hadamard_convolutions_act_at_the_centre_only():
    layer = nn.Conv2d(4, 8, 3, padding=1, bias=False)
    init(layer, "zero_hadamard:normalization=repo")
    assert layer.weight.count_nonzero() == 32
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(layer(x).norm(), x.norm())


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 300), ("fan_out", 200)])
def test_identity_noise_is_the_identity_plus_its_noise(mode, fan):
    layer = nn.Linear(300, 200)
    report = init(layer, f"identity_noise:mode={mode}")
    assert_law(layer.weight - torch.eye(200, 300), "normal", 0.085 / math.sqrt(fan))
    assert report.parameters[0].std == pytest.approx(report.parameters[0].target_std, rel=0.01)


def test_a_widening_identity_is_repeated():
    layer = nn.Linear(3, 7)
    init(layer, "identity_noise:noise=0")
    assert torch.equal(layer.weight, torch.eye(3).repeat(3, 1)[:7])


def test_identity_noise_keeps_a_deep_tanh_network_alive_where_lecun_loses_directions():
    def through(scheme):
        model = nn.Sequential(*[part for _ in range(50) for part in (nn.Linear(64, 64), nn.Tanh())])
        init(model, scheme)
        with torch.no_grad():
            return model(torch.randn(16, 64, generator=generator(0, "test"))).square().mean().item()

    assert through("identity_noise") > 3 * through("normal:std=0.01")
    assert 0.005 < through("identity_noise") < 0.1


def test_sparse_has_torchs_values_and_its_share_of_zeros_in_each_column():
    layer = nn.Linear(60, 50)
    torch.manual_seed(0)
    expected = nn.init.sparse_(torch.empty(50, 60), 0.33, 0.2, generator(3, "init", "weight"))
    init(layer, "sparse:sparsity=0.33,std=0.2", seed=3)
    kept = (layer.weight != 0) & (expected != 0)
    assert torch.equal(layer.weight[kept], expected[kept])
    assert ((layer.weight == 0).sum(dim=0) == 17).all()
    assert len(set((layer.weight == 0).sum(dim=1).tolist())) > 1


@pytest.mark.parametrize("layer", [nn.Linear(80, 1000), nn.Conv2d(20, 1000, 2)])
def test_each_unit_of_sparse_incoming_listens_to_fifteen_inputs(layer):
    report = init(layer, "sparse_incoming:std=0.7")
    rows = layer.weight.flatten(1)
    assert ((rows != 0).sum(dim=1) == 15).all()
    assert_law(rows[rows != 0], "normal", 0.7)
    assert report.parameters[0].std == pytest.approx(report.parameters[0].target_std, rel=0.03)
    counts = (rows != 0).sum(dim=0).float()
    assert counts.mean() == pytest.approx(1000 * 15 / 80)
    assert counts.std() < 2 * math.sqrt(1000 * 15 / 80 * 65 / 80)


def test_a_unit_with_few_inputs_keeps_them_all():
    layer = nn.Linear(10, 4)
    init(layer, "sparse_incoming")
    assert layer.weight.count_nonzero() == 40


@pytest.mark.parametrize(("scheme", "rows"), [("sparse:sparsity=0.4", True), ("sparse_incoming:k=2", False)])
def test_a_sparse_scheme_chooses_every_subset_alike(scheme, rows):
    layer = nn.Linear(30_000, 7) if rows else nn.Linear(8, 30_000)
    init(layer, scheme)
    chosen = (layer.weight.detach().T == 0) if rows else (layer.weight.detach() != 0)
    powers = 2 ** torch.arange(chosen.shape[1])
    counts = (chosen * powers).sum(1).bincount()
    counts = counts[counts > 0].double()
    expected = 30_000 / math.comb(chosen.shape[1], 3 if rows else 2)
    assert len(counts) == math.comb(chosen.shape[1], 3 if rows else 2)
    assert ((counts - expected) ** 2 / expected).sum() < 100

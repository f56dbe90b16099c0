"""Correlations and singular values against plain autograd, and what batches and laws are read as."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import initbench
from initbench.errors import ConfigError, DataError
from initbench.init.initialize import initialize
from initbench.init.known_laws import law_of, laws_of
from initbench.measure import jacobians as signal
from initbench.measure.jacobians import correlations, output_directions, singular_values
from initbench.nn.layers import weight_layers
from initbench.question.config import parse_ref
from initbench.training.inputs import Objective, default_batch_size, read_input


def net(activation=nn.Tanh, outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), activation(), nn.Linear(7, 6), activation(), nn.Linear(6, outputs)).double()


def inputs(count=8):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_correlations_are_mean_cosines_of_neighbours():
    model, x = net(), inputs()
    found = correlations(model, weight_layers(model, x), x)
    h = model[0](x)
    twin = np.mean([torch.cosine_similarity(h[i], h[i + 1], dim=0).item() for i in range(0, 8, 2)])
    assert found[0] == pytest.approx(twin, abs=1e-6)
    last = model(x)
    assert found[2] == pytest.approx(
        np.mean([torch.cosine_similarity(last[i], last[i + 1], dim=0).item() for i in range(0, 8, 2)]), abs=1e-6
    )


def test_a_signal_without_length_has_no_correlation():
    model, x = net(), inputs()
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    assert correlations(model, weight_layers(model, x), x)[0] is None


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_singular_values_are_those_of_the_jacobian(activation):
    model, x = net(activation), inputs()
    found = singular_values(model, weight_layers(model, x), x)
    values = []
    for image in x[:4]:
        jacobian = torch.autograd.functional.jacobian(model[1:], model[0](image))
        values.append(torch.linalg.svdvals(jacobian))
    each = torch.stack(values)
    assert found[0].jacobian_mean == pytest.approx(each.mean().item(), abs=1e-6)
    assert found[0].jacobian_max == pytest.approx(each.amax(1).mean().item(), abs=1e-6)
    assert found[0].jacobian_min == pytest.approx(each.amin(1).mean().item(), abs=1e-6)
    assert found[2].jacobian_mean == pytest.approx(1.0)


def test_singular_values_see_the_pre_activation_behind_an_activation_in_place():
    model, x = net(lambda: nn.ReLU(inplace=True)), inputs()
    apart = net(nn.ReLU)
    ours = singular_values(model, weight_layers(model, x), x)
    assert ours == singular_values(apart, weight_layers(apart, x), x)


def test_of_many_outputs_ten_orthonormal_directions_are_taken():
    rows = output_directions(50)
    assert rows.shape == (10, 50)
    assert torch.allclose(rows @ rows.T, torch.eye(10), atol=1e-5)
    assert torch.equal(output_directions(4), torch.eye(4))


def test_batch_norm_couples_the_inputs():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).double(), inputs(16)
    found = singular_values(model, weight_layers(model, x), x)
    h = model[0](x).detach().requires_grad_()
    out = model[2](model[1](h))[0]
    jacobian = torch.stack([torch.autograd.grad(out[k], h, retain_graph=True)[0][0] for k in range(2)])
    assert found[0].jacobian_max == pytest.approx(torch.linalg.svdvals(jacobian)[0].item(), abs=1e-6)


def test_measuring_leaves_no_hooks_gradients_or_flags():
    model, x = net(), inputs()
    singular_values(model, weight_layers(model, x), x)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not x.requires_grad
    assert not any(module._forward_hooks for module in model.modules())


def test_an_objective_without_labels_says_what_it_takes():
    logits = torch.zeros(6, 4, requires_grad=True)
    some = Objective(None, 4, 6)
    some(logits)
    assert (some.words, some.loss.item()) == ("cross entropy with random labels", pytest.approx(math.log(4)))
    other = Objective(None, None, 6)
    assert other(torch.ones(6, 2, 3)).dim() == 0
    assert other.words == "a random projection of the outputs"


def test_inputs_are_shapes_whole_numbers_or_files(tmp_path):
    assert read_input("3x4x5", 6)[0].shape == (6, 3, 4, 5)
    tokens, _ = read_input("int:7:9", 50)
    assert tokens.shape == (50, 9)
    assert set(tokens.unique().tolist()) == set(range(7))
    np.savez(tmp_path / "some.npz", x=np.zeros((5, 2), np.float64), y=np.arange(5))
    images, labels = read_input(str(tmp_path / "some.npz"), 3)
    assert images.dtype == torch.float32
    assert labels.tolist() == [0, 1, 2]
    torch.save({"inputs": torch.full((4, 2, 2, 3), 255, dtype=torch.uint8)}, tmp_path / "some.pt")
    assert read_input(str(tmp_path / "some.pt"), 9)[0].max() == 1
    assert default_batch_size("3x224x224") == 13
    assert default_batch_size("784") == 256


@pytest.mark.parametrize("text", ["3y4", "0x3", "int:5", "x", ""])
def test_an_input_that_cannot_be_read_is_one_sentence(text):
    with pytest.raises(ConfigError, match="Write a shape"):
        read_input(text, 4)


def test_a_batch_file_that_is_no_batch_is_said(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_input(str(tmp_path / "none.npy"), 4)
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match="at least 2 inputs"):
        read_input(str(tmp_path / "flat.npy"), 4)
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(DataError, match="Cannot read"):
        read_input(str(tmp_path / "objects.npy"), 4)


@pytest.mark.parametrize(
    ("scheme", "law", "named"),
    [
        ("kaiming", "normal", "kaiming"),
        ("torch_default", "uniform", "torch_default"),
        ("xavier:distribution=uniform", "uniform", "xavier:distribution=uniform"),
        ("lecun:distribution=trunc_normal", "trunc_normal", "lecun:distribution=trunc_normal"),
        ("trunc_normal:std=0.02", "normal", "trunc_normal:std=0.02"),
        ("orthogonal", "orthogonal", "orthogonal"),
        ("zeros", "zero", "zeros"),
        ("constant:value=0.3", "constant", "constant"),
    ],
)
def test_each_known_law_is_recognized(scheme, law, named):
    model = nn.Sequential(nn.Linear(120, 90), nn.ReLU(), nn.Linear(90, 80))
    _, layers = initialize(model, parse_ref(scheme), seed=3)
    for found in laws_of(layers):
        assert found.law == law
        assert named in found.schemes


def test_weights_of_no_known_law_or_scale_are_said_so():
    layer = nn.Linear(200, 100)
    found = weight_layers(layer)[0]
    nn.init.normal_(layer.weight, std=0.3)
    assert (law_of(found).law, law_of(found).schemes) == ("normal", ())
    assert "no known scheme has this scale" in law_of(found).words
    with torch.no_grad():
        layer.weight.copy_(torch.distributions.StudentT(3.0).sample(layer.weight.shape))
    assert law_of(found).law == "none"
    assert "kurtosis" in law_of(found).words


def test_a_small_normal_weight_is_no_truncated_one():
    layers = [nn.Linear(32, 10, bias=False) for _ in range(40)]
    for index, layer in enumerate(layers):
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(index))
    found = [law_of(weight_layers(layer, torch.zeros(2, 32))[0]).law for layer in layers]
    assert found.count("normal") >= 36


def test_all_directions_at_once_are_those_one_after_the_other(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 13))
    inputs = torch.randn(9, 6)
    layers = weight_layers(model, inputs)
    together = singular_values(model, layers, inputs)
    monkeypatch.setattr(signal, "AT_ONCE", 0)
    for found, expected in zip(together, singular_values(model, layers, inputs), strict=True):
        assert vars(found) == pytest.approx(vars(expected), rel=1e-5, abs=1e-7 * expected.jacobian_max)  # what is zero is so to rounding


@pytest.mark.heavy
@pytest.mark.parametrize("model", ["mlp:depth=0", "mlp:depth=1"])
def test_a_network_of_one_hidden_layer_keeps_and_loses_no_signal(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = initbench.probe(model, ["kaiming", "xavier"])
    for scheme in found.schemes:
        assert (scheme.activations, scheme.gradients, scheme.lost) == (None, None, None)
        assert scheme.verdict.startswith("the signal passes too few hidden layers to change between them")
    data = "synthetic:n=256,test=32,shape=[1,28,28]"
    results = initbench.compare(["kaiming", "xavier"], model=model, dataset=data, steps=1, engine="serial")
    assert {scheme.signal for scheme in results.summary.schemes} == {None}

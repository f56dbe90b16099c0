"""Weights that are computed from other parameters: what a scheme sets, keeps current, scales and reports."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from initbench import init_network, probe
from initbench.results.record import InitReport

X = torch.randn(512, 48, generator=torch.Generator().manual_seed(1))
IN, OUT = 48, 32


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.triu()


class Doubled(nn.Module):
    """No way back."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight * 2


class Positive(nn.Module):
    """There is a way back, but not for negative weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.log()


class LowRank(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left @ right

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        return u[:, :4] * s[:4], vh[:4]


def through(step: nn.Module, out: int = OUT) -> nn.Linear:
    linear = nn.Linear(IN, out)
    parametrize.register_parametrization(linear, "weight", step, unsafe=isinstance(step, Positive))
    return linear


def older(kind: str, out: int = OUT, **more: int | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(nn.utils, kind)(nn.Linear(IN, out), **more)


def net(layer: Callable[[], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    first = layer()
    return nn.Sequential(first, nn.ReLU(), nn.Linear(first.out_features, 10)).eval()


def used(model: nn.Sequential) -> Tensor:
    """The weight of the first layer, found by what the layer does: W e_i + b for each unit vector."""
    with torch.no_grad():
        return model[0](torch.eye(IN)).T - model[0](torch.zeros(1, IN)).T


def entry_of(report: InitReport, part: str) -> tuple[float | None, float | None]:
    entry = next(entry for entry in report.parameters if entry.parameter.startswith("0.") and part in entry.parameter)
    return entry.std, entry.target_std


SPECTRAL = {"new": lambda: parametrizations.spectral_norm(nn.Linear(IN, OUT)), "older": lambda: older("spectral_norm")}
LENGTHS = {
    "new": lambda: parametrizations.weight_norm(nn.Linear(IN, OUT)),
    "older": lambda: older("weight_norm"),
    "older, one length": lambda: older("weight_norm", dim=None),
}


@pytest.mark.parametrize("scheme", ["kaiming", "xavier", "orthogonal", "torch_default", "lsuv"])
@pytest.mark.parametrize(
    "more",
    [{}, {"use_trivialization": True}, {"orthogonal_map": "cayley", "use_trivialization": False}, {"orthogonal_map": "matrix_exp"}],
    ids=str,
)
def test_orthogonal_stays_orthogonal(scheme: str, more: dict[str, object]) -> None:
    model = net(lambda: parametrizations.orthogonal(nn.Linear(IN, OUT), **more))  # type: ignore[arg-type]
    before = used(model)
    state = torch.get_rng_state()
    report = init_network(model, scheme, seed=3, batch=lambda size, _: (X[:size], torch.arange(size) % 10))
    assert torch.equal(torch.get_rng_state(), state)
    weight = used(model)
    torch.testing.assert_close(weight @ weight.T, torch.eye(OUT), atol=1e-5, rtol=0)
    assert not torch.allclose(weight, before, atol=0.01)
    std, target = entry_of(report, "original")
    assert std == pytest.approx(weight.std(correction=0).item(), rel=1e-4)
    if scheme in {"kaiming", "xavier", "torch_default"}:
        assert target is None
        assert any("'0' goes through orthogonal" in note and f"{std:.4g}" in note for note in report.notes)


def test_a_seed_decides_an_orthogonal_weight_and_the_built_one_does_not() -> None:
    first, second = (net(lambda: parametrizations.orthogonal(nn.Linear(IN, OUT), use_trivialization=True)) for _ in range(2))
    init_network(second, "kaiming", seed=8)
    for model in (first, second):
        init_network(model, "kaiming", seed=3)
    assert torch.equal(used(first), used(second))


def test_what_suits_an_orthogonal_parametrization_comes_through_as_drawn() -> None:
    model = net(lambda: parametrizations.orthogonal(nn.Linear(IN, OUT)))
    report = init_network(model, "orthogonal", seed=3)
    assert entry_of(report, "original")[1] == pytest.approx(IN**-0.5)  # rows of length 1
    assert report.notes == ()


@pytest.mark.parametrize("kind", SPECTRAL)
@pytest.mark.parametrize("scheme", ["kaiming", "normal:std=5", "orthogonal"])
def test_a_spectral_norm_is_one_at_once(kind: str, scheme: str) -> None:
    model = net(SPECTRAL[kind])
    report = init_network(model, scheme, seed=3)
    weight = used(model)
    assert torch.linalg.svdvals(weight)[0].item() == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(model[0].weight.detach(), model.train()[0].eval().weight.detach())
    model(X)
    torch.testing.assert_close(used(model), weight)
    std, _ = entry_of(report, "orig")
    assert std == pytest.approx(weight.std(correction=0).item(), rel=1e-3)
    drawn = model[0].weight_orig if kind == "older" else model[0].parametrizations.weight.original
    torch.testing.assert_close(weight, drawn.detach() / torch.linalg.matrix_norm(drawn.detach(), 2), atol=1e-5, rtol=1e-4)


def test_a_spectral_norm_of_a_convolution_along_another_axis() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.spectral_norm(nn.ConvTranspose2d(6, 4, 3))).eval()  # dim 1
    init_network(model, "kaiming", seed=3)
    matrix = model[0].weight.detach().transpose(0, 1).flatten(1)
    assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1.0, rel=1e-4)


def test_a_large_spectral_norm_with_values_close_together() -> None:
    torch.manual_seed(0)
    model = parametrizations.spectral_norm(nn.Linear(700, 700)).eval()
    init_network(model, "kaiming", seed=3)
    assert torch.linalg.svdvals(model.weight.detach())[0].item() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("kind", LENGTHS)
def test_a_weight_norm_gives_what_was_drawn(kind: str) -> None:
    model = net(LENGTHS[kind])
    report = init_network(model, "kaiming", seed=3)
    weight = used(model)
    std, target = entry_of(report, "original1" if kind == "new" else "weight_v")
    assert target == pytest.approx((2 / IN) ** 0.5)
    assert std == pytest.approx(weight.std(correction=0).item(), rel=1e-4)
    assert weight.std().item() == pytest.approx(target, rel=0.05)
    torch.testing.assert_close(model[0].weight.detach(), weight, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("scheme", ["lsuv:base=kaiming", "autoinit_jacobian", "metainit:steps=3", "gradinit:iterations=3"])
def test_data_driven_schemes_scale_the_length(kind: str, scheme: str) -> None:
    def batch(size: int, index: int) -> tuple[Tensor, Tensor]:
        return X[:size], (torch.arange(size) + index) % 10

    model, base = net(LENGTHS[kind]), net(LENGTHS[kind])
    report = init_network(model, scheme, seed=3, inputs=X[:8], batch=batch)
    init_network(base, "lecun" if "jacobian" in scheme else "kaiming", seed=3, inputs=X[:8])
    weight, start = used(model), used(base)
    ratio = (weight / start).flatten()
    assert ratio.std() < 1e-3 * ratio.mean()  # the same direction
    direction = "weight_v" if "older" in kind else "parametrizations.weight.original1"
    assert torch.equal(model[0].get_parameter(direction), base[0].get_parameter(direction))
    std, _ = entry_of(report, direction)
    assert std == pytest.approx(weight.std(correction=0).item(), rel=1e-4)
    if "lsuv" in scheme:
        assert model[0](X[:256]).var().item() == pytest.approx(1.0, abs=0.1)
        assert model(X[:256]).var().item() == pytest.approx(1.0, abs=0.1)
    if "gradinit" in scheme or "metainit" in scheme:
        assert abs(ratio.mean() - 1) > 1e-3  # something was learned


def test_krahenbuhl_under_a_weight_norm_gives_each_unit_variance_one() -> None:
    model = net(LENGTHS["new"])
    init_network(model, "krahenbuhl:balance=false,beta=0", seed=3, inputs=X[:8], batch=lambda size, _: (X[:size], torch.arange(size) % 10))
    torch.testing.assert_close(model[0](X[:256]).var(0, correction=0), torch.ones(OUT), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", SPECTRAL)
def test_what_cannot_be_scaled_is_said(kind: str) -> None:
    model = net(SPECTRAL[kind])
    report = init_network(model, "lsuv:base=kaiming", seed=3, batch=lambda size, _: (X[:size], torch.arange(size) % 10))
    assert torch.linalg.svdvals(used(model))[0].item() == pytest.approx(1.0, rel=1e-4)
    assert any("'0' goes through spectral norm, which cannot be scaled" in note for note in report.notes)


def test_a_frozen_length_is_kept_and_said() -> None:
    model = net(LENGTHS["new"])
    length = model[0].parametrizations.weight.original0.requires_grad_(False)
    length.fill_(3.0)
    report = init_network(model, "kaiming", seed=3)
    weight = used(model)
    torch.testing.assert_close(weight.norm(dim=1), torch.full((OUT,), 3.0))
    assert entry_of(report, "original1") == (pytest.approx(weight.std(correction=0).item(), rel=1e-4), None)
    assert any("'0' goes through weight norm" in note for note in report.notes)


def test_a_parametrization_with_a_way_back_gives_what_was_drawn() -> None:
    model = net(lambda: through(Halved()))
    report = init_network(model, "kaiming", seed=3)
    assert used(model).std().item() == pytest.approx((2 / IN) ** 0.5, rel=0.05)
    assert entry_of(report, "original")[1] == pytest.approx((2 / IN) ** 0.5)
    assert report.notes == ()


def test_a_parametrization_that_projects_says_so() -> None:
    model = net(lambda: through(Symmetric(), IN))
    report = init_network(model, "orthogonal", seed=3)
    weight = used(model)
    torch.testing.assert_close(weight, weight.T, atol=1e-6, rtol=0)
    assert entry_of(report, "original") == (pytest.approx(weight.std(correction=0).item(), rel=1e-4), None)
    assert any("'0' goes through Symmetric" in note for note in report.notes)


@pytest.mark.parametrize("step", [Doubled, Positive])
def test_without_a_way_back_the_parameter_is_set_and_it_is_said(step: type[nn.Module]) -> None:
    model = net(lambda: through(step()))
    report = init_network(model, "kaiming", seed=3)
    original = model[0].parametrizations.weight.original.detach()
    assert original.std().item() == pytest.approx((2 / IN) ** 0.5, rel=0.05)
    assert entry_of(report, "original")[0] == pytest.approx(used(model).std(correction=0).item(), rel=1e-4)
    assert any(f"goes through {step.__name__}" in note and "what is set is '0.parametrizations" in note for note in report.notes)


def test_lsuv_scales_what_is_proportional_to_its_parameter() -> None:
    model = net(lambda: through(Doubled()))
    init_network(model, "lsuv", seed=3, batch=lambda size, _: (X[:size], torch.arange(size) % 10))
    assert model[0](X[:256]).var().item() == pytest.approx(1.0, abs=0.1)


def test_a_weight_of_two_parameters() -> None:
    model = net(lambda: through(LowRank()))
    report = init_network(model, "kaiming", seed=3)
    weight = used(model)
    assert torch.linalg.matrix_rank(weight, rtol=1e-4).item() == 4
    entries = {entry.parameter: entry for entry in report.parameters}
    assert entries["0.parametrizations.weight.original1"].fan_in == IN
    assert entries["0.parametrizations.weight.original1"].std == pytest.approx(weight.std(correction=0).item(), rel=1e-4)
    assert "set along with" in entries["0.parametrizations.weight.original0"].by
    assert report.untouched == ()
    expected = torch.linalg.svdvals(weight)
    assert expected[0].item() == pytest.approx((2 / IN) ** 0.5 * (IN**0.5 + OUT**0.5), rel=0.15)  # Marchenko and Pastur's edge


def test_a_pruned_weight_is_reported_as_it_is_used() -> None:
    model = net(lambda: prune.random_unstructured(nn.Linear(IN, OUT), "weight", 0.5))
    report = init_network(model, "kaiming", seed=3)
    weight = used(model)
    assert (weight == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert entry_of(report, "weight_orig")[0] == pytest.approx(weight.std(correction=0).item(), rel=1e-4)
    torch.testing.assert_close(model[0].weight.detach(), weight, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", SPECTRAL)
def test_a_probe_measures_and_names_the_weight_that_is_used(kind: str) -> None:
    model = net(SPECTRAL[kind])
    init_network(model, "kaiming", seed=0, inputs=X)
    weight = used(model)
    found = probe(model, as_is=True, inputs=X).runs[0]
    assert found.layers[0].pre_activation_variance == pytest.approx(model[0](X).var(correction=0).item(), rel=1e-4)
    assert found.laws[0].std == pytest.approx(weight.std(correction=0).item(), rel=1e-4)
    assert found.layers[0].weight_variance == pytest.approx(weight.var(correction=0).item(), rel=1e-3)


class Tied(nn.Module):
    """A language model's head with its embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.a, self.b = nn.Embedding(50, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, 50, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.b(torch.relu(self.a(self.wte(ids))))))


@pytest.mark.parametrize("scheme", ["lsuv", "krahenbuhl:balance=false", "autoinit_jacobian"])
def test_a_weight_that_an_embedding_shares_is_not_scaled_back_and_forth(scheme: str) -> None:
    torch.manual_seed(0)
    ids, model = torch.randint(0, 50, (256, 12)), Tied()
    report = init_network(
        model, scheme, seed=3, inputs=ids[:8], batch=lambda size, _: (ids[:size], torch.zeros(size, 12, dtype=torch.long))
    )
    assert any("'head' shares its weight with the embedding 'wte'" in note for note in report.notes)
    if scheme == "lsuv":
        hidden = model.a(model.wte(ids))
        assert hidden.var().item() == pytest.approx(1.0, abs=0.1)
        assert model.b(torch.relu(hidden)).var().item() == pytest.approx(1.0, abs=0.1)
    base = {"lsuv": "orthogonal", "autoinit_jacobian": "lecun", "krahenbuhl:balance=false": "lecun"}[scheme]
    other = Tied()
    init_network(other, base, seed=3, inputs=ids[:8])
    assert torch.equal(model.head.weight, other.head.weight)

"""One fault, one finding, at the parameter that is the cause: what it does to innocent layers behind is told as its effect."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from initbench import lint
from initbench.linting.finding import Finding, Link, Severity, joined

WIDTH = 32


class Chain(nn.Module):
    """Four layers and a head, with norms where they are asked for."""

    def __init__(self, act=F.relu, norm=None):
        super().__init__()
        self.act = act
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norms = nn.ModuleList(norm(WIDTH) if norm else nn.Identity() for _ in self.layers)
        self.head = nn.Linear(WIDTH, 10)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if act is F.relu else "linear")
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.act(norm(layer(x)))
        return self.head(x)


class OwnNorm(nn.Module):
    """A norm by hand, as many models have one."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class Gated(nn.Module):
    """A gate on the only way."""

    def __init__(self):
        super().__init__()
        self.enter, self.gate, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = F.relu(self.enter(x))
        return self.head(F.relu(self.out(torch.sigmoid(self.gate(x)) * self.value(x))))


class Images(nn.Sequential):
    """Convolutions without norms."""

    def __init__(self):
        convs = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
        super().__init__(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        for part in convs[::2]:
            nn.init.kaiming_normal_(part.weight)


class Recurrent(nn.Module):
    """A layer in front of an LSTM."""

    def __init__(self):
        super().__init__()
        self.enter, self.core, self.head = nn.Linear(8, WIDTH), nn.LSTM(WIDTH, WIDTH, 2, batch_first=True), nn.Linear(WIDTH, 10)

    def forward(self, x):
        return self.head(self.core(F.relu(self.enter(x)))[0][:, -1])


def spoiled(make, change):
    def build():
        model = make()
        with torch.no_grad():
            change(model)
        return model

    return build


def normed(model):
    model.layers[2] = weight_norm(model.layers[2])
    model.layers[2].parametrizations.weight.original0.zero_()


def worst(make, inputs=str(WIDTH)):
    """The errors and warnings; no rule may have failed."""
    report = lint(make, inputs=inputs)
    assert not [each for each in report.not_told if "the rule failed" in each.reason]
    return report.of("warning")


LENGTH = "layers.2.parametrizations.weight.original0"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("make", "change", "inputs", "code", "cause"),
    [
        (Chain, lambda model: model.layers[2].bias.fill_(-100), "32", "IB306", "layers.2.bias"),
        (Chain, lambda model: model.layers[2].bias.fill_(1e6), "32", "IB102", "layers.2.bias"),
        (Images, lambda model: model[2].bias.fill_(-100), "3x12x12", "IB306", "2.bias"),
        (lambda: Chain(torch.tanh), lambda model: model.layers[2].bias.fill_(-1000), "32", "IB307", "layers.2.bias"),
        (Chain, normed, "32", "IB104", LENGTH),
        (Gated, lambda model: model.gate.bias.fill_(-50), "32", "IB307", "gate.bias"),
        (Gated, lambda model: model.gate.bias.fill_(-200), "32", "IB306", "gate.bias"),
        (lambda: Chain(norm=nn.LayerNorm), lambda model: model.norms[2].weight.zero_(), "32", "IB112", "norms.2.weight"),
        (lambda: Chain(norm=nn.BatchNorm1d), lambda model: model.norms[2].weight.zero_(), "32", "IB112", "norms.2.weight"),
        (lambda: Chain(norm=nn.RMSNorm), lambda model: model.norms[2].weight.zero_(), "32", "IB112", "norms.2.weight"),
        (lambda: Chain(norm=OwnNorm), lambda model: model.norms[2].weight.zero_(), "32", "IB306", "norms.2.weight"),
        (Chain, lambda model: model.layers[0].weight.zero_(), "32", "IB104", "layers.0.weight"),
        (Recurrent, lambda model: [value.zero_() for value in model.enter.parameters()], "12x8", "IB104", "enter.weight"),
    ],
)
def test_the_one_finding_is_an_error_at_the_cause(make, change, inputs, code, cause):
    assert worst(make, inputs) == ()
    (finding,) = worst(spoiled(make, change), inputs)
    assert (finding.code, finding.parameters, finding.severity) == (code, (cause,), Severity.ERROR)
    healed = spoiled(make, change)()
    exec(finding.fix, {"model": healed, "nn": nn, "torch": torch})
    assert not [each for each in worst(lambda: healed, inputs) if set(each.parameters) != {cause} or each.code != code]


def test_what_it_does_to_the_layers_behind_is_its_effect():
    make = spoiled(Chain, lambda model: model.layers[2].bias.fill_(-100))
    (finding,) = worst(make)
    model = make()
    F.cross_entropy(model(torch.randn(32, WIDTH)), torch.arange(32) % 10).backward()
    silent = sum(not parameter.grad.any() for parameter in model.parameters())
    assert f"{silent} of {len(list(model.parameters()))} parameters that are trained get no gradient" in finding.effect
    assert "activations are constant at layers.2" in finding.effect
    assert "1 more behind" in finding.measured


def test_a_rule_on_its_own_names_the_cause_too():
    make = spoiled(lambda: Chain(norm=nn.LayerNorm), lambda model: model.norms[2].weight.zero_())
    for code in ("IB301", "IB306", "IB310"):
        (finding,) = lint(make, inputs="32", select=[code]).findings
        assert finding.parameters == ("norms.2.weight",)


def test_two_causes_are_two_findings():
    def change(model):
        model.norms[1].bias.fill_(-100)
        model.norms[2].weight.zero_()

    found = {(each.code, each.parameters) for each in worst(spoiled(lambda: Chain(norm=nn.LayerNorm), change))}
    assert found == {("IB112", ("norms.1.bias",)), ("IB112", ("norms.2.weight",))}


def test_where_it_takes_two_both_are_named():
    class Ids(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.place = nn.Embedding(50, WIDTH), nn.Parameter(torch.zeros(6, WIDTH))
            self.body = Chain()
            nn.init.zeros_(self.tokens.weight)

        def forward(self, ids):
            return self.body((self.tokens(ids) + self.place).mean(1))

    (finding,) = worst(Ids, "int:50:6")
    assert (finding.severity, set(finding.parameters)) == (Severity.ERROR, {"tokens.weight", "place"})
    assert worst(spoiled(Ids, lambda model: nn.init.normal_(model.tokens.weight)), "int:50:6") == ()


def test_the_weights_are_named_where_they_are_at_fault_and_not_those_behind():
    (finding,) = lint(spoiled(Chain, lambda model: model.layers[1].weight.abs_().neg_()), inputs="32", select=["IB306"]).findings
    assert finding.parameters == ("layers.1.weight",)
    assert "2 more behind" in finding.measured


class Residuals(nn.Module):
    """Pre-norm branches, registered in another order than they run, and a norm in front of the head."""

    def __init__(self):
        super().__init__()
        self.enter, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)
        self.inside, self.out = (nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4)) for _ in range(2))
        self.before, self.ends = (nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(4)) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        x = self.enter(x)
        for inside, out, before, end in zip(self.inside, self.out, self.before, self.ends, strict=True):
            x = x + end(out(F.relu(inside(before(x)))))
        return self.head(self.norm(x))


@pytest.mark.heavy
def test_a_norm_of_the_trunk_is_found_and_the_ends_of_branches_are_not():
    """Though these take the gradient of most parameters at the start."""
    assert worst(spoiled(Residuals, lambda model: [norm.weight.zero_() for norm in model.ends])) == ()
    (finding,) = worst(spoiled(Residuals, lambda model: model.norm.weight.zero_()))
    assert (finding.code, finding.parameters) == ("IB112", ("norm.weight",))


def test_the_model_is_afterwards_as_it_was():
    model = spoiled(Chain, normed)()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lint(model, inputs="32")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Twin(nn.Module):
    """A product of low rank beside a layer."""

    def __init__(self):
        super().__init__()
        self.enter, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)
        self.A, self.B = nn.Linear(WIDTH, 4, bias=False), nn.Linear(4, WIDTH, bias=False)
        nn.init.zeros_(self.B.weight)

    def forward(self, x):
        return self.head(F.relu(self.enter(x) + self.B(self.A(x))))


def test_a_product_of_zeros_has_one_story():
    make = spoiled(Twin, lambda model: model.A.weight.zero_())
    found = [each for each in lint(make, inputs="32").findings if each.code in {"IB105", "IB310"}]
    assert [each.code for each in found] == ["IB105"]
    assert "never learn" in found[0].effect
    assert "begin to learn" not in found[0].effect
    (finding,) = lint(make, inputs="32", select=["IB310"]).findings
    assert "begin to learn" not in finding.effect
    (finding,) = lint(Twin, inputs="32", select=["IB310"]).findings
    assert (finding.parameters, finding.severity) == (("A.weight",), Severity.INFO)
    assert finding.effect == "they begin to learn when what is zero has moved"


@pytest.mark.heavy
@pytest.mark.parametrize("change", [lambda _: None, lambda model: model.extra.weight.fill_(0.1), lambda model: model.extra.weight.zero_()])
@pytest.mark.parametrize("called", [True, False])
def test_a_layer_that_is_not_used_has_one_finding(called, change):
    class Unused(Chain):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            if called:
                self.extra(x)
            return super().forward(x)

    report = lint(spoiled(Unused, change), inputs="32", ignore=["IB106"])
    assert [(each.code, each.parameters) for each in report.findings] == [("IB310", ("extra.weight", "extra.bias"))]


def test_an_input_of_zeros_is_not_the_models_fault():
    (finding,) = worst(Chain, torch.zeros(16, WIDTH))
    assert (finding.code, finding.parameters) == ("IB301", ())
    assert finding.measured == "layers.0 is the first layer whose output is zero"
    assert "no signal enters" in finding.message


def test_where_there_is_no_signal_from_the_start_the_first_layer_is_told():
    make = spoiled(Recurrent, lambda model: [value.zero_() for value in model.enter.parameters()])
    (finding,) = lint(make, inputs="12x8", select=["IB301"]).findings
    assert finding.measured.startswith("there is no signal from the start: enter is the first layer whose output is zero")


def told(link, code, names, severity=Severity.WARNING, message="m"):
    return Finding(link=link, code=code, parameters=names, severity=severity, message=message, effect="e")


def test_findings_are_joined_where_all_parameters_are_named():
    cause, other = told(Link.CAUSE, "IB112", ("a",)), told(Link.CAUSE, "IB102", ("b",))
    effect = told(Link.EFFECT, "IB301", ("a", "b"), Severity.ERROR, "lost")
    assert [(each.code, each.severity, each.effect) for each in joined([effect, cause, other])] == [
        ("IB102", Severity.ERROR, "e; lost"),
        ("IB112", Severity.ERROR, "e; lost"),
    ]
    assert len(joined([cause, effect])) == 2
    assert len(joined([cause, told(None, "IB201", ("a",))])) == 2

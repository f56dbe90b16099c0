"""Rules on the state of a model: numbers that cannot be meant, copies, equal units, zero products."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench import lint
from initbench.linting.finding import Severity


def found(code, model, **given):
    """What one rule says; it must have been able to tell."""
    report = lint(model, select=[code], **given)
    assert report.checked == (code,), report.not_told
    return report.findings


def mlp(width=32, depth=3, activation=nn.ReLU):
    layers = [nn.Linear(16, width)]
    for _ in range(depth - 2):
        layers += [activation(), nn.Linear(width, width)]
    return nn.Sequential(*layers, activation(), nn.Linear(width, 4))


def changed(model, change):
    with torch.no_grad():
        change(model)
    return model


class Flat(nn.Module):
    """Two branches with their layers side by side, whose ends are zero."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.inside, self.out, self.fc1, self.fc2 = (nn.Linear(16, 16) for _ in range(4))
        for layer in (self.out, self.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = x + self.out(torch.tanh(self.inside(self.norm(x))))
        return x + self.fc2(F.gelu(self.fc1(self.norm(x))))


def fixup():
    """Zero ends and a zero head: at first nothing but the head gets a gradient."""
    model = nn.Sequential(nn.Linear(16, 16), Flat(), Flat(), nn.Linear(16, 4))
    return changed(model, lambda model: model[-1].weight.zero_())


class LowRank(nn.Module):
    """A frozen layer with an adapter, its factors in dicts as peft has them."""

    def __init__(self, *, zero=("B",)):
        super().__init__()
        self.base = nn.Linear(16, 16).requires_grad_(False)
        self.A = nn.ModuleDict({"default": nn.Linear(16, 4, bias=False)})
        self.B = nn.ModuleDict({"default": nn.Linear(4, 16, bias=False)})
        for factor in zero:
            nn.init.zeros_(getattr(self, factor)["default"].weight)

    def forward(self, x):
        return self.base(x) + self.B["default"](self.A["default"](x))


class ByHand(nn.Module):
    """An adapter whose product is added to the weight, in plain parameters."""

    def __init__(self, *, zero):
        super().__init__()
        self.base = nn.Linear(16, 16).requires_grad_(False)
        self.down = nn.Parameter(torch.zeros(4, 16) if zero else torch.randn(4, 16))
        self.up = nn.Parameter(torch.zeros(16, 4))

    def forward(self, x):
        return F.linear(x, self.base.weight + self.up @ self.down, self.base.bias)


class Gates(nn.Module):
    """ReZero."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.alpha = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        for alpha, layer in zip(self.alpha, self.layers, strict=True):
            x = x + alpha * torch.relu(layer(x))
        return x


def adapted(adapter):
    return lambda: nn.Sequential(adapter(), nn.ReLU(), nn.Linear(16, 4))


class TestNotFinite:
    @pytest.mark.parametrize(
        ("value", "message", "severity"),
        [
            (math.nan, "not finite", Severity.ERROR),
            (-math.inf, "not finite", Severity.ERROR),
            (3e4, "absurdly large", Severity.ERROR),
            (1e-39, "denormal", Severity.WARNING),
            (1e-30, "absurdly small", Severity.WARNING),
        ],
    )
    def test_names_the_parameter_and_how_bad_it_is(self, value, message, severity):
        (finding,) = found("IB102", changed(mlp(), lambda model: model[2].weight.fill_(value)))
        assert (finding.parameters, finding.message, finding.severity) == (("2.weight",), message, severity)

    def test_counts_what_is_not_finite(self):
        (finding,) = found("IB102", changed(mlp(), lambda model: model[2].weight[3, :5].fill_(math.nan)))
        assert finding.measured == f"5 of {32 * 32} numbers are NaN or infinite"

    def test_reads_complex_and_eight_bit_numbers(self):
        model = mlp()
        model.odd = nn.Parameter(torch.full((3,), complex(1, math.nan)))
        model.register_buffer("small", torch.ones(4).to(torch.float8_e4m3fn))
        (finding,) = found("IB102", model)
        assert finding.parameters == ("odd",)

    def test_a_mask_and_a_layer_scale_are_meant(self):
        model = mlp()
        model.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
        model.scale = nn.Parameter(torch.full((16,), 1e-6))
        assert not found("IB102", model)


class TestIdenticalParameters:
    def test_layers_cloned_by_deepcopy(self):
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        (finding,) = found("IB103", model)
        drawn = [name for name, value in model.named_parameters() if value.dim() > 1 or (".linear" in name and name.endswith("bias"))]
        assert sorted(finding.parameters) == sorted(drawn)
        assert finding.severity is Severity.WARNING
        numbers = sum(value.numel() for name, value in model.named_parameters() if name in drawn)
        assert f"of their {numbers} numbers {numbers // 3} are different" in finding.effect

    def test_layers_built_one_by_one_and_tied_ones(self):
        model = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, 32) for _ in range(3)))
        model.again = model[1]
        assert not found("IB103", model)

    def test_identities_tables_and_constants_are_no_random_numbers(self):
        model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(2)))
        for layer in model:
            nn.init.eye_(layer.weight)
            layer.table = nn.Parameter(torch.log(torch.arange(1, 17.0)).repeat(16, 1))
            layer.ramp = nn.Parameter(torch.linspace(-1, 1, 200))
            layer.scale = nn.Parameter(torch.full((16,), 0.1))
        assert not found("IB103", model)

    def test_the_frozen_target_of_a_momentum_encoder_is_a_copy_on_purpose(self):
        model = nn.ModuleDict({"query": mlp()})
        model["key"] = copy.deepcopy(model["query"]).requires_grad_(False)
        assert not found("IB103", model)
        model["key"].requires_grad_(True)
        assert found("IB103", model)

    def test_the_remedy_clears_it(self):
        model = nn.Sequential(*(copy.deepcopy(layer) for layer in [nn.Linear(16, 16)] * 3))
        (finding,) = found("IB103", model)
        exec(finding.fix, {"model": model, "nn": nn})
        assert not found("IB103", model)


class TestEqualUnits:
    def test_constant_weights_that_stay_equal(self):
        def constant():
            return changed(mlp(activation=nn.Tanh), lambda model: [value.fill_(0.1) for value in model.parameters()])

        (finding,) = found("IB104", constant, inputs="16")
        assert (finding.parameters, finding.severity) == (("0.weight", "2.weight"), Severity.ERROR)
        assert finding.measured == "1 different rows of weights in 32, and equal rows get equal gradients"
        model = constant()
        F.cross_entropy(model(torch.randn(8, 16)), torch.arange(8) % 4).backward()
        assert torch.allclose(model[2].weight.grad, model[2].weight.grad[:1].expand(32, 32))
        (finding,) = found("IB104", constant)
        assert finding.severity is Severity.ERROR

    def test_equal_rows_that_the_layer_behind_parts_are_a_warning(self):
        def twice():
            return changed(mlp(activation=nn.Tanh), lambda model: model[2].weight[16:].copy_(model[2].weight[:16]))

        (finding,) = found("IB104", twice, inputs="16")
        assert (finding.parameters, finding.severity) == (("2.weight",), Severity.WARNING)
        assert finding.measured == "16 different rows of weights in 32"

    def test_some_rows_of_zeros(self):
        (finding,) = found("IB104", changed(mlp(), lambda model: model[2].weight[:8].zero_()))
        assert (finding.severity, finding.measured) == (Severity.WARNING, "all weights of 8 of 32 units are zero")

    def test_a_hidden_layer_of_zeros_behind_a_relu(self):
        def shut():
            return changed(mlp(), lambda model: [model[2].weight.zero_(), model[2].bias.zero_()])

        (finding,) = found("IB104", shut, inputs="16")
        assert (finding.parameters, finding.severity) == (("2.weight",), Severity.ERROR)
        model = shut()
        F.cross_entropy(model(torch.randn(8, 16)), torch.arange(8) % 4).backward()
        silent = sum(not parameter.grad.any() for parameter in model.parameters())
        assert finding.effect == f"{silent} of 6 parameters that are trained get no gradient"
        assert not found("IB105", shut, inputs="16")

    def test_a_hidden_layer_of_zeros_that_learns(self):
        model = changed(mlp(activation=nn.Tanh), lambda model: model[2].weight.zero_())
        assert not found("IB104", model, inputs="16")

    @pytest.mark.parametrize("inputs", [None, "16"])
    def test_zero_ends_and_a_zero_head_learn(self, inputs):
        assert not found("IB104", fixup, inputs=inputs)
        assert not found("IB104", lambda: nn.Sequential(Gates(), nn.Linear(16, 4)), inputs=inputs)

    @pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
    @pytest.mark.parametrize("padding", [None, 0])
    def test_an_embedding_of_equal_rows(self, kind, padding):
        class Bag(nn.Module):
            def __init__(self):
                super().__init__()
                self.tokens, self.inside, self.head = kind(40, 16, padding_idx=padding), nn.Linear(16, 16), nn.Linear(16, 4)

            def forward(self, ids):
                x = self.tokens(ids)
                return self.head(F.relu(self.inside(x if x.dim() == 2 else x.mean(1))))

        torch.manual_seed(0)

        def constant(values):
            return lambda: changed(Bag(), lambda model: model.tokens.weight.copy_(values)[: padding is not None].zero_())

        for values in (torch.full((1, 16), 0.1), torch.randn(1, 16), torch.ones(1, 16)):
            (finding,) = found("IB104", constant(values), inputs="int:40:8")
            assert (finding.parameters, finding.severity) == (("tokens.weight",), Severity.WARNING)
            assert f"1 different row in {40 - (padding is not None)}" in finding.measured
            (alike,) = found("IB309", constant(values), inputs="int:40:8")
            assert alike.parameters == ("tokens.weight",)
            assert "IB309" not in {each.code for each in lint(constant(values), inputs="int:40:8").findings}
        assert not found("IB309", Bag, inputs="int:40:8")
        assert not found("IB104", Bag, inputs="int:40:8")
        assert not found("IB104", constant(torch.zeros(1, 16)), inputs="int:40:8")

    def test_gains_and_shifts_of_classes_are_worth_knowing_only(self):
        gains = changed(nn.Embedding(10, 8), lambda layer: [layer.weight[:, :4].fill_(1), layer.weight[:, 4:].zero_()])
        (finding,) = found("IB104", nn.ModuleList([gains]))
        assert finding.severity is Severity.INFO

    def test_what_is_equal_on_purpose(self):
        def recurrent():
            model = nn.LSTM(16, 16)
            return changed(model, lambda model: model.weight_hh_l0.copy_(torch.eye(16).repeat(4, 1)))

        def shuffled():
            kernel = nn.Conv2d(8, 16, 3)
            return nn.Sequential(
                nn.Conv2d(3, 8, 3),
                changed(kernel, lambda layer: layer.weight.copy_(layer.weight[:4].repeat_interleave(4, 0))),
                nn.PixelShuffle(2),
            )

        def blurred():
            return nn.Sequential(
                nn.Conv2d(3, 8, 3),
                changed(nn.Conv2d(8, 8, 3, groups=8), lambda layer: layer.weight.fill_(1 / 9)),
                changed(nn.Conv2d(8, 8, 1), lambda layer: layer.weight.fill_(1 / 8)).requires_grad_(False),
                nn.Conv2d(8, 4, 1),
            )

        assert not found("IB104", recurrent)
        assert not found("IB104", shuffled, inputs="3x8x8")
        assert not found("IB104", blurred, inputs="3x8x8")
        assert not found("IB104", lambda: nn.Sequential(nn.Embedding(50, 16, padding_idx=0), nn.Linear(16, 5)), inputs="int:50:8")
        assert not found("IB104", changed(mlp(), lambda model: nn.init.sparse_(model[2].weight, 0.9)))


class TestZeroProduct:
    @pytest.mark.parametrize("inputs", [None, "16"])
    def test_both_factors_of_an_adapter(self, inputs):
        (finding,) = found("IB105", adapted(lambda: LowRank(zero="AB")), inputs=inputs)
        assert (finding.parameters, finding.severity) == (("0.A.default.weight", "0.B.default.weight"), Severity.ERROR)
        (finding,) = found("IB105", adapted(lambda: ByHand(zero=True)), inputs=inputs)
        assert sorted(finding.parameters) == ["0.down", "0.up"]

    def test_two_layers_of_zeros_in_a_row(self):
        def shut():
            return changed(mlp(depth=4), lambda model: [value.zero_() for layer in (model[2], model[4]) for value in layer.parameters()])

        (finding,) = found("IB105", shut, inputs="16")
        assert finding.parameters == ("2.weight", "4.weight")
        assert not found("IB104", shut, inputs="16")

    @pytest.mark.parametrize("inputs", [None, "16"])
    def test_one_zero_factor_learns(self, inputs):
        assert not found("IB105", adapted(LowRank), inputs=inputs)
        assert not found("IB105", adapted(lambda: LowRank(zero="A")), inputs=inputs)
        assert not found("IB105", adapted(lambda: ByHand(zero=False)), inputs=inputs)

    @pytest.mark.parametrize("inputs", [None, "16"])
    def test_zero_ends_behind_a_zero_head_learn_when_the_head_has_moved(self, inputs):
        assert not found("IB105", fixup, inputs=inputs)

    def test_the_effect_is_true(self):
        (finding,) = found("IB105", adapted(lambda: ByHand(zero=True)), inputs="16")
        model = adapted(lambda: ByHand(zero=True))()
        optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], 0.1)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(8, 16)), torch.arange(8) % 4).backward()
            optimizer.step()
        assert not any(model.get_parameter(name).any() for name in finding.parameters)

    def test_the_remedy_clears_it_and_the_model_is_as_it_was(self):
        model = nn.Sequential(LowRank(zero="AB"), nn.ReLU(), nn.Linear(16, 4))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        (finding,) = found("IB105", model, inputs="16")
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
        exec(finding.fix, {"model": model, "nn": nn})
        assert not found("IB105", model, inputs="16")


def test_remedies_are_python_for_numbered_modules_too():
    model = changed(mlp(), lambda model: model[2].weight.fill_(math.nan))
    (finding,) = found("IB102", model)
    assert finding.fix.startswith('nn.init.kaiming_normal_(model.get_parameter("2.weight"), ')
    exec(finding.fix, {"model": model, "nn": nn})
    assert not found("IB102", model)


class Remembers(nn.Module):
    """Keeps a tensor of the first pass that has a graph, as models cache a bias of attention, and uses it in the next."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.kept = LowRank(zero="AB"), nn.Linear(16, 4), torch.zeros(())

    def forward(self, x):
        if not self.kept.requires_grad:
            self.kept = torch.tanh(self.head.weight).mean().exp()
        return self.head(self.layer(x)) * self.kept


def test_a_model_that_has_a_gradient_only_once_is_judged_by_its_structure():
    (finding,) = found("IB105", Remembers, inputs="16")
    assert (finding.parameters, finding.severity) == (("layer.A.default.weight", "layer.B.default.weight"), Severity.ERROR)
    assert "side by side" in finding.measured
    assert not found("IB104", Remembers, inputs="16")

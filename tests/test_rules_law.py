"""Rules on laws: a wrong fan, a gain that does not fit, gates and their biases, tied embeddings, a head's prior."""

import math

import pytest
import torch
from torch import nn

from initbench import lint
from initbench.linting.finding import Severity


def looked_at(code, model, **given):
    """What one rule says, and why it could not tell."""
    report = lint(model, select=[code], **given)
    return report.findings, [each.reason for each in report.not_told]


def found(code, model, **given):
    """What one rule says; it must have been able to tell."""
    findings, reasons = looked_at(code, model, **given)
    assert reasons == []
    return findings


def convs(std, *, groups=1):
    layers = [nn.Conv2d(32, 48, 3, groups=groups), nn.Conv2d(48, 80, 3, groups=groups)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=std(layer))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


class Experts(nn.Module):
    """Four experts side by side behind a gate; `alike`: copies of one."""

    alike = False

    def __init__(self):
        super().__init__()
        self.enter, self.gate, self.head = nn.Linear(16, 32), nn.Linear(32, 4), nn.Linear(32, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)) for _ in range(4))
        if self.alike:
            for other in self.experts[1:]:
                other.load_state_dict(self.experts[0].state_dict())

    def forward(self, x):
        x = self.enter(x)
        shares = self.gate(x).softmax(-1)
        return self.head(x + sum(shares[:, place, None] * expert(x) for place, expert in enumerate(self.experts)))


class Copies(Experts):
    alike = True


def deep(std, count=20, activation=nn.ReLU):
    layers = [nn.Linear(64, 64) for _ in range(count)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*(part for layer in layers for part in (layer, activation())), nn.Linear(64, 10))


class Stored(nn.Module):
    """x W with W stored (in, out)."""

    def __init__(self, fan):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(500, 64))
        nn.init.uniform_(self.weight, -1 / math.sqrt(fan), 1 / math.sqrt(fan))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(torch.relu(x @ self.weight))


class Packed(nn.Module):
    """Attention with one linear layer for queries, keys and values."""

    def __init__(self, parts):
        super().__init__()
        self.qkv, self.proj = nn.Linear(64, 192), nn.Linear(64, 64)
        for part in self.qkv.weight.data.chunk(parts):
            nn.init.xavier_normal_(part)

    def forward(self, x):
        query, key, value = self.qkv(x).chunk(3, -1)
        return self.proj(nn.functional.scaled_dot_product_attention(query, key, value))


class Tied(nn.Module):
    """Token ids to logits by one weight."""

    def __init__(self, std, *, tied=True):
        super().__init__()
        self.tokens, self.norm, self.head = nn.Embedding(200, 64), nn.LayerNorm(64), nn.Linear(64, 200, bias=False)
        nn.init.normal_(self.tokens.weight, std=std)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(self.norm(self.tokens(ids)))


class TestWrongFan:
    def test_the_kernels_area_forgotten(self):
        (finding,) = found("IB201", lambda: convs(lambda conv: math.sqrt(2 / conv.in_channels)))
        assert (finding.parameters, finding.severity) == (("0.weight", "2.weight"), Severity.WARNING)
        assert "the kernel's area forgotten" in finding.message
        assert "9x too large" in finding.effect

    def test_the_groups_forgotten(self):
        (finding,) = found("IB201", lambda: convs(lambda conv: math.sqrt(1 / (27 * conv.in_channels)), groups=4))
        assert "the groups forgotten on both sides" in finding.message
        assert "4x too small" in finding.effect

    def test_torchs_default_with_the_size_of_the_other_axis(self):
        (finding,) = found("IB201", lambda: Stored(64), inputs="500")
        assert (finding.parameters, finding.severity) == (("weight",), Severity.WARNING)
        assert not found("IB201", lambda: Stored(500), inputs="500")

    def test_queries_keys_and_values_in_one_linear_layer(self):
        (finding,) = found("IB201", lambda: Packed(1), inputs="8x64")
        assert finding.parameters == ("qkv.weight",)
        assert "queries, keys and values taken for one matrix" in finding.message
        assert "2x too small" in finding.effect
        assert not found("IB201", lambda: Packed(3), inputs="8x64")

    def test_right_fans_and_constants(self):
        fan_in, fan_out = (lambda conv: math.sqrt(2 / (9 * conv.in_channels))), (lambda conv: math.sqrt(2 / (9 * conv.out_channels)))
        for std in (fan_in, fan_out, lambda _: 0.02):
            assert not found("IB201", lambda std=std: convs(std))

    def test_the_remedy_clears_it(self):
        model = convs(lambda conv: math.sqrt(2 / conv.in_channels))
        (finding,) = found("IB201", model)
        exec(finding.fix, {"model": model, "nn": nn, "math": math})
        assert not found("IB201", model)

    def test_few_numbers_are_not_compared(self):
        assert not found("IB201", lambda: nn.Sequential(nn.Conv2d(1, 4, 3)))


class TestWrongGain:
    def test_torchs_default_before_relu(self):
        (finding,) = found("IB202", lambda: deep(math.sqrt(1 / (3 * 64))), inputs="64")
        assert finding.severity is Severity.WARNING
        assert len(finding.parameters) == 19
        factor = float(finding.measured.split("=")[1].split(",")[0])
        assert factor == pytest.approx(1 / 3, rel=0.1)

    @pytest.mark.parametrize(("gain", "within"), [(2.0, True), (1 / 3, False)])
    def test_what_is_told_of_tanh_is_what_is_measured(self, gain, within):
        """For small signals tanh is linear: the gain at a variance of 1, to the power of the depth, is far from what happens."""
        torch.manual_seed(0)
        model = deep(math.sqrt(gain / 64), activation=nn.Tanh)
        x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
        findings = found("IB202", model, inputs=x)
        if within:
            assert findings == ()
            return
        (finding,) = findings
        seen = []
        with torch.no_grad():
            for part in list(model)[:-1]:
                x = part(x)
                seen += [x.var().item()] if isinstance(part, nn.Linear) else []
        told = float(finding.effect.split("becomes ")[1].split(" times")[0])
        assert told == pytest.approx(seen[-1] / seen[1], rel=0.05)
        assert told == pytest.approx(float(finding.effect.split("what it was, ")[1].split(" times by theory")[0]), rel=1)

    def test_kaiming_before_relu(self):
        assert not found("IB202", lambda: deep(math.sqrt(2 / 64)), inputs="64")

    @pytest.mark.parametrize("model", [Experts, Copies])
    def test_experts_side_by_side_are_no_row_of_layers(self, model):
        """Each is passed by the signal once, so that no factor adds up over them."""
        assert not found("IB202", model, inputs="16")

    def test_it_needs_an_input(self):
        findings, (reason,) = looked_at("IB202", lambda: deep(0.05))
        assert findings == ()
        assert "--input" in reason


class TestRecurrentBiases:
    @pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
    def test_a_gate_set_in_both_biases(self, kind, gates):
        def build(both):
            model = kind(16, 24)
            for bias in (model.bias_ih_l0, model.bias_hh_l0):
                nn.init.zeros_(bias)
            for bias in (model.bias_ih_l0, model.bias_hh_l0)[: 1 + both]:
                bias.data.chunk(gates)[1].fill_(1)
            return model

        (finding,) = found("IB203", lambda: build(True))
        assert (finding.parameters, finding.severity) == (("bias_ih_l0",), Severity.WARNING)
        assert "sigmoid(2) = 0.881" in finding.effect
        assert not found("IB203", lambda: build(False))

    def test_orthogonal_over_all_gates_together(self):
        model = nn.LSTM(16, 24)
        nn.init.orthogonal_(model.weight_hh_l0)
        (finding,) = found("IB203", model)
        assert (finding.parameters, finding.severity) == (("weight_hh_l0",), Severity.INFO)
        exec(finding.fix, {"model": model, "nn": nn})
        assert not found("IB203", model)

    def test_torchs_own_biases_and_none(self):
        assert not found("IB203", lambda: nn.LSTM(16, 24))
        assert not found("IB203", lambda: nn.LSTM(16, 24, bias=False))


class TestTiedEmbedding:
    def test_an_embeddings_law_on_a_head(self):
        (finding,) = found("IB204", lambda: Tied(1.0), inputs="int:200:8")
        assert (finding.parameters, finding.severity) == (("tokens.weight",), Severity.WARNING)
        (guessed,) = found("IB204", lambda: Tied(1.0))
        assert guessed.severity is Severity.INFO
        assert "std x sqrt(width)" in guessed.measured

    def test_a_heads_law_or_a_head_of_its_own(self):
        assert not found("IB204", lambda: Tied(0.02), inputs="int:200:8")
        assert not found("IB204", lambda: Tied(1.0, tied=False), inputs="int:200:8")


class TestHeadPrior:
    inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    rare = torch.tensor([0] * 60 + [1, 2, 3, 1])

    def test_rare_classes_and_a_bias_that_does_not_know_them(self):
        make = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        (finding,) = found("IB205", make, inputs=self.inputs, labels=self.rare)
        assert (finding.parameters, finding.severity) == (("2.bias",), Severity.INFO)

    def test_a_bias_that_does(self):
        def build():
            model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
            counts = torch.bincount(self.rare).double() + 0.5
            model[2].bias.data.copy_((counts / counts.sum()).log())
            return model

        assert not found("IB205", build, inputs=self.inputs, labels=self.rare)

    def test_too_few_labels_and_no_bias(self):
        make = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4, bias=False))
        _, (reason,) = looked_at("IB205", make, inputs=self.inputs, labels=self.rare)
        assert "a head with a bias" in reason
        make = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        _, (reason,) = looked_at("IB205", make, inputs=self.inputs[:8], labels=self.rare[:8])
        assert "30 labels" in reason

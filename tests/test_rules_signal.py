"""Rules on the signal: lost on its way, branches that are not scaled or scaled in the wrong place, losses, units, attention, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_rules_law import Copies
from torch import nn

from initbench import lint
from initbench.linting.finding import Severity

pytestmark = pytest.mark.heavy

IDS = "int:100:16"


def looked_at(code, model, inputs="16", **given):
    """What one rule says, and why it could not tell."""
    report = lint(model, select=[code], inputs=inputs, **given)
    return report.findings, [each.reason for each in report.not_told]


def found(code, model, inputs="16", **given):
    """What one rule says; it must have been able to tell."""
    findings, reasons = looked_at(code, model, inputs, **given)
    assert reasons == []
    return findings


def mlp(std=None, *, depth=8, activation=nn.ReLU, bias=0.0, head=0.1):
    layers = [nn.Linear(16 if place == 0 else 32, 32) for place in range(depth)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features) if std is None else std)
        nn.init.constant_(layer.bias, bias)
    last = nn.Linear(32, 10)
    nn.init.normal_(last.weight, std=head)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*(part for layer in layers for part in (layer, activation())), last)


class Block(nn.Module):
    """Gated branch and attention on a stream, with a norm in front of each."""

    def __init__(self, width=32):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.w1, self.w3, self.w2 = (nn.Linear(a, b, bias=False) for a, b in ((width, 96), (width, 96), (96, width)))
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.output(F.scaled_dot_product_attention(self.query(y), self.key(y), self.value(y), is_causal=True))
        y = self.norm2(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


class Stack(nn.Module):
    """Blocks over token ids."""

    def __init__(self, depth=6, scaled=("w2", "output"), std=0.02, query=0.02, times=1.0):
        super().__init__()
        self.tokens, self.norm, self.head = nn.Embedding(100, 32), nn.LayerNorm(32), nn.Linear(32, 100, bias=False)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        for layer in (self.tokens, self.head):
            nn.init.normal_(layer.weight, std=std)
        for block in self.blocks:
            for name in scaled:
                nn.init.normal_(getattr(block, name).weight, std=0.02 * times / math.sqrt(2 * depth))
            for layer in (block.query, block.key):
                nn.init.normal_(layer.weight, std=query)

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Levels(nn.Module):
    """Two streams with a norm between, as in hierarchical transformers; the first begins small."""

    def __init__(self):
        super().__init__()
        self.enter, self.between = nn.Linear(16, 32), nn.Linear(32, 32)
        nn.init.normal_(self.enter.weight, std=0.02)
        self.first, self.second = (nn.ModuleList(Block() for _ in range(3)) for _ in range(2))
        self.middle, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x):
        x = self.enter(x)
        for block in self.first:
            x = block(x)
        x = self.middle(self.between(x))
        for block in self.second:
            x = block(x)
        return self.head(x.mean(1))


class Adapter(nn.Module):
    """A low-rank product beside a layer that is zero, or one branch that begins at zero."""

    def __init__(self):
        super().__init__()
        self.enter, self.down, self.up, self.head = nn.Linear(16, 32), nn.Linear(32, 4), nn.Linear(4, 32, bias=False), nn.Linear(32, 10)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        x = torch.relu(self.enter(x))
        return self.head(x + self.up(self.down(x)))


class TestLostSignal:
    @pytest.mark.parametrize(("std", "words"), [(0.005, "vanish"), (3.0, "explode")])
    def test_a_stack_that_loses_it(self, std, words):
        (finding,) = found("IB301", lambda: mlp(std))
        assert finding.severity is Severity.WARNING
        assert words in finding.message

    def test_a_norm_that_is_shut_on_the_only_way(self):
        def shut():
            model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
            nn.init.zeros_(model[1].weight)
            return model

        (finding,) = found("IB301", shut)
        assert finding.severity is Severity.ERROR

    def test_what_is_lost_aside_of_a_way_that_grows_is_told_by_its_own_size(self):
        """Experts that are copies of one give their gate no gradient, while gradients grow from layer to layer."""
        (finding,) = found("IB301", Copies)
        assert finding.message == "gradients vanish at gate"
        assert "times what it is at" in finding.effect
        assert "grow" not in finding.effect

    def test_kaiming_and_a_branch_that_begins_at_zero(self):
        assert not found("IB301", mlp)
        assert not found("IB301", Adapter)

    def test_it_needs_an_input(self):
        findings, (reason,) = looked_at("IB301", mlp, inputs=None)
        assert findings == ()
        assert "--input" in reason


class TestMisplacedScaling:
    def test_w3_scaled_instead_of_w2(self):
        (finding,) = found("IB302", lambda: Stack(scaled=("w3", "output")), IDS)
        assert finding.parameters == tuple(f"blocks.{place}.w3.weight" for place in range(6))
        assert "smaller by sqrt(12)" in finding.measured

    def test_w2_scaled_or_nothing(self):
        assert not found("IB302", Stack, IDS)
        assert not found("IB302", lambda: Stack(scaled=()), IDS)

    def test_branches_that_cannot_be_followed(self):
        class Odd(Adapter):
            def forward(self, x):
                x = torch.relu(self.enter(x))
                return self.head(x + torch.tanh(self.up(self.down(x))) * x)

        _, (reason,) = looked_at("IB302", Odd)
        assert "tanh" in reason


class TestUnscaledBranches:
    def test_ends_as_large_as_all_others(self):
        (finding,) = found("IB303", lambda: Stack(scaled=()), IDS)
        ends = {f"blocks.{place}.{name}.weight" for place in range(6) for name in ("w2", "output")}
        assert set(finding.parameters) == ends
        times = float(finding.effect.split("grows ")[1].split("x")[0])
        assert (finding.severity is Severity.WARNING) == (times > 10)

    def test_scaled_ends_and_a_short_stack(self):
        assert not found("IB303", Stack, IDS)
        assert not found("IB303", lambda: Stack(depth=3, scaled=()), IDS)

    def test_growth_is_that_of_one_stream(self):
        (finding,) = found("IB303", Levels, "16x16")
        assert finding.severity is Severity.INFO
        assert "over 6 branches" in finding.effect


class TestFirstLossAndLogits:
    def test_a_head_that_is_too_large(self):
        (finding,) = found("IB304", lambda: mlp(head=10))
        assert finding.parameters == ("16.weight",)
        with torch.no_grad():
            logits = torch.tensor(float(finding.measured.split("std ")[1]))
        assert logits > 10
        (named,) = found("IB305", lambda: mlp(head=10))
        assert (named.parameters, named.severity) == (("16.weight",), Severity.INFO)

    @pytest.mark.parametrize("code", ["IB304", "IB305"])
    def test_a_usual_head(self, code):
        assert not found(code, mlp)

    @pytest.mark.parametrize("code", ["IB304", "IB305"])
    def test_an_output_without_classes(self, code):
        _, (reason,) = looked_at(code, lambda: nn.Conv1d(3, 4, 3), "3x16")
        assert "classes" in reason


class TestUnits:
    def test_dead_ones(self):
        (finding,) = found("IB306", lambda: mlp(bias=-50.0, depth=2))
        assert (finding.severity, finding.parameters) == (Severity.ERROR, ("0.bias", "2.bias"))

    def test_living_ones_and_zeros_on_purpose(self):
        assert not found("IB306", mlp)
        assert not found("IB306", Adapter)

    def test_too_few_inputs_say_nothing(self):
        assert not found("IB306", lambda: mlp(bias=-50.0, depth=2), torch.randn(4, 16))

    def test_saturated_ones(self):
        (finding,) = found("IB307", lambda: mlp(3.0, activation=nn.Tanh, depth=2))
        assert (finding.severity, finding.parameters) == (Severity.WARNING, ("0.weight", "2.weight"))
        assert not found("IB307", lambda: mlp(0.1, activation=nn.Tanh, depth=2))
        assert not found("IB307", lambda: mlp(3.0, activation=nn.ReLU6, depth=2))


class TestAttention:
    def test_one_hot(self):
        findings = found("IB308", lambda: Stack(query=1.0), IDS)
        assert Severity.WARNING in {finding.severity for finding in findings}
        assert "one-hot" in findings[0].message

    def test_uniform_to_the_last_digit(self):
        findings = found("IB308", lambda: Stack(query=0.0), IDS)
        assert {finding.severity for finding in findings} == {Severity.INFO}

    def test_usual_scores_and_no_attention(self):
        assert not found("IB308", Stack, IDS)
        assert not found("IB308", mlp)

    def test_inputs_that_become_one(self):
        (finding,) = found("IB309", lambda: mlp(bias=100.0))
        assert finding.severity is Severity.WARNING
        assert not found("IB309", lambda: mlp(depth=3))
        assert not found("IB309", lambda: mlp(bias=100.0), torch.randn(4, 16))


class TestNoGradient:
    def test_a_detached_layer(self):
        class Cut(Adapter):
            def forward(self, x):
                return self.head(torch.relu(self.enter(x)).detach())

        findings = found("IB310", Cut)
        (cut,) = [finding for finding in findings if finding.severity is Severity.WARNING]
        assert cut.parameters == ("enter.weight", "enter.bias")
        (unused,) = [finding for finding in findings if finding.message == "not part of the loss"]
        assert "up.weight" in unused.parameters

    def test_zeros_on_purpose_are_an_info(self):
        (finding,) = found("IB310", Adapter)
        assert finding.severity is Severity.INFO
        assert "behind up.weight" in finding.measured

    def test_a_usual_model(self):
        assert not found("IB310", mlp)

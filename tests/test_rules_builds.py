"""Rules that build a model again or hold it against a checkpoint, and those on precision, padding and norms."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from initbench import lint
from initbench.linting.finding import Severity

pytestmark = pytest.mark.heavy


def found(code, model, **given):
    """What one rule says; it must have been able to tell."""
    report = lint(model, select=[code], **given)
    assert report.checked == (code,), report.not_told
    return report.findings


def why_not(code, model, **given):
    """Why a rule cannot tell."""
    (not_told,) = lint(model, select=[code], **given).not_told
    return not_told.reason


def mlp(width=64):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))


def changed(model, change):
    with torch.no_grad():
        change(model)
    return model


class Token(nn.Module):
    """A token beside a layer; the constructor scales the layer down, its own reset for the whole does what it is told to."""

    def __init__(self, *, scaled=False):
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64)
        self.token = nn.Parameter(torch.zeros(1, 64))
        self.register_buffer("table", torch.arange(8.0))
        if scaled:
            with torch.no_grad():
                self.layer.weight.mul_(0.5)

    def forward(self, x):
        return self.norm(self.layer(x) + self.token) + self.table[0]


class WithOwn(Token):
    """Says that its layers can be reset."""

    def reset_parameters(self):
        self.layer.reset_parameters()


class WithReset(Token):
    def init_weights(self):
        nn.init.normal_(self.layer.weight, std=0.02)
        nn.init.zeros_(self.layer.bias)

    def __init__(self):
        super().__init__()
        self.init_weights()


class WithWholeReset(WithReset):
    def init_weights(self):
        super().init_weights()
        nn.init.zeros_(self.token)
        self.table = torch.arange(8.0, device=self.token.device)


class Applied(nn.Module):
    """Draws each module by `_init_weights`, which it is given to `apply`."""

    def __init__(self, std=0.02):
        super().__init__()
        self.layer, self.norm, self.std = nn.Linear(64, 64), nn.LayerNorm(64), std
        self.apply(self._init_weights)
        self.std = 0.02

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.std)
            nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.norm(self.layer(x))


class TestResetDiffers:
    def test_without_a_reset_of_its_own_a_model_promises_nothing(self):
        assert not found("IB106", Token)
        assert not found("IB106", lambda: Token(scaled=True))
        assert not found("IB106", lambda: nn.Sequential(Token(), nn.TransformerEncoderLayer(64, 4)))

    def test_only_what_is_in_a_module_with_a_reset_of_its_own_is_looked_at(self):
        class Beside(nn.Module):
            def __init__(self):
                super().__init__()
                self.inside, self.outside = WithOwn(), Token()

        (finding,) = found("IB106", Beside)
        assert finding.parameters == ("inside.token", "inside.table")
        assert finding.message == "not set again after to_empty"

    def test_a_reset_of_the_whole_that_leaves_a_parameter_out_is_a_warning(self):
        (finding,) = found("IB106", WithReset)
        assert (finding.parameters, finding.severity) == (("token", "table"), Severity.WARNING)
        assert "then init_weights" in finding.measured

    def test_a_private_method_offers_nothing(self):
        class Private(Token):
            def __init__(self):
                super().__init__()
                self._init_weights()

            def _init_weights(self):
                nn.init.zeros_(self.layer.bias)

        (finding,) = found("IB106", Private)
        assert (finding.parameters, finding.severity) == (("token", "table"), Severity.INFO)

    def test_a_reset_that_sets_all_is_silent(self):
        assert not found("IB106", WithWholeReset)
        assert not found("IB106", Applied)
        assert not found("IB106", mlp)

    def test_another_law_with_both_numbers(self):
        (finding,) = found("IB106", lambda: Applied(std=0.04))
        assert (finding.parameters, finding.severity) == (("layer.weight",), Severity.INFO)
        numbers = [float(word.rstrip(",")) for before, word in itertools.pairwise(finding.measured.split()) if before == "std"]
        assert numbers == pytest.approx([0.04, 0.02], rel=6 / math.sqrt(2 * 64 * 64))

    def test_another_distribution_of_the_same_std(self):
        class Normal(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(64, 64)
                nn.init.normal_(self.layer.weight, std=1 / math.sqrt(3 * 64))

            def reset_parameters(self):
                self.layer.reset_parameters()

            def forward(self, x):
                return self.layer(x)

        (finding,) = found("IB106", Normal)
        assert finding.parameters == ("layer.weight",)

    def test_a_method_for_each_module_promises_nothing_of_the_parameters_of_the_model(self):
        class WithToken(Applied):
            def __init__(self):
                super().__init__()
                self.token = nn.Parameter(torch.zeros(64))
                self.scale = nn.Parameter(torch.rand(1))

        (finding,) = found("IB106", WithToken)
        assert (finding.parameters, finding.severity) == (("token", "scale"), Severity.INFO)

    def test_a_single_random_number_is_no_constant(self):
        assert not found("IB106", lambda: nn.Sequential(nn.Linear(64, 1)))

    def test_a_layer_that_the_reset_does_not_scale_is_worth_knowing(self):
        findings = found("IB106", lambda: WithOwn(scaled=True))
        (finding,) = (each for each in findings if "another law" in each.message)
        assert (finding.parameters, finding.severity) == (("layer.weight",), Severity.INFO)

    def test_a_sentence_where_it_cannot_be_built_on_the_meta_device(self):
        def reads():
            model = WithOwn()
            model.scale = model.layer.weight.std().item()
            return model

        reason = why_not("IB106", reads)
        assert "cannot be built on the meta device and reset: The model cannot be built: RuntimeError" in reason
        assert "ConfigError" not in reason
        assert "builds the model anew" in why_not("IB106", mlp())

    def test_a_model_by_its_name(self):
        assert not [finding for finding in found("IB106", "mlp", inputs="1x8x8") if finding.severity is not Severity.INFO]

    def test_generators_are_as_they_were(self):
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        lint(WithReset, select=["IB106"])
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert (np.random.get_state()[1] == before[2]).all()


def fixed():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = mlp()
    torch.set_rng_state(state)
    return model


class TestFixedSeed:
    def test_a_seed_in_the_constructor(self):
        (finding,) = found("IB107", fixed)
        assert finding.severity is Severity.WARNING
        assert finding.parameters == tuple(name for name, _ in mlp().named_parameters())

    def test_one_of_several_parameters_is_worth_knowing(self):
        def one():
            model = mlp()
            values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
            return changed(model, lambda model: model[2].weight.copy_(values))

        (finding,) = found("IB107", one)
        assert (finding.parameters, finding.severity) == (("2.weight",), Severity.INFO)

    def test_identities_and_tables_are_the_same_for_every_seed(self):
        def tables():
            model = changed(mlp(), lambda model: nn.init.eye_(model[2].weight))
            model.table = nn.Parameter(torch.sin(torch.linspace(0, 9, 500)))
            return model

        assert not found("IB107", tables)
        assert not found("IB107", mlp)


class TestNotReproducible:
    @pytest.mark.parametrize(
        "source", [lambda: np.random.default_rng().normal(size=(64, 64)), lambda: np.array([[random.SystemRandom().random()]])]
    )
    def test_a_generator_that_nobody_can_seed(self, source):
        def strange():
            return changed(mlp(), lambda model: model[2].weight.copy_(torch.from_numpy(source()).expand(64, 64)))

        (finding,) = found("IB108", strange)
        assert (finding.parameters, finding.severity) == (("2.weight",), Severity.WARNING)

    def test_numbers_of_every_generator_that_can_be_seeded(self):
        def drawn():
            values = np.random.normal(size=(64, 64)) * random.random()
            return changed(mlp(), lambda model: model[2].weight.copy_(torch.from_numpy(values)))

        assert not found("IB108", drawn)
        assert not found("IB107", drawn)

    def test_memory_that_nobody_wrote_is_left_to_another_rule(self):
        def empty():
            model = mlp()
            model.token = nn.Parameter(torch.empty(64))
            return model

        assert not found("IB108", empty)


class TestCheckpointChanged:
    def test_a_layer_drawn_anew_after_loading(self):
        model = mlp()
        saved = {name: value.clone() for name, value in model.state_dict().items()}
        model[2].reset_parameters()
        finding = next(each for each in found("IB109", model, checkpoint=saved) if "2.weight" in each.parameters)
        assert (finding.severity, finding.message) == (Severity.ERROR, "drawn anew: the law of the checkpoint, other numbers")
        pair = np.corrcoef(model[2].weight.detach().flatten(), saved["2.weight"].flatten())[0, 1]
        assert f"correlation {pair:.2f}" in finding.measured

    def test_another_law_and_a_changed_one(self):
        model = mlp()
        saved = {name: value.clone() for name, value in model.state_dict().items()}
        changed(model, lambda model: [nn.init.normal_(model[0].weight, std=0.3), model[2].weight.mul_(1.1)])
        messages = {each.parameters: each.message for each in found("IB109", model, checkpoint=saved)}
        assert messages == {("0.weight",): "drawn anew: unrelated to the checkpoint", ("2.weight",): "not what the checkpoint holds"}

    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
    def test_prefixes_and_rounding_change_nothing(self, prefix):
        model = mlp()
        saved = {prefix + name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
        assert not found("IB109", model, checkpoint=saved)

    def test_what_is_missing_on_either_side_is_said(self):
        model = mlp()
        saved = dict(model.state_dict())
        saved["old.weight"] = saved.pop("2.weight")
        said = {each.message: (each.parameters, each.severity) for each in found("IB109", model, checkpoint=saved)}
        assert said == {
            "not in the checkpoint": (("2.weight",), Severity.WARNING),
            "in the checkpoint, and not in the model": (("old.weight",), Severity.INFO),
        }

    def test_a_tied_parameter_is_there_under_one_of_its_names(self):
        model = nn.ModuleDict({"embedding": nn.Embedding(50, 16), "head": nn.Linear(16, 50, bias=False)})
        model["head"].weight = model["embedding"].weight
        assert not found("IB109", model, checkpoint={"head.weight": model["head"].weight.detach().clone()})

    def test_another_shape_and_another_model(self):
        model = mlp()
        (finding,) = found("IB109", model, checkpoint=dict(model.state_dict()) | {"4.weight": torch.ones(7, 64)})
        assert finding.measured == "4.weight: (7, 64) in the checkpoint, (4, 64) in the model"
        assert "no name" in why_not("IB109", model, checkpoint={"other": torch.ones(2)})


def inverse_transform(shape, std, dtype):
    """A truncated normal as older versions of torch drew it: all in the precision of the tensor."""
    uniform = torch.empty(shape, dtype=dtype).uniform_(-1, 1)
    return torch.erfinv(uniform).mul_(std * math.sqrt(2)).clamp_(-2, 2)


def cut_near(weight):
    nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


def small(weight):
    nn.init.normal_(weight, std=1e-3)


class TestCoarseNumbers:
    @pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
    def test_a_truncated_normal_drawn_in_bfloat16(self, stored):
        torch.manual_seed(0)
        model = mlp(256).to(stored)
        values = inverse_transform((256, 256), 0.02, torch.bfloat16)
        (finding,) = found("IB110", changed(model, lambda model: model[2].weight.copy_(values)))
        assert (finding.parameters, finding.severity) == (("2.weight",), Severity.WARNING)
        share = max((values == 2).double().mean(), (values == -2).double().mean()).item()
        at_one_end = {f"{100 * (values == end).double().mean().item():.2g} % of 65536" for end in (-2, 2)}
        assert share > 1e-4
        assert any(text in finding.measured for text in at_one_end)
        assert f"std {values.double().std():.4g}"[:8] in finding.measured

    def test_what_half_precision_cannot_resolve(self):
        model = changed(mlp(), lambda model: [model.half(), model[2].weight.copy_(torch.randn(64, 64) * 1e-7)])
        (finding,) = found("IB110", model)
        different = len(set(model[2].weight.flatten().tolist()))
        assert "few different values" in finding.message
        assert f"{different} among 4096 numbers" in finding.measured

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize(
        "law",
        [
            nn.init.kaiming_uniform_,
            nn.init.kaiming_normal_,
            nn.init.trunc_normal_,
            nn.init.xavier_uniform_,
            nn.init.eye_,
            nn.init.zeros_,
            cut_near,
            small,
        ],
    )
    def test_laws_rounded_to_low_precision_are_fine(self, law, dtype):
        for seed in range(5):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(32, 32), nn.Linear(512, 512)).to(dtype)
            for layer in model:
                law(layer.weight)
            assert not found("IB110", model)

    def test_few_values_of_a_seed_and_a_table_of_as_many(self):
        def rounded():
            return changed(mlp(), lambda model: model[2].weight.copy_(torch.randn(64, 64).round().clamp(-3, 3) / 32))

        (finding,) = found("IB110", rounded)
        assert finding.parameters == ("2.weight",)
        assert "7 among 4096 numbers" in finding.measured
        table = nn.Linear(16, 200).to(torch.bfloat16)
        changed(table, lambda layer: layer.weight.copy_(torch.log(torch.arange(1, 17.0)).repeat(200, 1)))
        assert not found("IB110", table)
        assert not found("IB110", lambda: changed(mlp(), lambda model: model[2].weight.copy_(torch.randn(64, 64).sign() / 8)))

    @pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
    def test_three_values(self, stored):
        def ternary(*, trained=True):
            model = mlp().to(stored)
            changed(model, lambda model: model[2].weight.copy_((torch.randn(64, 64).round().clamp(-1, 1) / 7).bfloat16()))
            model[2].weight.requires_grad_(trained)
            return model

        for given in (ternary, ternary()):
            (finding,) = found("IB110", given)
            assert (finding.parameters, finding.severity) == (("2.weight",), Severity.WARNING)
            assert "3 among 4096 numbers" in finding.measured
        assert not found("IB110", lambda: ternary(trained=False))  # a sparse projection on purpose

    @pytest.mark.parametrize(("step", "coarse"), [(0.1, True), (0.01, False)])
    def test_float32_on_a_grid(self, step, coarse):
        def rounded():
            return changed(mlp(), lambda model: model[2].weight.normal_(0, 0.25).div_(step).round_().mul_(step))

        findings = found("IB110", rounded)
        assert [each.parameters for each in findings] == [("2.weight",)] * coarse
        assert all("multiples of 0.1" in each.measured for each in findings)

    def test_float32_of_many_values_is_fine(self):
        assert not found("IB110", mlp)
        assert not found("IB110", changed(mlp(), lambda model: model[2].weight.clamp_(-0.01, 0.01)))


class Tied(nn.Module):
    def __init__(self, *, tied):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16, padding_idx=3), nn.Linear(16, 50, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x))


class TestPaddingRow:
    def test_a_row_that_was_drawn(self):
        model = changed(Tied(tied=False), lambda model: nn.init.normal_(model.embedding.weight))
        (finding,) = found("IB111", model)
        assert (finding.parameters, finding.severity) == (("embedding.weight",), Severity.WARNING)
        assert f"row 3 has the length {np.linalg.norm(model.embedding.weight[3].detach()):.3g}" in finding.measured
        exec(finding.fix, {"model": model, "torch": torch})
        assert not found("IB111", model)

    def test_a_tied_head_trains_it(self):
        model = changed(Tied(tied=True), lambda model: nn.init.normal_(model.embedding.weight))
        (finding,) = found("IB111", model)
        assert finding.severity is Severity.INFO
        model(torch.arange(8).unsqueeze(0)).sum().backward()
        assert model.embedding.weight.grad[3].any()

    def test_torchs_own_and_an_embedding_without_padding(self):
        assert not found("IB111", Tied(tied=False))
        assert not found("IB111", nn.EmbeddingBag(50, 16, padding_idx=3))
        assert not found("IB111", nn.Embedding(50, 16))


class Block(nn.Module):
    def __init__(self, gain=0.0):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        )
        nn.init.constant_(self.branch[4].weight, gain)

    def forward(self, x):
        return nn.functional.relu(x + self.branch(x))


class OnePlus(nn.LayerNorm):
    """Multiplies by 1 + weight."""

    def __init__(self, width):
        super().__init__(width)
        nn.init.zeros_(self.weight)

    def forward(self, x):
        return nn.functional.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias, self.eps)


def convolutions(norm, *blocks):
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


class TestNormStart:
    def test_a_zero_gain_in_a_plain_chain(self):
        model = changed(convolutions(nn.BatchNorm2d(8)), lambda model: model[1].weight.zero_())
        (finding,) = found("IB112", model, inputs="3x8x8")
        assert (finding.parameters, finding.severity) == (("1.weight",), Severity.WARNING)
        exec(finding.fix, {"model": model, "nn": nn})
        assert not found("IB112", model, inputs="3x8x8")

    def test_a_zero_gain_at_the_end_of_a_branch_is_meant(self):
        model = convolutions(nn.BatchNorm2d(8), Block(), Block())
        assert not found("IB112", model, inputs="3x8x8")
        changed(model, lambda model: model[3].branch[1].weight.zero_())
        (finding,) = found("IB112", model, inputs="3x8x8")
        assert finding.parameters == ("3.branch.1.weight",)

    def test_without_an_input_it_cannot_be_told(self):
        assert "needs an input" in why_not("IB112", convolutions(nn.BatchNorm2d(8), Block()))

    @pytest.mark.parametrize(("gain", "severity"), [(0.9, Severity.INFO), (3.0, Severity.WARNING), (0.1, Severity.WARNING)])
    def test_severity_is_by_size(self, gain, severity):
        (finding,) = found("IB112", changed(convolutions(nn.GroupNorm(2, 8)), lambda model: model[1].weight.fill_(gain)), inputs="3x8x8")
        assert (finding.severity, finding.measured) == (severity, f"all {gain:.4g}, expected all 1")

    def test_a_shift_and_the_gains_of_dcgan(self):
        model = changed(
            convolutions(nn.BatchNorm2d(8)), lambda model: [nn.init.normal_(model[1].weight, 1, 0.02), model[1].bias.fill_(2.0)]
        )
        said = {each.parameters[0]: each.severity for each in found("IB112", model, inputs="3x8x8")}
        assert said == {"1.weight": Severity.INFO, "1.bias": Severity.WARNING}

    def test_a_norm_that_multiplies_by_one_plus_its_weight(self):
        model = nn.Sequential(nn.Linear(16, 16), OnePlus(16), nn.Linear(16, 4))
        assert not found("IB112", model, inputs="16")
        assert not found("IB112", model)

    def test_torchs_own_norms(self):
        norms = [nn.BatchNorm1d(16), nn.LayerNorm(16), nn.GroupNorm(4, 16), nn.RMSNorm(16), nn.LayerNorm(16, elementwise_affine=False)]
        assert not found("IB112", nn.Sequential(*norms), inputs="16")

"""Every scheme on models that other people write: it applies and keeps its promises, or it says in one sentence why not."""

import copy
import functools
import math

import pytest
import torch
from foreign_models import CLASSES, MODELS
from schemes_support import TINY_PROBABILITY
from scipy import stats
from torch import nn

from initbench.cli import guide
from initbench.errors import DoesNotApply
from initbench.init.checks import deviation
from initbench.init.initialize import initialize
from initbench.question import catalog
from initbench.question.config import parse_ref

torch.set_num_threads(1)
X = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
QUICK = {
    "metainit": "metainit:steps=2,batch_size=8",
    "gradinit": "gradinit:iterations=2,batch_size=16",
    "krahenbuhl": "krahenbuhl:batch_size=32",
}
SHIPPED = {
    entry.name: QUICK.get(entry.name, guide.setting(entry)) for entry in catalog.entries("scheme") if entry.path.parent.name == "schemes"
}

ALL = frozenset(MODELS)
MATRICES = frozenset({"transformer", "lstm", "resnet", "tanh"})
RESIDUAL = frozenset({"transformer", "resnet"})
APPLIES = {
    **dict.fromkeys(("identity", "identity_noise", "modula"), MATRICES),
    **dict.fromkeys(("depth_scaled", "gpt2", "layer_scale", "rezero", "skipinit", "stable_resnet"), RESIDUAL),
    **dict.fromkeys(("bert", "mimetic", "mitchell", "small_init", "t5", "vit_default", "wang_init"), frozenset({"transformer"})),
    **dict.fromkeys(("delta_orthogonal", "scaled_orthogonal", "zero_hadamard"), ALL - {"unet"}),
    **dict.fromkeys(("dks", "tat"), frozenset({"vgg", "tanh"})),
    **dict.fromkeys(("admin", "deepnorm", "siren", "t_fixup", "zero_gamma"), frozenset()),
    "autoinit_signal": frozenset({"vgg", "depthwise", "tanh"}),
    "fixup": frozenset({"resnet"}),
    "looks_linear": frozenset({"vgg"}),
    "metainit": ALL - {"depthwise"},
    "mup": ALL - {"transformer"},
    "rai": frozenset({"vgg", "transformer", "lstm", "unet"}),
}
"""The models that a scheme applies to; those that are not named apply to all."""


def batch(size, index):
    return X.roll(index, 0)[:size], torch.arange(size) % CLASSES


@functools.cache
def made(name):
    torch.manual_seed(0)
    return MODELS[name]()


def start(scheme, name, seed=0):
    model = copy.deepcopy(made(name))
    report, _ = initialize(model, parse_ref(scheme), seed=seed, inputs=X[:2], batch=batch)
    return model, report


@pytest.mark.heavy
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", SHIPPED)
def test_a_scheme_applies_or_says_why_not(scheme, name):
    text = SHIPPED[scheme]
    if name not in APPLIES.get(scheme, ALL):
        model = copy.deepcopy(made(name))
        with pytest.raises(DoesNotApply) as error:
            initialize(model, parse_ref(text), seed=0, inputs=X[:2], batch=batch)
        said = str(error.value)
        assert said.startswith(f"'{scheme}' ")
        assert said.endswith(".")
        assert "\n" not in said
        before = made(name).state_dict()
        assert model.state_dict().keys() == before.keys()
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        return
    starts = [start(text, name, seed) for seed in range(2)]
    assert deviation([(report, {key: value.detach() for key, value in model.named_parameters()}) for model, report in starts]) is None
    model, report = starts[0]
    assert not report.untouched
    assert [entry.parameter for entry in report.parameters] == [key for key, _ in model.named_parameters()]
    assert torch.isfinite(model.eval()(X)).all()


FANS = {  # by hand: what one output sums over, what one input reaches
    "vgg": {"features.0.weight": (27, 144), "features.3.weight": (144, 288), "features.6.weight": (288, 288),
            "classifier.0.weight": (128, 64)},
    "transformer": {
        "project.weight": (48, 48), "encoder.layers.0.self_attn.in_proj_weight": (48, 48),
        "encoder.layers.1.self_attn.out_proj.weight": (48, 48),
        "encoder.layers.0.linear1.weight": (48, 96), "encoder.layers.1.linear2.weight": (96, 48),
    },
    "lstm": {"lstm.weight_ih_l0": (48, 40), "lstm.weight_hh_l0": (40, 40), "lstm.weight_ih_l1": (40, 40)},
    "depthwise": {"stem.weight": (27, 144), "depthwise.weight": (9, 18), "pointwise.weight": (32, 64)},
    "unet": {"down2.weight": (144, 288), "up.weight": (32, 64), "merge.weight": (288, 144)},
    "resnet": {"stem.weight": (768, 64), "blocks.1.0.weight": (64, 64)},
    "tanh": {"1.weight": (768, 96), "3.weight": (96, 96), "5.weight": (96, 5)},
}  # fmt: skip
LAWS = {
    "kaiming": (stats.norm(), lambda i, o: math.sqrt(2 / i)),
    "kaiming:mode=fan_out,distribution=uniform": (stats.uniform(-(3**0.5), 2 * 3**0.5), lambda i, o: math.sqrt(2 / o)),
    "xavier_uniform": (stats.uniform(-(3**0.5), 2 * 3**0.5), lambda i, o: math.sqrt(2 / (i + o))),
    "jax_glorot_normal": (stats.truncnorm(-2, 2, scale=1 / 0.87962566103423978), lambda i, o: math.sqrt(2 / (i + o))),
    "lecun": (stats.norm(), lambda i, o: math.sqrt(1 / i)),
    "variance_scaling:scale=3,mode=fan_geo_avg,distribution=normal": (stats.norm(), lambda i, o: math.sqrt(3 / math.sqrt(i * o))),
    "flax_default": (stats.truncnorm(-2, 2, scale=1 / 0.87962566103423978), lambda i, o: math.sqrt(1 / i)),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", FANS)
@pytest.mark.parametrize("scheme", LAWS)
def test_each_layer_of_a_foreign_model_follows_the_formula(scheme, name):
    law, std = LAWS[scheme]
    values = {}
    for seed in range(8):
        for key, value in start(scheme, name, seed)[0].named_parameters():
            values.setdefault(key, []).append(value.detach().double().flatten())
    for key, (fan_in, fan_out) in FANS[name].items():
        if scheme == "flax_default" and ("_hh_" in key or key == "up.weight"):
            continue  # orthogonal; and jax counts the whole kernel of a strided transposed convolution
        z = torch.cat(values[key]).numpy() / std(fan_in, fan_out)
        assert stats.kstest(z, law.cdf).pvalue > TINY_PROBABILITY, key
        error = math.sqrt((float(law.moment(4)) - 1) / z.size)
        assert abs((z**2).mean() - 1) < 5.5 * error, f"{key}: {(z**2).mean():.3f} of what it should be"


@pytest.mark.parametrize("name", MODELS)
def test_torch_default_of_a_foreign_model_is_how_it_was_built(name):
    mine, _ = start("torch_default", name)
    for (key, value), built in zip(mine.named_parameters(), made(name).parameters(), strict=True):
        if built.numel() >= 200 and built.std() > 0:
            assert value.std().item() == pytest.approx(built.std().item(), rel=8 / math.sqrt(2 * built.numel())), key
        elif built.std() == 0:
            assert torch.equal(value, built), key


@pytest.mark.parametrize(("scheme", "gain"), [("orthogonal", 1.0), ("orthogonal:gain=1.5", 1.5)])
@pytest.mark.parametrize("name", MODELS)
def test_orthogonal_blocks_are_orthogonal_in_every_model(scheme, gain, name):
    model, _ = start(scheme, name)
    for module in model.modules():
        for key, weight in module.named_parameters(recurse=False):
            if weight.dim() < 2:
                continue
            parts = 4 if isinstance(module, nn.LSTM) else 3 if key == "in_proj_weight" else getattr(module, "groups", 1)
            for block in weight.detach().chunk(parts):
                values = torch.linalg.svdvals(block.flatten(1))
                torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-4, atol=1e-4)

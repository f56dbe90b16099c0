"""The transformer schemes: each factor against hand-computed values, mimetic by its products."""

import copy
import math

import pytest
import torch
from schemes_support import assert_law
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.models import mlp, resnet, vit
from initbench.nn import hooks
from initbench.nn.hooks import Slot
from initbench.question.config import InitRules, parse_ref
from initbench.results.record import Setter

TRANSFORMER = ["small_init", "wang_init", "t_fixup", "deepnorm", "mimetic", "vit_default"]
SHAPE = (1, 12, 12)


def net(norm="pre", depth=4, width=48, heads=2):
    return vit.build(SHAPE, 10, depth=depth, width=width, heads=heads, norm=norm)


def start(model, scheme, **rules):
    report, _ = initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, *SHAPE), rules=InitRules(**rules))
    return report


def part(model, *ends):
    """All block weights whose names end so, as one vector."""
    chosen = [weight.detach().flatten() for name, weight in model.named_parameters() if name.endswith(ends) and name.startswith("blocks")]
    assert len(chosen) == 4 * len(ends)
    return torch.cat(chosen)


def weights(norm):
    """The endings of the names of q and k, v, attention output, first and second MLP weight."""
    at = 1 if norm == "pre" else 0
    first, second = (1, 3) if norm == "pre" else (0, 2)
    names = {role: f"0.branch.{at}.{role}.weight" for role in ("query", "key", "value", "output")}
    return names | {"fc1": f"1.branch.{first}.weight", "fc2": f"1.branch.{second}.weight"}


def test_gpt2_divides_branch_ends_by_the_root_of_twice_the_layers():
    model, names = net(), weights("pre")
    start(model, "gpt2")
    assert_law(part(model, names["query"], names["key"], names["value"], names["fc1"]), "normal", 0.02)
    assert_law(part(model, names["output"], names["fc2"]), "normal", 0.02 / math.sqrt(2 * 4))
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    start(model, "gpt2:std=0.1")
    assert_law(part(model, names["value"]), "normal", 0.1)


def test_gpt2_sets_embeddings_only_where_they_are_not_excluded():
    model = net()
    kept = model.position_embedding.detach().clone()
    report = start(model, "gpt2:std=0.5")
    assert torch.equal(model.position_embedding, kept)
    report = start(model, "gpt2:std=0.5", exclude=[])
    assert model.position_embedding.std().item() == pytest.approx(0.5, rel=0.1)
    assert {entry.setter for entry in report.parameters if entry.parameter == "position_embedding"} == {Setter.SCHEME}


def test_small_init_has_one_law_for_all():
    model, names = net(), weights("pre")
    start(model, "small_init")
    assert_law(part(model, *names.values()), "normal", math.sqrt(2 / (5 * 48)))


def test_wang_init_has_its_own_law_for_branch_ends():
    model, names = net(), weights("pre")
    start(model, "wang_init")
    assert_law(part(model, names["output"], names["fc2"]), "normal", 2 / (4 * math.sqrt(48)))
    assert_law(part(model, names["query"], names["key"], names["value"], names["fc1"]), "normal", math.sqrt(2 / (5 * 48)))


@pytest.mark.parametrize(
    ("scheme", "law", "factor", "other"),
    [
        ("t_fixup", "uniform", 0.67 * 4**-0.25, 1.0),
        ("t_fixup:stack=decoder", "uniform", 36**-0.25, 1.0),
        ("t_fixup:qk_gain=0.7071,distribution=normal", "normal", 0.67 * 4**-0.25, math.sqrt(0.5)),
    ],
)
def test_t_fixup_scales_values_outputs_and_mlps(scheme, law, factor, other):
    model, names = net("none"), weights("none")
    start(model, scheme)
    assert_law(part(model, names["value"], names["output"]), law, factor * math.sqrt(2 / 96))
    assert_law(part(model, names["fc1"], names["fc2"]), law, factor * math.sqrt(2 / 144))
    assert_law(part(model, names["query"], names["key"]), law, other * math.sqrt(2 / 96))


class Packed(nn.Module):
    """A layer without norm whose attention packs query, key and value."""

    def __init__(self, width):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.second(torch.relu(self.first(x)))


def test_t_fixup_knows_the_value_part_of_a_packed_weight():
    model = nn.Sequential(Packed(96), Packed(96), nn.Linear(96, 10))
    report, _ = initialize(model, parse_ref("t_fixup:qk_gain=0.5"), seed=0, inputs=torch.randn(2, 5, 96))
    query, key, value = model[0].attention.in_proj_weight.chunk(3)
    xavier, factor = 96**-0.5, 0.67 * 2**-0.25
    assert_law(torch.cat([query, key]), "uniform", 0.5 * xavier)
    assert_law(value, "uniform", factor * xavier)
    promised = next(entry for entry in report.parameters if entry.parameter == "0.attention.in_proj_weight").target_std
    assert promised == pytest.approx(xavier * math.sqrt((2 * 0.25 + factor**2) / 3), rel=1e-6)
    assert_law(model[1].attention.out_proj.weight, "uniform", factor * xavier)


def test_t_fixup_scales_embeddings_where_they_are_not_excluded():
    model = net("none", width=128)
    start(model, "t_fixup", exclude=["patch"])
    assert model.position_embedding.std().item() == pytest.approx(36**-0.25 / math.sqrt(128), rel=0.1)


def test_deepnorm_has_the_constants_of_its_table():
    model, names = net("post"), weights("post")
    report = start(model, "deepnorm")
    alpha, beta = 8**0.25, 32**-0.25
    assert (alpha, beta) == (pytest.approx(1.681793), pytest.approx(0.420448))
    blocks = [module for module in model.modules() if type(module).__name__ == "Residual"]
    assert [hooks.number(block.shortcut, Slot.OUTPUT_SCALE) for block in blocks] == pytest.approx([alpha] * 8)
    assert_law(part(model, names["value"], names["output"]), "normal", beta * math.sqrt(2 / 96))
    assert_law(part(model, names["fc1"], names["fc2"]), "normal", beta * math.sqrt(2 / 144))
    assert_law(part(model, names["query"], names["key"]), "normal", math.sqrt(2 / 96))
    x = torch.randn(3, 9, 48)
    torch.testing.assert_close(blocks[0](x), blocks[0].after(alpha * x + blocks[0].branch(x)))
    assert not report.untouched


@pytest.mark.heavy
@pytest.mark.parametrize(("depth", "value"), [(2, 0.1), (18, 0.1), (24, 1e-5), (25, 1e-6)])
def test_layer_scale_starts_as_small_as_the_depth_asks(depth, value):
    model = net(depth=depth, width=8)
    report = start(model, "layer_scale")
    scales = {name: parameter for name, parameter in model.named_parameters() if name.endswith("output_scale")}
    assert len(scales) == 2 * depth
    assert all(scale.shape == (8,) and torch.equal(scale, torch.full((8,), value)) for scale in scales.values())
    by = {entry.parameter: entry for entry in report.parameters}
    assert all(by[name].shape == (8,) and by[name].mean == pytest.approx(value) for name in scales)


def test_layer_scale_has_one_number_a_channel_for_convolutions():
    model = resnet.build(SHAPE, 10, depth=8, norm="none")
    start(model, "layer_scale:value=0.5")
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("output_scale")]
    assert [tuple(scale.shape) for scale in scales] == [(16, 1, 1), (32, 1, 1), (64, 1, 1)]
    x = torch.randn(2, *SHAPE)
    hidden, block = model.stem(x), model.blocks[0]
    inner = block.branch[2](block.branch[1](block.branch[0](hidden)))
    torch.testing.assert_close(block(hidden), torch.relu(hidden + 0.5 * inner))
    model(x).sum().backward()
    assert scales[0].grad.count_nonzero() > 1


def products(model, index):
    """W_Q W_K^T of each head and W_V W_O, in the paper's layout x W."""
    attention = model.blocks[index][0].branch[1]
    size = attention.query.weight.shape[0] // attention.heads
    heads = zip(attention.query.weight.split(size), attention.key.weight.split(size), strict=True)
    return [query.T @ key for query, key in heads], (attention.output.weight @ attention.value.weight).T


def test_mimetic_products_are_near_plus_and_minus_the_identity():
    model = net(width=128, heads=1)
    start(model, "mimetic")
    eye = torch.eye(128)
    for index in range(4):
        (query_key,), value_output = products(model, index)
        assert_law(torch.cat([(query_key - 0.7 * eye).flatten()] * 1), "normal", 0.7 / math.sqrt(128))
        assert_law((value_output + 0.4 * eye).flatten(), "normal", 0.4 / math.sqrt(128))


def test_a_mimetic_head_gets_the_largest_part_of_its_product():
    whole, heads = net(width=128, heads=1), net(width=128, heads=4)
    start(whole, "mimetic")
    start(heads, "mimetic")
    found, _ = products(heads, 0)
    (full,), _ = products(whole, 0)
    u, s, vt = torch.linalg.svd(full)
    torch.testing.assert_close(found[0], u[:, :32] * s[:32] @ vt[:32], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], found[1])
    balanced = heads.blocks[0][0].branch[1]
    assert balanced.query.weight.norm().item() == pytest.approx(balanced.key.weight.norm().item(), rel=1e-4)


def test_mimetic_packs_query_key_and_value_as_torch_does():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 1, 32, batch_first=True), 2, enable_nested_tensor=False)
    initialize(model, parse_ref("mimetic"), seed=0, inputs=torch.randn(2, 5, 32))
    for layer in model.layers:
        query, key, value = layer.self_attn.in_proj_weight.chunk(3)
        noise = (query.T @ key - 0.7 * torch.eye(32)).std().item()
        assert noise == pytest.approx(0.7 / math.sqrt(32), rel=0.1)
        assert (layer.self_attn.out_proj.weight @ value).diagonal().mean().item() == pytest.approx(-0.4, abs=0.1)


@pytest.mark.parametrize(
    ("variant", "law", "std", "head"),
    [("timm", "normal", 0.02, 0.02), ("jax", "uniform", math.sqrt(2 / 96), 0.0), ("moco", "uniform", math.sqrt(2 / 96), math.sqrt(2 / 58))],
)
def test_the_variants_of_vit_default(variant, law, std, head):
    model, names = net(), weights("pre")
    start(model, f"vit_{variant}")
    assert_law(part(model, *(names[role] for role in ("query", "key", "value", "output"))), law, std)
    assert model.head.weight.std().item() == pytest.approx(head, rel=0.15)
    biases = torch.cat(
        [module.bias for name, module in model.named_modules() if name.endswith(("branch.1", "branch.3")) and isinstance(module, nn.Linear)]
    )
    assert biases.std().item() == pytest.approx(1e-6 if variant == "jax" else 0.0, rel=0.2)


@pytest.mark.parametrize("scheme", [*TRANSFORMER, "gpt2"])
def test_a_plain_mlp_is_refused_and_left_alone(scheme):
    model = mlp.build(SHAPE, 10)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DoesNotApply, match=f"'{scheme}' is for"):
        start(model, scheme)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("scheme", "model", "words"),
    [
        ("t_fixup", net("pre", depth=1), "without norm layers"),
        ("deepnorm", net("pre", depth=1), "needs a norm after each residual sum"),
        ("small_init", resnet.build(SHAPE, 10, depth=8), "no attention layer"),
    ],
)
def test_a_model_that_does_not_suit_is_refused_with_the_reason(scheme, model, words):
    with pytest.raises(DoesNotApply) as error:
        start(model, scheme)
    assert words in str(error.value)

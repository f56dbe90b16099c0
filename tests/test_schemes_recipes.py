"""T5, BERT, Admin, OLMo's, the modular norm's and the sinusoidal start: each number against the formula of its source."""

import math

import pytest
import torch
from schemes_support import assert_law, cases, init, weight_of
from scipy import stats
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.models import mlp, vit
from initbench.question.config import InitRules, parse_ref

SHAPE = (1, 12, 12)
X = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(5))


def net(norm="pre", depth=4, width=48, heads=2):
    return vit.build(SHAPE, 10, depth=depth, width=width, heads=heads, norm=norm)


def batch(size, index):
    return X.roll(index, 0)[:size], torch.arange(size) % 10


def start(model, scheme, **rules):
    return initialize(model, parse_ref(scheme), seed=0, inputs=X[:2], batch=batch, rules=InitRules(**rules))[0]


def part(model, *roles, norm="pre"):
    """The weights of these roles in all blocks, as one vector."""
    at, first, second = (1, 1, 3) if norm == "pre" else (0, 0, 2)
    names = {role: f"0.branch.{at}.{role}.weight" for role in ("query", "key", "value", "output")}
    names |= {"fc1": f"1.branch.{first}.weight", "fc2": f"1.branch.{second}.weight"}
    ends = tuple(names[role] for role in roles)
    return torch.cat([weight.detach().flatten() for name, weight in model.named_parameters() if name.endswith(ends)])


def test_t5_folds_the_scale_of_the_scores_into_the_queries():
    model = net()
    start(model, "t5")
    assert_law(part(model, "query"), "normal", 48**-0.5 * 24**-0.5)  # heads of 24 units
    assert_law(part(model, "key", "value", "output", "fc1"), "normal", 48**-0.5)
    assert_law(part(model, "fc2"), "normal", 96**-0.5)
    start(model, "t5:fold_scale=false,factor=0.5")
    assert_law(part(model, "query"), "normal", 0.5 * 48**-0.5)


def test_t5_heads_and_embeddings():
    model = net(width=96)
    start(model, "t5:head_std=1.0,factor=0.5", exclude=())
    assert model.head.weight.std().item() == pytest.approx(1.0, rel=0.15)
    assert model.position_embedding.std().item() == pytest.approx(0.5, rel=0.15)
    start(model, "t5")
    assert model.head.weight.std().item() == pytest.approx(96**-0.5, rel=0.15)


class Tied(nn.Module):
    """A language model of one attention layer that packs q, k and v, with relative positions and a head that is its table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(200, 96)
        self.relative_attention_bias = nn.Embedding(400, 30)
        self.attention = nn.MultiheadAttention(96, 4, batch_first=True)
        self.norm = nn.LayerNorm(96)
        self.head = nn.Linear(96, 200, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        x = self.table(tokens)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x)


def test_t5_knows_packed_queries_tied_heads_and_relative_positions():
    model, tokens = Tied(), torch.randint(0, 200, (2, 6))
    report, _ = initialize(model, parse_ref("t5"), seed=0, inputs=tokens, rules=InitRules(exclude=()))
    query, key, value = model.attention.in_proj_weight.chunk(3)
    assert_law(query, "normal", (96 * 24) ** -0.5)
    assert_law(torch.cat([key, value]), "normal", 96**-0.5)
    assert_law(model.table.weight, "normal", 1.0)
    assert_law(model.relative_attention_bias.weight, "normal", 96**-0.5)
    packed = next(entry for entry in report.parameters if entry.parameter == "attention.in_proj_weight")
    assert packed.target_std == pytest.approx(math.sqrt((1 / (96 * 24) + 2 / 96) / 3), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "law", "std"), [("bert", "trunc_normal", 0.02 * 0.87962566103423978), ("bert_transformers", "normal", 0.02)]
)
def test_bert_is_cut_at_two_deviations_by_its_authors_and_not_in_transformers(text, law, std):
    model = net()
    start(model, text)
    assert_law(part(model, "query", "key", "value", "output", "fc1", "fc2"), law, std)
    words = nn.Sequential(nn.Embedding(300, 96, padding_idx=7), nn.MultiheadAttention(96, 4))
    init(words, text, exclude=())
    assert words[0].weight[7].count_nonzero() == (0 if law == "normal" else 96)
    rows = torch.cat([words[0].weight[:7], words[0].weight[8:]])
    assert_law(rows, law, std)


def test_mitchell_divides_branch_ends_by_their_own_depth():
    model = net(width=64, depth=3)
    start(model, "mitchell", exclude=())
    cut = stats.truncnorm(-3, 3)
    for number, layer in enumerate(model.blocks):
        attention, feed = layer[0].branch[1], layer[1].branch
        for weight, deeper in (
            (attention.query.weight, 1),
            (attention.output.weight, 2 * (number + 1)),
            (feed[3].weight, 2 * (number + 1)),
        ):
            z = weight.detach().double().flatten().numpy() * math.sqrt(weight.shape[1] * deeper)
            assert abs(z).max() <= 3 * (1 + 1e-6)
            assert stats.kstest(z, cut.cdf).pvalue > 1e-6
            assert z.std() == pytest.approx(cut.std(), rel=0.06)
    assert model.position_embedding.std().item() == pytest.approx(64**-0.5 * cut.std(), rel=0.2)


@pytest.mark.parametrize("module", [nn.Linear(40, 120), nn.Linear(120, 40), nn.Linear(50, 50)])
def test_modula_has_all_singular_values_at_the_root_of_outputs_over_inputs(module):
    init(module, "modula")
    values = torch.linalg.svdvals(module.weight.detach())
    torch.testing.assert_close(values, torch.full_like(values, math.sqrt(module.out_features / module.in_features)))


def test_modula_takes_gates_one_by_one_and_no_kernels():
    module = nn.LSTM(30, 60)
    init(module, "modula")
    for gate in module.weight_ih_l0.detach().chunk(4):
        torch.testing.assert_close(torch.linalg.svdvals(gate), torch.full((30,), math.sqrt(2.0)))
    with pytest.raises(DoesNotApply, match="only matrices are defined"):
        init(nn.Conv2d(3, 4, 3), "modula")


def waves(outputs, inputs):
    """The authors' matrix, number by number."""
    rows = [
        [math.sin((j * 2 * math.pi / inputs + 2 * math.pi / outputs) * (i + 1)) for j in range(inputs)] for i in range(outputs)
    ]  # fmt: skip
    matrix = torch.tensor(rows, dtype=torch.float64)
    return matrix * math.sqrt(2 / (matrix.var().item() * (inputs + outputs)))


@pytest.mark.parametrize(
    ("module", "outputs", "inputs"),
    [(nn.Linear(30, 70), 70, 30), (nn.Linear(70, 30), 30, 70), (nn.Conv2d(3, 8, 3), 8, 27), (nn.Conv2d(16, 32, 3, groups=16), 32, 9)],
)
def test_sinusoidal_weights_are_the_authors_sine_waves(module, outputs, inputs):
    init(module, "sinusoidal", seed=4)
    torch.testing.assert_close(module.weight.detach().reshape(outputs, inputs).double(), waves(outputs, inputs), atol=1e-6, rtol=1e-5)


def test_sinusoidal_takes_q_k_and_v_apart_and_is_the_same_for_every_seed():
    one, other = nn.MultiheadAttention(24, 2), nn.MultiheadAttention(24, 2)
    init(one, "sinusoidal", seed=1)
    init(other, "sinusoidal", seed=2)
    assert torch.equal(one.in_proj_weight, other.in_proj_weight)
    for third in one.in_proj_weight.detach().chunk(3):
        torch.testing.assert_close(third.double(), waves(24, 24), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, case in cases().items() if "raw" not in name])
def test_the_report_of_sinusoidal_weights_is_what_is_there(name):
    case = cases()[name]
    report = init(case.module, "sinusoidal")
    entry = next(entry for entry in report.parameters if entry.parameter == case.weight)
    assert weight_of(case).std(correction=0).item() == pytest.approx(entry.target_std, rel=1e-4)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_sinusoidal_refuses_what_would_be_zero(sizes):
    module = nn.Linear(*sizes)
    with pytest.raises(DoesNotApply, match="sine waves are zero"):
        init(module, "sinusoidal")
    assert module.weight.count_nonzero() > 0


def naive_omega(model, x):
    """Admin's sums, sub-layer by sub-layer, from outside of the scheme."""
    values = model.patch_embedding(x).flatten(2).transpose(1, 2) + model.position_embedding
    omegas, omega = [], 1.0
    for block in (block for layer in model.blocks for block in layer):
        omegas.append(omega)
        inner, skip = block.branch(values), omega * values
        omega = math.sqrt(skip.var(correction=0).item() + inner.var(correction=0).item())
        values = block.after(skip + inner)
    return omegas


def test_admin_gives_each_skip_path_the_root_of_what_was_added_before():
    model = net("post", depth=3)
    report = start(model, "admin:batch_size=32")
    blocks = [block for layer in model.blocks for block in layer]
    found = [block.shortcut.output_scale.detach() for block in blocks]
    assert all(omega.shape == (48,) and omega.unique().numel() == 1 for omega in found)
    assert all(isinstance(block.shortcut.output_scale, nn.Parameter) for block in blocks)
    with torch.no_grad():
        expected = naive_omega(model, X[:32])
    assert [omega[0].item() for omega in found] == pytest.approx(expected, rel=1e-4)
    assert found[-1][0] > found[1][0] > 0
    assert_law(part(model, "query", "key", "value", "output", norm="post"), "uniform", math.sqrt(2 / 96))
    by = {entry.parameter: entry for entry in report.parameters}
    assert by["blocks.2.1.shortcut.output_scale"].mean == pytest.approx(expected[-1], rel=1e-4)
    assert not report.untouched


def test_admin_makes_later_branches_weigh_less_and_leaves_a_working_model():
    model = net("post", depth=6)
    start(model, "admin")
    assert not any(hook.__qualname__.startswith("_Sum") for module in model.modules() for hook in module._forward_hooks.values())
    omegas = [module.output_scale[0].item() for module in model.modules() if hasattr(module, "output_scale")]
    assert omegas[1:] == sorted(omegas[1:])
    assert torch.isfinite(model(X)).all()
    model(X).sum().backward()
    assert all(module.output_scale.grad is not None for module in model.modules() if hasattr(module, "output_scale"))


@pytest.mark.parametrize("scheme", ["t5", "bert", "admin", "mitchell"])
def test_a_plain_mlp_is_refused(scheme):
    with pytest.raises(DoesNotApply, match=f"'{scheme}' is for"):
        start(mlp.build(SHAPE, 10), scheme)


def test_admin_refuses_norms_before_the_sum_and_missing_data():
    with pytest.raises(DoesNotApply, match="norm after each residual sum"):
        start(net("pre"), "admin")
    with pytest.raises(DoesNotApply, match="needs data"):
        initialize(net("post"), parse_ref("admin"), seed=0, inputs=X[:2])


class Timm(nn.Module):
    """A vision transformer with timm's names: a strided patch convolution, a class token, packed q, k and v."""

    def __init__(self, width=96):
        super().__init__()
        self.patch_embed = nn.Sequential(nn.Conv2d(3, width, 8, 8))
        self.cls_token = nn.Parameter(torch.full((1, 1, width), 3.0))
        self.pos_embed = nn.Parameter(torch.full((1, 17, width), 3.0))
        self.blocks = nn.Sequential(TimmBlock(width), TimmBlock(width))
        self.head = nn.Linear(width, 100)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.blocks(x)[:, 0])


class TimmAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.num_heads, self.qkv, self.proj = 3, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 3, -1).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


class TimmBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), TimmAttention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def timm(scheme):
    model = Timm()
    nn.init.constant_(model.patch_embed[0].weight, 3.0)
    initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, 3, 32, 32))
    assert model.cls_token.abs().max() < 1e-5
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.15)
    return model


def test_timm_leaves_the_patch_convolution_to_torch():
    model = timm("vit_timm")
    assert_law(model.patch_embed[0].weight, "uniform", 1 / math.sqrt(3 * 3 * 64))
    assert model.patch_embed[0].bias.abs().max() > 0.01
    assert_law(model.blocks[0].attn.qkv.weight, "normal", 0.02)


def test_moco_v3_counts_the_patch_convolution_as_a_matrix_and_q_k_and_v_apart():
    model = timm("moco_v3")
    assert_law(model.patch_embed[0].weight, "uniform", math.sqrt(2 / (3 * 64 + 96)))
    assert model.patch_embed[0].bias.count_nonzero() == 0
    assert_law(model.blocks[0].attn.qkv.weight, "uniform", math.sqrt(2 / (96 + 96)))
    assert_law(model.blocks[1].mlp[0].weight, "uniform", math.sqrt(2 / (96 + 384)))
    assert_law(model.head.weight, "uniform", math.sqrt(2 / 196))


def test_the_jax_variant_has_lecun_patches_and_a_zero_head():
    model = timm("vit_jax")
    assert_law(model.patch_embed[0].weight, "trunc_normal", 1 / math.sqrt(3 * 64))
    assert_law(model.blocks[0].attn.qkv.weight, "uniform", math.sqrt(2 / (96 + 288)))
    assert model.head.weight.count_nonzero() == 0


def test_a_stem_of_ordinary_convolutions_is_left_to_torch_by_moco_v3():
    model = Timm()
    model.patch_embed = nn.Sequential(nn.Conv2d(3, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 96, 5, 4, 2))
    initialize(model, parse_ref("moco_v3"), seed=0, inputs=torch.randn(2, 3, 32, 32))
    assert_law(model.patch_embed[2].weight, "uniform", 1 / math.sqrt(3 * 48 * 25))

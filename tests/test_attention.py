"""What a probe says of attention: entropies and how far apart tokens are, recomputed; collapse and early choices are named."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import initbench
from initbench.measure.attention import attention_starts
from initbench.probing.figures import plots
from initbench.probing.verdicts import ONE_HOT, TOGETHER
from initbench.results.record import Place

TOKENS = torch.randn(6, 12, 16, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    def __init__(self, width=16, scale=1.0):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.scale = scale

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        return (self.scale * scores).softmax(-1) @ self.value(x)


class Stack(nn.Module):
    """Attention upon attention, with or without skips."""

    def __init__(self, depth=8, scale=1.0, skip=False):
        super().__init__()
        self.blocks = nn.ModuleList(Attention(scale=scale) for _ in range(depth))
        self.head, self.skip = nn.Linear(16, 4), skip

    def forward(self, x):
        for block in self.blocks:
            x = x + 0.1 * block(x) if self.skip else block(x)
        return self.head(x.mean(1))


def test_the_numbers_are_those_of_the_definitions():
    torch.manual_seed(0)
    model = Stack(depth=2)
    found = attention_starts(model, TOKENS)
    assert [each.module for each in found] == ["blocks.0", "blocks.1"]
    x = TOKENS.double().numpy()
    for block, each in zip(model.blocks, found, strict=True):
        query, key, value = (layer.weight.detach().double().numpy() for layer in (block.query, block.key, block.value))
        scores = (x @ query.T) @ (x @ key.T).swapaxes(1, 2) / 4
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        assert each.keys == 12
        assert each.entropy == pytest.approx(-(weights * np.log(weights)).sum(-1).mean() / np.log(12), rel=1e-4)
        assert each.largest == pytest.approx(weights.max(-1).mean(), rel=1e-4)
        assert each.apart == pytest.approx(((x - x.mean(1, keepdims=True)) ** 2).sum() / (x**2).sum(), rel=1e-4)
        x = weights @ (x @ value.T)


def verdict(model, **asked):
    probe = initbench.probe(model, ["xavier"], inputs=TOKENS, labels=[0, 1, 2, 3, 0, 1], **asked)
    return probe.schemes[0], probe.verdicts[0], probe


@pytest.mark.heavy
def test_attention_without_skips_is_told_to_collapse_where_it_does():
    scheme, words, probe = verdict(Stack(depth=8))
    collapsed = next(each for each in scheme.attention if each.apart < TOGETHER)
    assert f"at {collapsed.module} all tokens of an input have become one" in words
    table = probe.to_pandas("attention")
    assert list(table["module"]) == [f"blocks.{place}" for place in range(8)]
    assert table["apart"][:4].is_monotonic_decreasing  # what is left then is rounding


@pytest.mark.heavy
def test_attention_with_skips_is_called_healthy():
    scheme, words, _ = verdict(Stack(depth=8, skip=True))
    assert all(each.apart > 0.5 for each in scheme.attention)
    assert "attention looks at all keys" in words
    assert "become one" not in words


def test_attention_that_has_chosen_is_told():
    scheme, words, _ = verdict(Stack(depth=2, scale=100.0, skip=True))
    assert scheme.attention[0].entropy < ONE_HOT
    assert "attention in blocks.0 has chosen before it has learned" in words


def test_networks_without_attention_have_no_word_of_it():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    probe = initbench.probe(model, ["xavier"], inputs=TOKENS[:, 0])
    assert probe.schemes[0].attention == ()
    assert "attention" not in probe.verdicts[0]


@pytest.mark.heavy
def test_where_no_scheme_helps_it_says_so_and_names_the_nearest():
    layers = [layer for _ in range(30) for layer in (nn.Linear(32, 32), nn.Sigmoid())]
    probe = initbench.probe(
        nn.Sequential(*layers, nn.Linear(32, 4)), ["xavier", "lecun"], inputs=torch.randn(32, 32), labels=[0, 1, 2, 3] * 8
    )
    for scheme in probe.schemes:
        assert not scheme.keeps
        assert "schemes tried keeps them, the nearest, " in scheme.verdict
        assert "change the activation" in scheme.verdict


@pytest.mark.heavy
def test_a_change_at_one_layer_is_told_there():
    model = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(32, 32, bias=False), nn.Tanh())], nn.Linear(32, 4))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight)
        model[6].weight.mul_(1e-3)
    probe = initbench.probe(model, as_is=True, inputs=0.01 * torch.randn(64, 32))
    assert "x at 6 alone" in probe.verdicts[0] or "x at 4 alone" in probe.verdicts[0]


class Written(nn.Module):
    """As those of Hugging Face are written: tables by name, a parameter for places, a tied head."""

    def __init__(self):
        super().__init__()
        self.word_embeddings = nn.Embedding(20, 8)
        self.position_embeddings = nn.Parameter(0.5 * torch.randn(1, 6, 8))
        self.scale = nn.Parameter(torch.ones(3, 8))
        self.dense = nn.Linear(8, 8)

    def forward(self, ids):
        hidden = self.word_embeddings(ids) + self.position_embeddings
        return (hidden + torch.tanh(self.dense(hidden)) * self.scale.mean(0)) @ self.word_embeddings.weight.T


IDS = torch.randint(0, 20, (16, 6), generator=torch.Generator().manual_seed(3))


class TwoSides(nn.Module):
    """An encoder and a decoder of modules of their own, on one table."""

    def __init__(self):
        super().__init__()
        self.shared, self.enter, self.leave = nn.Embedding(20, 8), nn.Embedding(20, 8), nn.Embedding(20, 8)
        self.enter.weight = self.leave.weight = self.shared.weight
        self.hidden, self.head = nn.Linear(8, 8), nn.Linear(8, 20)

    def forward(self, ids):
        return self.head(torch.tanh(self.hidden(self.enter(ids) + self.leave(ids))))


def test_an_embedding_whose_weight_is_computed_is_told_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 20))
    nn.utils.parametrizations.weight_norm(model[0])
    (scheme,) = initbench.probe(model, as_is=True, inputs=IDS).schemes
    assert [(each.module, each.rows, each.width) for each in scheme.embeddings] == [("0", 20, 8)]


def test_embeddings_that_share_a_table_have_lines_by_the_modules_that_look_it_up():
    torch.manual_seed(0)
    (scheme,) = initbench.probe(TwoSides(), as_is=True, inputs=IDS).schemes
    assert [each.module for each in scheme.embeddings] == ["enter", "leave"]


def test_embeddings_have_lines_of_their_own():
    torch.manual_seed(0)
    model = Written()
    probe = initbench.probe(model, ["kaiming"], inputs=IDS)
    table = probe.to_pandas("embeddings").set_index("module")
    assert table.index.tolist() == ["position_embeddings", "word_embeddings"]
    assert table.variance["word_embeddings"] == pytest.approx(model.word_embeddings(IDS).var(correction=0).item(), rel=1e-5)
    (plot,) = (each for each in plots(probe.schemes) if each.name == "signal")
    (panel,) = (each for each in plot.panels if each.title == "embeddings")
    assert panel.ticks == ((1.0, "position"), (2.0, "word"))
    assert [y for _, y in panel.lines[0].points] == pytest.approx(table.variance.tolist(), rel=1e-6)
    assert table.variance["position_embeddings"] == pytest.approx(model.position_embeddings.var(correction=0).item(), rel=1e-5)
    assert table.rows.tolist() == [6, 20]
    deviation = model.word_embeddings(IDS).std(correction=0).item()
    assert f"{deviation:.2g} (word_embeddings)" in probe.verdicts[0]
    assert "dense" in probe.to_pandas().layer.tolist()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("model", "asked", "names"),
    [
        ("gpt:depth=1,width=16", {"dataset": "text274k"}, 2),
        ("vit:depth=1,width=16", {"dataset": "synthetic:n=64,test=16,shape=[1,8,8]"}, 1),
        ("mlp:depth=2,width=16", {"dataset": "synthetic:n=64,test=16,shape=[1,8,8]"}, 0),
    ],
)
def test_the_embeddings_of_shipped_transformers_and_their_heads_are_told(model, asked, names, tmp_path):
    probe = initbench.probe(model, ["kaiming"], seeds=2, output=str(tmp_path / "out"), **asked)
    (scheme,) = probe.schemes
    assert len(scheme.embeddings) == names, scheme.embeddings
    assert ("embeddings give numbers" in probe.verdicts[0]) is bool(names)
    assert (tmp_path / "out" / "tables" / "embeddings.csv").is_file() is bool(names)
    assert any(layer.place is Place.HEAD for layer in scheme.layers)
    assert ("rows x width" in (tmp_path / "out" / "report.html").read_text()) is bool(names)

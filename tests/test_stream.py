"""What a probe says: three states of a measurement, the residual stream by plain hooks, networks known as healthy or as broken."""

import json
import math

import pytest
import torch
from simulated_runs import make_run
from torch import nn
from torch.nn import functional as F

import initbench
from initbench.fast.tape import Tape
from initbench.measure.probes import COLUMNS, ProbeAtStep, measure, to_stats
from initbench.nn.layers import weight_layers
from initbench.probing.tables import layer_table, layers_csv
from initbench.probing.verdicts import assess
from initbench.results.probe_run import ProbedLayer, ProbeRun
from initbench.results.propagation import ENDS, LOST_DECADES, layer_value, signal_at_start, signal_through
from initbench.results.record import LayerStats, RunStatus


class Block(nn.Module):
    """A pre-norm transformer block with separate projections."""

    def __init__(self, d=32, scale=None):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.gamma = nn.Parameter(torch.full((2, d), scale)) if scale is not None else None

    def forward(self, x, kept=None):
        for number, branch in enumerate((self.attend, self.think)):
            y = branch(x)
            x = x + (y if self.gamma is None else self.gamma[number] * y)
            if kept is not None:
                x.retain_grad()
                kept.append(x)
        return x

    def attend(self, x):
        y = self.n1(x)
        return self.o(F.scaled_dot_product_attention(self.q(y), self.k(y), self.v(y)))

    def think(self, x):
        return self.down(F.gelu(self.up(self.n2(x))))


class Transformer(nn.Module):
    def __init__(self, depth, std=None, scale=None, d=32):
        super().__init__()
        self.blocks = nn.ModuleList(Block(d, scale) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 7)
        for module in self.modules():
            if isinstance(module, nn.Linear) and std is not None:
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)

    def forward(self, x, kept=None):
        for block in self.blocks:
            x = block(x, kept)
        return self.head(self.norm(x).mean(1))


class Residual(nn.Module):
    """x + gain W relu(x), without norms: at gain 1 and He's weights the variance doubles at each block."""

    def __init__(self, depth, d=64, gain=1.0, skip=1.0, inplace=False):
        super().__init__()
        self.stem, self.layers = nn.Linear(16, d), nn.ModuleList(nn.Linear(d, d, bias=False) for _ in range(depth))
        self.head, self.skip, self.inplace = nn.Linear(d, 7), skip, inplace
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=gain * math.sqrt(2 / d))

    def forward(self, x, kept=None):
        x = self.stem(x)
        for layer in self.layers:
            if self.inplace:
                y = layer(torch.relu(x))
                y += x
                x = y
            else:
                x = self.skip * x + layer(torch.relu(x))
            if kept is not None:
                x.retain_grad()
                kept.append(x)
        return self.head(x)


class Scalars(nn.Module):
    """ReZero: x + alpha relu(W x), alpha 0 at first."""

    def __init__(self, depth=12, d=32):
        super().__init__()
        self.stem, self.layers = nn.Linear(16, d), nn.ModuleList(nn.Linear(d, d) for _ in range(depth))
        self.alpha, self.head = nn.Parameter(torch.zeros(depth)), nn.Linear(d, 7)

    def forward(self, x):
        x = self.stem(x)
        for alpha, layer in zip(self.alpha, self.layers, strict=True):
            x = x + alpha * torch.relu(layer(x))
        return self.head(x)


class Convolutions(nn.Module):
    """A residual network of He et al. 2016: stem, stages with projections, batch norms."""

    def __init__(self, blocks=6):
        super().__init__()
        widths = [16 * 2 ** (index // 3) for index in range(blocks)]
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        before = [16, *widths[:-1]]
        self.a = nn.ModuleList(nn.Conv2d(i, o, 3, 1 + (i != o), 1, bias=False) for i, o in zip(before, widths, strict=True))
        self.b = nn.ModuleList(nn.Conv2d(o, o, 3, 1, 1, bias=False) for o in widths)
        self.c = nn.ModuleList(nn.Conv2d(i, o, 1, 2, bias=False) if i != o else nn.Identity() for i, o in zip(before, widths, strict=True))
        self.norms = nn.ModuleList(nn.ModuleList((nn.BatchNorm2d(o), nn.BatchNorm2d(o))) for o in widths)
        self.head = nn.Linear(widths[-1], 7)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        for a, b, c, (first, second) in zip(self.a, self.b, self.c, self.norms, strict=True):
            x = torch.relu(c(x) + second(b(torch.relu(first(a(x))))))
        return self.head(x.mean((2, 3)))


def stats_of(model, x, y=None, tape=None):
    layers = weight_layers(model, x)
    return to_stats(layers, [ProbeAtStep(0, measure(model, layers, x, y, tape))])


@pytest.mark.parametrize(
    ("build", "shape"),
    [(lambda: Transformer(3), (5, 32)), (lambda: Residual(4), (16,)), (lambda: Residual(4, inplace=True), (16,))],
)
def test_the_stream_behind_each_block_equals_its_naive_twin(build, shape):
    torch.manual_seed(0)
    model, x, y = build().double(), torch.randn(9, *shape, dtype=torch.float64), torch.randint(0, 7, (9,))
    kept = []
    F.cross_entropy(model(x, kept), y, reduction="sum").backward()
    tape = Tape()
    for _ in range(2):  # the second time by the tape
        ends = [entry for entry in stats_of(model, x, y, tape) if entry.place in ENDS]
        assert [entry.stream_variance for entry in ends] == pytest.approx([each.var(correction=0).item() for each in kept], rel=1e-9)
        expected = [each.grad.var(correction=0).item() for each in kept]
        assert [entry.stream_gradient_variance for entry in ends] == pytest.approx(expected, rel=1e-9)
        assert {entry.stream_size for entry in ends} == {kept[0][0].numel()}


def test_only_ends_of_branches_have_a_stream_and_every_layer_knows_its_place():
    torch.manual_seed(0)
    found = {entry.layer: entry for entry in stats_of(Convolutions(), torch.randn(8, 3, 16, 16), torch.randint(0, 7, (8,)))}
    places = {name: str(entry.place) for name, entry in found.items()}
    assert places["stem"] == "aside"  # a norm follows
    assert (places["a.0"], places["b.0"], places["c.3"], places["head"]) == ("branch", "normed branch end", "shortcut", "head")
    assert {name for name, entry in found.items() if entry.stream_variance is not None} == {f"b.{index}" for index in range(6)}


SEQUENCE, VECTOR, IMAGE = (16, 8, 32), (128, 16), (16, 3, 16, 16)


def said_of(model, shape, **more):
    return initbench.probe(model, as_is=True, inputs=torch.randn(shape, generator=torch.Generator().manual_seed(1)), **more)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: Transformer(2, std=0.02), SEQUENCE),
        (lambda: Transformer(12, std=0.02), SEQUENCE),
        (lambda: Transformer(12), SEQUENCE),
        (lambda: Transformer(12, scale=1e-6), SEQUENCE),
        (lambda: Transformer(6, scale=0.0), SEQUENCE),
        (Scalars, VECTOR),
        (lambda: Residual(50, gain=0.05), VECTOR),
        (Convolutions, IMAGE),
        (lambda: nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True), 6)), SEQUENCE),
    ],
)
def test_a_healthy_residual_network_is_called_healthy(build, shape):
    torch.manual_seed(0)
    found = said_of(build(), shape)
    assert found.schemes[0].keeps
    assert str(found).startswith("as it is: keeps the signal")
    assert not any(word in str(found) for word in ("a layer", "overflow", "lost", "shrink", "million"))


class Root(nn.Module):
    """A norm as people write it."""

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Behind(nn.Module):
    """norm(x + branch(x)), on a signal that is small when it enters."""

    def __init__(self, norm, depth=5, d=32):
        super().__init__()
        self.enter, self.head = nn.Linear(d, d), nn.Linear(d, 7)
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)) for _ in range(depth))
        self.norms = nn.ModuleList(norm() for _ in self.branches)

    def forward(self, x):
        x = 0.02 * self.enter(x)
        for branch, norm in zip(self.branches, self.norms, strict=True):
            x = norm(x + branch(x))
        return self.head(x)


@pytest.mark.parametrize("norm", [lambda: nn.LayerNorm(32), Root], ids=["module", "own"])
def test_the_way_of_a_post_norm_stack_begins_behind_its_first_norm(norm):
    torch.manual_seed(0)
    (found,) = said_of(Behind(norm), (*VECTOR[:1], 32)).schemes
    assert [point.layer for point in found.forward] == [f"branches.{number}.2" for number in range(1, 5)]
    assert found.keeps
    assert next(point.layer for point in said_of(Transformer(2), SEQUENCE).schemes[0].forward) == "blocks.0.o"


@pytest.mark.heavy
@pytest.mark.parametrize("depth", [6, 20, 50])
def test_a_stream_that_doubles_is_broken_at_its_pace_a_block(depth):
    torch.manual_seed(0)
    model, x, kept = Residual(depth, d=256), torch.randn(128, 16, generator=torch.Generator().manual_seed(1)), []
    model(x, kept)
    twin = (kept[-1].var() / kept[0].var()).item() ** (1 / (depth - 1))
    found = initbench.probe(model, as_is=True, inputs=x)
    scheme = found.schemes[0]
    assert not scheme.keeps
    assert f"grow {twin:.{1 if twin >= 1.95 else 2}f}x a block" in str(found)
    assert 1.8 < twin < 2.2


@pytest.mark.heavy
def test_a_stream_that_is_shut_is_broken_too():
    torch.manual_seed(0)
    assert "shrink" in str(said_of(Residual(30, gain=0.1, skip=0.5), VECTOR))
    assert "a block" in str(said_of(Residual(30, gain=0.1, skip=0.5), VECTOR))
    over = Residual(6, gain=1e12)
    assert "overflow" in str(said_of(over, VECTOR))


@pytest.mark.heavy
def test_a_plain_chain_is_told_by_the_layer_as_ever():
    torch.manual_seed(0)
    chain = nn.Sequential(*(part for _ in range(20) for part in (nn.Linear(16, 16), nn.Tanh())), nn.Linear(16, 7))
    assert "x a layer: after" in str(said_of(chain, VECTOR))


class Recurrent(nn.Module):
    def __init__(self, kind, **more):
        super().__init__()
        self.rnn, self.mid, self.out = kind(16, 24, batch_first=True, **more), nn.Linear(24, 24), nn.Linear(24, 7)

    def forward(self, x):
        return self.out(torch.relu(self.mid(self.rnn(x)[0][:, -1])))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("layers", [1, 2])
def test_what_is_hidden_in_a_recurrent_module_is_not_measured_and_no_overflow(kind, layers):
    torch.manual_seed(0)
    found = initbench.probe(Recurrent(kind, num_layers=layers), ["kaiming", "xavier"], inputs=torch.randn(32, 5, 16))
    assert found.best is not None
    assert "overflow" not in str(found)
    assert "not measured: rnn.weight_ih_l0" in str(found)
    first = found.runs[0].layers[0]
    assert (first.value("gradient_variance"), first.overflowed, first.not_measured) == (None, (), "hidden inside a recurrent module")
    assert "overflow" not in str(layer_table(found.schemes[0]).rows)


def test_a_recurrent_network_that_overflows_is_said_to():
    torch.manual_seed(0)
    model = Recurrent(nn.RNN, nonlinearity="relu", num_layers=2)
    with torch.no_grad():
        for parameter in model.rnn.parameters():
            parameter.mul_(1e12)
    assert "overflow" in str(said_of(model, (32, 5, 16)))


class Modes(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.head, self.side, self.mode = nn.Linear(24, 7), nn.Linear(24, 7), mode

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mode != "no_grad"):
            h = torch.relu(self.a(x))
        h = torch.relu(self.c(torch.relu(self.b(h))))
        return self.head(h)


@pytest.mark.parametrize(
    ("mode", "layer", "reason"),
    [("no_grad", "a", "gets no gradient"), ("unused", "side", "not met in the forward pass"), ("frozen", "a", "gets no gradient (frozen)")],
)
def test_why_a_layer_was_not_measured_is_said(mode, layer, reason):
    torch.manual_seed(0)
    model = Modes(mode)
    if mode == "frozen":
        model.a.requires_grad_(requires_grad=False)
    found = initbench.probe(model, ["kaiming"], inputs=torch.randn(64, 16))
    stats = next(entry for entry in found.runs[0].layers if entry.layer == layer)
    assert (stats.value("gradient_variance"), stats.not_measured) == (None, reason)
    assert found.best == "kaiming"
    assert f"{layer} ({reason})" in str(found)
    assert ("left as it was: a (frozen" in str(found)) == (mode == "frozen")


def test_the_three_states_survive_files():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 7))
    with torch.no_grad():
        model[2].weight.fill_(1e38)
    run = said_of(model, VECTOR).runs[0].model_copy(update={"laws": ()})
    again = ProbeRun.model_validate(json.loads(json.dumps(run.model_dump(mode="json"), allow_nan=False)))
    assert again == run
    values = [again.layers[index].value("activation_variance") for index in (0, 1)]
    assert values[0] < 10
    assert values[1] == math.inf
    header, first, second = (line.split(",") for line in layers_csv([run]).splitlines()[:3])
    assert first[header.index("overflowed")] != second[header.index("overflowed")]
    assert "activation_variance" in second[header.index("overflowed")]
    assert "activations overflow at 2" in str(assess([again])[0].verdict)


def test_a_layer_whose_tensor_is_not_finite_has_overflowed_and_one_without_a_gradient_has_not():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(6, 4)
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    model[0].weight.requires_grad_(requires_grad=False)
    model[0].bias.requires_grad_(requires_grad=False)
    first, last = stats_of(model, x, torch.zeros(6, dtype=torch.long))
    assert math.isinf(first.value("pre_activation_variance"))
    assert first.value("gradient_variance") is None
    assert math.isinf(last.value("gradient_variance"))
    assert "gradient_variance" not in first.overflowed


def test_files_from_before_the_states_were_written_are_read_by_how_the_run_ended():
    old = LayerStats.model_validate_json('{"step":0,"layer":"a","position":0,"activation_variance":1.0,"gradient_variance":null}')
    trained, diverged = make_run("kaiming", 0), make_run("kaiming", 0, None)
    assert layer_value(trained, old, "gradient_variance") is None
    assert layer_value(diverged, old, "gradient_variance") == math.inf
    new = old.model_copy(update={"overflowed": ()})
    assert layer_value(diverged, new, "gradient_variance") is None
    assert layer_value(trained, old.model_copy(update={"overflowed": ("gradient_variance",)}), "gradient_variance") == math.inf


def chain_of(factor, layers=6):
    """Variances that shrink by a factor a layer, in both records of it."""
    each = [
        {"step": 0, "layer": f"l{index}", "position": index, "pre_activation_variance": 1.0, "activation_variance": factor**-index}
        | {"gradient_variance": 1.0, "overflowed": ()}
        for index in range(layers)
    ]
    run = ProbeRun(scheme="s", seed=0, status=RunStatus.COMPLETED, layers=tuple(ProbedLayer(**entry) for entry in each))
    return [LayerStats(**entry) for entry in each], run


@pytest.mark.parametrize("factor", [2.0, 5.0, 9.0, 11.0, 30.0, 1e3, 1 / 9, 1 / 11, 1e-3])
def test_compare_and_probe_lose_the_signal_by_one_rule_at_one_layer(factor):
    stats, run = chain_of(factor)
    compared, probed = signal_through(stats), assess([run])[0]
    assert (compared.loss is None) == (4 * abs(math.log10(factor)) <= LOST_DECADES)
    assert (compared.loss and compared.loss.layer) == probed.leaves_at
    assert (str(compared.loss) in probed.verdict) == (compared.loss is not None)


def test_a_run_of_compare_follows_the_stream_as_a_probe_does():
    torch.manual_seed(0)
    model, x = Transformer(8, std=0.02), torch.randn(16, 8, 32)
    run = make_run("kaiming", 0, layers=stats_of(model, x, torch.randint(0, 7, (16,))))
    found = signal_at_start(run)
    assert str(found) == "the signal passes from layer to layer"
    ends = [entry for entry in run.layers if entry.place in ENDS]
    assert found.activation_ratio == ends[-1].stream_variance / ends[0].stream_variance
    assert found.gradient_ratio == ends[0].stream_gradient_variance / ends[-1].stream_gradient_variance
    assert 0.1 < found.gradient_ratio < 10


def test_what_a_scheme_left_alone_is_said():
    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embeddings, self.mid, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 16), nn.Linear(16, 7)

        def forward(self, x):
            return self.head(torch.relu(self.mid(torch.relu(self.patch_embeddings(x).flatten(2).mean(2)))))

    found = initbench.probe(Vision(), ["kaiming"], inputs=torch.randn(16, 3, 8, 8))
    assert found.runs[0].left_alone == {"patch_embeddings": "excluded by 'embedding'"}
    assert "left as it was: patch_embeddings (excluded by 'embedding')" in str(found)
    assert "left as it was" not in str(said_of(Vision(), (16, 3, 8, 8)))


def test_a_model_of_which_nothing_is_seen_is_not_called_healthy():
    inner = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 7))
    found = said_of(torch.jit.trace(inner, torch.randn(4, 16)), VECTOR)
    assert found.best is None
    assert "cannot be told" in str(found)


def test_columns_that_no_layer_has_are_nan_and_no_overflow():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(6, 4)
    values = measure(model, weight_layers(model, x), x, torch.zeros(6, dtype=torch.long))
    assert values[:, COLUMNS.index("stream_variance")].isnan().all()
    assert all(entry.overflowed == () for entry in stats_of(model, x, torch.zeros(6, dtype=torch.long)))


class Biased(nn.Module):
    """A branch whose bias is made by a network of its own from a table, and that ends in a norm, at zero where asked (Swin V2)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(32, 64), nn.Linear(64, 32), nn.LayerNorm(32)
        self.make, self.bias = nn.Linear(2, 16), nn.Linear(16, 64)
        self.register_buffer("table", torch.tensor([[0.3, -0.7]]))
        nn.init.constant_(self.norm.weight, start)

    def forward(self, x):
        return x + self.norm(self.down(torch.relu(self.up(x) + self.bias(torch.relu(self.make(self.table))))))


def biased(start: float) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), *[Biased(start) for _ in range(4)], nn.Linear(32, 5))


def test_a_network_that_feeds_a_branch_that_begins_at_zero_is_no_way_of_the_gradient():
    said = str(initbench.probe(biased(0.0), as_is=True, inputs=torch.randn(64, 8)))
    assert "keeps the signal" in said
    assert "are zero" not in said


def test_a_stem_without_a_signal_is_still_said():
    model = biased(1.0)
    with torch.no_grad():
        model[0].weight.zero_()
    assert "from 0 on the network cannot tell inputs apart" in str(initbench.probe(model, as_is=True, inputs=torch.randn(64, 8)))

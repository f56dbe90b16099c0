"""Other people's code: ids that are prepared, products of all kinds, stacked weights, learned queries, complex numbers, vmap."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initbench
from initbench.errors import ConfigError
from initbench.measure.probes import COLUMNS, measure
from initbench.nn.layers import Role, explain


def run(forward, **parts):
    """A module with these parts whose forward is a function of (self, x)."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

    Net.forward = forward
    return Net()


def raw(*shape):
    return nn.Parameter(torch.randn(*shape) / 8)


def fans(layer):
    return layer.fan_in, layer.fan_out


def found(model, x):
    return {layer.name: layer for layer in explain(model, x).layers}


def hooked(model, x, names):
    """Population variances of modules' outputs, by forward hooks."""
    seen, handles = {}, []
    for name in names:

        def note(_, __, out, name=name):
            seen.setdefault(name, out.detach().double().var(correction=0).item())

        handles.append(model.get_submodule(name).register_forward_hook(note))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def measured(model, x, column="pre_activation_variance"):
    layers = explain(model, x).layers
    return dict(zip([layer.name for layer in layers], measure(model, layers, x, None)[:, COLUMNS.index(column)].tolist(), strict=True))


class Conv1D(nn.Module):
    """As in the GPT-2 that most people load: stored (in, out)."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight, self.bias = raw(inputs, outputs), nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


class GPTBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.c_attn, self.c_proj, self.c_fc, self.out = Conv1D(3 * d, d), Conv1D(d, d), Conv1D(4 * d, d), Conv1D(d, 4 * d)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).split(x.shape[-1], dim=2))
        weights = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        allowed = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        mixed = weights.masked_fill(~allowed, float("-inf")).softmax(-1) @ v
        x = x + self.c_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


PREPARED = {
    "viewed": lambda ids: ids.view(-1, ids.shape[-1]),
    "sliced": lambda ids: ids[:, :-1],
    "cast": lambda ids: ids.to(torch.int32),
    "clamped": lambda ids: ids.clamp(0, 40),
    "all": lambda ids: ids[:, 1:].long().reshape(-1, ids.shape[1] - 1).clamp_max(40).contiguous(),
}


@pytest.mark.parametrize("how", PREPARED)
def test_ids_that_are_prepared_before_the_embedding_descend_from_the_input(how):
    d = 16

    def forward(self, ids):
        ids = PREPARED[how](ids)
        padded = (ids == 0)[..., None].float()
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1])) - padded
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)

    model = run(
        forward, wte=nn.Embedding(50, d), wpe=nn.Embedding(12, d), h=nn.ModuleList([GPTBlock(d), GPTBlock(d)]), ln_f=nn.LayerNorm(d)
    )
    ids = torch.randint(0, 50, (4, 12))
    explained = explain(model, ids)
    assert explained.notes == ()
    layers = {layer.name: layer for layer in explained.layers}
    assert {name: fans(layers[f"h.0.{name}"]) for name in ("c_attn", "c_proj", "c_fc", "out")} == {
        "c_attn": (d, 3 * d), "c_proj": (d, d), "c_fc": (d, 4 * d), "out": (4 * d, d),
    }  # fmt: skip
    assert [(layer.role, layer.block) for layer in explained.layers[:8]] == [
        (role, block) for block in range(4) for role in (Role.BRANCH, Role.BRANCH_END)
    ]
    report = initbench.init_network(model, "lecun", exclude=(), inputs=ids)
    stds = {entry.parameter: entry.target_std for entry in report.parameters}
    assert stds["h.1.c_attn.weight"] == pytest.approx(d**-0.5)
    assert stds["h.1.out.weight"] == pytest.approx((4 * d) ** -0.5)
    assert measured(model, ids)["h.1.c_fc"] == pytest.approx(hooked(model, ids, ["h.1.c_fc"])["h.1.c_fc"], rel=1e-4)


def test_an_index_beside_a_signal_is_no_source_of_it():
    def forward(self, x):
        chosen = self.router(x).argmax(-1)
        return self.head(torch.relu(self.body(x[chosen % len(x)])))

    layers = found(run(forward, router=nn.Linear(6, 3), body=nn.Linear(6, 6), head=nn.Linear(6, 2)), torch.randn(5, 6))
    assert layers["body"].surroundings.sources == ()
    assert layers["head"].surroundings.sources == ("body",)


def _multi_dot(self, x):
    return torch.linalg.multi_dot([x, self.a, self.b])


def _chain(self, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.chain_matmul(x, self.a, self.b)


PRODUCTS = {
    "tensordot": (lambda self, x: torch.tensordot(x, self.a, dims=([1], [0])), {"a": (16, 24)}, {"a": (16, 24, True)}),
    "tensordot of one number": (lambda self, x: torch.tensordot(x, self.a, 1), {"a": (16, 24)}, {"a": (16, 24, True)}),
    "tensordot with the weight first": (lambda self, x: torch.tensordot(self.a, x.T, 1).T, {"a": (24, 16)}, {"a": (16, 24, False)}),
    "multi_dot": (_multi_dot, {"a": (16, 4), "b": (4, 24)}, {"a": (16, 4, True), "b": (4, 24, True)}),
    "chain_matmul": (_chain, {"a": (16, 4), "b": (4, 24)}, {"a": (16, 4, True), "b": (4, 24, True)}),
    "einsum of three": (
        lambda self, x: torch.einsum("bi,ri,ro->bo", x, self.a, self.b),
        {"a": (4, 16), "b": (4, 24)},
        {"a": (16, 4, False), "b": (4, 24, True)},
    ),
    "sum of products": (lambda self, x: (x[..., None] * self.a).sum(-2), {"a": (16, 24)}, {"a": (16, 24, True)}),
    "sum of products, turned": (
        lambda self, x: torch.sum(torch.mul(self.a, x.unsqueeze(1)), dim=2),
        {"a": (24, 16)},
        {"a": (16, 24, False)},
    ),
    "matrix times vectors": (lambda self, x: torch.stack([torch.mv(self.a, row) for row in x]), {"a": (24, 16)}, {"a": (16, 24, False)}),
}
"""What is done, shapes of the parameters, and (fan_in, fan_out, transposed) of each."""


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_all_kinds_are_layers(name):
    forward, shapes, expected = PRODUCTS[name]
    model = run(
        lambda self, x: self.head(torch.relu(forward(self, x))),
        head=nn.Linear(24, 5),
        **{key: raw(*shape) for key, shape in shapes.items()},
    )
    x = torch.randn(32, 16)
    layers = found(model, x)
    assert {key: (layers[key].fan_in, layers[key].fan_out, layers[key].transposed) for key in expected} == expected
    last = list(expected)[-1]
    assert layers[last].activation == "relu"
    if name != "matrix times vectors":
        with torch.no_grad():
            variance = forward(model, x).double().var(correction=0).item()
        assert measured(model, x)[last] == pytest.approx(variance, rel=1e-4)


NO_SUM = {
    "einsum": lambda self, x: torch.einsum("bd,dn->bdn", x, -torch.exp(self.a)),
    "product": lambda self, x: x[..., None] * self.a,
    "sum over another axis": lambda self, x: (x[:, None, :, None] * self.a).sum(1),
    "tensordot": lambda self, x: torch.tensordot(x.mean(1), self.a, 0),
}


@pytest.mark.parametrize("name", NO_SUM)
def test_a_product_that_sums_over_nothing_of_a_parameter_is_no_layer(name):
    states = nn.Parameter(torch.log(torch.arange(1.0, 5.0)).repeat(8, 1))
    model = run(
        lambda self, x: self.head(NO_SUM[name](self, self.enter(x)).mean(-1)), enter=nn.Linear(6, 8), a=states, head=nn.Linear(8, 2)
    )
    before, x = states.detach().clone(), torch.randn(3, 6)
    assert list(found(model, x)) == ["enter", "head"]
    report = initbench.init_network(model, "kaiming", inputs=x)
    assert torch.equal(states, before)
    assert report.untouched == ("a",)


def test_what_cannot_be_told_of_a_product_is_said():
    model = run(lambda self, x: self.head(torch.einsum("bi,...io->b...o", x, self.a).sum(1)), a=raw(3, 6, 8), head=nn.Linear(8, 2))
    assert "How 'a' (3 x 6 x 8) is stored cannot be told from einsum." in explain(model, torch.randn(4, 6)).notes


def orthogonal_slices(weight):
    """The largest deviation of the smaller Gram matrix of any (out, in) slice from the identity."""
    worst = 0.0
    for matrix in weight.detach().flatten(0, -3):
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        worst = max(worst, (tall.T @ tall - torch.eye(tall.shape[1])).abs().max().item())
    return worst


STACKS = {
    "loop": ((4, 8, 16), lambda self, x: sum(F.linear(x, self.a[e]) for e in range(4)), (0, 1, 2)),
    "unbound": ((4, 8, 16), lambda self, x: sum(F.linear(x, w) for w in self.a.unbind(0)), (0, 1, 2)),
    "chosen by a router": (
        (4, 8, 16),
        lambda self, x: sum(F.linear(x, self.a[e[0]]) for e in self.route(x).argmax(-1).unique()[:, None]),
        (0, 1, 2),
    ),
    "gathered a token": ((4, 8, 16), lambda self, x: torch.bmm(self.a[self.route(x).argmax(-1)], x[..., None])[..., 0], (0, 1, 2)),
    "bmm": ((4, 8, 16), lambda self, x: torch.bmm(x.expand(4, -1, -1), self.a.transpose(1, 2)).sum(0), (0, 1, 2)),
    "stored (in, out)": ((4, 16, 8), lambda self, x: (x @ self.a).sum(0), (0, 2, 1)),
    "experts last": ((8, 16, 4), lambda self, x: (x @ self.a.permute(2, 1, 0)).sum(0), (2, 0, 1)),
    "einsum": ((4, 8, 16), lambda self, x: torch.einsum("nd,ehd->neh", x, self.a).sum(1), (0, 1, 2)),
    "two axes": ((2, 2, 16, 8), lambda self, x: (x @ self.a).sum((0, 1)), (0, 1, 3, 2)),
}
"""Stored shape, what is done, and the order of axes that makes it (..., out, in)."""


@pytest.mark.parametrize("name", STACKS)
def test_each_of_many_stacked_matrices_is_a_matrix_of_its_own(name):
    shape, forward, order = STACKS[name]
    model = run(lambda self, x: self.head(torch.relu(forward(self, x))), a=raw(*shape), route=nn.Linear(16, 4), head=nn.Linear(8, 3))
    x = torch.randn(32, 16)
    layer = found(model, x)["a"]
    assert (fans(layer), layer.stacked, sorted(layer.shape)) == ((16, 8), 4, [8, 16])
    initbench.init_network(model, "orthogonal", inputs=x)
    assert orthogonal_slices(model.a.permute(order)) < 1e-5
    one = nn.Linear(16, 8)
    for scheme in ("kaiming", "xavier", "delta_orthogonal", "torch_default"):
        stds = [
            next(entry.target_std for entry in initbench.init_network(net, scheme, inputs=x).parameters if entry.parameter == parameter)
            for net, parameter in ((model, "a"), (nn.Sequential(one, nn.ReLU(), nn.Linear(8, 3)), "0.weight"))
        ]
        assert stds[0] == pytest.approx(stds[1])
    assert len({matrix.sum().item() for matrix in model.a.permute(order).detach().flatten(0, -3)}) == 4


def test_heads_are_matrices_of_their_own_and_their_outputs_are_summed_over():
    def forward(self, x):
        heads = torch.einsum("btd,hdk->bthk", x, self.q)
        return self.head(torch.relu(torch.einsum("bthk,hkd->btd", heads, self.o)).mean(1))

    model, x = run(forward, q=raw(4, 16, 4), o=raw(4, 4, 16), head=nn.Linear(16, 3)), torch.randn(5, 6, 16)
    layers = found(model, x)
    assert (fans(layers["q"]), layers["q"].stacked) == ((16, 4), 4)
    assert (fans(layers["o"]), layers["o"].stacked) == ((16, 16), 1)
    initbench.init_network(model, "orthogonal", inputs=x)
    assert orthogonal_slices(model.q) < 1e-5
    whole = model.o.detach().flatten(0, 1)
    assert torch.allclose(whole @ whole.T, torch.eye(16), atol=1e-5)


def test_stacked_kernels_are_kernels():
    model = run(
        lambda self, x: self.head(sum(F.conv2d(x, w, padding=1) for w in self.a).relu().mean((2, 3))),
        a=raw(2, 8, 3, 3, 3),
        head=nn.Linear(8, 2),
    )
    layer = found(model, torch.randn(2, 3, 5, 5))["a"]
    assert (fans(layer), layer.shape, layer.stacked) == ((27, 72), (8, 3, 3, 3), 2)
    initbench.init_network(model, "orthogonal", inputs=torch.randn(2, 3, 5, 5))
    assert orthogonal_slices(model.a.flatten(2)) < 1e-5


def test_a_packed_raw_weight_has_parts():
    for forward, shape in (
        (lambda self, x: self.head(sum(F.linear(x, w) for w in self.a.chunk(3))), (24, 8)),
        (lambda self, x: self.head(sum(x @ w for w in self.a.split(8, dim=1))), (8, 24)),
    ):
        model, x = run(forward, a=raw(*shape), head=nn.Linear(8, 2)), torch.randn(4, 8)
        layer = found(model, x)["a"]
        assert (fans(layer), layer.parts) == ((8, 8), 3)
        initbench.init_network(model, "orthogonal", inputs=x)
        packed = model.a.detach() if shape[0] == 24 else model.a.detach().T
        assert orthogonal_slices(packed.reshape(3, 8, 8)) < 1e-5
        assert "'a' is used in 3 pieces" in " ".join(explain(model, x).notes)


class Detector(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.enter, self.queries = nn.Linear(8, d), nn.Embedding(6, d)
        self.transformer = nn.Transformer(d, 2, 1, 1, 32, dropout=0.0, batch_first=True)
        self.on_queries, self.head = nn.Linear(d, d), nn.Linear(d, 3)

    def forward(self, x):
        asked = self.on_queries(self.queries.weight).relu().expand(len(x), -1, -1)
        return self.head(self.transformer(self.enter(x), asked)).mean(1)


class SetTransformer(nn.Module):
    """Pooling by attention of learned seeds."""

    def __init__(self, d=16):
        super().__init__()
        self.seeds, self.enter = nn.Parameter(torch.randn(1, 4, d)), nn.Linear(8, d)
        self.q, self.k, self.v, self.o, self.head = (nn.Linear(d, d) for _ in range(5))

    def forward(self, x):
        x = self.enter(x)
        q, k, v = self.q(self.seeds.repeat(len(x), 1, 1)), self.k(x), self.v(x)
        y = q + (q @ k.mT / 4).softmax(-1) @ v
        return self.head(y + F.relu(self.o(y))).mean(1)


class Perceiver(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.latents, self.norm, self.enter = nn.Parameter(torch.randn(4, d)), nn.LayerNorm(d), nn.Linear(8, d)
        self.q, self.k, self.v, self.o, self.up, self.down, self.head = (nn.Linear(d, d) for _ in range(7))

    def forward(self, x):
        x, latents = self.enter(x), self.latents.expand(len(x), -1, -1)
        latents = latents + self.o((self.q(self.norm(latents)) @ self.k(x).mT / 4).softmax(-1) @ self.v(x))
        latents = latents + self.down(F.gelu(self.up(latents)))
        return self.head(latents.mean(1))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [Detector, SetTransformer, Perceiver])
def test_layers_on_learned_queries_are_measured(kind):
    torch.manual_seed(0)
    model, x = kind(), torch.randn(8, 5, 8)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "transformer" not in name]
    seen, got = hooked(model, x, names), measured(model, x)
    assert {name: got[name] for name in names} == pytest.approx(seen, rel=1e-4)
    assert not any("cannot be followed" in note for note in explain(model, x).notes)
    assert "overflow" not in str(initbench.probe(model, as_is=True, inputs=x))


def test_a_branch_on_learned_latents_is_a_branch():
    layers = found(Perceiver(), torch.randn(8, 5, 8))
    assert [name for name, layer in layers.items() if layer.block == 0] == ["q", "k", "v", "o"]
    assert [name for name, layer in layers.items() if layer.role is Role.BRANCH_END] == ["o", "down"]
    assert layers["enter"].role is Role.STEM


def test_a_product_of_parameters_is_a_parameter():
    model = run(lambda self, x: F.linear(x, self.base + self.b @ self.a), base=raw(6, 8), a=raw(2, 8), b=raw(6, 2))
    explained = explain(model, torch.randn(3, 8))
    assert [layer.name for layer in explained.layers] == ["base"]
    assert "'base' is computed from 'base' in every pass" in explained.notes[0]


class Spectral(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.enter, self.leave = nn.Linear(1, d), nn.Linear(d, 1)
        self.modes = nn.Parameter(torch.randn(d, d, dtype=torch.cfloat) / d**0.5)

    def forward(self, x):
        self.z = torch.fft.rfft(self.enter(x), dim=1) @ self.modes
        return self.leave(torch.fft.irfft(self.z, n=x.shape[1], dim=1).relu())


def test_a_complex_signal_has_the_variance_of_its_distance_from_the_mean():
    model, x = Spectral(), torch.randn(16, 32, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = initbench.probe(model, as_is=True, inputs=x).runs[0].layers[1]
    model(x)
    z, w = model.z.detach().to(torch.cdouble), model.modes.detach().to(torch.cdouble)
    assert layer.pre_activation_variance == pytest.approx((z - z.mean()).abs().square().mean().item(), rel=1e-5)
    assert layer.pre_activation_mean == pytest.approx(z.mean().abs().item(), rel=1e-4)
    assert layer.weight_variance == pytest.approx((w - w.mean()).abs().square().mean().item(), rel=1e-5)
    assert layer.gradient_variance > 0
    assert layer.activation_q50 is None
    assert layer.prediction_note.startswith("no prediction")


def test_a_model_within_vmap_is_measured_like_the_same_model_outside():
    class PerSample(nn.Sequential):
        def forward(self, x):
            return torch.vmap(super().forward)(x)

    parts, x = [nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10)], torch.randn(64, 16)
    inside, outside = (initbench.probe(kind(*parts), as_is=True, inputs=x).runs[0].layers for kind in (PerSample, nn.Sequential))
    for within, plain in zip(inside, outside, strict=True):
        for name in COLUMNS:
            expected = getattr(plain, name)
            assert getattr(within, name) == (expected if expected is None else pytest.approx(expected, rel=1e-5, abs=1e-12))


def test_what_is_made_within_a_derivative_gives_one_sentence():
    inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(torch.func.grad(lambda y: self.inner(y).square().sum())(x))

    model = run(forward, inner=inner, head=nn.Linear(4, 2))
    layers = explain(model, torch.randn(3, 4)).layers
    with pytest.raises(ConfigError, match=r"'inner' is made within torch\.func\.grad"):
        measure(model, layers, torch.randn(3, 4), None)


def test_shared_weights_are_said_to_be_measured_at_their_first_use():
    encoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model = run(lambda self, x: self.head((self.encoder(x) - self.encoder(x.flip(1))).abs()), encoder=encoder, head=nn.Linear(8, 2))
    x = torch.randn(6, 8)
    assert explain(model, x).notes == (
        "'encoder.0', 'encoder.2' are used 2 times; place, activation and what is measured of the signal are those of the first.",
    )
    assert [layer.surroundings.uses for layer in explain(model, x).layers] == [2, 2, 1]
    answer = initbench.probe(model, as_is=True, inputs=x)
    assert answer.runs[0].notes == explain(model, x).notes
    assert hooked(model, x, ["encoder.2"])["encoder.2"] == pytest.approx(measured(model, x)["encoder.2"], rel=1e-5)


def test_a_cell_that_starts_from_zeros_is_measured_where_the_signal_reaches_it():
    def forward(self, x):
        state = torch.zeros(len(x), 8)
        for now in x.unbind(1):
            inner = self.recur(state)
            self.seen.append(inner.detach())
            state = torch.tanh(self.enter(now) + inner)
        return self.head(state)

    model, x = run(forward, enter=nn.Linear(4, 8), recur=nn.Linear(8, 8), head=nn.Linear(8, 2), seen=[]), torch.randn(16, 3, 4)
    explained = explain(model, x)
    assert not any("cannot be followed" in note for note in explained.notes)
    assert set(next(layer for layer in explained.layers if layer.name == "recur").surroundings.sources) == {"enter", "recur"}
    run_ = initbench.probe(model, as_is=True, inputs=x).runs[0]
    got = next(layer for layer in run_.layers if layer.layer == "recur")
    model.seen.clear()
    model(x)
    assert got.pre_activation_variance == pytest.approx(model.seen[1].double().var(correction=0).item(), rel=1e-5)
    assert got.gradient_variance > 0


def test_a_norm_written_out_is_no_activation():
    def norm(x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    model = run(lambda self, x: self.c(F.silu(self.b(norm(self.a(x))))), a=nn.Linear(6, 6), b=nn.Linear(6, 6), c=nn.Linear(6, 2))
    x = torch.randn(4, 6)
    assert [layer.activation for layer in explain(model, x).layers] == [None, "silu", None]
    assert measured(model, x, "activation_variance")["a"] == measured(model, x)["a"]


def test_a_guess_about_storage_is_said_in_the_report():
    model = nn.ParameterDict({"weight_a": raw(3, 9), "weight_b": raw(4, 4), "weight_c": raw(2, 3, 4)})
    report = initbench.init_network(model, "kaiming")
    assert report.notes == (
        "'weight_a' is taken to be stored (out, in); say init.in_out if it is (in, out), or give inputs.",
        "'weight_c' is taken for the kernel of a convolution (out, in, *kernel); give inputs, which show what is what.",
    )
    assert report.notes[0] in str(report)
    assert initbench.init_network(model, "kaiming", in_out="weight_[ac]").notes == ()
    assert initbench.init_network(nn.Linear(3, 9), "kaiming").notes == ()

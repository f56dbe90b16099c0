"""The frameworks' defaults: torch's own constructors, Keras's and jax's formulas written out once more."""

import math

import numpy as np
import pytest
import torch
from schemes_support import TINY_PROBABILITY, assert_law, init
from scipy import stats
from torch import nn

from initbench.init.initialize import initialize
from initbench.question.config import InitRules, parse_ref

ENOUGH = 20_000
"""Numbers of each parameter that are pooled: a scale that is 5 % off is then noticed."""

TORCH_MODULES = {
    "Linear": lambda: nn.Linear(60, 90),
    "Linear, narrowing": lambda: nn.Linear(200, 10),
    "Bilinear": lambda: nn.Bilinear(12, 20, 30),
    "Conv1d": lambda: nn.Conv1d(12, 20, 5),
    "Conv2d, grouped": lambda: nn.Conv2d(16, 32, 3, groups=4),
    "Conv2d, depthwise": lambda: nn.Conv2d(32, 64, 3, groups=32),
    "Conv3d": lambda: nn.Conv3d(4, 8, (1, 2, 3)),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(12, 20, 4, stride=2),
    "ConvTranspose2d, grouped": lambda: nn.ConvTranspose2d(16, 64, 3, groups=4),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(6, 4, 2),
    "RNN": lambda: nn.RNN(20, 30, num_layers=2, bidirectional=True),
    "LSTM, projected": lambda: nn.LSTM(20, 40, proj_size=12),
    "GRU": lambda: nn.GRU(20, 30),
    "RNNCell": lambda: nn.RNNCell(20, 30),
    "LSTMCell": lambda: nn.LSTMCell(20, 30),
    "GRUCell": lambda: nn.GRUCell(20, 30),
    "MultiheadAttention": lambda: nn.MultiheadAttention(32, 4),
    "MultiheadAttention, all options": lambda: nn.MultiheadAttention(32, 4, kdim=20, vdim=12, add_bias_kv=True),
    "Embedding, padded": lambda: nn.Embedding(40, 16, padding_idx=3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(40, 16, padding_idx=0),
    "PReLU": lambda: nn.PReLU(),
    "PReLU, made otherwise": lambda: nn.PReLU(8, init=0.1),
    "BatchNorm2d": lambda: nn.BatchNorm2d(8),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(8, affine=True),
    "GroupNorm": lambda: nn.GroupNorm(2, 8),
    "LayerNorm": lambda: nn.LayerNorm((3, 8)),
    "RMSNorm": lambda: nn.RMSNorm(8),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 100, [20, 60]),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(32, 4, 48),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(32, 4, 48),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48), 1, enable_nested_tensor=False),
    "Transformer": lambda: nn.Transformer(32, 4, 1, 1, 48, batch_first=True),
    "Transformer, of one's own stacks": lambda: nn.Transformer(32, 4, 1, 1, 48, custom_encoder=nn.Sequential(nn.Embedding(9, 32))),
}  # fmt: skip


def pooled(make, start, copies):
    """The values of each parameter, of so many copies together."""
    values = {}
    for seed in range(copies):
        torch.manual_seed(seed)
        model = make()
        start(model, seed)
        for name, parameter in model.named_parameters():
            values.setdefault(name, []).append(parameter.detach().flatten())
    return {name: torch.cat(parts).double().numpy() for name, parts in values.items()}


def torch_default(model, seed):
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)
    initialize(model, parse_ref("torch_default"), seed=seed, rules=InitRules(exclude=()))


def assert_same_law(mine, theirs, name):
    """The same constants, or by Kolmogorov and Smirnov and by their second moments the same distribution."""
    if len(set(theirs)) == 1 or len(set(mine)) == 1:
        assert set(mine) == set(theirs), name
        return
    assert stats.ks_2samp(mine, theirs).pvalue > TINY_PROBABILITY, name
    square, error = np.mean(theirs**2), np.std(theirs**2) / math.sqrt(len(theirs)) + np.std(mine**2) / math.sqrt(len(mine))
    assert abs(np.mean(mine**2) - square) < 5 * error, f"{name}: {np.mean(mine**2) / square:.3f} times the mean square"
    if abs(theirs).max() < 1.8 * math.sqrt(square):  # bounded: the ends tell more than the moments
        assert abs(mine).max() == pytest.approx(abs(theirs).max(), rel=0.02), name


@pytest.mark.heavy
@pytest.mark.parametrize("name", TORCH_MODULES)
def test_torch_default_is_what_the_constructor_does(name):
    make = TORCH_MODULES[name]
    smallest = min((parameter.numel() for parameter in make().parameters() if parameter.dim() > 1), default=ENOUGH)
    copies = min(150, -(-ENOUGH // smallest))
    mine, theirs = pooled(make, torch_default, copies), pooled(make, lambda *_: None, copies)
    assert mine.keys() == theirs.keys()
    for parameter in theirs:
        assert_same_law(mine[parameter], theirs[parameter], f"{name} {parameter}")


class Translator(nn.Module):
    """nn.Transformer as people use it, with embeddings and a head of their own."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.transformer = nn.Transformer(32, 4, 6, 6, 64, batch_first=True)
        self.out = nn.Linear(32, 50)

    def forward(self, x):
        x = self.table(x)
        return self.out(self.transformer(x, x))


def test_each_of_the_tensors_of_a_whole_transformer_is_as_torch_makes_it():
    torch.manual_seed(0)
    model = Translator()
    theirs = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert sum(name.startswith("transformer") for name in theirs) == 6 * 12 + 6 * 18 + 4
    initialize(model, parse_ref("torch_default"), seed=3, rules=InitRules(exclude=()))
    for name, parameter in model.named_parameters():
        mine, made = parameter.detach().double(), theirs[name].double()
        if made.unique().numel() == 1:
            assert torch.equal(mine, made), name
            continue
        bound = made.abs().max().item()
        if made.dim() > 1 and name.startswith("transformer"):
            bound = math.sqrt(6 / sum(made.shape))
            assert bound * (1 - 30 / made.numel()) < made.abs().max() <= bound  # torch's own
            assert bound * (1 - 30 / made.numel()) < mine.abs().max() <= bound, name
        elif name != "table.weight":
            assert mine.abs().max().item() == pytest.approx(bound, rel=0.25), name
        spread = 6 * 2 / math.sqrt(2 * made.numel())
        assert mine.std().item() == pytest.approx(made.std().item(), rel=spread), name


@pytest.mark.heavy
def test_the_law_of_a_transformer_holds_for_a_pattern_and_for_a_base_too():
    for scheme, rules in (("kaiming", {"layers": {"transformer.*": "torch_default"}}), ("skipinit:base=torch_default", {})):
        model = Translator()
        initialize(model, parse_ref(scheme), seed=0, inputs=torch.randint(0, 50, (2, 4)), rules=InitRules(exclude=(), **rules))
        weight = model.transformer.encoder.layers[2].linear1.weight
        assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / 96), rel=0.01), scheme


def test_a_lazy_module_is_as_its_constructor_once_it_has_a_shape():
    model = nn.Sequential(nn.LazyConv2d(32, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(64))
    model(torch.randn(2, 5, 10, 10))
    init(model, "torch_default")
    assert model[0].weight.abs().max().item() == pytest.approx(1 / math.sqrt(45), rel=0.01)
    assert model[3].weight.abs().max().item() == pytest.approx(1 / math.sqrt(32 * 64), rel=0.01)


def keras_fans(shape):
    """Keras's compute_fans, of a kernel (*field, in, out)."""
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


KERAS = {
    "Dense": (nn.Linear(100, 300), (100, 300)),
    "Conv2D": (nn.Conv2d(32, 64, 3), (3, 3, 32, 64)),
    "Conv2D, groups": (nn.Conv2d(64, 128, 3, groups=4), (3, 3, 16, 128)),
    "DepthwiseConv2D": (nn.Conv2d(1024, 1024, 3, groups=1024), (3, 3, 1024, 1)),
    "DepthwiseConv2D, multiplier 2": (nn.Conv2d(512, 1024, 3, groups=512), (3, 3, 512, 2)),
    "DepthwiseConv1D, multiplier 3": (nn.Conv1d(1000, 3000, 5, groups=1000), (5, 1000, 3)),
    "Conv2DTranspose": (nn.ConvTranspose2d(64, 16, 4, stride=2), (4, 4, 16, 64)),
    "pointwise of SeparableConv2D": (nn.Conv2d(64, 200, 1), (1, 1, 64, 200)),
    "one channel": (nn.Conv2d(1, 1024, 3), (3, 3, 1, 1024)),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_default_is_glorot_uniform_on_keras_own_shape(name):
    module, shape = KERAS[name]
    init(module, "keras_default")
    assert_law(module.weight, "uniform", math.sqrt(2 / sum(keras_fans(shape))))
    assert module.bias.count_nonzero() == 0


def test_keras_default_of_recurrent_layers():
    module = nn.LSTM(60, 90)
    init(module, "keras_default")
    assert_law(module.weight_ih_l0, "uniform", math.sqrt(2 / (60 + 360)))
    recurrent = module.weight_hh_l0.detach()
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(90))
    forget = torch.zeros(4, 90).index_fill(0, torch.tensor(1), 1.0).flatten()
    assert torch.equal(module.bias_ih_l0 + module.bias_hh_l0, forget)
    gru = nn.GRU(60, 90)
    init(gru, "keras_default")
    assert gru.bias_ih_l0.count_nonzero() + gru.bias_hh_l0.count_nonzero() == 0
    assert_law(gru.weight_ih_l0, "uniform", math.sqrt(2 / (60 + 270)))


def test_flax_default_of_recurrent_and_transposed_layers():
    module = nn.LSTM(60, 90)
    init(module, "flax_default")
    assert_law(module.weight_ih_l0, "trunc_normal", 60**-0.5)
    for gate in module.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(gate.T @ gate, torch.eye(90))
    transposed = nn.ConvTranspose2d(64, 16, 4, stride=2)
    init(transposed, "flax_default")
    assert_law(transposed.weight, "trunc_normal", (64 * 16) ** -0.5)


@pytest.mark.parametrize(("scheme", "slope"), [("torch_default", 0.25), ("keras_default", 0.0), ("flax_default", 0.01)])
def test_a_prelu_starts_where_its_framework_starts_it(scheme, slope):
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU(4))
    nn.init.constant_(model[1].weight, 0.7)
    init(model, scheme)
    assert torch.allclose(model[1].weight, torch.full((4,), slope))


def test_embeddings_start_where_their_framework_starts_them():
    table = nn.Embedding(300, 50)
    init(table, "keras_default", exclude=())
    assert_law(table.weight, "uniform", 0.05 / math.sqrt(3))
    init(table, "flax_default", exclude=())
    assert_law(table.weight, "normal", 50**-0.5)


JAX = {"glorot_normal": lambda i, o: 2 / (i + o), "lecun_normal": lambda i, _: 1 / i, "he_normal": lambda i, _: 2 / i}


@pytest.mark.parametrize("name", JAX)
@pytest.mark.parametrize("framework", ["jax", "keras"])
@pytest.mark.parametrize(("module", "shape"), [(nn.Linear(100, 300), (100, 300)), (nn.Conv2d(32, 64, 3), (3, 3, 32, 64))])
def test_the_truncated_normals_of_jax_and_keras_have_names_of_their_own(name, framework, module, shape):
    fan_in, fan_out = keras_fans(shape)
    std = math.sqrt(JAX[name](fan_in, fan_out))
    init(module, f"{framework}_{name}")
    weight = module.weight.detach().double()
    parent = std / 0.87962566103423978  # jax.nn.initializers.variance_scaling: sqrt(variance) over this constant
    assert_law(weight, "trunc_normal", std)
    assert 1.98 * parent < weight.abs().max() <= 2 * parent * (1 + 1e-6)
    init(module, name)
    assert module.weight.abs().max() > 2.5 * parent  # torch's is not cut

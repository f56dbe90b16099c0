"""Weight layers of all kinds of modules: fans, roles, blocks, biases, with and without running the model."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench import init_network
from initbench.errors import ConfigError
from initbench.init.assign import Law, Recipe, assign
from initbench.nn.layers import Role, explain, weight_layers

FANS = {
    "linear": (nn.Linear(7, 5), (2, 7), (7, 5, 1, 1, False)),
    "conv1d": (nn.Conv1d(4, 6, 5), (2, 4, 9), (20, 30, 1, 1, False)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2)), (2, 4, 9, 9), (24, 36, 1, 1, False)),
    "conv3d": (nn.Conv3d(2, 3, 3), (1, 2, 5, 5, 5), (54, 81, 1, 1, False)),
    "grouped": (nn.Conv2d(8, 6, 3, groups=2), (2, 8, 9, 9), (36, 27, 2, 1, False)),
    "depthwise": (nn.Conv2d(8, 16, 3, groups=8), (2, 8, 9, 9), (9, 18, 8, 1, False)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 9, 9), (36, 54, 1, 1, False)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5), (36, 54, 1, 1, True)),
    "strided transposed": (nn.ConvTranspose2d(4, 6, 4, stride=2), (2, 4, 5, 5), (16, 96, 1, 1, True)),
    "grouped transposed": (nn.ConvTranspose1d(8, 6, 4, stride=2, groups=2), (2, 8, 5), (8, 12, 2, 1, True)),
}
"""Module, shape of an input, and (fan_in, fan_out, groups, parts, transposed)."""


def fans(layer):
    return layer.fan_in, layer.fan_out, layer.groups, layer.parts, layer.transposed


@pytest.mark.parametrize("name", FANS)
def test_fans_are_those_of_the_module_run_or_not(name):
    module, shape, expected = FANS[name]
    model = nn.Sequential(module)
    for found in (weight_layers(model), weight_layers(model, torch.randn(shape))):
        assert [fans(layer) for layer in found] == [expected]
        assert found[0].bias == "0.bias"
        assert found[0].receptive_field == module.weight[0, 0].numel()


FUNCTIONS = {nn.Linear: F.linear, nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


@pytest.mark.parametrize("name", FANS)
def test_raw_parameters_have_the_fans_of_the_module_that_does_the_same(name):
    module, shape, expected = FANS[name]

    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel, self.offset = nn.Parameter(module.weight.detach()), nn.Parameter(module.bias.detach())

        def forward(self, x):
            if isinstance(module, nn.Linear):
                return F.linear(x, self.kernel, self.offset)
            if "Transpose" in type(module).__name__:
                function = F.conv_transpose1d if x.dim() == 3 else F.conv_transpose2d
                return function(x, self.kernel, self.offset, module.stride, groups=module.groups)
            return FUNCTIONS[type(module)](x, self.kernel, self.offset, dilation=module.dilation, groups=module.groups)

    (found,) = weight_layers(Raw(), torch.randn(shape))
    assert fans(found) == expected
    assert (found.name, found.bias) == ("kernel", "offset")


def test_packed_and_separate_attention_is_taken_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.packed = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
            self.separate = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)

        def forward(self, x):
            x = self.packed(x, x, x)[0]
            return self.separate(x, x[..., :6], x[..., :4])[0]

    for found in (weight_layers(Net()), weight_layers(Net(), torch.randn(2, 3, 8))):
        assert {layer.name: (layer.fan_in, layer.fan_out, layer.parts) for layer in found} == {
            "packed.in_proj_weight": (8, 8, 3), "packed.out_proj": (8, 8, 1), "separate.q_proj_weight": (8, 8, 1),
            "separate.k_proj_weight": (6, 8, 1), "separate.v_proj_weight": (4, 8, 1), "separate.out_proj": (8, 8, 1),
        }  # fmt: skip
        assert {layer.bias for layer in found} >= {"packed.in_proj_bias", "packed.out_proj.bias", "separate.in_proj_bias"}
    assert found[1].surroundings.sources == ("packed.in_proj_weight",)
    assert [layer.name for layer in found if layer.role is Role.STEM] == ["packed.in_proj_weight"]
    assert [layer.name for layer in found if layer.role is Role.HEAD] == ["separate.out_proj"]


def test_recurrent_layers_have_gates_and_biases_of_their_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
            self.rnn = nn.RNN(8, 5, nonlinearity="relu", batch_first=True)
            self.cell = nn.GRUCell(5, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.cell(self.rnn(self.lstm(x)[0])[0][:, -1]))

    for found in (weight_layers(Net()), weight_layers(Net(), torch.randn(2, 5, 3))):
        by_name = {layer.name: layer for layer in found}
        assert len(found) == 8 + 2 + 2 + 1
        assert fans(by_name["lstm.weight_ih_l0"])[:4] == (3, 4, 1, 4)
        assert fans(by_name["lstm.weight_hh_l1_reverse"])[:4] == (4, 4, 1, 4)
        assert fans(by_name["cell.weight_ih"])[:4] == (5, 6, 1, 3)
        assert by_name["lstm.weight_ih_l1_reverse"].bias == "lstm.bias_ih_l1_reverse"
        assert by_name["rnn.weight_hh_l0"].activation == "relu"
        assert by_name["lstm.weight_ih_l0"].activation is None
    assert by_name["head"].role is Role.HEAD
    assert by_name["head"].surroundings.sources == ("cell.weight_ih", "cell.weight_hh")
    assert "the gates of LSTM" in " ".join(explain(Net(), torch.randn(2, 5, 3)).notes)


def test_a_head_tied_to_an_embedding_is_one_layer_under_its_first_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.hidden, self.head = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x):
            return self.head(torch.tanh(self.hidden(self.tokens(x))))

    model = Tied()
    for found in (weight_layers(model, torch.randint(0, 11, (2, 5))), weight_layers(model)):
        assert {layer.parameter for layer in found} == {"tokens.weight", "hidden.weight"}
    last = weight_layers(model, torch.randint(0, 11, (2, 5)))[-1]
    assert (last.name, last.fan_in, last.fan_out, last.role) == ("head", 8, 11, Role.HEAD)


def test_parametrized_weights_keep_the_name_and_fans_of_their_module():
    norm = nn.utils.parametrizations
    model = nn.Sequential(
        norm.weight_norm(nn.Linear(4, 6)), nn.ReLU(), norm.spectral_norm(nn.Conv1d(6, 6, 1)), norm.orthogonal(nn.Linear(1, 1))
    )
    for found in (weight_layers(model), weight_layers(nn.Sequential(*model[:2]), torch.randn(2, 4))):
        assert (found[0].name, found[0].parameter, fans(found[0])[:2]) == ("0", "0.parametrizations.weight.original1", (4, 6))
    assert [layer.name for layer in weight_layers(model)] == ["0", "2", "3"]


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_under_weight_norm_the_weight_is_what_the_scheme_drew(norm):
    plain, normed = nn.Sequential(nn.Linear(4, 6)), nn.Sequential(norm(nn.Linear(4, 6)))
    (layer,) = weight_layers(normed, torch.randn(2, 4))
    recipe = Recipe("ones and twos", lambda w, layer, source: Law("any", w.copy_(torch.arange(24).reshape(6, 4) % 5 + 1.0).std().item()))
    report = assign(normed, (layer,), recipe)
    assign(plain, weight_layers(plain), recipe)
    assert torch.allclose(normed(torch.eye(4)), plain(torch.eye(4)), atol=1e-5)
    assert report.untouched == ()
    assert [entry.parameter for entry in report.parameters] == [name for name, _ in normed.named_parameters()]


def test_in_out_globs_turn_raw_weights_round():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 9))

        def forward(self, x):
            return F.linear(x, self.w)

    assert fans(weight_layers(Raw())[0]) == (9, 3, 1, 1, False)
    assert fans(weight_layers(Raw(), in_out=("w*",))[0]) == (3, 9, 1, 1, True)
    assert "'w' is taken to be stored (out, in)" in " ".join(explain(Raw()).notes)
    assert fans(weight_layers(Raw(), torch.randn(2, 9))[0]) == (9, 3, 1, 1, False)


def test_without_a_run_activations_and_roles_follow_registration():
    model = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.2), nn.Linear(4, 4), nn.GELU(approximate="tanh"), nn.Linear(4, 2))
    found = weight_layers(model)
    assert [layer.activation for layer in found] == ["leaky_relu:negative_slope=0.2", "gelu:approximate=tanh", None]
    assert [layer.role for layer in found] == [Role.STEM, Role.HIDDEN, Role.HEAD]
    assert [layer.activation for layer in weight_layers(model, torch.randn(2, 4))] == [layer.activation for layer in found]


class Block(nn.Module):
    def __init__(self, width, after=False, shortcut=None):
        super().__init__()
        self.first, self.second, self.shortcut = nn.Linear(width, width), nn.Linear(width, width), shortcut
        self.after = after

    def forward(self, x):
        branch = self.second(F.relu(self.first(x if self.after else F.relu(x))))
        y = branch + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y) if self.after else y


@pytest.mark.parametrize("after", [False, True])
def test_branches_and_their_ends_are_found_in_a_residual_mlp(after):
    model = nn.Sequential(nn.Linear(5, 8), Block(8, after), Block(8, after, nn.Linear(8, 8)), Block(8, after), nn.ReLU(), nn.Linear(8, 3))
    found = {layer.name: layer for layer in weight_layers(model, torch.randn(4, 5))}
    branch, end = Role.BRANCH, Role.BRANCH_END
    assert {name: (layer.role, layer.block) for name, layer in found.items()} == {
        "0": (Role.STEM, None), "1.first": (branch, 0), "1.second": (end, 0), "2.first": (branch, 1), "2.second": (end, 1),
        "2.shortcut": (Role.HIDDEN, 1), "3.first": (branch, 2), "3.second": (end, 2), "5": (Role.HEAD, None),
    }  # fmt: skip
    assert [layer.activation for layer in found.values()] == [*["relu"] * 8, None] if not after else True
    assert found["3.second"].surroundings.between == ("add",)


def test_two_towers_that_are_added_are_no_residual_block():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(torch.tanh(self.a(x) + self.b(x)))

    found = weight_layers(Towers(), torch.randn(3, 4))
    assert [layer.role for layer in found] == [Role.STEM, Role.STEM, Role.HEAD]
    assert [layer.activation for layer in found] == ["tanh", "tanh", None]
    assert found[2].surroundings.sources == ("a", "b")


def test_a_module_that_is_parametrized_itself_is_a_layer():
    (layer,) = weight_layers(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)))
    assert (layer.name, layer.fan_in, layer.length) == ("weight", 6, "parametrizations.weight.original0")


def test_a_raw_parameter_that_is_said_to_be_stored_in_out_is_a_weight():
    raw = nn.ParameterDict({"wide": nn.Parameter(torch.zeros(3, 8)), "other": nn.Parameter(torch.zeros(3, 8))})
    assert [(layer.name, layer.fan_in, layer.fan_out) for layer in weight_layers(raw, in_out=("wide",))] == [("wide", 3, 8)]


def test_lazy_modules_are_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="Call the model once on a batch first"):
        weight_layers(nn.Sequential(nn.LazyLinear(3)), torch.randn(2, 4))


def test_a_foreign_resnet_is_understood():
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    explained = explain(models.resnet18(weights=None), torch.randn(1, 3, 32, 32))
    found = explained.layers
    roles = [layer.role for layer in found]
    assert (roles.count(Role.STEM), roles.count(Role.BRANCH), roles.count(Role.BRANCH_END), roles.count(Role.HEAD)) == (1, 8, 8, 1)
    assert {layer.name for layer in found if layer.role is Role.HIDDEN} == {f"layer{i}.0.downsample.0" for i in (2, 3, 4)}
    assert [layer.block for layer in found if layer.role is Role.BRANCH] == list(range(8))
    assert [layer.activation for layer in found] == ["relu"] * 20 + [None]
    assert explained.notes == ()


def test_rows_of_a_table_that_are_looked_up_several_times_are_one_matrix():
    class Relative(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.table = nn.Linear(6, 16), nn.Parameter(torch.randn(15, 16))
            self.register_buffer("places", torch.arange(8)[:, None] - torch.arange(8)[None, :] + 7)

        def forward(self, x):
            return torch.einsum("nyc,ykc->nyk", self.enter(x), self.table[self.places])

    model = Relative()
    init_network(model, "orthogonal", inputs=torch.randn(4, 8, 6))
    gram = model.table.detach() @ model.table.detach().T
    torch.testing.assert_close(gram, torch.eye(15), rtol=0, atol=1e-4)

"""What all schemes share that look at the whole model: order of schemes, rules, models that a user brings."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.models import resnet
from initbench.nn.layers import weight_layers
from initbench.nn.residual import branches
from initbench.question.config import InitRules, parse_ref
from initbench.results.record import Setter

SHAPE = (3, 8, 8)


def net(**params):
    return resnet.build(SHAPE, 10, depth=8, norm="none", **params)


def start(model, scheme, x=None, **rules):
    inputs = torch.randn(2, *SHAPE) if x is None else x
    report, _ = initialize(model, parse_ref(scheme), seed=0, inputs=inputs, rules=InitRules(**rules))
    return report


class Block(nn.Module):
    """A residual block as users write it, with one activation module for both places."""

    def __init__(self, width, norm, tail=None):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.relu = nn.ReLU()
        self.tail = tail

    def forward(self, x):
        y = self.norm(self.conv2(self.relu(self.conv1(x))))
        return self.relu(x + (y if self.tail is None else self.tail(y)))


def theirs(*, norm=False, tail=None):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Block(8, norm, tail), Block(8, norm, tail), nn.Flatten(), nn.Linear(8 * 36, 10))


@pytest.mark.parametrize("scheme", ["fixup", "skipinit", "rezero"])
def test_a_user_s_own_residual_network_starts_as_the_identity(scheme):
    model = theirs()
    report = start(model, scheme)
    hidden = torch.relu(model[0](torch.randn(2, *SHAPE)))
    torch.testing.assert_close(model[3](model[2](hidden)), hidden)
    assert not report.untouched
    assert {"2.conv2.output_scale", "3.conv2.output_scale"} <= {entry.parameter for entry in report.parameters}


@pytest.mark.parametrize("scheme", ["zero_gamma", "skipinit"])
def test_a_norm_that_ends_a_user_s_branch_is_found(scheme):
    model = theirs(norm=True)
    start(model, scheme)
    hidden = torch.relu(model[0](torch.randn(2, *SHAPE)))
    torch.testing.assert_close(model[3](model[2](hidden)), hidden)
    assert branches(model, weight_layers(model, torch.randn(2, *SHAPE)))[0].last_norm is model[2].norm


@pytest.mark.parametrize("before", ["fixup", "skipinit", "rezero"])
def test_a_user_s_network_can_be_given_one_scheme_after_another(before):
    model = theirs()
    start(model, before)
    start(model, "stable_resnet")
    assert {name for name, _ in model.named_buffers()} == {"2.conv2.output_scale", "3.conv2.output_scale"}


def test_a_branch_that_ends_in_an_activation_is_refused():
    with pytest.raises(DoesNotApply, match="goes through tanh before it is added"):
        start(theirs(tail=torch.tanh), "rezero")


def test_torch_s_attention_is_scaled_where_it_is_called():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True), 2, enable_nested_tensor=False)
    x = torch.randn(2, 5, 16)
    start(model, "skipinit", x)
    torch.testing.assert_close(model(x), x)
    torch.testing.assert_close(model.eval()(x), x)


def test_a_plain_scheme_after_a_structural_one_says_what_it_did_not_set():
    model = net()
    start(model, "rezero")
    assert len(start(model, "kaiming").untouched) == 3


def test_a_structural_scheme_takes_away_what_the_one_before_left():
    model, fresh = net(), net()
    start(model, "fixup")
    start(model, "depth_scaled")
    start(fresh, "depth_scaled")
    assert model.state_dict().keys() == fresh.state_dict().keys()
    x = torch.randn(2, *SHAPE)
    assert torch.equal(model(x), fresh(x))


def test_a_refusal_comes_before_the_numbers_of_an_earlier_scheme_are_taken_away():
    model = net()
    start(model, "rezero")
    with pytest.raises(DoesNotApply):
        start(model, "zero_gamma")
    assert hasattr(model.blocks[0].branch, "output_scale")


def test_rules_hold_for_structural_schemes_too():
    model = net()
    head = model.head.weight.clone()
    model.stem[0].weight.requires_grad_(requires_grad=False)
    report = start(model, "fixup", bias=0.5, exclude=["head"], layers={"blocks.0.*": "ones"})
    by = {entry.parameter: entry for entry in report.parameters}
    assert torch.equal(model.head.weight, head)
    assert by["head.weight"].setter is Setter.EXCLUDED
    assert by["stem.0.weight"].setter is Setter.FROZEN
    assert (model.blocks[0].branch[2].weight == 1).all()
    assert (model.blocks[1].branch[2].bias == 0.5).all()


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_generator_does():
    first, second = net(), net()
    start(first, "fixup")
    torch.manual_seed(99)
    torch.randn(7)
    inputs, state = torch.randn(2, *SHAPE), torch.get_rng_state()
    start(second, "fixup", inputs)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_functional_user_network_keeps_its_forward_pass():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.end, self.head = (nn.Linear(6, 6) for _ in range(4))

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + self.end(F.relu(self.inner(F.relu(x)))))

    model, x = Net(), torch.randn(2, 6)
    start(model, "rezero", x)
    torch.testing.assert_close(model(x), model.head(model.stem(x)))

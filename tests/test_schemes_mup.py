"""muP is a parametrization: multipliers, deviations, learning rates, and the coordinate check of the paper."""

import math

import pytest
import torch
from torch import nn

from initbench.errors import DoesNotApply
from initbench.init.initialize import initialize
from initbench.models import mlp, vit
from initbench.nn import hooks
from initbench.nn.hooks import Slot
from initbench.question.config import TrainConfig, parse_ref

SHAPE = (1, 12, 12)


def net(width=48):
    return vit.build(SHAPE, 10, depth=4, width=width, heads=2)


def start(model, scheme, train=None):
    return initialize(model, parse_ref(scheme), seed=0, inputs=torch.randn(2, *SHAPE), train=train)[0]


def mup_report(scheme="mup:base_width=24", optimizer="adam", model=None):
    model = net() if model is None else model
    return model, start(model, scheme, train=TrainConfig(optimizer=optimizer))


def test_mup_at_the_base_width_is_the_standard_parametrization():
    ours, plain = net(), net()
    report = start(ours, "mup:base_width=48")
    start(plain, "kaiming")
    x = torch.randn(2, *SHAPE)
    ours.load_state_dict(plain.state_dict() | dict(ours.named_buffers()))
    torch.testing.assert_close(ours(x), plain(x))
    assert report.lr_multipliers == {}


def test_mup_multipliers_and_deviations_at_twice_the_base_width():
    model, report = mup_report()
    assert hooks.number(model.head, Slot.INPUT_SCALE) == 0.5
    attention = model.blocks[0][0].branch[1]
    assert hooks.number(attention.query, Slot.OUTPUT_SCALE) == pytest.approx(math.sqrt(0.5))
    by = {entry.parameter: entry for entry in report.parameters}
    assert by["head.weight"].target_std == pytest.approx(math.sqrt(2) * math.sqrt(2 / 48))
    assert by["blocks.0.0.branch.1.query.weight"].target_std == pytest.approx(math.sqrt(2 / 48))
    assert not mup_report("mup:zero_readout=true")[0].head.weight.any()


def test_mup_learning_rates_follow_the_optimizer():
    _, adam = mup_report()
    hidden = {name for name in adam.lr_multipliers if name.endswith("weight") and "branch" in name}
    assert adam.lr_multipliers == dict.fromkeys(hidden, 0.5)
    assert len(hidden) == 4 * 6
    model, sgd = mup_report(optimizer="sgd")
    assert set(sgd.lr_multipliers.values()) == {2.0}
    assert sgd.lr_multipliers.keys() == {name for name, _ in model.named_parameters()} - hidden - {"head.bias"}
    assert mup_report("mup:base_width=24,optimizer=sgd", "adam")[1].lr_multipliers == sgd.lr_multipliers


@pytest.mark.heavy
@pytest.mark.parametrize("optimizer", ["adamw", "adagrad", "rmsprop", "lion:beta1=0.8"])
def test_mup_treats_optimizers_that_move_each_number_alike(optimizer):
    assert mup_report(optimizer=optimizer)[1].lr_multipliers == mup_report(optimizer="adam")[1].lr_multipliers


def test_mup_leaves_the_rates_of_muon_as_they_are():
    assert mup_report(optimizer="muon")[1].lr_multipliers == {}


def change_after_training(scheme, width, optimizer, lr):
    """How far the logits' size moves in five steps on one batch: the coordinate check of the paper."""
    torch.manual_seed(0)
    shape, images, labels = (1, 8, 8), torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    sizes = []
    for seed in range(3):
        model = mlp.build(shape, 10, depth=2, width=width)
        train = TrainConfig(optimizer=optimizer)
        report, _ = initialize(model, parse_ref(scheme), seed=seed, inputs=images, train=train)
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
        groups = [{"params": [p], "lr": lr * report.lr_multipliers.get(name, 1.0)} for name, p in model.named_parameters()]
        steps = kind(groups)
        before = model(images).detach()
        for _ in range(5):
            steps.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            steps.step()
        sizes.append((model(images) - before).std().item())
    return sum(sizes) / len(sizes)


@pytest.mark.heavy
@pytest.mark.parametrize(("optimizer", "other", "lr"), [("adam", "sgd", 0.003), ("sgd", "adam", 0.2)])
def test_mup_moves_the_function_by_as_much_at_every_width(optimizer, other, lr):
    def ratio(scheme):
        return change_after_training(scheme, 1024, optimizer, lr) / change_after_training(scheme, 256, optimizer, lr)

    assert 0.8 < ratio("mup:base_width=32") < 1.25
    assert ratio("kaiming") > 1.7
    wrong = ratio(f"mup:base_width=32,optimizer={other}")
    assert not 0.5 < wrong < 2


def test_weight_decay_under_adam_is_spoken_of():
    train = TrainConfig(optimizer="adamw", weight_decay=0.1)
    assert any("weight decay" in note for note in start(net(), "mup", train).notes)


def test_packed_attention_and_single_layers_are_refused():
    packed = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1, enable_nested_tensor=False)
    for model, x, words in ((packed, torch.randn(2, 5, 16), "packs query"), (nn.Linear(4, 2), torch.randn(2, 4), "fewer than two")):
        with pytest.raises(DoesNotApply, match=words):
            initialize(model, parse_ref("mup"), seed=0, inputs=x)

"""`SignalMonitor` measures what a probe measures, when it is due, and training goes on as if it were not there."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from monitor_support import batch, equal, network, perceptron, state_of
from torch import nn
from torch.nn import functional

import initbench
from initbench.errors import ConfigError
from initbench.probing.monitor import SHARE, Schedule, mark_after

SHARED = ("activation_variance", "pre_activation_variance", "gradient_variance", "weight_gradient_norm", "dead_fraction", "weight_variance")


def measured_by(monitor):
    return {layer.layer: [getattr(layer, name) for name in SHARED] for layer in monitor.runs[-1].layers}


def probed(model, inputs, labels):
    found = initbench.probe(model, inputs=inputs, labels=labels, as_is=True)
    return {layer.layer: [getattr(layer, name) for name in SHARED] for layer in found.runs[0].layers}


def same(one, other):
    assert one.keys() == other.keys()
    for layer, numbers in one.items():
        assert numbers == pytest.approx(other[layer], rel=1e-4), layer


def trained(model, watch, steps=12, size=32):
    """The losses of a loop of somebody's own; `watch(inputs, labels)` is called after each step."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        inputs, labels = torch.randn(size, 1, 8, 8), torch.randint(0, 5, (size,))
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        watch(inputs, labels)
    return losses


def test_the_numbers_are_those_of_a_probe_at_the_same_weights():
    model, (inputs, labels) = network(), batch(shape=(1, 8, 8))
    monitor = initbench.SignalMonitor(model, every=1)
    for _ in range(3):
        monitor.step(inputs, labels)
        same(measured_by(monitor), probed(model, inputs, labels))
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.1)
    assert len({run.layers[0].activation_variance for run in monitor.runs}) == 3


def test_what_was_learned_of_one_batch_holds_for_batches_of_other_sizes_and_shapes():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    monitor = initbench.SignalMonitor(model, every=1)
    for size, side in ((32, 8), (9, 8), (200, 8), (16, 12)):
        inputs, labels = batch(size, (1, side, side), seed=size)
        monitor.step(inputs, labels)
        same(measured_by(monitor), probed(model, inputs[:128], labels[:128]))
        assert monitor.runs[-1].layers[0].size == 4 * (side - 2) ** 2


def test_training_goes_on_to_the_bit_as_if_nothing_had_been_measured():
    plain, watched = network(), network()
    monitor = initbench.SignalMonitor(watched, every=1)
    assert trained(plain, lambda *_: None) == trained(watched, monitor.step)
    assert len(monitor.runs) == 12
    assert equal(state_of(plain), state_of(watched))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_measurement_leaves_everything_as_it_was(mode):
    class Counting(nn.Module):
        """Counts its passes, and keeps what went through, in ways that are no buffers."""

        def __init__(self):
            super().__init__()
            self.inner, self.passes, self.seen = network(), 0, []
            self.last = torch.zeros(5)

        def forward(self, images):
            self.passes += 1
            self.seen.append(random.random() + np.random.rand())
            result = self.inner(images)
            self.last.copy_(result[0].detach())
            return result

    model = getattr(Counting(), mode)()
    inputs, labels = batch(shape=(1, 8, 8))
    model.inner[4].register_forward_hook(lambda *_: None)
    model.inner[0].requires_grad_(requires_grad=False)
    functional.cross_entropy(model(inputs), labels).backward()
    before, last, seen = state_of(model), model.last.clone(), list(model.seen)
    assert initbench.SignalMonitor(model).step(inputs, labels)
    assert equal(before, state_of(model))
    assert (model.passes, model.seen) == (1, seen)
    assert torch.equal(model.last, last)


def test_a_backward_pass_that_is_yet_to_come_is_not_disturbed():
    model, (inputs, labels) = network(), batch(shape=(1, 8, 8))
    monitor = initbench.SignalMonitor(model, every=1)
    torch.manual_seed(3)
    loss = functional.cross_entropy(model(inputs), labels)
    monitor.step(inputs, labels)
    loss.backward()
    other = network()
    torch.manual_seed(3)
    functional.cross_entropy(other(inputs), labels).backward()
    assert all(torch.equal(one.grad, two.grad) for one, two in zip(model.parameters(), other.parameters(), strict=True))


def test_within_autocast_what_is_measured_is_of_the_weights_as_they_are_and_the_cache_stays():
    model, (inputs, labels) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=1)
    with torch.autocast("cpu", torch.bfloat16):
        kept = model(inputs)
        with torch.no_grad():
            model[0].weight.mul_(2)
        monitor.step(inputs, labels)
        assert torch.equal(model(inputs), kept), "autocast has forgotten the weights that it had kept"
    in_half = monitor.runs[-1].layers[0].pre_activation_variance
    monitor.step(inputs, labels)
    whole = monitor.runs[-1].layers[0].pre_activation_variance
    assert in_half == pytest.approx(whole, rel=0.02)
    assert in_half != whole


@pytest.mark.parametrize(
    "wrapper", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")], ids=["data parallel", "compile"]
)
def test_wrappers_change_neither_names_nor_numbers(wrapper):
    inputs, labels = batch()
    alone, wrapped = (initbench.SignalMonitor(model) for model in (perceptron(), wrapper(perceptron())))
    for monitor in (alone, wrapped):
        monitor.step(inputs, labels)
    assert measured_by(alone) == measured_by(wrapped)
    assert "Sequential" in repr(wrapped)


@pytest.mark.parametrize("form", [lambda a, b: (a, b), lambda a, b: {"second": b, "first": a}, lambda a, b: [a.numpy(), b.numpy()]])
def test_several_inputs_are_taken_as_a_probe_takes_them(form):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 5)

        def forward(self, first, second):
            return self.head(torch.relu(self.one(first) + self.two(second)))

    torch.manual_seed(0)
    model, (first, labels), (second, _) = Two(), batch(200), batch(200, seed=1)
    monitor = initbench.SignalMonitor(model)
    monitor.step(form(first, second), labels)
    same(measured_by(monitor), probed(model, (first[:128], second[:128]), labels[:128]))


def test_a_loss_of_ones_own_is_the_mean_over_the_whole_batch():
    model, (inputs, labels) = perceptron(), batch(200)
    own, given = initbench.SignalMonitor(model), initbench.SignalMonitor(model)
    own.step(inputs, loss=lambda output: functional.cross_entropy(output, labels))
    with torch.no_grad():
        expected = functional.cross_entropy(model(inputs), labels).item()
    assert own.runs[0].first_loss == pytest.approx(expected, rel=1e-5)
    given.step(inputs[:128], labels[:128])
    assert given.runs[0].layers[0].gradient_variance == pytest.approx(own.runs[0].layers[0].gradient_variance, rel=0.5)
    by_hand = torch.autograd.grad(functional.cross_entropy(model(inputs), labels), model[0].weight)[0].norm().item()
    assert own.runs[0].layers[0].weight_gradient_norm == pytest.approx(by_hand, rel=1e-4)


def test_without_labels_gradients_are_of_the_same_projection_each_time():
    model, (inputs, _) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=1)
    monitor.step(inputs)
    monitor.step(inputs)
    assert monitor.runs[0].objective == "a random projection of the outputs"
    assert [run.layers[0].gradient_variance for run in monitor.runs] == [monitor.runs[0].layers[0].gradient_variance] * 2
    assert monitor.runs[0].first_loss is None


def test_two_networks_that_play_against_each_other_have_a_monitor_each():
    torch.manual_seed(0)
    maker, judge = (
        nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8)),
        nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)),
    )
    of_maker, of_judge = initbench.SignalMonitor(maker), initbench.SignalMonitor(judge)
    noise = torch.randn(32, 4)
    before = state_of(judge)
    of_maker.step(noise, loss=lambda made: functional.softplus(-judge(made)).mean())
    of_judge.step(maker(noise), loss=lambda output: functional.softplus(output).mean())
    assert equal(before, state_of(judge))
    assert [layer.layer for layer in of_maker.runs[0].layers] == ["0", "2"]
    assert all(layer.gradient_variance for monitor in (of_maker, of_judge) for layer in monitor.runs[0].layers)


def test_a_parameter_that_is_replaced_is_found_again():
    model, (inputs, labels) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=1)
    monitor.step(inputs, labels)
    model[-1] = nn.Linear(16, 7)
    monitor.step(inputs, labels + 2)
    same(measured_by(monitor), probed(model, inputs, labels + 2))


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def steps_measured(steps, of_step, of_measurement, every=None):
    clock = Clock()
    schedule, found = Schedule(every, clock), []
    for step in range(1, steps + 1):
        clock.now += of_step
        if schedule.due(step):
            seconds = of_measurement(len(found))
            clock.now += seconds
            schedule.measured(step, seconds)
            found.append(step)
    return found, schedule.spent, steps * of_step


def test_steps_that_are_measured_grow_geometrically_where_measuring_costs_little():
    found, _, _ = steps_measured(2500, 1.0, lambda _: 1e-6)
    assert found == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
    assert [mark_after(step) for step in (1, 2, 4, 5, 9, 10, 99, 100, 944)] == [2, 5, 5, 10, 10, 20, 100, 200, 1000]


@pytest.mark.parametrize("cost", [lambda count: 2.0 if count else 30.0, lambda _: 5.0, lambda count: 1.0 + 0.1 * count])
def test_a_measurement_is_put_off_until_it_takes_no_more_than_its_share(cost):
    found, spent, trained_for = steps_measured(20_000, 1.0, cost)
    assert found[0] == 1
    assert found[1] > 2
    assert len(found) > 4
    assert spent <= SHARE * trained_for + 1
    gaps = [later / earlier for earlier, later in pairwise(found[1:])]
    assert min(gaps) > 1


def test_a_fixed_schedule_measures_the_first_step_and_every_so_many():
    assert steps_measured(21, 1.0, lambda _: 50.0, every=10)[0] == [1, 10, 20]
    assert steps_measured(3, 1.0, lambda _: 50.0, every=1)[0] == [1, 2, 3]


def test_a_step_says_whether_it_measured_and_the_end_can_be_measured_too():
    model, (inputs, labels) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=100)
    assert [monitor.step(inputs, labels) for _ in range(4)] == [True, False, False, False]
    monitor.measure(inputs, labels)
    monitor.measure(inputs, labels)
    assert [run.scheme for run in monitor.runs] == ["step 1", "step 4"]


def test_a_fixed_batch_is_measured_in_place_of_those_of_the_loop():
    model, (inputs, labels), (other, _) = perceptron(), batch(), batch(seed=5)
    monitor = initbench.SignalMonitor(model, every=1, inputs=inputs, labels=labels)
    monitor.step(other, labels)
    monitor.step()
    assert monitor.runs[0].layers == tuple(layer.model_copy(update={"step": 1}) for layer in monitor.runs[1].layers)
    same(measured_by(monitor), probed(model, inputs, labels))


def test_a_later_batch_that_cannot_be_measured_gets_a_sentence_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    monitor = initbench.SignalMonitor(model, every=1)
    monitor.step(*batch())
    before = state_of(model)
    with pytest.raises(ConfigError, match="The model cannot be measured on a batch of shape 1 x 16"):
        monitor.step(*batch(1))
    assert equal(before, state_of(model))
    monitor.step(*batch())
    same(measured_by(monitor), probed(model, *batch()))

"""`SignalMonitor`: what it measures is what a probe measures, training goes on as if it were not there, and it says what it found."""

import random
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import initbench
from initbench.errors import ConfigError, InitbenchError
from initbench.probing.monitor import SHARE, Schedule, mark_after

SHARED = ("activation_variance", "pre_activation_variance", "gradient_variance", "weight_gradient_norm", "dead_fraction", "weight_variance")


def network():
    torch.manual_seed(0)
    first = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*first, nn.Linear(256, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 5))


def perceptron(depth=3, activation=nn.ReLU, width=16):
    torch.manual_seed(0)
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, 5))


def batch(size=32, shape=(16,), seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(size, *shape, generator=source), torch.randint(0, 5, (size,), generator=source)


def measured_by(monitor):
    return {layer.layer: [getattr(layer, name) for name in SHARED] for layer in monitor.runs[-1].layers}


def probed(model, inputs, labels):
    found = initbench.probe(model, inputs=inputs, labels=labels, as_is=True)
    return {layer.layer: [getattr(layer, name) for name in SHARED] for layer in found.runs[0].layers}


def same(one, other):
    assert one.keys() == other.keys()
    for layer, numbers in one.items():
        assert numbers == pytest.approx(other[layer], rel=1e-4), layer


def state_of(model):
    """Everything of a model that measuring might change, copied."""
    return {
        "numbers": [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())],
        "gradients": [None if each.grad is None else each.grad.clone() for each in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "random": [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()],
    }


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


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


def test_a_lost_gradient_is_told_with_the_step_the_layers_and_the_factor():
    model, (inputs, labels) = perceptron(20), batch(64)
    monitor = initbench.SignalMonitor(model, every=1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, (2 / 16) ** 0.5) if parameter.dim() > 1 else nn.init.zeros_(parameter)
    monitor.step(inputs, labels)
    with torch.no_grad():
        for layer in model[:-1:2]:
            layer.reset_parameters()
    monitor.step(inputs, labels)
    first, latest, far = monitor.verdicts
    assert first.startswith("step 1: ")
    assert "vanish" not in first
    assert latest.startswith("step 2: gradients shrink ")
    back = {point.layer: point.value for point in monitor.schemes[1].back}
    lost, entry = monitor.schemes[1].lost, monitor.schemes[1].back[0]
    assert f"gradients vanish at {lost.layer}" in latest
    assert far.startswith(f"At step 2 the squared length of the gradient at {lost.layer} is ")
    assert far.endswith(f" times smaller than at {entry.layer}, where it enters.")
    factor = float(far.split(" is ")[1].split(" times")[0].replace(",", ""))
    assert factor == pytest.approx(entry.value / back[lost.layer], rel=0.01)


def test_an_exploding_gradient_is_told():
    model, (inputs, labels) = perceptron(20), batch(64)
    with torch.no_grad():
        for layer in model[:-1:2]:
            layer.weight.normal_(0, 1.5)
    monitor = initbench.SignalMonitor(model)
    monitor.step(inputs, labels)
    assert "explode at" in monitor.verdicts[0]
    assert "times as large as at" in monitor.verdicts[1]


def test_dead_and_saturated_layers_are_told():
    inputs, labels = batch(64)
    dying, full = perceptron(3), perceptron(3, nn.Tanh)
    nn.init.constant_(dying[2].bias, -100)
    nn.init.normal_(full[2].weight, 0, 30)
    said = []
    for model in (dying, full):
        monitor = initbench.SignalMonitor(model)
        monitor.step(inputs, labels)
        said.append(str(monitor))
    assert "100% of the units of 2 are dead" in said[0]
    assert "of the activations of 2 are saturated" in said[1]
    assert "saturated" not in said[0].replace("  saturated  ", "")


def test_relu6_is_not_called_saturated_for_its_zeros():
    model, (inputs, labels) = perceptron(3, nn.ReLU6), batch(64)
    monitor = initbench.SignalMonitor(model)
    nn.init.constant_(model[0].bias, -1.0)
    monitor.step(inputs, labels)
    assert monitor.runs[0].layers[0].saturated_fraction > 0.5
    assert "are saturated" not in str(monitor)


def test_what_only_holds_before_the_first_step_is_not_said_later():
    model, (inputs, labels) = perceptron(3), batch(64)
    with torch.no_grad():
        model[-1].weight.mul_(500)
    monitor = initbench.SignalMonitor(model)
    monitor.step(inputs, labels)
    assert monitor.runs[0].first_loss > 2 * monitor.runs[0].chance_loss
    assert "first loss" not in str(monitor)


def test_tables_have_a_row_a_layer_and_step_and_a_row_a_step():
    model, (inputs, labels) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=1, layers=["0", "[24]"])
    for _ in range(2):
        monitor.step(inputs, labels)
    frame, steps = monitor.to_pandas(), monitor.to_pandas("steps")
    assert list(zip(frame.step, frame.layer, strict=True)) == [(step, layer) for step in (1, 2) for layer in (0, 2, 4)]
    assert frame.gradient_variance.tolist() == pytest.approx([layer.gradient_variance for run in monitor.runs for layer in run.layers[:3]])
    assert steps.step.tolist() == [1, 2]
    assert steps.loss.tolist() == pytest.approx([run.first_loss for run in monitor.runs])
    with pytest.raises(ConfigError, match=r"no table 'runs' of a monitor\. There are: layers, steps"):
        monitor.to_pandas("runs")


def test_the_page_and_the_files_show_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda _plot: {".png": b"", ".svg": b"<svg/>"})
    model, (inputs, labels) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=1)
    monitor.step(inputs, labels)
    assert monitor.write(tmp_path / "seen") == tmp_path / "seen"
    monitor.step(inputs, labels)
    monitor.write(tmp_path / "seen")
    page, summary = ((tmp_path / "seen" / name).read_text() for name in ("report.html", "summary.md"))
    for sentence in monitor.verdicts[:2]:
        assert sentence in page
        assert sentence in summary
    assert '"steps":[1,2]' in page.replace(" ", "")
    assert "What each scheme did" not in page
    assert (tmp_path / "seen" / "tables" / "layers.csv").read_text().count("\n") == 1 + 2 * len(monitor.runs[0].layers)
    assert {plot.title for plot in monitor.plots if "before the first step" in plot.title} == set()
    assert monitor.plots[0].schemes == ("step 1", "step 2")


def test_many_steps_are_drawn_as_an_even_choice():
    model, (inputs, labels) = perceptron(1), batch(8)
    monitor = initbench.SignalMonitor(model, every=1)
    for _ in range(30):
        monitor.step(inputs, labels)
    drawn = monitor.plots[0].schemes
    assert len(drawn) == 18
    assert (drawn[0], drawn[-1]) == ("step 1", "step 30")


def test_a_folder_of_other_things_is_not_written_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    monitor = initbench.SignalMonitor(perceptron())
    monitor.step(*batch())
    with pytest.raises(InitbenchError, match="holds other files"):
        monitor.write(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_before_anything_was_measured_that_is_said(tmp_path):
    monitor = initbench.SignalMonitor(perceptron())
    assert str(monitor) == "Nothing was measured yet."
    with pytest.raises(InitbenchError, match="Nothing was measured yet"):
        monitor.write(tmp_path / "seen")


class Lazy(nn.Module):
    def forward(self, inputs):
        return inputs.sum(1)


WRONG = {
    "no weights": (lambda: Lazy(), {}, lambda: batch(), "has no weight layer"),
    "meta": (lambda: nn.Linear(16, 5, device="meta"), {}, lambda: batch(), "is on the meta device"),
    "a class": (lambda: nn.Linear, {}, lambda: batch(), "The model is the class Linear"),
    "another batch": (perceptron, {}, lambda: batch(shape=(7,)), "The model cannot be run on a batch of shape"),
    "labels outside": (perceptron, {}, lambda: (batch()[0], batch()[1] + 4), "and the model has 5 outputs: labels go from 0 to 4"),
    "targets": (perceptron, {}, lambda: (batch()[0], torch.randn(32, 5)), "Targets of another kind are for a loss"),
    "no batch": (perceptron, {}, lambda: (), "There is no batch to measure"),
    "no inputs": (perceptron, {}, lambda: (torch.zeros(0, 16),), "The batch has no inputs"),
    "a text": (perceptron, {}, lambda: ("16",), "The batch of inputs is"),
    "never": (perceptron, {"every": 0}, lambda: batch(), "every 0 steps. Give a whole number from 1"),
    "half a step": (perceptron, {"every": 0.5}, lambda: batch(), "every 0.5 steps"),
    "labels alone": (perceptron, {"labels": batch()[1]}, lambda: batch(), "no batch that they belong to"),
    "no such layer": (perceptron, {"layers": "stem*"}, lambda: batch(), "The pattern 'stem\\*' matches no weight layer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_gets_one_sentence(case):
    model, options, given, sentence = WRONG[case]
    with pytest.raises(ConfigError, match=sentence) as caught:
        initbench.SignalMonitor(model(), **options).step(*given())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda output: output, "is a tensor of shape \\(32, 5\\)"),
        (lambda output: output.sum().item(), "is a float"),
        (lambda output: torch.zeros(()), "is a tensor of shape \\(\\) without a gradient"),
        (lambda output: output @ torch.zeros(3), "fails on the model's output: RuntimeError"),
        (3, "The loss is an int"),
    ],
)
def test_a_loss_that_is_none_gets_one_sentence(loss, sentence):
    with pytest.raises(ConfigError, match=sentence):
        initbench.SignalMonitor(perceptron()).step(batch()[0], loss=loss)


def test_labels_and_a_loss_are_refused_together():
    with pytest.raises(ConfigError, match="There are labels and a loss"):
        initbench.SignalMonitor(perceptron()).step(*batch(), loss=lambda output: output.sum())


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


BATCHES = {
    "a pair": lambda inputs, labels: [inputs, labels],
    "names": lambda inputs, labels: {"input": inputs, "labels": labels},
    "targets": lambda inputs, labels: (inputs, functional.one_hot(labels, 5).float()),
    "inputs alone": lambda inputs, _: inputs,
}


@pytest.mark.parametrize("form", BATCHES)
def test_a_trainer_calls_the_callback_after_each_batch(form):
    model, (inputs, labels) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model, every=2)
    callback, trainer = monitor.callback(), types.SimpleNamespace(is_global_zero=True)
    for index in range(4):
        callback.on_train_batch_end(trainer, model, None, BATCHES[form](inputs, labels), index)
    assert (monitor.steps, [run.scheme for run in monitor.runs]) == (4, ["step 1", "step 2", "step 4"])
    labelled = form in {"a pair", "names"}
    assert monitor.runs[0].objective == ("cross entropy with the labels" if labelled else "a random projection of the outputs")


def test_a_batch_of_another_form_is_taken_apart_by_the_users_function_and_other_ranks_do_not_measure():
    model, (inputs, _) = perceptron(), batch()
    monitor = initbench.SignalMonitor(model)
    callback = monitor.callback(batch=lambda content: (content["deep"]["x"], None))
    callback.on_train_batch_end(types.SimpleNamespace(is_global_zero=False), model, None, {"deep": {"x": inputs}}, 0)
    assert monitor.runs == ()
    callback.on_train_batch_end(types.SimpleNamespace(), model, None, {"deep": {"x": inputs}}, 1)
    assert len(monitor.runs) == 1


def test_where_lightning_is_installed_the_callback_is_one_of_its_own(monkeypatch):
    class Callback:
        def on_fit_start(self, trainer, module):
            return "its own"

    package, module = types.ModuleType("lightning"), types.ModuleType("lightning.pytorch")
    package.__spec__, package.__path__, module.Callback = types.SimpleNamespace(), [], Callback
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    callback = initbench.SignalMonitor(perceptron()).callback()
    assert isinstance(callback, Callback)
    assert callback.on_fit_start(None, None) == "its own"

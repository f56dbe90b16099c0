"""What a `SignalMonitor` tells: sentences, tables, the page, what is wrong with what it is given; and its callback for Lightning."""

import sys
import types

import pytest
import torch
from monitor_support import batch, perceptron
from torch import nn
from torch.nn import functional

import initbench
from initbench.errors import ConfigError, InitbenchError


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

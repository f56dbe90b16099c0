"""What one run says: how it ended, its metrics, and how the signal passes at the start."""

import math
import random
from pathlib import Path

import pytest
from simulated_runs import make_comparison, make_config, make_layers, make_run

from initbench import metrics as contract
from initbench.errors import ConfigError
from initbench.question import catalog
from initbench.question.config import View
from initbench.results.outcome import Outcome, is_outcome_of_scheme, outcome
from initbench.results.propagation import signal_at_start, signal_through
from initbench.results.record import Evaluation, LayerStats, RunStatus
from initbench.statistics.known_metrics import all_metrics, find_metric
from initbench.statistics.summary import summarize
from initbench.studies.plan import checked_view


def layers(*variances, gradients=None):
    gradients = gradients or [1.0] * len(variances)
    return [
        LayerStats(step=0, layer=f"layer{index}", position=index, activation_variance=variance, gradient_variance=gradient)
        for index, (variance, gradient) in enumerate(zip(variances, gradients, strict=True))
    ]


@pytest.mark.parametrize(
    ("accuracy", "expected"), [(0.19, Outcome.TRAINED), (0.189, Outcome.STUCK), (0.1, Outcome.STUCK), (None, Outcome.DIVERGED)]
)
def test_a_run_trained_when_it_left_chance_by_a_tenth_of_the_way(accuracy, expected):
    assert outcome(make_run("kaiming", 0, accuracy)) is expected


def test_layers_without_a_signal_do_not_lose_it():
    run = make_run("kaiming", 0)
    hidden = tuple(stats.model_copy(update={"gradient_variance": None}) if stats.position == 0 else stats for stats in run.layers)
    assert str(signal_at_start(run.model_copy(update={"layers": hidden}))) == "the signal passes from layer to layer"
    overflowed = make_run("kaiming", 0, None).model_copy(update={"layers": hidden})
    assert str(signal_at_start(overflowed)) == "gradients overflow at layers.0"


def test_with_two_classes_the_line_is_at_55_percent():
    assert outcome(make_run("kaiming", 0, 0.54, classes=2)) is Outcome.STUCK
    assert outcome(make_run("kaiming", 0, 0.56, classes=2)) is Outcome.TRAINED


def test_a_run_of_zero_steps_is_neither_trained_nor_stuck():
    assert outcome(make_run("kaiming", 0, 0.1, train_losses=())) is Outcome.PROBED


def test_failed_and_skipped_runs_say_nothing_about_their_scheme():
    for status in (RunStatus.FAILED, RunStatus.SKIPPED):
        run = make_run("kaiming", 0, status=status)
        assert not is_outcome_of_scheme(run)
        assert outcome(run).value == status.value
    assert is_outcome_of_scheme(make_run("kaiming", 0, None))


def test_metrics_of_a_run_by_hand():
    evaluations = tuple(
        Evaluation(step=step, epoch=step, test_loss=loss, test_accuracy=accuracy)
        for step, loss, accuracy in ((1, 2.0, 0.3), (2, 0.5, 0.8), (3, 0.7, 0.7))
    )
    run = make_run("kaiming", 0, evaluations=evaluations, train_losses=(3.0, 1.0, 2.0))
    values = {name: find_metric(name, 0.75).value(run) for name in ("final_test_accuracy", "best_test_accuracy", "final_test_loss")}
    assert values == {"final_test_accuracy": 0.7, "best_test_accuracy": 0.8, "final_test_loss": 0.7}
    assert find_metric("best_test_loss").value(run) == 0.5
    assert find_metric("loss_curve_area").value(run) == pytest.approx((2.0 + 1.5) / 2)
    assert find_metric("steps_to_target", 0.75).value(run) == 2
    assert find_metric("steps_to_target", 0.81).value(run) is None


def test_a_diverged_run_has_no_figure_but_keeps_its_signal():
    run = make_run("kaiming", 0, None)
    for name in ("final_test_accuracy", "best_test_accuracy", "final_test_loss", "best_test_loss", "loss_curve_area"):
        assert find_metric(name).value(run) is None
    assert find_metric("signal_decades").value(run) is not None


def test_an_unknown_metric_is_named_with_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"Unknown metric 'final_test_acuracy'. Did you mean 'final_test_accuracy'"):
        find_metric("final_test_acuracy")
    with pytest.raises(ConfigError, match="needs a target"):
        find_metric("steps_to_target")


def test_the_signal_is_measured_between_hidden_layers_only():
    found = signal_through(layers(1.0, 0.1, 0.01, 99.0, gradients=[4.0, 2.0, 1.0, 99.0]))
    assert (found.activation_ratio, found.gradient_ratio) == (0.01, 4.0)
    assert found.decades == pytest.approx(2.0)
    assert found.loss is None


@pytest.mark.parametrize(
    ("variances", "lost_at", "words"),
    [
        ((1.0, 1e-3, 1e-5, 1.0), "layer2", "activations vanish at layer2"),
        ((1.0, 1e3, 1e5, 1.0), "layer2", "activations explode at layer2"),
        ((1.0, None, None, 1.0), "layer1", "activations overflow at layer1"),
        ((0.0, 0.0, 0.0, 0.0), "layer0", "activations are constant at layer0"),
    ],
)
def test_the_layer_that_loses_the_signal_is_named(variances, lost_at, words):
    found = signal_through(layers(*variances))
    assert (found.loss.layer, str(found)) == (lost_at, words)


def test_a_gradient_is_followed_from_the_output_back():
    found = signal_through(layers(1.0, 1.0, 1.0, 1.0, gradients=[1e-9, 1e-6, 1.0, 1.0]))
    assert str(found) == "gradients vanish at layer1"


def test_a_signal_that_is_gone_has_no_number_of_decades():
    found = signal_through(layers(1.0, 0.5, 0.0, 1.0))
    assert found.activation_ratio == 0
    assert found.decades is None
    assert signal_through(layers(1.0, 1.0)) is None


def test_only_the_probe_before_the_first_step_counts():
    noise = random.Random(0)
    run = make_run("kaiming", 0, layers=(*make_layers(0, 3, 1.0, noise), *make_layers(20, 3, 100.0, noise)))
    assert abs(math.log10(signal_at_start(run).activation_ratio)) < 1


def test_every_metric_is_a_file_with_a_line_for_the_list():
    metrics = all_metrics(target=0.5)
    assert {metric.name for metric in metrics} == {path.stem for path in Path(contract.__file__).parent.glob("*.py")} - {"__init__"}
    assert all(catalog.find("metric", metric.name)[0].family for metric in metrics)
    assert [metric.name for metric in all_metrics()] == [metric.name for metric in metrics if metric.name != "steps_to_target"]


@pytest.mark.parametrize("metric", all_metrics(target=0.5), ids=lambda metric: metric.name)
def test_the_values_of_a_metric_are_numbers_inside_its_bounds_or_rank_last(metric):
    for run in make_comparison(4):
        value = metric.value(run)
        assert metric.ranked(run) == (metric.worst if value is None else value)
        assert value is None or metric.measured(run)
    assert metric.label
    assert "{" not in metric.label + metric.amount


def test_words_say_which_images_were_evaluated():
    assert find_metric("best_test_loss").amount == "in best test loss"
    assert find_metric("best_test_loss", split="held-out").amount == "in best held-out loss"
    assert find_metric("steps_to_target", 0.75, "held-out").label == "steps to 75 % held-out accuracy"


def test_a_figure_that_ranks_nothing_is_shown_and_not_judged():
    summary = summarize(make_comparison(4))
    assert summary.scheme("kaiming").estimate("activation_ratio").n == 4
    assert "activation_ratio" not in {comparison.metric for comparison in summary.comparisons}
    with pytest.raises(ConfigError, match="The metric activation_ratio has no better or worse"):
        checked_view(make_config("kaiming", "xavier"), View(metric="activation_ratio"))


OWN = """
from initbench.metrics import Metric

def build():
    \"\"\"The first loss.\"\"\"
    return Metric("first loss", lambda run: VALUE, lambda run: True, better="lower", amount="in {label}", bounds=(0, 9))
"""


def test_a_metric_of_ones_own_is_one_file_that_verdicts_can_be_about(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN.replace("VALUE", "run.job.seed + (run.job.scheme.name == 'xavier')"))
    summary = summarize([run for run in make_comparison(8) if str(run.job.scheme) in {"xavier", "kaiming"}], metric=str(file))
    assert summary.headline == "kaiming beats xavier by 1.000 in first loss [1.000, 1.000], 8 seeds, p = 0.008"
    assert summary.primary.label == "first loss"
    file = tmp_path / "broken.py"
    file.write_text(OWN.replace("VALUE", "float('nan')"))
    with pytest.raises(ConfigError, match=r"broken.py is nan for kaiming, seed 0; it must be from 0 to 9"):
        summarize([make_run("kaiming", 0)], metric=str(file))


def test_a_head_that_begins_at_zero_loses_no_signal():
    run = make_run("identity", 0)
    layers = [stats.model_copy(update={"gradient_variance": 0.0}) for stats in run.layers if stats.step == 0]
    layers[-1] = layers[-1].model_copy(update={"gradient_variance": 0.1, "pre_activation_variance": 0.0, "activation_variance": 0.0})
    run = run.model_copy(update={"layers": tuple(layers)})
    signal = signal_at_start(run)
    assert signal.zero_head
    assert str(signal) == "the signal passes from layer to layer, to a head that begins at zero"
    summary = summarize([run])
    assert summary.scheme("identity").signal_lost_at is None
    assert summary.scheme("identity").estimate("gradient_ratio").n == 0
    assert find_metric("signal_decades").value(run) < 1
    dead = run.model_copy(update={"layers": tuple(stats.model_copy(update={"gradient_variance": 0.0}) for stats in layers)})
    assert str(signal_at_start(dead)).startswith("gradients are zero")

"""Each scheme at its own best value: what is tried, what is chosen, and that the test split and the reported seeds stay out of it."""

import math

import pytest
import torch
from race_support import carried_out, made_up, question, summary_of

from initbench.errors import ConfigError
from initbench.question import plan
from initbench.question.config import Ref, TrainConfig, View
from initbench.reporting import search
from initbench.studies import tune
from initbench.studies.kinds import study_of
from initbench.training.batches import to_device
from initbench.training.job import build_task


def bowl(best_of):
    """Loss with its least value where each scheme has its best rate."""

    def loss(job):
        gap = math.log10(job.train.lr / best_of[str(job.scheme)])
        return 0.2 + 0.3 * gap**2 + 0.001 * job.seed

    return loss


def test_the_grid_is_half_powers_of_ten_around_the_config():
    assert tune.make_grid(question("he", "xavier"), tune.tune_of(question("he"))).values == (0.01, 0.0316, 0.1, 0.316, 1.0)


def test_values_are_tried_on_held_out_images_and_on_other_seeds_than_the_reported_ones():
    config = question("he", "xavier", seeds=4)
    done, _ = carried_out("compare", config, bowl({"kaiming": 0.1, "xavier": 0.316}))
    trials = [run.job for run in done.values() if run.job.train.holdout]
    reported = [run.job for run in done.values() if not run.job.train.holdout]
    assert {job.seed for job in trials} == {4, 5, 6}
    assert {job.train.holdout for job in trials} == {0.2}
    assert {job.seed for job in reported} == {0, 1, 2, 3}
    assert len(trials) == 2 * 5 * 3


def test_each_scheme_gets_its_own_best_value_and_both_comparisons_are_said():
    summary = summary_of("compare", question("he", "xavier"), bowl({"kaiming": 0.1, "xavier": 0.316}))
    assert [(found.scheme, found.best) for found in summary.tuned.schemes] == [("kaiming", 0.1), ("xavier", 0.316)]
    assert summary.headline.startswith("At the same lr (0.1): kaiming beats xavier by ")
    assert "Each at its own best lr: xavier and kaiming do not differ: no difference" in summary.headline
    assert any("30 runs beside those reported" in note for note in summary.notes)


def test_the_grid_is_widened_while_the_best_lies_at_its_edge():
    config = question("he", "xavier")
    done, rounds = carried_out("compare", config, bowl({"kaiming": 0.00316, "xavier": 0.1}))
    found = tune.search_of(config, config.schemes[0], done)
    assert found.best == 0.00316
    assert [point.value for point in found.points] == [0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0]
    assert not found.at_edge
    assert rounds == 4


def test_widening_ends_and_says_that_there_may_be_a_better_value():
    summary = summary_of("compare", question("he", "xavier"), bowl({"kaiming": 1e9, "xavier": 0.1}))
    assert summary.tuned.scheme("kaiming").best == 100.0
    assert any("kaiming, 100.0, is at the edge of what was tried" in note for note in summary.notes)


def test_a_scheme_that_diverges_everywhere_looks_lower_and_has_no_best_value():
    config = question("he", "xavier")
    summary = summary_of("compare", config, lambda job: None if str(job.scheme) == "xavier" else 0.5)
    found = summary.tuned.scheme("xavier")
    assert (found.best, found.points[0].value, found.points[0].diverged) == (None, 0.0001, 3)
    assert "xavier has no best train.lr: with no value did most seeds come above chance." in summary.notes


def test_of_equal_losses_the_value_nearest_to_the_config_is_chosen():
    summary = summary_of("compare", question("he", "xavier"), lambda job: 0.5)
    assert {found.best for found in summary.tuned.schemes} == {0.1}


def test_one_diverged_seed_of_three_does_not_hide_a_value_but_two_do():
    def loss(job):
        if job.train.lr == 0.316 and job.train.holdout and str(job.scheme) == "kaiming":
            return None if job.seed == 8 else 0.1
        if job.train.lr == 0.316 and job.train.holdout:
            return None if job.seed in {8, 9} else 0.1
        return 0.5

    summary = summary_of("compare", question("he", "xavier"), loss)
    assert [found.best for found in summary.tuned.schemes] == [0.316, 0.1]


def test_given_values_are_tried_as_they_are():
    config = question("he", "xavier", tune="train.momentum=0.5,0.9,0")
    summary = summary_of("compare", config, lambda job: 0.5 + job.train.momentum / 10)
    found = summary.tuned.scheme("kaiming")
    assert ([point.value for point in found.points], found.best, found.at_edge) == ([0, 0.5, 0.9], 0, True)
    words = question("he", "xavier", tune="train.optimizer=sgd,adam")
    assert (
        summary_of("compare", words, lambda job: 0.1 if job.train.optimizer.name == "adam" else 0.5).tuned.scheme("xavier").best == "adam"
    )


def test_a_parameter_of_the_model_can_be_tuned_from_its_default():
    grid = tune.make_grid(question("he"), question("he", tune="model.width").tune)
    assert grid.values == (26, 81, 256, 810, 2560)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.lrr", "unknown key 'train.lrr'. Did you mean 'lr'"),
        ("train.optimizer", "Say what to try: --tune train.optimizer=A,B,C"),
        ("train.lr=0.1,-3", "must be greater than 0"),
        ("seeds", "'seeds' cannot be tuned"),
        ("model.wdith", "has no parameter 'wdith'. Did you mean 'width'"),
    ],
)
def test_a_key_or_value_that_cannot_be_tuned_is_refused_with_what_to_do(key, words):
    config = question("he", "xavier", tune=key)
    with pytest.raises(ConfigError) as caught:
        study_of("compare", config).jobs(config, {})
    assert words in str(caught.value)


def test_runs_at_the_config_value_are_shared_with_those_at_the_best_value():
    config = question("he", "xavier", seeds=4)
    done, _ = carried_out("compare", config, bowl({"kaiming": 0.1, "xavier": 0.316}))
    assert len(done) == 30 + 2 * 4 + 4


def test_the_curve_shows_each_scheme_each_seed_and_what_diverged():
    config = question("he", "xavier")
    summary = summary_of("compare", config, lambda job: None if job.train.lr > 0.5 else bowl({"kaiming": 0.1, "xavier": 0.1})(job))
    (plot,) = search.plots(summary)
    (panel,) = plot.panels
    thick = [line for line in panel.lines if line.weight == "middle"]
    assert list(plot.names.values()) == ["kaiming (best 0.1)", "xavier (best 0.1)"]
    assert thick[0].points[-1] == (0.0, None)
    assert len(panel.lines) == 2 * (1 + 3)
    assert "Triangles at the top: diverged, or above the range" in panel.notes
    assert panel.ticks[0] == (-2.0, "0.01")


def test_tables_say_both_figures_and_the_csv_has_every_trial():
    config = question("he", "xavier")
    done, _ = carried_out("compare", config, bowl({"kaiming": 0.1, "xavier": 0.316}))
    summary = tune.summarize(config, done, View(metric="final_test_loss"))
    (table,) = search.study_tables(summary)
    assert (table.title, table.columns[2]) == ("Each scheme at its own best lr: test loss", "at 0.1")
    assert sorted(row[1] for row in table.rows) == ["0.1", "0.316"]
    files = search.tables(summary, done.values())
    assert files["tables/tuning.csv"].count("\n") == 31


def test_held_out_images_are_never_trained_on_and_take_the_place_of_the_test_split():
    from initbench.datasets import synthetic

    data = to_device(synthetic.load(None, n=100, test=20, shape=(1, 4, 4)), build_task(Ref(name="classification")), torch.device("cpu"))
    split = data.held_out(0.2)
    assert (len(split.x_train), len(split.x_test)) == (80, 20)
    together = torch.cat([split.x_train, split.x_test]).flatten(1)
    assert torch.equal(together[together.sum(1).argsort()].sum(1), data.x_train.flatten(1)[data.x_train.flatten(1).sum(1).argsort()].sum(1))
    assert torch.equal(split.x_test, data.held_out(0.2).x_test)
    with pytest.raises(ConfigError, match="leaves one part empty"):
        data.held_out(0.001)


def test_a_holdout_changes_the_name_of_a_run_and_its_absence_does_not():
    (job, *_) = plan.make_jobs(question("he", tune=None))
    other = job.model_copy(update={"train": job.train.model_copy(update={"holdout": 0.2})})
    assert plan.job_id(other) != plan.job_id(job)
    assert made_up(job, 0.1).job_id == plan.job_id(job)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("train.weight_decay", (0.0, 1e-5, 1e-4, 1e-3, 1e-2)),
        ("train.momentum", (0.0, 0.684, 0.9, 0.9684, 0.99)),  # 1 - momentum in half powers of ten
        ("train.nesterov", (False, True)),
        ("train.augment", (False, True)),
        ("model.depth", (1, 3, 9, 30)),
        ("model.width=32,64", (32, 64, 256)),  # 256 is the default of the model
        ("model.width=64,64.0,32,256", (32, 64, 256)),
        ("train.lr=0.1,0.1", (0.1,)),
        ("train.optimizer=adam,adamw", ("sgd", "adam", "adamw")),
        ("init.bias=0,0.1", ("scheme", 0, 0.1)),
    ],
)
def test_what_is_tried_holds_the_value_of_the_config(key, values):
    config = question("he", "xavier", tune=key)
    grid = tune.make_grid(config, config.tune)
    assert grid.values == values
    assert grid.base in grid.values
    done, _ = carried_out("compare", config, lambda job: 0.5)
    assert tune.search_of(config, config.schemes[0], done).best == grid.base


def test_a_value_with_many_digits_is_tried_itself():
    config = question("he", train=TrainConfig(steps=16, lr=0.01234))
    assert tune.make_grid(config, config.tune).values == (0.00123, 0.0039, 0.01234, 0.039, 0.123)


def test_a_weight_decay_is_widened_upwards_and_zero_is_no_edge():
    most = summary_of("compare", question("he", "xavier", tune="train.weight_decay"), lambda job: 1 - job.train.weight_decay / 2)
    assert most.tuned.scheme("kaiming").best == 1.0
    assert any("at the edge" in note for note in most.notes)
    least = summary_of("compare", question("he", "xavier", tune="train.weight_decay"), lambda job: 0.5 + job.train.weight_decay)
    assert least.tuned.scheme("kaiming").best == 0.0
    assert not any("at the edge" in note for note in least.notes)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train", "'train' is a section with keys of its own"),
        ("train.lr=true,0.1", "it must be a number"),
        ("train.lr=fast", "it must be a number"),
        ("train.holdout=0.1,0.2", "'train.holdout' cannot be tuned"),
        ("train.momentum=0.5,1", "must be less than 1"),
        ("train.warmup_steps", "Say what to try: --tune train.warmup_steps=A,B,C"),
    ],
)
def test_what_cannot_be_tuned_is_refused(key, words):
    with pytest.raises(ConfigError) as caught:
        study_of("compare", question("he", "xavier", tune=key)).jobs(question("he", "xavier", tune=key), {})
    assert words in str(caught.value)


def test_a_value_that_the_config_leaves_unset_is_not_tried_and_that_is_said():
    summary = summary_of("compare", question("he", "xavier", tune="train.clip_norm=1,5"), lambda job: 0.5)
    assert "The config leaves train.clip_norm unset, which was not tried: a best value may still be worse than that." in summary.notes

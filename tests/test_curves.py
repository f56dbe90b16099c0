"""Curves of a few heights: one scale for all, what diverged, what no terminal has letters for, and when there is no room."""

import pytest
from simulated_runs import make_run
from typer.testing import CliRunner

from initbench.cli.app import app
from initbench.cli.output import BLOCKS, PLAIN
from initbench.statistics.curves import HEIGHTS, LETTERS, LOST, heights, of_losses, of_signals
from initbench.statistics.summary import group, summarize


def runs(**accuracies):
    return group([make_run(scheme, seed, accuracy, gain=gain) for scheme, (accuracy, gain) in accuracies.items() for seed in range(4)])


def test_all_curves_share_one_logarithmic_scale():
    assert heights({"a": [1.0, 10.0, 100.0], "b": [10.0, 10.0, 10.0]}) == {"a": "047", "b": "444"}


def test_every_height_has_a_letter_of_either_kind_and_what_is_lost_has_none():
    assert len(HEIGHTS) == len(set(BLOCKS)) == len(set(PLAIN))
    assert LOST not in HEIGHTS + BLOCKS + PLAIN
    assert PLAIN.isascii()


def test_what_explodes_or_is_zero_is_at_the_edge():
    found = heights({"kept": [1.0, 1.0, 1.0], "explodes": [1.0, 1e12, float("inf")], "gone": [1.0, 1e-5, 0.0]})
    assert found["explodes"][1:] == "77"
    assert found["gone"][2] == "0"
    assert len(set(found["kept"])) == 1


def test_losses_fall_and_most_runs_that_diverged_are_crosses():
    found = of_losses(runs(kaiming=(0.9, 1.0), normal=(None, 9.0)))
    assert len(found["kaiming"]) <= LETTERS
    assert found["kaiming"][0] == max(found["kaiming"]) > found["kaiming"][-1]
    assert found["normal"].endswith(LOST)


def test_signals_show_what_layers_do():
    found = of_signals(runs(kaiming=(0.9, 1.0), normal=(None, 100.0), xavier=(0.5, 0.01)))
    assert found["normal"][-1] > found["normal"][0]
    assert found["xavier"][-1] < found["xavier"][0]


def test_the_summary_holds_them():
    every = runs(kaiming=(0.9, 1.0), xavier=(0.5, 0.01))
    summary = summarize(run for own in every.values() for run in own)
    assert {scheme.scheme: scheme.loss_by_step for scheme in summary.schemes} == of_losses(every)
    assert {scheme.scheme: scheme.signal_by_layer for scheme in summary.schemes} == of_signals(every)


@pytest.mark.heavy
@pytest.mark.parametrize(("width", "there"), [(60, False), (80, False), (110, True), (140, True)])
def test_the_table_has_them_where_the_terminal_is_wide_enough(width, there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "kaiming", "xavier", "--dataset", "synthetic:n=64,test=20,shape=[1,4,4]", "--model", "mlp:depth=3,width=8"]
    words += ["--steps", "6", "--seeds", "2", "--engine", "serial", "--set", "train.batch_size=16", "--set", "probe.batch_size=16"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    assert any(letter in done.stdout for letter in BLOCKS) is there
    assert max(map(len, done.stdout.splitlines()[:8])) <= width

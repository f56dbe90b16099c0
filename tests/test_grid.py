"""Grids: values and ranges of axes, cells, conditions, and what is said of those that cannot be used."""

import json
from pathlib import Path

import pytest
from sweep_support import SMALL, TINY, asked
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.errors import ConfigError
from initbench.question.config import ExperimentConfig, axis_values
from initbench.question.config_file import dump_config, load_config
from initbench.question.grid import cells
from initbench.question.plan import describe, job_ids, make_jobs, resolve_config
from initbench.question.request import configure, grid_of
from initbench.statistics.sweep import axis_of
from initbench.studies import sweep


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("4,16,64", [4, 16, 64]),
        ("4..7", [4, 5, 6, 7]),
        ("0..1:5", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("1e-3..1:log:4", [0.001, 0.01, 0.1, 1.0]),
        ("2..64:log:6", [2, 4, 8, 16, 32, 64]),
        ("-1..1:3", [-1, 0, 1]),
        ("1.40..1.43:7", [1.4, 1.405, 1.41, 1.415, 1.42, 1.425, 1.43]),
        ("1.414..1.5:3", [1.414, 1.457, 1.5]),
        ("1e-3..1:log:7", [0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1]),
        ("[0.9,0.99],[0.8,0.9]", [[0.9, 0.99], [0.8, 0.9]]),
        ("[64,32],[32]", [[64, 32], [32]]),
        ([1, "a"], [1, "a"]),
        (3, [3]),
        ("relu,tanh", ["relu", "tanh"]),
    ],
)
def test_the_values_of_an_axis(given, values):
    assert axis_values("train.lr", given) == values


@pytest.mark.parametrize("given", ["1..", "..3", "3..1", "1..2:1", "0..1:log:3", "1..2:0", "0.1..0.3", "a..b", "1..2:log", "1..5:x"])
def test_a_range_that_is_none_is_refused(given):
    with pytest.raises(ValueError, match=r"train\.lr"):
        axis_values("train.lr", given)


@pytest.mark.parametrize(
    ("key", "given", "values"),
    [
        ("train.lr", "1..100:log:5", (1, 3.16, 10, 31.6, 100)),
        ("train.lr", "1..5", (1, 2, 3, 4, 5)),
        ("scheme.std", "1..4:log:3", (1, 2, 4)),
        ("scheme.std", "1..2:log:3", (1, 1.414, 2)),
        ("model.depth", "1..4:log:9", (1, 2, 3, 4)),
        ("model.width", "4..16:6", (4, 6, 9, 11, 14, 16)),
        ("train.batch_size", "16..64:log:4", (16, 25, 40, 64)),
        ("model.dropout", "0..1:3", (0, 0.5, 1)),
    ],
)
def test_a_range_is_of_whole_numbers_where_the_key_takes_no_others(key, given, values):
    found = configure("sweep", schemes=["normal"], grid={key: given}).grid.axes[key]
    assert found == pytest.approx(values, rel=1e-3)


def test_a_key_of_a_users_model_is_whole_where_its_type_or_default_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("def build(shape, classes, blocks: int = 2, slope: float = 1, size=8, more=None): ...\n")
    grid = {f"model.{name}": "1..4:log:4" for name in ("blocks", "slope", "size", "more")}
    axes = configure("sweep", schemes=["kaiming"], model="./net.py:build", grid=grid).grid.axes
    assert axes["model.blocks"] == axes["model.size"] == axes["model.more"] == (1, 2, 3, 4)
    assert axes["model.slope"] == pytest.approx((1, 1.59, 2.52, 4), rel=1e-2)


def test_values_of_many_lists_are_an_axis():
    found = cells(asked({"train.betas": "[0.9,0.99],[0.8,0.9]"}))
    assert [cell.config.train.betas for cell in found] == [(0.9, 0.99), (0.8, 0.9)]
    assert cells(asked({"model.widths": "[64,32],[32]"}))[0].config.model.params["widths"] == [64, 32]


def test_a_condition_knows_the_defaults_of_the_model():
    found = cells(asked({"model.depth": [4, 16], "where": "model.depth * model.width <= 1024"}))
    assert [str(cell) for cell in found] == ["depth 4"]


@pytest.mark.heavy
@pytest.mark.parametrize("options", [["--dry-run"], ["--engine", "serial"], ["--engine", "processes"]])
def test_the_cell_that_no_run_can_use_is_named(options):
    words = [
        "sweep",
        "kaiming",
        "--grid",
        "model.depth=4,-3",
        "--grid",
        "train.steps=3,4",
        "--seeds",
        "1",
        "--dataset",
        TINY,
        "--out",
        "out",
    ]
    told = CliRunner().invoke(app, [*words, *options])
    assert told.exit_code == 2
    assert "The cell 'depth -3, steps 3' of the grid cannot be used: mlp depth is -3." in " ".join(told.output.split())
    assert not Path("out").exists()


def test_a_run_is_called_by_its_cell():
    config = asked({"model.depth": [3, 4], "train.lr": [0.05, 0.1]})
    words = [describe(job, config) for job in sweep.jobs(resolve_config(config), {})]
    assert words[0] == "kaiming, seed 0, depth 3, lr 0.05"
    assert "xavier, seed 1, depth 4, lr 0.1" in words


def test_a_plan_has_an_end():
    with pytest.raises(ConfigError, match=r"2 schemes x 1,000 seeds x 10,000 cells are 20,000,000 runs; at most 1,000,000"):
        asked({"train.lr": "1e-3..1:log:100", "model.depth": "1..100"}, seeds=1000)


@pytest.mark.heavy
def test_an_axis_whose_first_key_repeats_is_read_by_all_its_keys():
    axis = axis_of("train.optimizer,train.lr", [["sgd", 0.02], ["adam", 0.001], ["sgd", 0.2]])
    assert (axis.name, axis.texts) == ("optimizer, lr", ("sgd, 0.02", "adam, 0.001", "sgd, 0.2"))
    assert axis_of("model.depth,train.lr", [[2, 0.1], [8, 0.1]]).texts == ("2", "8")
    rows = {"train.optimizer,train.lr": [["sgd", 0.02], ["sgd", 0.5]], "model.depth": [1, 2]}
    results = initbench.sweep(["kaiming", "zeros"], grid=rows, seeds=2, **SMALL | {"steps": 20})
    (heat, *_) = [panel.heat for panel in results.plots[0].panels]
    assert heat.y == ("sgd, 0.02", "sgd, 0.5")
    for cell in results.summary.sweep.cells:
        row = [0.02, 0.5].index(cell.values["train.lr"])
        assert heat.values[row][cell.values["model.depth"] - 1] == cell.scheme("kaiming").estimate("final_test_accuracy").value
    assert "optimizer" in results.summary.headline


def test_cells_are_all_combinations_that_meet_the_conditions():
    found = cells(asked({"model.depth": [2, 4, 8], "train.lr": [0.1, 0.2], "where": "model.depth * train.lr <= 0.8 and model.depth != 2"}))
    assert [str(cell) for cell in found] == ["depth 4, lr 0.1", "depth 4, lr 0.2", "depth 8, lr 0.1"]
    assert found[2].config.model.params["depth"] == 8
    assert found[2].config.train.lr == 0.1
    assert found[0].config.grid is None


def test_keys_go_together():
    found = cells(asked({"model.depth,train.lr": [[2, 0.1], [8, 0.01]], "train.momentum": [0.0, 0.9]}))
    assert [(c.config.model.params["depth"], c.config.train.lr, c.config.train.momentum) for c in found] == [
        (2, 0.1, 0.0), (2, 0.1, 0.9), (8, 0.01, 0.0), (8, 0.01, 0.9),
    ]  # fmt: skip
    assert axis_values("model.depth,train.lr", "[2,0.1],[8,0.01]") == [[2, 0.1], [8, 0.01]]


def test_parameters_of_schemes_are_axes():
    found = cells(configure("sweep", schemes=["sigma", "normal"], grid={"model.activation": ["relu", "tanh"]}))
    assert [cell.config.model.params.get("activation") for cell in found] == [None, "tanh"]
    of_scheme = cells(configure("sweep", schemes=["sigma"], grid={"scheme.sigma_w": [1.5, 2.0]}))
    assert [str(cell.config.schemes[0]) for cell in of_scheme] == ["sigma:sigma_w=1.5", "sigma:sigma_w=2.0"]


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({"model.depth": []}, "the axis model.depth has no values"),
        ({"train.rate": [1]}, "train.rate"),
        ({"model.depht": [1]}, "depht"),
        ({"seeds": [1, 2]}, "use --seeds"),
        ({"schemes": ["a"]}, "name them before the options"),
        ({"train.lr": [0.1], "train": [{}]}, "clash"),
        ({"train.lr": [0.1, 0.10]}, "ask the same"),
        ({"train.lr": [0.1, "abc"]}, "The cell 'lr abc' of the grid cannot be used: train.lr is 'abc'; it must be a number"),
        ({"train.lr": [0.1, -1]}, "The cell 'lr -1' of the grid cannot be used"),
        ({"train.lr": ["fast"]}, "The cell 'lr fast'"),
        ({"model.depth,train.lr": [[1]]}, "no list of 2 values"),
        ({"model.depth": [2], "where": "model.depth > 5"}, "No cell of the grid meets the condition"),
        ({"model.depth": [2], "where": "model.depth >"}, "Cannot read the condition"),
        ({"model.depth": [2], "where": "__import__('os').system('true')"}, "holds more than keys, numbers and comparisons"),
        ({"model.depth": [2], "where": "modle.depth < 3"}, "there is no key 'modle.depth'"),
        ({"model.depth": [2], "where": "10 ** 10 ** 10 > 1"}, "too large an exponent"),
        ({"model.depth": [2], "where": "model.depth / 0 > 1"}, "division by zero"),
        ({"model.depth": [2], "where": "((10 ** 999) ** 999) ** 999 > 1"}, "cannot be told of the cell"),
        ({"model.activation": ["relu"], "where": "model.activation * 1000000000 == 'a'"}, "'relu' is no number"),
        ({"model.depth": [2], "where": "[1 for x in model.depth]"}, "holds more than keys"),
        ({"train.lr": "1e-6..1:log:200", "model.depth": "1..60"}, "at most 10,000"),
        ({}, "grid"),
        ({"where": "1 < 2"}, "grid is empty"),
    ],
)
def test_a_grid_that_cannot_be_used_is_named_in_a_sentence(grid, sentence):
    with pytest.raises(ConfigError) as told:
        cells(asked(grid))
    assert sentence in str(told.value)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--grid", "model.depth"], "names no values"),
        (["--grid", "model.depth="], "names no values"),
        (["--grid", "model.depth=1", "--grid", "model.depth=2"], "given twice"),
        ([], "needs a grid"),
        (["--grid", "train.lr=9..1"], "must rise"),
    ],
)
def test_words_of_the_command_line_that_are_no_grid(words, sentence):
    ran = CliRunner().invoke(app, ["sweep", "kaiming", *words, "--dry-run"])
    assert ran.exit_code == 2
    assert sentence in " ".join(ran.stderr.split())


def test_other_commands_do_not_take_a_grid(tmp_path):
    (tmp_path / "grid.yaml").write_text("schemes: [kaiming, xavier]\ngrid: {model.depth: [2, 4]}\n")
    with pytest.raises(ConfigError, match=r"use initbench sweep -c grid\.yaml"):
        initbench.compare(config="grid.yaml")


def test_a_config_with_a_grid_is_read_back_the_same(tmp_path):
    config = asked({"model.depth,train.lr": [[2, 0.1], [8, 0.01]], "train.momentum": "0..0.9:4", "where": ["train.momentum < 0.8"]})
    path = tmp_path / "back.yaml"
    path.write_text(dump_config(config))
    assert load_config(str(path)) == config
    assert "axes" not in path.read_text()


def test_a_question_without_a_grid_has_the_id_that_it_had():
    assert "grid" not in ExperimentConfig(schemes=("kaiming",), seeds=(0,)).model_dump(exclude_defaults=True)


@pytest.mark.parametrize("words", [["--set", "model.depth=3"], ["--steps", "5"]])
def test_a_key_is_an_axis_or_has_one_value(words):
    told = CliRunner().invoke(app, ["sweep", "kaiming", "--grid", "model.depth=4,8", "--grid", "train.steps=3,4", *words, "--dry-run"])
    assert told.exit_code == 2
    assert f"is an axis of the grid, and {' '.join(words) if words[0] == '--set' else words[0]} gives it one value." in " ".join(
        told.output.split()
    )


def test_a_plan_as_json_has_axes_and_the_jobs_of_each_cell():
    grid = ["--grid", "model.depth=1,2", "--grid", "train.lr=0.1,0.2,0.3"]
    plan = json.loads(CliRunner().invoke(app, ["sweep", "kaiming", "xavier", *grid, "--seeds", "2", "--dry-run", "--json"]).stdout)
    assert plan["axes"] == {"model.depth": [1, 2], "train.lr": [0.1, 0.2, 0.3]}
    config = configure("sweep", schemes=["kaiming", "xavier"], seeds=2, grid=grid_of(grid[1::2], ()))
    assert len(plan["cells"]) == 6
    for cell, told in zip(cells(config), plan["cells"], strict=True):
        assert told["values"] == dict(cell.values)
        assert sorted(told["jobs"]) == sorted(job_ids(make_jobs(cell.config)))

"""Trainability maps: axes, points, the theory behind the lines, pictures and their files."""

import json
import math

import numpy as np
import pytest
import torch
from simulated_runs import make_run
from typer.testing import CliRunner

from initbench.cli.app import app
from initbench.errors import ConfigError
from initbench.init.initialize import initialize
from initbench.nn.build import build_model
from initbench.probing import map_page, map_run
from initbench.probing.map_run import draw_map, read_axes
from initbench.question.config import ExperimentConfig, Ref
from initbench.question.data_folder import data_folder
from initbench.theory import meanfield
from initbench.theory.phase import phase_grid
from initbench.training.batches import memory_format
from initbench.training.job import load_data
from initbench.training.scan import scan

SMALL = Ref(name="mlp", params={"depth": 5, "width": 32, "activation": "tanh"})


def config(**more):
    return ExperimentConfig(schemes=(Ref(name="sigma"),), seeds=(0,), model=SMALL, **more)


def test_axes_are_read_with_and_without_ranges():
    x, y = read_axes("sigma_w=1:2:3,depth=2:32:5", train=False)
    assert x.values == (1.0, 1.5, 2.0)
    assert y.values == (2, 4, 8, 16, 32)
    assert len(read_axes("sigma_w,sigma_b", train=False)[0].values) == 25


@pytest.mark.parametrize(
    "text",
    ["sigma_w", "sigma_w,sigmab", "gain,sigma_w", "depth,depth", "sigma_w=2:1,depth", "gain=a:b,depth", "gain=0:1:90,sigma_b=0:1:90"],
)
def test_axes_that_cannot_be_drawn_are_one_sentence(text):
    with pytest.raises(ConfigError):
        read_axes(text, train=False)


def test_the_grid_agrees_with_the_fixed_points():
    w, b = np.array([1.25, 1.7, 2.4]), np.array([0.1, 0.2, 0.4])
    grid = phase_grid("tanh", w, b)
    for index in range(3):
        point = meanfield.fixed_point("tanh", w[index] ** 2, b[index] ** 2)
        assert grid.q[index] == pytest.approx(point.q, rel=1e-3)
        assert grid.chi_1[index] == pytest.approx(point.chi_1, rel=1e-3)
        assert grid.xi_c[index] == pytest.approx(meanfield.depth_scale_c("tanh", point.q, w[index] ** 2, b[index] ** 2), rel=0.03)


def test_relu_is_critical_at_the_root_of_two_whatever_the_biases():
    chi = phase_grid("relu", np.array([1.0, math.sqrt(2), 2.0]), np.array([0.0, 0.5, 1.0])).chi_1
    assert chi == pytest.approx([0.5, 1.0, 2.0])


def test_a_point_is_what_the_scheme_sigma_gives():
    found, name = scan(config(), [SMALL], [(0, 1.3, 0.2)], device="cpu", data_dir=None)
    assert name == "tanh"
    data = load_data(Ref(name="mnist5k"), data_folder(None), torch.device("cpu"))
    model = build_model(SMALL, data.shape, 10, 0)
    inputs, labels = data.probe_batch(64, memory_format(model, torch.device("cpu")))
    initialize(model, Ref(name="sigma", params={"sigma_w": 1.3, "sigma_b": 0.2}), seed=0, inputs=inputs[:8])
    pre = torch.nn.functional.linear(model[0](inputs), model[1].weight, model[1].bias).detach().requires_grad_()
    last = model[2:10](pre)
    last.retain_grad()
    torch.nn.functional.cross_entropy(model[10:](last), labels, reduction="sum").backward()
    twin = math.log10((pre.grad.double().norm() / last.grad.double().norm()).item() ** 2)
    assert found[0].decades == pytest.approx(twin, abs=1e-4)


@pytest.mark.heavy
def test_a_map_is_drawn_and_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--map", "sigma_w=0.5:3:4,sigma_b=0:1:3", "--model", "mlp:depth=4,width=16,activation=tanh", "--out", "m"]
    shown = CliRunner().invoke(app, ["probe", *arguments])
    assert shown.exit_code == 0, shown.output
    assert "edge between vanishing and exploding gradients is at sigma_w = 1." in shown.stdout
    rows = (tmp_path / "m" / "tables" / "map.csv").read_text().splitlines()
    assert len(rows) == 13
    decades = [float(row.split(",")[2]) for row in rows[1:5]]
    assert decades == sorted(decades)
    shown = (tmp_path / "m" / "report.html").read_text()
    assert "initbench probe -c config.yaml --map sigma_w=0.5:3:4,sigma_b=0:1:3</pre>" in shown
    assert shown.count('<tr class="marked">') == sum(abs(float(row.split(",")[2])) <= 1 for row in rows[1:]) > 0
    assert (tmp_path / "m" / "plots" / "map-sigma_w-sigma_b.png").stat().st_size > 10_000


@pytest.mark.heavy
def test_a_trained_map_keeps_what_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(map_page, "draw", lambda *_: {".png": b"", ".svg": b"<svg ></svg>"})
    asked = config(train={"steps": 3, "batch_size": 32})
    first = draw_map(asked, "gain=1:2:2,depth=2:3:2", train=True, device="cpu", out=str(tmp_path / "m"))
    assert all(point.accuracy is not None for point in first.points)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "m" / "jobs").iterdir()}
    assert len(times) == 4
    again = draw_map(asked, "gain=1:2:2,depth=2:3:2", train=True, device="cpu", out=str(tmp_path / "m"))
    assert again.points == first.points
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "m" / "jobs").iterdir()}
    json.dumps(again.document())


def test_a_diverged_seed_counts_as_below_every_number():
    def of_seeds(*accuracies):
        return map_run._outcome([make_run("sigma", seed, accuracy) for seed, accuracy in enumerate(accuracies)])

    assert of_seeds(0.9, 0.8, 0.3) == (0.8, "completed")
    assert of_seeds(0.9, 0.8, None) == (0.8, "diverged")
    assert of_seeds(0.9, None, None) == (None, "diverged")
    assert of_seeds(0.9, None) == (None, "diverged")


@pytest.mark.heavy
def test_every_point_and_run_of_a_map_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(map_page, "draw", lambda *_: {".png": b"", ".svg": b"<svg ></svg>"})
    told = []
    asked = config(train={"steps": 2, "batch_size": 32})
    draw_map(asked, "gain=1:2:3,depth=2:3:2", train=True, device="cpu", out=str(tmp_path / "m"), told=told.append)
    assert len(told) == 2 * 6
    assert len(set(told)) == 12


def test_a_model_without_hidden_layers_has_no_map():
    with pytest.raises(ConfigError, match="two hidden layers"):
        scan(config(), [Ref(name="mlp", params={"depth": 1})], [(0, 1.0, 0.0)], device="cpu", data_dir=None)


@pytest.mark.parametrize("words", [["--dataset", "waves"], ["-c", "text_gpt", "--train"]])
def test_a_map_of_another_task_is_refused_with_what_trains_a_grid_of_it(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["probe", "--map", "sigma_w,sigma_b", *words])
    assert result.exit_code == 2
    assert "A map is of the classification of images, and the task here is" in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())

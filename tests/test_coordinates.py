"""The coordinate check: sizes and slopes against plain torch and numpy, verdicts, files, and what cannot be checked."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.errors import ConfigError
from initbench.init.initialize import initialize
from initbench.measure.coordinates import WHOLE, outputs_of
from initbench.models import gpt, mlp
from initbench.nn.layers import explain
from initbench.probing import coordinates
from initbench.probing.coordinate_page import plots
from initbench.probing.coordinate_verdicts import MARGIN, Growth, growth_of, judge
from initbench.question import plan
from initbench.question.config import Ref, TrainConfig, parse_ref
from initbench.question.request import configure
from initbench.reporting import draw
from initbench.results.coordinates import LayerSizes, WidthRun
from initbench.results.record import RunStatus
from initbench.statistics.slopes import Slope, slope
from initbench.training.batches import epoch_order
from initbench.training.coordinates import run_width
from initbench.training.job import load_data, run_job

WIDTHS, STEPS, LR = (16, 32, 64), 3, 0.01
USER = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, shape, classes, width):
        super().__init__()
        self.first, self.head = nn.Linear(8, width), nn.Linear(width, classes)
    def forward(self, x):
        return self.head(torch.tanh(self.first(x)))
class Fixed(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.head = nn.Linear(8, classes)
    def forward(self, x):
        return self.head(x)
class Deeper(nn.Module):
    def __init__(self, shape, classes, width=8):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(width // 8)])
        self.head = nn.Linear(8, classes)
    def forward(self, x):
        return self.head(self.layers(x))
"""
SMALL = ("--dataset", "waves", "--model", "mlp:depth=2", "--set", "train.batch_size=32", "--widths", "16,32,64")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(draw, "draw", lambda plot: {".png": b"", ".svg": b"<svg ></svg>"})
    (tmp_path / "mine.py").write_text(USER)


@pytest.fixture
def drawn():
    """Plots are drawn."""


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["probe", "--coordinate-check", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def by_hand(scheme, width, seed):
    """The changes (steps, layers) of a network that a plain loop of torch trains, with a hook on each layer."""
    data = load_data(Ref(name="waves"), None, torch.device("cpu"), 0.0, Ref(name="regression"))
    model = mlp.build(data.shape, data.classes, depth=2, width=width)
    kinds = TrainConfig(optimizer="adam", lr=LR)
    report, _ = initialize(model, parse_ref(scheme), seed=seed, inputs=data.x_train[:8], train=kinds)
    groups = [{"params": [p], "lr": LR * report.lr_multipliers.get(name, 1.0)} for name, p in model.named_parameters()]
    optimizer = torch.optim.Adam(groups)
    fixed, _ = data.probe_batch(24, torch.contiguous_format)
    seen = {}
    for name in ("linear1", "linear2", "head"):
        getattr(model, name).register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output.detach()}))

    def outputs():
        model(fixed)
        return dict(seen)

    order, first, changes = epoch_order(seed, 0, len(data.x_train)), outputs(), []
    for step in range(STEPS):
        chosen = order[step * 32 : (step + 1) * 32]
        optimizer.zero_grad()
        functional.mse_loss(model(data.x_train[chosen]), data.y_train[chosen]).backward()
        optimizer.step()
        changes.append([(now - first[name]).abs().mean().item() for name, now in outputs().items()])
    return np.array(changes)


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["kaiming", "mup:base_width=16"])
def test_slopes_are_those_of_a_plain_loop_of_torch(scheme):
    settings = ("--set", "train.optimizer=adam", "--set", f"train.lr={LR}", "--steps", str(STEPS), "--seeds", "2")
    answer = json.loads(run(scheme, *SMALL, *settings, "--json").stdout)
    twin = np.log2([[by_hand(scheme, width, seed) for width in WIDTHS] for seed in range(2)])
    ours = [layer["change"] for layer in answer["schemes"][0]["layers"]]
    for step in range(STEPS):
        for place in range(3):
            assert ours[place][step]["value"] == pytest.approx(np.polyfit(np.log2(WIDTHS), twin[:, :, step, place].mean(0), 1)[0], abs=1e-3)


def test_measuring_changes_nothing_of_training():
    config = configure("probe", schemes=["mup"], model="mlp:depth=2,width=32", seeds=1, settings=["train.steps=4"])
    (job,) = plan.make_jobs(config)
    measured = run_width(job, 32, device="cpu", data_dir=None)
    assert measured.losses == tuple(run_job(job, "0" * 16, device="cpu", data_dir=None).train_losses)
    assert len(measured.layers[0].changes) == 5
    assert measured.layers[0].changes[0] == 0


def test_a_slope_and_its_interval_are_those_of_least_squares_with_a_level_a_seed():
    drawn = np.random.default_rng(3)
    widths = (64, 128, 512, 1024)
    sizes = np.exp(drawn.normal(size=(3, 1)) + 0.2 * drawn.normal(size=(3, 4))) * np.array(widths) ** 0.7
    x, y = np.tile(np.log2(widths), 3), np.log2(sizes).ravel()
    design = np.column_stack([x, np.repeat(np.eye(3), 4, axis=0)])
    solved, left, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = math.sqrt(left[0] / (12 - 4) * np.linalg.inv(design.T @ design)[0, 0])
    half = stats.t.ppf(0.975, 12 - 4) * error
    found = slope(widths, sizes)
    assert (found.value, found.low, found.high) == pytest.approx((solved[0], solved[0] - half, solved[0] + half))


def test_intervals_hold_the_true_slope_as_often_as_they_say():
    drawn, widths = np.random.default_rng(0), (64, 128, 256, 512)
    held = 0
    for _ in range(2000):
        logs = drawn.normal(size=(3, 1)) + 0.5 * np.log2(widths) + 0.3 * drawn.normal(size=(3, 4))
        found = slope(widths, 2**logs)
        held += found.low <= 0.5 <= found.high
    assert 0.935 <= held / 2000 <= 0.965


def network(width, seed, exponents, *, noise=0.01, status=RunStatus.COMPLETED, steps=2, bad=None):
    """A run whose layers change as width^exponent; with a first step that is not finite from then on there are no numbers."""
    random = np.random.default_rng([width, seed])
    layers = []
    for name, exponent in exponents.items():
        sizes = [float(width**exponent * math.exp(noise * random.normal())) if exponent is not None else 0.0 for _ in range(steps)]
        changes = [0.0, *sizes] if bad is None else [0.0, *(size if step < bad else math.inf for step, size in enumerate(sizes, 1))]
        layers.append(LayerSizes(layer=name, outputs=[1.0] * (steps + 1), changes=changes))
    return WidthRun(scheme="some", width=width, seed=seed, status=status, first_bad_step=bad, layers=layers)


def networks(exponents, **more):
    return [network(width, seed, exponents, **more) for width in (64, 128, 256) for seed in range(3)]


def test_each_layer_gets_its_verdict_and_the_sentence_names_it():
    (found,) = judge(networks({"a": 0.0, "b": 1.0, "c": -0.5, "d": MARGIN, "e": None}), 2)
    assert [layer.growth for layer in found.layers] == [Growth.STAYS, Growth.GROWS, Growth.VANISHES, Growth.OPEN, Growth.STILL]
    for words in (
        "the change of b blows up with width (slope 0.99 [0.98, 1.01])",
        "that of c vanishes",
        "that of d is not decided",
        "that of e is zero",
    ):
        assert words in found.verdict
    assert found.verdict.index("over the widths 64 to 256, after 2 steps") < found.verdict.index("that of a stays")
    (level,) = judge(networks({"a": 0.0, "b": 0.01}), 2)
    assert level.verdict.startswith("every layer changes by as much at every width: slopes ")


@pytest.mark.parametrize(
    ("low", "high", "growth"),
    [(-0.1, 0.2, "stays"), (0.26, 2, "grows"), (-2, -0.26, "vanishes"), (-0.3, 0.1, "not decided"), (0.2, 0.3, "not decided")],
)
def test_a_verdict_is_decided_by_the_whole_interval(low, high, growth):
    assert growth_of(Slope((low + high) / 2, low, high)) == growth


def test_what_diverges_is_judged_by_the_steps_before():
    runs = networks({"a": 0.0, "b": 1.0}, steps=3)
    runs[-1] = network(256, 2, {"a": 0.0, "b": 1.0}, steps=3, bad=3, status=RunStatus.DIVERGED)
    (found,) = judge(runs, 3)
    assert found.step == 2
    assert "after 2 steps" in found.verdict
    assert found.verdict.endswith("diverged at width 256, first at step 3")
    runs[-1] = network(256, 2, {"a": 0.0, "b": 1.0}, steps=3, bad=1, status=RunStatus.DIVERGED)
    assert judge(runs, 3)[0].verdict == "diverged at width 256, first at step 1; nothing can be said of its layers"


def test_many_layers_are_drawn_as_those_that_depend_most_on_the_width():
    exponents = {f"layer{place}": place / 10 for place in range(20)}
    change, _ = plots(judge(networks(exponents), 2))
    assert [panel.title for panel in change.panels] == [f"layer{place}" for place in range(8, 20)]
    assert "12 of 20 layers" in change.panels[0].notes[0]


def test_logits_of_a_tied_head_are_measured_and_what_follows_a_head_too():
    tokens = torch.randint(0, 11, (4, 6))
    model = gpt.build((6,), 11, depth=1, width=8, heads=2)
    kept = outputs_of(model, explain(model, tokens).layers, tokens)
    torch.testing.assert_close(list(kept.values())[-1], model(tokens))
    scaled = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2), nn.LogSoftmax(1))
    x = torch.randn(4, 3)
    kept = outputs_of(scaled, explain(scaled, x).layers, x)
    torch.testing.assert_close(kept[WHOLE], scaled(x))
    torch.testing.assert_close(kept["2"], scaled[:3](x))
    assert WHOLE not in outputs_of(scaled[:3], explain(scaled[:3], x).layers, x)


def test_layers_that_a_recurrent_module_hides_are_named():
    config = configure("probe", schemes=["xavier"], model="lstm:width=4", dataset="text274k", settings=["train.steps=1"], seeds=1)
    (job,) = plan.make_jobs(config)
    found = run_width(job, 4, device="cpu", data_dir=None)
    assert [layer.layer for layer in found.layers] == ["head"]
    assert any(note.startswith("Not measured") and "recurrent" in note for note in found.notes)


@pytest.mark.heavy
def test_a_check_is_told_and_written(tmp_path, drawn):
    shown = run("kaiming", "mup", *SMALL, "--steps", "2", "--out", "out", "--seeds", "2")
    assert "kaiming: " in shown.stdout
    assert "after 2 steps" in shown.stdout
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    tables = {f"tables/{name}.csv" for name in ("coordinates", "slopes", "runs")}
    assert files >= tables | {"coordinates.json", "config.yaml", "summary.md", "report.html", "plots/change.png", "plots/slope.svg"}
    assert (tmp_path / "out/plots/change.png").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "out/tables/slopes.csv").open()))
    assert len(rows) == 2 * 3 * (3 + 2)
    sizes = list(csv.DictReader((tmp_path / "out/tables/coordinates.csv").open()))
    assert len(sizes) == 2 * 3 * 2 * 3 * 3
    page = (tmp_path / "out/report.html").read_text()
    assert "initbench probe -c config.yaml --coordinate-check --widths 16,32,64 --steps 2</pre>" in page
    assert rows[0]["layer"] in page
    assert "In marked rows the change of the layer grows or vanishes" in page
    assert "where the signal is lost" not in page


@pytest.mark.heavy
def test_the_command_of_the_page_asks_the_same(tmp_path):
    run("mup", *SMALL, "--steps", "1", "--out", "a", "-q", "--batch", "8")
    run("-c", "a/config.yaml", "--widths", "16,32,64", "--steps", "1", "--out", "b", "-q")
    for name in ("tables/coordinates.csv", "tables/slopes.csv", "config.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.heavy
def test_ones_own_factory_is_built_at_each_width():
    answer = json.loads(
        run("kaiming", "--dataset", "waves", "--model", "./mine.py:Net", "--widths", "8..32:log:3", "--steps", "1", "--json").stdout
    )
    assert answer["widths"] == [8, 16, 32]
    assert {run["width"] for run in answer["runs"]} == {8, 16, 32}
    assert [layer["layer"] for layer in answer["schemes"][0]["layers"]] == ["first", "head"]


def test_a_schedule_of_a_config_is_left_out_and_that_is_said():
    given = configure("coordinate-check", "text_gpt", settings=["train.epochs=null"])
    config, changed = coordinates.asked(given, (8, 16, 32))
    assert (config.train.schedule, config.train.warmup_steps, config.train.steps) == ("constant", 0, coordinates.STEPS)
    assert len(changed) == 2
    assert len(given.seeds) == 3


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--widths", "64,128"), "at least 3"),
        (("--widths", "64,64,128"), "2 different widths"),
        (("--widths", "64,x,128"), "'x', which is no width"),
        (("--widths", "0,8,16"), "'0', which is no width"),
        (("--widths", "8..4"), "Cannot read --widths 8..4"),
        (("--steps", "0"), "at least 1 step"),
        (("--batch", "1"), "at least 2 inputs"),
        (("--dataset", "waves", "--model", "./mine.py:Fixed"), "takes no width"),
        (("--model", "cnn"), "takes no width"),
        (("-c", "text_gpt", "--widths", "30,64,128"), "cannot be split into 4 heads"),
        (("--map", "depth,width", "--as-is"), "leave out --as-is and --map"),
        (("--dataset", "waves", "--model", "./mine.py:Deeper", "--widths", "8,16,24", "--steps", "1"), "other layers at width 16"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(arguments, sentence):
    said = " ".join(run(*arguments, code=2).stderr.split())
    assert sentence in said


@pytest.mark.parametrize("words", [("--widths", "8,16,32"), ("--steps", "3"), ("--task", "language")])
def test_its_options_are_refused_without_it(words):
    result = CliRunner().invoke(app, ["probe", *words])
    assert result.exit_code == 2
    assert "are for --coordinate-check" in " ".join(result.stderr.split())


def test_a_scheme_that_does_not_apply_is_said_and_the_others_are_checked():
    shown = run("deepnorm", "kaiming", *SMALL, "--steps", "1", "--seeds", "1").stdout
    assert "deepnorm: does not apply: " in shown
    assert "kaiming: the change of" in shown


def test_a_scheme_that_fails_at_a_width_is_one_sentence(tmp_path):
    (tmp_path / "fails.py").write_text(
        "from initbench.schemes import Law, Layerwise\n"
        "def build() -> Layerwise:\n"
        "    def fill(weight, layer, generator):\n"
        "        if len(weight) == 32:\n            raise ValueError('no 32')\n"
        "        weight.normal_(0, 0.1, generator=generator)\n        return Law('normal', 0.1)\n"
        "    return Layerwise('fails', fill)\n"
    )
    said = " ".join(run("./fails.py", *SMALL, "--steps", "1", code=2).stderr.split())
    assert "cannot initialize the model 'mlp:depth=2,width=32'" in said
    assert "no 32" in said


ROWS = torch.randn(160, 8, generator=torch.Generator().manual_seed(0))
OWN = {"widths": (16, 32, 64), "steps": 2, "seeds": 2, "data": ((ROWS, ROWS[:, :2]), (ROWS, ROWS[:, :2]))}


def net(width):
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 2))


def test_a_network_of_a_program_is_checked_by_a_function_of_its_width_as_a_file_is():
    asked = {**OWN, "settings": ["train.optimizer=adam", "train.lr=0.01", "train.batch_size=32"]}
    found = initbench.coordinate_check(net, ["kaiming", "mup"], **asked)
    assert [each.scheme for each in found.schemes] == ["kaiming", "mup"]
    assert len(found.verdicts) == len(str(found).splitlines()) == 2
    assert found.model.shown == "net"
    frame = found.to_pandas()
    (last,) = frame[(frame.scheme == "mup") & (frame.layer == "2") & (frame.of == "change") & (frame.step == 2)].itertuples()
    assert last.slope == pytest.approx(found.schemes[1].layers[1].change[-1].value)
    assert {plot.name for plot in found.plots} == {"change", "slope"}
    assert found.overview[1].rows[0][0] == "kaiming"
    assert found.folder is None
    by_place = initbench.coordinate_check(lambda w: net(w), ["kaiming", "mup"], **asked)
    assert [run.losses for run in by_place.runs] == [run.losses for run in found.runs]


@pytest.mark.heavy
def test_an_own_optimizer_and_loss_are_those_of_the_check(tmp_path):
    losses = []

    def loss(outputs, targets):
        losses.append(len(targets))
        return (outputs - targets).square().mean()

    found = initbench.coordinate_check(
        net,
        ["kaiming"],
        **OWN,
        loss=loss,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0),
        output=str(tmp_path / "out"),
        jobs=1,
    )
    assert losses
    assert {layer.growth for layer in found.schemes[0].layers} == {Growth.STILL}  # at a rate of zero
    page = (tmp_path / "out" / "report.html").read_text()
    assert "coordinate check of net on own_data" in page
    assert "of SGD on the same batches" in page


@pytest.mark.parametrize(
    ("model", "asked", "says"),
    [
        (nn.Linear(8, 2), {}, "The model is a module, which has one width"),
        (lambda: net(8), {}, "takes no width .it has: none"),
        (lambda depth, heads: net(8), {}, "takes no width .it has: depth and heads"),
        (lambda width: net(8), {}, "parameters at every width"),
        (net, {"widths": (16, 32)}, "widths=16,32 has 2 different widths"),
        (net, {"widths": "wide"}, "holds 'wide', which is no width"),
        (net, {"steps": 0}, "at least 1 step"),
        ("mlp", {"data": None, "dataset": "nowhere"}, "Unknown dataset 'nowhere'"),
    ],
)
def test_what_cannot_be_checked_from_python_gets_one_sentence(model, asked, says):
    with pytest.raises(ConfigError, match=says):
        initbench.coordinate_check(model, **{**OWN, **asked})

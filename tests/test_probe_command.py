"""`initbench probe` through the real command line, the public function, verdicts and files."""

import json
import math
import shlex

import numpy as np
import pytest
import torch
from foreign_models import LSTM
from torch import nn
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.errors import ConfigError, InitbenchError
from initbench.probing import page
from initbench.probing.health import inside
from initbench.probing.verdicts import assess
from initbench.question.config import Ref, parse_ref
from initbench.reporting import draw
from initbench.results.probe_run import ProbedLayer, ProbeRun, Question
from initbench.results.record import RunStatus

USER = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(2 if i == 0 else 4, 4, 3, padding=1) for i in range(4)])
        self.head = nn.Linear(4, 3)
    def forward(self, x):
        for conv in self.convs:
            x = torch.relu(conv(x))
        return self.head(x.mean((2, 3)))
class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
    def forward(self, x):
        return self.out(torch.tanh(self.table(x)))
class Nothing(nn.Module):
    def forward(self, x):
        return x
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
    def forward(self, x):
        return self.c((1 / self.b(1 / self.a(x))))
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(draw, "draw", lambda plot: {".png": b"", ".svg": b"<svg ></svg>"})
        monkeypatch.setattr(draw, "cores", lambda: 1)
    (tmp_path / "mine.py").write_text(USER)


@pytest.fixture
def drawn():
    """Plots are drawn, which takes longer than all the rest."""


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["probe", *arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.heavy
def test_a_probe_says_what_becomes_of_the_signal_and_writes_a_folder(tmp_path, drawn):
    shown = run("torch_default", "kaiming", "--model", "mlp:depth=8,width=64", "--out", "out", "--batch", "64")
    assert "torch_default: gradients shrink" in shown.stdout
    assert "kaiming would keep them" in shown.stdout
    assert "kaiming: keeps the signal" in shown.stdout
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert {"probe.json", "report.html", "summary.md", "tables/layers.csv", "tables/runs.csv", "plots/gradients.png"} <= files
    answer = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert answer["best"] == "kaiming"
    assert len(answer["runs"][0]["layers"]) == 9


@pytest.mark.heavy
def test_the_same_probe_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        run("kaiming", "--model", "mlp:depth=2,width=16", "--out", name, "--batch", "16", "-q")
    for file in ("tables/layers.csv", "summary.md", "plots/gradients.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_json_is_one_document():
    answer = json.loads(run("kaiming", "--input", "9", "--model", "mlp:depth=3,width=64", "--json").stdout)
    layer = answer["runs"][0]["layers"][0]
    assert layer["correlation"] is not None
    assert 0 < layer["jacobian_min"] <= layer["jacobian_mean"] <= layer["jacobian_max"]
    assert answer["runs"][0]["chance_loss"] == pytest.approx(math.log(10))


def test_ones_own_model_is_probed_without_labels():
    shown = run("torch_default", "kaiming", "--model", "./mine.py:Net", "--input", "2x8x8")
    assert "convs.0" in shown.stdout
    assert "random labels" in shown.stderr


def test_whole_numbers_go_into_embeddings():
    assert "out" in run("xavier", "--model", "./mine.py:Words", "--input", "int:11:6").stdout
    said = run("xavier", "--model", "./mine.py:Words", "--input", "6", code=2).stderr
    assert "--input int:11:128" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "./mine.py:Nothing", "--input", "4"], "no weight layer"),
        (["--model", "./mine.py:Net", "--input", "3x8x8"], "cannot be run on a batch"),
        (["--input", "3x8", "--dataset", "mnist5k"], "not both"),
        (["kaiming", "--as-is"], "name no scheme"),
        (["--checkpoint", "none.pt"], "There is no checkpoint"),
        (["--train"], "--train is for maps"),
    ],
)
def test_what_cannot_be_probed_is_one_sentence(arguments, sentence):
    result = CliRunner().invoke(app, ["probe", *arguments])
    assert result.exit_code in {2, 5}
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_an_activation_without_moments_has_no_prediction_but_measurements():
    answer = json.loads(run("kaiming", "--model", "./mine.py:Odd", "--input", "4", "--json").stdout)
    layers = answer["runs"][0]["layers"]
    assert layers[-1]["predicted_pre_activation_variance"] is None
    assert layers[-1]["prediction_note"]
    assert layers[0]["activation_variance"] is not None


def test_a_batch_comes_from_a_file(tmp_path):
    np.save(tmp_path / "batch.npy", np.random.default_rng(0).normal(size=(8, 2, 6, 6)))
    answer = json.loads(run("kaiming", "--model", "./mine.py:Net", "--input", "batch.npy", "--json").stdout)
    assert answer["runs"][0]["status"] == "completed"


def test_weights_as_they_are_are_told_by_their_law(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    torch.save({f"0.{name}": value for name, value in model.state_dict().items()}, tmp_path / "w.pt")
    shown = run("--as-is", "--model", "mlp:depth=3,width=64").stdout
    assert "uniform" in shown
    assert "torch_default" in shown
    result = CliRunner().invoke(app, ["probe", "--checkpoint", "w.pt", "--model", "mlp:depth=1,width=64"])
    assert result.exit_code == 2
    assert "do not fit the model" in " ".join(result.stderr.split())


@pytest.mark.heavy
def test_report_and_resume_say_that_a_probe_is_made_anew():
    run("kaiming", "--model", "mlp:depth=2,width=16", "--out", "out", "-q")
    for command in ("report", "resume"):
        result = CliRunner().invoke(app, [command, "out"])
        assert result.exit_code == 5
        assert "made anew" in " ".join(result.stderr.split())


def test_the_function_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = initbench.probe(model, ["zeros", "kaiming"], inputs=torch.randn(64, 6))
    assert found.best == "kaiming"
    assert found.schemes[-1].scheme == "zeros"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    laws = initbench.probe(model, inputs=torch.randn(8, 6), as_is=True).runs[0].laws
    assert laws[1].law == "uniform"
    with pytest.raises(ConfigError, match="at least 2"):
        initbench.probe(model, inputs=torch.randn(1, 6))


def test_a_probe_where_nothing_works_is_an_error(tmp_path):
    (tmp_path / "bad.py").write_text("def build():\n    raise RuntimeError('no')\n")
    with pytest.raises(InitbenchError, match="No scheme could be probed"):
        initbench.probe("mlp:depth=1,width=8", ["./bad.py"], inputs="4")


def simulated(name, factor, layers=11, seed=0):
    """A network whose variances shrink by `factor` a layer, forwards and backwards."""
    each = tuple(
        ProbedLayer(
            step=0,
            layer=f"l{index}",
            position=index,
            size=4,
            activation_variance=factor**-index,
            pre_activation_variance=1.0,
            gradient_variance=factor ** (index - layers),
            dead_fraction=0.0,
            correlation=0.5,
        )
        for index in range(layers)
    )
    return ProbeRun(scheme=name, seed=seed, status=RunStatus.COMPLETED, layers=each, first_loss=2.3, chance_loss=2.3)


def test_the_verdict_counts_the_layers_until_nothing_is_left():
    found = {each.scheme: each for each in assess([simulated("bad", 6.0), simulated("good", 1.01)])}
    assert found["bad"].verdict.startswith(
        "gradients shrink 6.0x a layer: after 6 layers they are 10,000 times smaller; good would keep them"
    )
    assert found["good"].verdict.startswith("keeps the signal")
    assert found["bad"].leaves_at == "l6"
    assert [each.scheme for each in assess([simulated("bad", 6.0), simulated("good", 1.01)])] == ["good", "bad"]


def test_a_signal_that_grows_or_is_gone_is_said():
    assert "grow 6.0x a layer: after 6 layers they are 10,000 times as large" in assess([simulated("up", 1 / 6)])[0].verdict
    run_ = simulated("gone", 2.0)
    dead = run_.model_copy(update={"layers": tuple(layer.model_copy(update={"activation_variance": 0.0}) for layer in run_.layers)})
    assert "activations are constant at l0" in assess([dead])[0].verdict
    over = run_.model_copy(update={"layers": tuple(layer.model_copy(update={"activation_variance": None}) for layer in run_.layers)})
    assert "activations overflow at l0" in assess([over])[0].verdict
    assert assess([over])[0].decades == math.inf


def test_a_signal_that_is_lost_on_the_way_says_how_fast_it_went():
    run_ = simulated("faint", 6.0)
    layers = (*(layer.model_copy(update={"gradient_variance": 0.0}) for layer in run_.layers[:4]), *run_.layers[4:])
    words = assess([run_.model_copy(update={"layers": layers})])[0].verdict
    assert words.startswith("gradients shrink 6.0x a layer until they are zero at l3")


def test_a_network_that_strays_as_theory_expects_is_said_to_and_one_that_strays_farther_is_not():
    run_ = simulated("fine", 1.0)
    band = {"predicted_pre_activation_variance_low": 0.5, "predicted_pre_activation_variance_high": 2.0, "pre_activation_variance": 0.6}
    layers = tuple(layer.model_copy(update=band) for layer in run_.layers)
    assert "stray by some 35% at l9, as theory expects" in assess([run_.model_copy(update={"layers": layers})])[0].verdict
    beyond = tuple(layer.model_copy(update={"pre_activation_variance": 2.1}) for layer in layers)
    assert "stray" not in assess([run_.model_copy(update={"layers": beyond})])[0].verdict


def test_below_what_float32_holds_a_zero_is_inside_of_the_band():
    assert inside(0.0, 1e-120, 1e-110)
    assert not inside(0.0, 1e-70, 1e-60)
    assert not inside(None, 0.0, 1.0)


def test_branches_and_heads_that_begin_at_zero_lose_no_signal():
    run_ = simulated("shut", 1.0)
    shut = {"gradient_variance": 0.0}
    branch = tuple(layer.model_copy(update=shut) if index in {3, 4} else layer for index, layer in enumerate(run_.layers))
    found = assess([run_.model_copy(update={"layers": branch})])[0]
    assert found.keeps
    assert "2 layers in branches that begin at zero get no gradient at first" in found.verdict
    head = run_.layers[-1].model_copy(update={"pre_activation_variance": 0.0})
    layers = (*(layer.model_copy(update=shut) for layer in run_.layers[:-1]), head)
    found = assess([run_.model_copy(update={"layers": layers})])[0]
    assert found.keeps
    assert "l10 begins at zero and alone learns at first" in found.verdict


def test_what_a_probe_writes_can_be_read_again():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
    (run,) = initbench.probe(model, as_is=True, inputs=torch.randn(64, 16)).runs
    assert run.laws
    assert ProbeRun.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(
    "words",
    [
        ["kaiming", "normal:std=5", "--model", "mlp:depth=3,width=8", "--batch", "16", "--seeds", "3,"],
        ["--as-is", "--model", "./mine.py:Net", "--input", "int:11:5"],
        ["xavier", "--model", "mlp:depth=3,width=8", "--set", "init.exclude=[head, stem]", "--set", "init.bias=0.5"],
    ],
)
def test_the_command_on_the_page_asks_the_same(words, monkeypatch):
    asked = []

    def carry_out(question, **_):
        asked.append(question)
        raise ConfigError("asked")

    monkeypatch.setattr("initbench.probing.run.carry_out", carry_out)
    CliRunner().invoke(app, ["probe", *words])
    command = page.command_of(asked[0])
    CliRunner().invoke(app, shlex.split(command)[1:])
    assert asked[1] == asked[0]


@pytest.mark.parametrize(("model", "given"), [("Net", None), ("mlp:depth=2", "2x3x3")])
def test_what_only_python_can_give_has_no_command(model, given):
    dataset = Ref(name="mnist5k") if given is None else None
    assert page.command_of(Question(schemes=(), seeds=(0,), model=parse_ref(model), dataset=dataset, input=given)) is None


def test_a_page_names_the_layer_at_which_the_signal_is_lost():
    answer = initbench.probe("mlp:depth=6,width=16", ["kaiming", "normal:std=9"], seeds=1)
    lost = answer.schemes[-1].lost
    assert page.trouble(answer.schemes) == f"The signal is lost with 1 of 2: normal:std=9.0 ({lost})."
    assert lost.layer in {layer.layer for layer in answer.schemes[-1].layers}
    assert page.trouble(answer.schemes[:1]) == ""


def test_what_is_inside_of_an_lstm_was_not_measured_and_has_not_overflowed():
    found = initbench.probe(LSTM(), ["kaiming", "xavier"], inputs=torch.randn(8, 3, 6, 16))
    for name, points in (("signal", 3), ("gradients", 1)):
        (panel,) = found.chosen(name).panels
        assert [len(line.points) for line in panel.lines] == [points] * 2, name
        assert all(y is not None for line in panel.lines for _, y in line.points)
        assert panel.notes[-1].endswith("not measured, hidden inside a recurrent module")


def test_a_kind_of_layers_that_was_not_measured_says_so_and_has_no_numbers_at_its_axis():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0, batch_first=True), 3, enable_nested_tensor=False)
    found = initbench.probe(nn.Sequential(encoder, nn.Flatten(), nn.Linear(64, 3)), ["xavier"], inputs=torch.randn(8, 4, 16))
    jacobian = found.chosen("jacobian")
    place, panel = next((place, panel) for place, panel in enumerate(jacobian.panels) if not panel.lines)
    assert panel.notes[-1] == "nothing was measured"
    assert not list(found.plot("jacobian").axes[place].get_xticks())

"""The public Python functions and the route behind every command."""

import inspect
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import initbench
from initbench.cli import smoke
from initbench.errors import ConfigError, DataError, StorageError
from initbench.question.config import Execution, as_ref
from initbench.results import store
from initbench.results.record import RunStatus
from initbench.studies.answer import Results
from initbench.studies.plan import make_plan, plan_of

TINY = {
    "model": "mlp:depth=1,width=8",
    "dataset": "synthetic:n=64,test=20,shape=[1,4,4]",
    "steps": 2,
    "settings": ["train.batch_size=16", "probe.batch_size=16"],
    "device": "cpu",
    "engine": "serial",
}
RACED = {name: value for name, value in TINY.items() if name != "model"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "out"
    return initbench.compare(["xavier", "kaiming"], seeds=2, output=str(folder), **TINY)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch):
    """Plots are not what is tested, and take most of the time."""
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda _plot: {".png": b"", ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)


class Heard:
    def __init__(self, stop_after=None):
        self.runs, self.steps, self.stop_after = [], None, stop_after

    def planned(self, steps):
        self.steps = steps

    def progress(self, sign):
        pass

    def finished(self, result):
        self.runs.append(result)
        if len(self.runs) == self.stop_after:
            raise KeyboardInterrupt


@pytest.mark.heavy
def test_a_comparison_gives_its_results_summary_and_folder(finished):
    assert [(str(run.job.scheme), run.job.seed) for run in finished.results] == [
        ("xavier", 0),
        ("kaiming", 0),
        ("xavier", 1),
        ("kaiming", 1),
    ]
    assert {run.status for run in finished.results} == {RunStatus.COMPLETED}
    assert [scheme.scheme for scheme in finished.summary.schemes] == ["xavier", "kaiming"]
    assert finished.doubts == ()
    manifest = store.read_manifest(finished.folder)
    assert manifest.finished >= manifest.started
    assert [job.job_id for job in manifest.jobs] == [run.job_id for run in finished.results]


@pytest.mark.heavy
def test_results_are_shown_in_a_line(finished):
    assert repr(finished) == f"<Results of 4 runs in {finished.folder}: {finished.summary.headline}.>"


def test_the_tables_are_data_frames(finished):
    frame = finished.to_pandas("curves")
    losses = frame[(frame.scheme == "xavier") & (frame.seed == 0) & (frame.quantity == "train_loss")]
    assert losses.value.tolist() == pytest.approx(list(finished.results[0].train_losses))
    with pytest.raises(ConfigError, match=r"There is no table 'losses' .* There are: comparisons, curves, init, layers, summary."):
        finished.to_pandas("losses")


def test_what_is_done_is_not_run_again(finished):
    heard = Heard()
    again = initbench.compare(["glorot", "he"], seeds=2, output=str(finished.folder), watch=heard, **TINY)
    assert heard.runs == []
    assert len(heard.steps.done) == 4
    assert again.results == finished.results
    assert again.summary == finished.summary


@pytest.mark.heavy
def test_an_interrupted_comparison_goes_on_where_it_was(finished, no_pictures, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        initbench.compare(["xavier", "kaiming"], seeds=2, output=str(folder), watch=Heard(stop_after=1), **TINY)
    assert len(initbench.load_results(folder).results) == 1
    assert not (folder / "summary.json").exists()
    assert initbench.report(folder).missing == 3
    heard = Heard()
    resumed = initbench.resume(folder, watch=heard, engine="serial", device="cpu")
    assert len(heard.runs) == 3
    assert [run.train_losses for run in resumed.results] == [run.train_losses for run in finished.results]


def test_a_failed_run_is_tried_again_and_other_results_stay(finished, tmp_path):
    steps = plan_of(finished.folder, Execution(engine="serial", device="cpu"))
    folder = tmp_path / "copy"
    store.write_manifest(folder, store.read_manifest(finished.folder))
    for number, run in enumerate(finished.results):
        store.write_result(folder, run.model_copy(update={"status": RunStatus.FAILED}) if number == 2 else run)
    copied = make_plan("compare", steps.config, Execution(output=str(folder)))
    assert [name for name, _ in copied.missing] == [finished.results[2].job_id]


def test_fresh_runs_everything_again_but_only_once_it_can(finished, no_pictures, tmp_path):
    folder = tmp_path / "out"
    first = initbench.run("zeros", output=str(folder), **TINY)
    with pytest.raises(DataError):
        initbench.run("zeros", output=str(folder), fresh=True, **{**TINY, "dataset": "npz:file=./nowhere.npz"})
    assert initbench.load_results(folder).results == first.results
    heard = Heard()
    initbench.run("ones", output=str(folder), fresh=True, watch=heard, **TINY)
    assert len(heard.runs) == 1
    assert len(list((folder / "jobs").iterdir())) == 1


def test_bad_input_leaves_no_folder_behind(tmp_path):
    for change in ({"dataset": "npz:file=./nowhere.npz"}, {"model": "mlp:depth=-1"}, {"device": "cuda:77"}):
        with pytest.raises(initbench.errors.InitbenchError):
            initbench.run("zeros", **{**TINY, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_made_anew_against_another_reference(finished, no_pictures):
    assert finished.summary.reference == "xavier"
    again = initbench.report(finished.folder, "he")
    assert again.summary.reference == "kaiming"
    assert json.loads((finished.folder / "summary.json").read_text())["reference"] == "kaiming"
    assert store.read_manifest(finished.folder).view.reference == "kaiming"
    initbench.report(finished.folder, "xavier")


@pytest.mark.heavy
def test_latest_is_the_last_question_asked_and_only_made_in_results(no_pictures, tmp_path):
    first = initbench.run("zeros", **TINY)
    second = initbench.run("ones", **TINY)
    initbench.run("zeros", output=str(tmp_path / "own"), **TINY)
    assert (tmp_path / "results" / "latest").resolve() == second.folder.resolve()
    initbench.run("zeros", **TINY)
    assert (tmp_path / "results" / "latest").resolve() == first.folder.resolve()
    assert not (tmp_path / "latest").is_symlink()


def test_an_interrupted_question_is_the_latest_too(no_pictures, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        initbench.compare(["zeros", "ones"], seeds=1, watch=Heard(stop_after=1), **TINY)
    assert len(initbench.resume(engine="serial", device="cpu").results) == 2


@pytest.mark.heavy
@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
def test_the_same_command_mends_what_is_damaged(damage, name, no_pictures):
    first = initbench.run("zeros", **TINY)
    whole = (first.folder / name).read_bytes()
    damage(first.folder / name)
    if name == "config.yaml":
        with pytest.raises(StorageError, match=r"config.yaml is missing or damaged. Give the command that made it once more"):
            initbench.resume(first.folder)
    assert initbench.run("zeros", **TINY).summary == first.summary
    assert (first.folder / name).read_bytes() == whole


def test_a_folder_that_could_not_be_begun_can_be_used_again(no_pictures, tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_manifest", full)
        with pytest.raises(StorageError, match=r"The disk is full"):
            initbench.run("zeros", output=str(tmp_path / "out"), **TINY)
    assert len(initbench.run("zeros", output=str(tmp_path / "out"), **TINY).results) == 1


def test_results_are_loaded_from_latest(no_pictures, tmp_path):
    made = initbench.run("zeros", **TINY)
    assert made.folder.parent.name == "results"
    assert initbench.load_results().results == made.results
    with pytest.raises(StorageError, match=r"There is no results folder .*nowhere"):
        initbench.load_results(tmp_path / "nowhere")


def test_runs_made_under_other_conditions_are_doubted(finished):
    changed = finished.results[0].model_copy(update={"provenance": {**finished.results[0].provenance, "data": "another"}})
    mixed = Results(finished.folder, finished.config, (changed, *finished.results[1:]), finished.summary)
    assert len(mixed.doubts) == 1
    assert "data: another (1 runs)" in mixed.doubts[0]


def smoke_results(finished, accuracies):
    config = finished.config.model_copy(update={"schemes": tuple(as_ref(name) for name in accuracies)})
    runs = []
    for scheme, accuracy in accuracies.items():
        run = finished.results[0]
        evaluations = tuple(item.model_copy(update={"test_accuracy": accuracy}) for item in run.evaluations)
        runs.append(run.model_copy(update={"job": run.job.model_copy(update={"scheme": as_ref(scheme)}), "evaluations": evaluations}))
    return Results(finished.folder, config, tuple(runs), finished.summary)


@pytest.mark.parametrize(
    ("accuracies", "missed"),
    [
        ({"kaiming": 0.8, "xavier": 0.2, "normal": None}, []),
        ({"kaiming": 0.6, "xavier": 0.2}, ["kaiming reaches a mean test accuracy of 60.0%; it must reach 70%."]),
        ({"kaiming": 0.8, "xavier": 0.6}, ["kaiming (80.0%) must be 30 points of accuracy above xavier (60.0%)."]),
    ],
)
def test_the_gate_says_what_it_misses(finished, accuracies, missed):
    assert smoke.missed_gates(smoke_results(finished, accuracies)) == missed


def test_the_gate_is_always_tried_anew():
    assert smoke.smoke_plan().execution.fresh


def test_init_network_sets_a_model_and_reports_each_parameter():
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    before = torch.get_rng_state()
    report = initbench.init_network(model, "kaiming:mode=fan_out", seed=3, layers={"3": "zeros"}, bias=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    assert [entry.parameter for entry in report.parameters] == [name for name, _ in model.named_parameters()]
    assert model[1].bias.tolist() == [0.5] * 4
    assert model[3].weight.abs().sum() == 0
    again = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    initbench.init_network(again, "kaiming:mode=fan_out", seed=3)
    assert torch.equal(model[1].weight, again[1].weight)


def test_init_network_leaves_alone_what_is_excluded_by_name():
    model = nn.ModuleDict({"embedding_out": nn.Linear(3, 2), "head": nn.Linear(3, 2)})
    nn.init.constant_(model["embedding_out"].weight, 7.0)
    initbench.init_network(model)
    assert model["embedding_out"].weight.unique().tolist() == [7.0]
    initbench.init_network(model, exclude=("head",))
    assert model["embedding_out"].weight.unique().numel() > 1


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        ([1], {}, "The model is a list. It must be a torch.nn.Module"),
        (nn.Linear(2, 2), {"bias": "much"}, "init_network cannot use its arguments: bias"),
        (nn.Linear(2, 2), {"method": 3}, "The scheme is an int"),
        (nn.Linear(2, 2), {"layers": {"weight": 3}}, "init_network cannot use its arguments: layers"),
    ],
)
def test_init_network_refuses_in_a_sentence_what_it_cannot_use(model, given, says):
    with pytest.raises(ConfigError, match=says):
        initbench.init_network(model, **given)


def test_init_network_says_what_nothing_set_and_takes_one_name_for_in_out():
    model = nn.ParameterDict({"wide": nn.Parameter(torch.zeros(100, 400)), "scale": nn.Parameter(torch.ones(3))})
    told = str(initbench.init_network(model, "kaiming", in_out="wide"))
    assert "Nothing set scale. Give inputs, in_out or a pattern in layers, or exclude by name." in told
    assert model["wide"].std().item() == pytest.approx((2 / 100) ** 0.5, rel=0.05)


def test_init_network_is_strict_when_asked():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.head = nn.Linear(3, 2)

    assert initbench.init_network(Net()).untouched == ("scale",)
    with pytest.raises(ConfigError, match=r"Nothing initializes scale"):
        initbench.init_network(Net(), strict=True)


def test_every_public_function_is_a_name_of_the_package():
    from initbench import api

    made_here = [name for name, value in vars(api).items() if inspect.isfunction(value) and value.__module__ == api.__name__]
    assert {*made_here, "coordinate_check", "load_probe", "load_results", "probe", "lint", "SignalMonitor"} == set(initbench.__all__)
    assert all(getattr(initbench, name) is getattr(api, name) and getattr(api, name).__doc__ for name in initbench.__all__)


def test_the_package_alone_imports_nothing():
    code = "import sys, typing; before = set(sys.modules); import initbench; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'initbench'}"


@pytest.mark.heavy
def test_a_recommendation_is_made_from_python(no_pictures, tmp_path):
    made = initbench.recommend("mlp:depth=1,width=8", ["he", "normal"], seeds=1, output=str(tmp_path / "out"), tune="train.lr=0.1", **RACED)
    assert made.summary.recommendation is not None
    assert made.folder == tmp_path / "out"


@pytest.mark.heavy
def test_a_margin_sleeps_while_another_metric_is_looked_at_and_can_be_taken_away(finished, no_pictures):
    by_accuracy = initbench.report(finished.folder, margin=100)
    assert by_accuracy.summary.margin == 100
    by_loss = initbench.report(finished.folder, metric="final_test_loss")
    assert by_loss.summary.margin is None
    assert "equivalent" not in by_loss.summary.model_dump_json()
    back = initbench.report(finished.folder, metric="final_test_accuracy")
    assert back.summary.margin == 100
    of_loss = initbench.report(finished.folder, metric="final_test_loss", margin=0.5)
    assert (of_loss.summary.margin, store.read_manifest(finished.folder).view.margin_metric) == (0.5, "final_test_loss")
    assert initbench.report(finished.folder, metric="final_test_loss", margin="none").summary.margin is None
    for wrong in ("two", -1, math.inf):
        with pytest.raises(initbench.errors.InitbenchError, match="The margin is"):
            initbench.report(finished.folder, margin=wrong)


def test_the_public_names_are_listed():
    assert set(initbench.__all__) <= set(dir(initbench))

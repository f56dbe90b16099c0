"""`compare --tune`, `recommend`, `report` with several folders or against published figures, through the real command line."""

import json

import pytest
from typer.testing import CliRunner

from initbench.cli.app import app
from initbench.studies import published

pytestmark = pytest.mark.heavy

TINY = ["--dataset", "synthetic:n=80,test=20,shape=[1,4,4]", "--model", "mlp:depth=1,width=8", "--steps", "2", "--engine", "serial"]
TINY += ["--device", "cpu", "--set", "train.batch_size=16", "--set", "probe.batch_size=16"]


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda _plot: {".png": b"", ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)

    def called(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "100"})

    return called


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "he", "xavier", "--metric", "acuracy"], "Unknown metric 'acuracy'"),
        (["compare", "he", "xavier", "--metric", "steps_to_target"], "needs a target accuracy, such as --target 0.95"),
        (["compare", "he", "xavier", "--target", "95"], "The target is 95; it must be a test accuracy as a fraction, such as 0.95."),
        (["compare", "he", "xavier", "--margin", "-1"], "The margin is -1; it must be at least 0"),
        (["compare", "he", "xavier", "--tune", "train.lrr"], "unknown key 'train.lrr'. Did you mean 'lr'"),
        (["compare", "he", "xavier", "--tune", "train.optimizer"], "Say what to try: --tune train.optimizer=A,B,C"),
        (["compare", "he", "xavier", "--tune", "schemes"], "'schemes' cannot be tuned"),
        (["recommend", "mpl"], "Unknown model 'mpl'. Did you mean 'mlp'"),
        (["recommend", "mlp", "--model", "cnn"], "'mlp' is a config or a model: give either it or --config and --model."),
        (["report", "one", "two"], "2 folders are merged into a new one: name it with --out."),
        (["report", "one", "--out", "two"], "--out is for merging: name two results folders or more."),
    ],
)
def test_what_cannot_be_is_one_sentence_before_anything_is_run(call, tmp_path, arguments, sentence):
    result = call(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")
    assert not (tmp_path / "results").exists()


def test_tuning_gives_one_verdict_everywhere_and_nothing_to_do_the_second_time(call, tmp_path):
    command = ["compare", "he", "xavier", *TINY, "--seeds", "2", "--tune", "train.lr=0.01,0.1", "-o", "out"]
    first = call(*command)
    assert first.exit_code == 0, first.stderr
    folder = tmp_path / "out"
    headline = json.loads((folder / "summary.json").read_text())["headline"]
    assert headline.startswith("At the same lr (0.05): ")
    for text in (first.stdout, (folder / "summary.md").read_text(), (folder / "report.html").read_text()):
        assert headline in text.replace("\n", " ").replace("&#39;", "'")
    assert (folder / "tables" / "tuning.csv").read_text().count("\n") == 1 + 2 * 3 * 3  # 0.05 of the config beside the two given
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = call(*command)
    assert "Nothing to run" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_a_recommendation_resumes_and_is_said_everywhere(call, tmp_path):
    command = ["recommend", "-m", "he", "-m", "xavier", "-m", "normal", *TINY, "--seeds", "4", "--tune", "train.lr=0.01,0.1", "-o", "out"]
    first = call(*command)
    assert first.exit_code == 0, first.stderr
    folder = tmp_path / "out"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["headline"].startswith("Use ")
    assert "from initbench import init_network" in first.stdout
    assert "initbench recommend -c config.yaml -m kaiming -m xavier -m normal" in (folder / "report.html").read_text()
    for text in (first.stdout, (folder / "summary.md").read_text(), (folder / "report.html").read_text()):
        assert summary["headline"] in text.replace("\n", " ")
    jobs = sorted((folder / "jobs").iterdir())
    lost = [path.read_bytes() for path in jobs[:3]]
    for path in jobs[:3]:
        path.unlink()
    assert call("resume", "out", "--engine", "serial", "--device", "cpu").exit_code == 0
    assert len(list((folder / "jobs").iterdir())) == len(jobs)
    again = [json.loads(path.read_bytes()) for path in jobs[:3]]
    assert [run["evaluations"] for run in again] == [json.loads(text)["evaluations"] for text in lost]
    assert json.loads((folder / "summary.json").read_text())["recommendation"] == summary["recommendation"]
    assert "Nothing to run" in call(*command).stderr


def test_a_report_can_be_about_another_metric_and_keeps_to_it(call, tmp_path):
    assert call("compare", "he", "xavier", *TINY, "--seeds", "2", "-o", "out", "-q").exit_code == 0
    found = json.loads(call("report", "out", "--metric", "final_test_loss", "--json").stdout)
    assert found["summary"]["metric"] == "final_test_loss"
    assert any("in test loss" in pair["sentence"] for pair in found["summary"]["pairs"])
    later = json.loads(call("report", "out", "--reference", "xavier", "--json").stdout)
    assert (later["summary"]["metric"], later["summary"]["reference"]) == ("final_test_loss", "xavier")


def test_a_target_that_is_never_reached_is_told_and_gets_no_number(call):
    words = ["--metric", "steps_to_target", "--target", "1", "--seeds", "2", "--json"]
    found = json.loads(call("compare", "he", "normal", *TINY, *words).stdout)["summary"]
    assert "both never got there on all 2 seeds" in found["headline"]
    (estimate,) = [each for each in found["schemes"][0]["estimates"] if each["metric"] == "steps_to_target"]
    assert (estimate["value"], estimate["without_number"]) == (None, 2)


def test_folders_are_merged_and_shown(call, tmp_path):
    for name, seeds in (("one", "0,1"), ("two", "2,3")):
        assert call("compare", "he", "xavier", *TINY, "--seeds", seeds, "-o", name, "-q").exit_code == 0
    found = json.loads(call("report", "one", "two", "--out", "both", "--json").stdout)
    assert len(found["runs"]) == 4 * 2
    assert (tmp_path / "both" / "report.html").is_file()


def test_published_figures_stand_beside_the_measured_ones(call):
    made = call("compare", "-c", "glorot2010_gradients", "--set", "model.width=20", "--seeds", "1", "--engine", "serial", "-o", "out", "-q")
    assert made.exit_code == 0
    refused = call("report", "out", "--against", "glorot2010_gradients")
    assert refused.exit_code == 2
    assert "model.width is 20, there 1000" in refused.stderr.replace("\n", " ")


def test_a_published_figure_that_does_not_come_out_fails_the_command(call, monkeypatch):
    assert call("compare", "he", "xavier", *TINY, "--seeds", "1", "-o", "out", "-q").exit_code == 0
    figure = published.PublishedFigure(
        what="share of seeds that train", scheme="kaiming", metric="trained_share", published="all", low=0.8, high=1.0
    )
    lines = [
        published.Replication(title="t", source="s", figure=figure, here=0.1, n=8, agreement=agreement)
        for agreement in (published.Agreement.AGREES, published.Agreement.NOT_MEASURED, published.Agreement.DIFFERS)
    ]
    monkeypatch.setattr(published, "against", lambda results, name: lines)
    found = call("report", "out", "--against", "reference")
    assert found.exit_code == 4
    assert "1 of 3 figures of reference do not agree, first: share of seeds that train of kaiming." in found.stderr.replace("\n", " ")
    monkeypatch.setattr(published, "against", lambda results, name: lines[:2])
    assert call("report", "out", "--against", "reference").exit_code == 0


def test_a_dry_run_of_a_study_says_what_each_run_tries(call):
    shown = call("compare", "he", "xavier", *TINY, "--seeds", "1", "--tune", "train.lr=0.01,0.1", "--dry-run").stdout
    assert "lr 0.01, holdout 0.2" in " ".join(shown.split())
    assert "evaluate_every" not in shown

import hashlib
import json
import random

import pytest
from simulated_runs import make_comparison, make_config, make_run

from initbench.errors import StorageError
from initbench.question.config import View
from initbench.reporting import draw
from initbench.reporting.write import write_report
from initbench.results import store
from initbench.statistics.findings import Summary
from initbench.studies import compare

SCHEMES = ("xavier", "kaiming", "normal")


def runs():
    return [run for run in make_comparison(4) if str(run.job.scheme) in SCHEMES]


def write(folder, config, made):
    done = {run.job_id: run for run in made}
    return write_report(folder, config, compare.summarize(config, done, View()), made, made)


@pytest.fixture
def no_drawing(monkeypatch):
    monkeypatch.setattr(draw, "draw", lambda plot: {".png": plot.name.encode(), ".svg": b"<svg>" + repr(plot).encode() + b"</svg>"})
    monkeypatch.setattr(draw, "cores", lambda: 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return folder, write(folder, make_config(*SCHEMES, seeds=4), runs())


@pytest.mark.heavy
def test_every_derived_file_is_written(written):
    folder, paths = written
    names = {str(path.relative_to(folder)) for path in paths}
    assert {"summary.json", "summary.md", "report.html", "plots/loss.png", "plots/loss.svg"} <= names
    assert {f"tables/{name}.csv" for name in ("curves", "layers", "init", "summary", "comparisons")} <= names
    assert all(path.stat().st_size > 100 for path in paths)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(paths)


def test_the_same_runs_in_another_order_give_the_same_bytes(tmp_path, no_drawing):
    shuffled = runs()
    random.Random(3).shuffle(shuffled)
    paths = write(tmp_path / "one", make_config(*SCHEMES, seeds=4), runs())
    write(tmp_path / "two", make_config(*SCHEMES, seeds=4), shuffled)
    for path in paths:
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes(), path.name


@pytest.mark.heavy
def test_summary_json_is_strict_and_reads_back(written):
    folder, _ = written
    text = (folder / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert [found.scheme for found in Summary.model_validate_json(text).schemes] == list(SCHEMES)


def test_the_verdict_is_the_same_everywhere(written):
    folder, _ = written
    headline = json.loads((folder / "summary.json").read_text())["headline"]
    assert headline in (folder / "summary.md").read_text()
    assert headline in (folder / "report.html").read_text()


def test_plots_of_an_earlier_report_do_not_stay_and_those_of_others_do(tmp_path, no_drawing):
    (tmp_path / "plots").mkdir()
    for name in ("of_yesterday.png", "of_a_paper.png"):
        (tmp_path / "plots" / name).write_bytes(b"old")
    listed = {"plots/of_yesterday.png": hashlib.sha256(b"old").hexdigest()}
    manifest = store.Manifest(initbench="0", command="compare", config_hash="0", jobs=(), started=store.now(), derived=listed)
    store.write_manifest(tmp_path, manifest)
    write(tmp_path, make_config(*SCHEMES, seeds=4), runs())
    assert not (tmp_path / "plots" / "of_yesterday.png").exists()
    assert (tmp_path / "plots" / "of_a_paper.png").exists()
    assert (tmp_path / "plots" / "accuracy.png").exists()


def test_an_alias_in_the_config_keeps_its_place(tmp_path, no_drawing):
    made = [make_run(scheme, seed) for scheme in ("kaiming", "lecun") for seed in range(2)]
    write(tmp_path, make_config("lecun", "he", seeds=2), made)
    assert json.loads((tmp_path / "summary.json").read_text())["reference"] == "lecun"


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path, no_drawing):
    (tmp_path / "tables").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="Cannot write"):
        write(tmp_path, make_config("kaiming", seeds=1), [make_run("kaiming", 0)])

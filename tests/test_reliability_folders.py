"""What docs/reliability.md promises of results folders: nothing is lost, nothing damaged is averaged, nothing of others is touched."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulated_runs import make_run

import initbench
from initbench.errors import StorageError
from initbench.question.config import Execution, ExperimentConfig, TrainConfig, View, parse_ref
from initbench.reporting.page import without_occasion
from initbench.results import jobs, lock, store
from initbench.results.index import INDEX
from initbench.studies.answer import load_results
from initbench.studies.execution import carry_out
from initbench.studies.merge import merge
from initbench.studies.plan import make_plan, plan_of

QUESTION = ExperimentConfig(schemes=(parse_ref("xavier"), parse_ref("kaiming")), seeds=(0, 1, 2), train=TrainConfig(steps=20))
METRIC = """
from pathlib import Path
Path("ran.txt").open("a").write("ran ")
from initbench.metrics import Metric
def build():
    return Metric("first loss", lambda run: run.train_losses[0], lambda run: True, "lower")
"""


@dataclass
class Engine:
    """Gives made-up runs, equal for equal jobs, and remembers which; stops like a killed process after so many."""

    trained: list

    def __call__(self, asked, **_):
        for name, job in asked:
            self.trained.append(name)
            yield made(name, job)


def made(name, job):
    return make_run(str(job.scheme), job.seed, 0.5 + 0.1 * job.seed, job_id=name, job=job)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda plot: {".png": plot.name.encode(), ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)
    runs = Engine([])
    load = initbench.studies.execution.catalog.load
    monkeypatch.setattr("initbench.studies.execution.catalog.load", lambda kind, name: runs if kind == "engine" else load(kind, name))
    return runs


@pytest.fixture
def folder(engine, tmp_path):
    """A finished comparison."""
    compare(tmp_path / "out")
    engine.trained.clear()
    return tmp_path / "out"


def compare(folder, view=View(), *, fresh=False, config=QUESTION):
    means = Execution(output=str(folder), engine="serial", device="cpu", fresh=fresh)
    return carry_out(make_plan("compare", config, means, view))


def contents(folder):
    """Every file but the manifest and the index, which hold times or their sums."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in {store.MANIFEST, INDEX})
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_finished_command_does_nothing_again(engine, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = compare(folder)
    assert (engine.trained, again.doubts, again.mended) == ([], (), ())
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_is_missing_is_counted(engine, folder):
    names = sorted(jobs.there(folder))
    jobs.path_of(folder, names[0]).unlink()
    jobs.path_of(folder, names[1]).write_bytes(jobs.path_of(folder, names[1]).read_bytes()[:-9])
    assert len(load_results(folder).results) == 4
    reported = initbench.report(folder)
    assert (len(reported.results), reported.missing) == (4, 2)
    assert {name for name, _ in plan_of(folder).missing} == set(names[:2])


@pytest.mark.parametrize("promise", range(1, 9))
def test_a_promise_names_tests_that_there_are(promise):
    root = Path(__file__).parent.parent
    (line,) = re.findall(rf"^\| R{promise} \|.*$", (root / "docs" / "reliability.md").read_text(), re.MULTILINE)
    named = [
        (file, name) for file, names in re.findall(r"`(tests/\w+\.py)`: ((?:`\w+`(?:, )?)+)", line) for name in re.findall(r"\w+", names)
    ]
    assert named
    for file, name in named:
        assert f"def {name}(" in (root / file).read_text()


def test_a_damaged_job_file_is_named_and_run_again_and_all_is_as_before(engine, folder):
    before = contents(folder)
    name = sorted(jobs.there(folder))[0]
    path = jobs.path_of(folder, name)
    path.write_bytes(path.read_bytes().replace(b'"seed":', b'"seed" :'))
    (doubt,) = [doubt for doubt in load_results(folder).doubts if "checksum" in doubt]
    assert doubt.startswith(f"{path} is not as it was written")
    assert len(load_results(folder).results) == 5
    again = compare(folder)
    assert engine.trained == [name]
    assert again.mended == (f"{path} is not as it was written: its checksum does not fit. It does not count; the run is to be made again.",)
    assert contents(folder) == before


def test_another_jobs_content_is_not_taken(engine, folder):
    first, second = sorted(jobs.there(folder))[:2]
    shutil.copy(jobs.path_of(folder, first), jobs.path_of(folder, second))
    assert f"{second}.json holds another job, {first}" in compare(folder).mended[0]
    assert engine.trained == [second]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["summary.md", "summary.json", "report.html", "tables/curves.csv"])
@pytest.mark.parametrize("change", [lambda data: data[:-3], lambda data: b"x" + data, None])
def test_a_derived_file_that_was_changed_is_named_and_made_anew(engine, folder, name, change):
    before = contents(folder)
    path = folder / name
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    assert compare(folder).doubts == (f"{name} in {folder} was missing, cut or changed, and has been made anew.",)
    assert engine.trained == []
    assert contents(folder) == before


@pytest.mark.heavy
@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_text("{"), lambda path: path.write_bytes(b"")])
def test_a_lost_manifest_is_made_of_the_other_files(engine, folder, lost):
    before = contents(folder)
    lost(folder / store.MANIFEST)
    assert len(load_results(folder).results) == 6
    assert plan_of(folder).missing == ()
    assert compare(folder).missing == 0
    assert engine.trained == []
    assert store.read_manifest(folder).command == "compare"
    assert contents(folder) == before


def test_a_lost_manifest_is_made_anew_by_report_and_when_the_config_is_lost_by_the_same_command(engine, folder):
    (folder / store.MANIFEST).write_text("{")
    assert len(initbench.report(folder).results) == 6
    (folder / store.MANIFEST).write_text("{")
    (folder / store.CONFIG).unlink()
    with pytest.raises(StorageError, match=r"is damaged: .* once more: that finds the runs again"):
        initbench.report(folder)
    assert len(compare(folder).results) == 6
    assert engine.trained == []


def test_a_folder_of_a_users_is_not_taken_for_one_without_a_manifest(engine, folder, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(folder / store.CONFIG, own / store.CONFIG)
    with pytest.raises(StorageError, match=r"holds other files and no initbench results"):
        compare(own)


@pytest.mark.parametrize("stop", [*range(1, 150, 12), *(pytest.param(stop, marks=pytest.mark.heavy) for stop in range(2, 250))])
def test_a_command_that_is_killed_while_it_writes_is_made_whole(engine, folder, monkeypatch, stop):
    """Stopped before each so-many-th change of the disk, in another view and with --fresh: the same command makes all as it was."""
    before = contents(folder)
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        kill_after(stop, patch)
        compare(folder, View(metric="final_test_loss", reference="kaiming"))
        compare(folder, fresh=True)
    compare(folder)
    assert contents(folder) == before
    assert load_results(folder).summary.metric == "final_test_accuracy"


class Killed(BaseException):
    """Ends a command where it stands."""


def kill_after(changes, patch):
    """Lets so many changes of the disk happen and none after them, as for a process that is killed."""
    left = [changes]
    for owner, name in ((os, "open"), (os, "unlink"), (os, "replace"), (os, "rename")):

        def counted(*words, _real=getattr(owner, name), _name=name, **more):
            writes = _name != "open" or words[1] & (os.O_WRONLY | os.O_RDWR)
            left[0] -= bool(writes)
            if left[0] < 0 and writes:
                raise Killed
            return _real(*words, **more)

        patch.setattr(owner, name, counted)


def test_fresh_leaves_what_users_put_there(engine, folder):
    for name in ("plots/paper_figure.pdf", "tables/mine.csv", "jobs/notes.txt", "notes.md"):
        (folder / name).write_text("mine")
    compare(folder, fresh=True)
    compare(folder, View(metric="final_test_loss"))
    assert len(engine.trained) == 6
    for name in ("plots/paper_figure.pdf", "tables/mine.csv", "jobs/notes.txt", "notes.md"):
        assert (folder / name).read_text() == "mine"


def test_a_folder_that_links_elsewhere_is_refused_before_anything_runs(engine, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_text("mine")
    shutil.rmtree(folder / "plots")
    (folder / "plots").symlink_to(tmp_path / "elsewhere")
    for touch in (lambda: compare(folder), lambda: compare(folder, fresh=True), lambda: initbench.report(folder)):
        with pytest.raises(StorageError, match=r"plots is a link, and initbench writes only inside of"):
            touch()
    assert contents(tmp_path / "elsewhere") == {"a.png": b"mine"}


def test_merging_keeps_the_runs_that_are_there(engine, folder, tmp_path):
    for seeds in ((0, 1), (2, 3)):
        compare(tmp_path / str(seeds[0]), config=QUESTION.model_copy(update={"seeds": seeds}))
    target = merge([tmp_path / "0", tmp_path / "2"], tmp_path / "both")
    before = contents(target)
    store.write_result(target, load_results(target).results[0].model_copy(update={"parameters": 7}))
    merge([tmp_path / "0", tmp_path / "2"], target)
    assert [run.parameters for run in load_results(target).results].count(7) == 1
    assert contents(target).keys() == before.keys()
    with pytest.raises(StorageError, match=r"holds the results of another question"):
        merge([tmp_path / "0", tmp_path / "2"], folder)


def test_smoke_replaces_only_what_smoke_made(engine, folder):
    from initbench.cli.smoke import smoke_plan

    with pytest.raises(
        StorageError, match=r"holds the results of another question. Choose another folder with --out .*, or replace them with --fresh"
    ):
        smoke_plan(Execution(output=str(folder)))
    assert smoke_plan(Execution(output=str(folder), fresh=True)).execution.fresh


@pytest.fixture
def strangers(folder, tmp_path):
    """A folder whose manifest names a metric of the user's own, in a way that passes every check."""
    (tmp_path / "mine.py").write_text(METRIC)
    compare(folder, View(metric="./mine.py"))
    (tmp_path / "ran.txt").unlink()
    initbench.statistics.known_metrics.all_metrics.cache_clear()
    for name in [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")) == str(tmp_path / "mine.py")]:
        del sys.modules[name]
    return folder


@pytest.mark.heavy
def test_looking_does_not_run_a_metric_that_only_the_manifest_names(strangers, tmp_path):
    says = "The folder asks for the metric ./mine.py, which is code, and looking runs none. To have it used, name it: --metric ./mine.py"
    assert says in load_results(strangers).doubts
    plan_of(strangers, looking=True)
    shown = initbench.report(strangers)
    assert says in shown.doubts
    assert shown.summary.metric == "final_test_accuracy"
    merge([strangers, strangers], tmp_path / "merged")
    assert not (tmp_path / "ran.txt").exists()
    assert initbench.report(strangers, metric="./mine.py").summary.metric == "./mine.py"
    assert load_results(strangers, metric="./mine.py").summary.metric == "./mine.py"
    assert (tmp_path / "ran.txt").exists()


def test_a_summary_that_names_code_is_not_believed(engine, folder, tmp_path):
    (tmp_path / "mine.py").write_text(METRIC)
    manifest = store.read_manifest(folder)
    forged = json.loads((folder / store.SUMMARY).read_bytes()) | {"metric": "./mine.py"}
    store.write_text(folder / store.SUMMARY, json.dumps(forged))
    listed = {**manifest.derived, store.SUMMARY: store.files.digest_of(folder / store.SUMMARY)}
    store.write_manifest(folder, manifest.model_copy(update={"derived": listed}))
    assert compare(folder).summary.metric == "final_test_accuracy"
    assert not (tmp_path / "ran.txt").exists()


HOLD = """
import sys, time
from pathlib import Path
from initbench.results.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holding(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_command_is_told_who_is_at_work_and_a_killed_one_holds_nothing(engine, folder):
    other = holding(folder)
    says = rf"out is in use by another initbench command \(process {other.pid}, since 20\d\d-.*\). Wait until it has ended"
    try:
        for touch in (lambda: compare(folder, fresh=True), lambda: initbench.report(folder)):
            with pytest.raises(StorageError, match=says):
                touch()
        assert len(load_results(folder).results) == 6
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (folder / lock.LOCK).exists()
    compare(folder)
    assert not (folder / lock.LOCK).exists()
    assert engine.trained == []


def test_a_lock_leaves_no_folder_behind_where_nothing_was_written(tmp_path):
    with lock.locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / lock.LOCK).is_file()
    assert list(tmp_path.iterdir()) == []


def test_what_another_command_finished_in_the_meantime_is_not_run_again(engine, tmp_path):
    planned = make_plan("compare", QUESTION, Execution(output=str(tmp_path / "out"), engine="serial", device="cpu"))
    compare(tmp_path / "out")
    engine.trained.clear()
    carry_out(planned)
    assert engine.trained == []


@pytest.mark.heavy
def test_a_command_that_is_killed_at_any_time_goes_on_to_the_same_bytes(tmp_path):
    words = [sys.executable, "-m", "initbench", "compare", "zeros", "ones", "normal", "--seeds", "2", "--model", "mlp:depth=1,width=8"]
    words += ["--steps", "3", "--engine", "serial", "--device", "cpu", "--out"]
    subprocess.run([*words, "whole"], cwd=tmp_path, check=True, capture_output=True)
    derived = {name: without_occasion(data) for name, data in contents(tmp_path / "whole").items() if not name.startswith("jobs/")}
    dice = random.Random(0)
    for number in range(8):
        for _ in range(4):
            process = subprocess.Popen([*words, f"killed{number}"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(1.0, 7.0))
            process.kill()
            process.wait()
        subprocess.run([*words, f"killed{number}"], cwd=tmp_path, check=True, capture_output=True)
        found = contents(tmp_path / f"killed{number}")
        assert {name: without_occasion(data) for name, data in found.items() if not name.startswith("jobs/")} == derived


@pytest.mark.heavy
def test_a_part_of_the_fault_campaign_finds_nothing_wrong():
    root = Path(__file__).parent.parent
    ran = subprocess.run([sys.executable, "benchmarks/faults.py", "--share", "0.05"], cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr

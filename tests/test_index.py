"""The index of a results folder: what it spares, that nothing differs with, without and with a broken one, and that it is never trusted."""

import json
import os
import shutil

import pytest
from simulated_runs import make_run

import initbench
from initbench.cli.live import run_screen
from initbench.cli.running import document
from initbench.errors import StorageError
from initbench.question.config import Execution, ExperimentConfig, GridConfig, TrainConfig, parse_ref
from initbench.results import files, index, jobs, store
from initbench.results.record import RunStatus
from initbench.studies.answer import load_results
from initbench.studies.execution import carry_out
from initbench.studies.plan import make_plan, plan_of

QUESTION = ExperimentConfig(schemes=(parse_ref("xavier"), parse_ref("kaiming")), seeds=(0, 1, 2), train=TrainConfig(steps=20))
RUNS = 6


class Engine:
    """Gives made-up runs, equal for equal jobs, and remembers which; runs of the seeds in `failing` fail."""

    def __init__(self):
        self.trained, self.failing = [], set()

    def __call__(self, asked, **_):
        for name, job in asked:
            self.trained.append(name)
            failed = {"status": RunStatus.FAILED, "reason": "no memory"} if job.seed in self.failing else {}
            yield make_run(str(job.scheme), job.seed, 0.5 + 0.1 * job.seed, job_id=name, job=job, **failed)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda plot: {".png": plot.name.encode(), ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)
    runs, load = Engine(), initbench.studies.execution.catalog.load
    monkeypatch.setattr("initbench.studies.execution.catalog.load", lambda kind, name: runs if kind == "engine" else load(kind, name))
    return runs


@pytest.fixture
def parsed(monkeypatch):
    """The names of the job files that are parsed, from here on."""
    names, parse = [], jobs._parsed
    monkeypatch.setattr(jobs, "_parsed", lambda path, *rest: names.append(path.stem) or parse(path, *rest))
    return names


@pytest.fixture
def folder(engine, tmp_path):
    """A finished comparison."""
    compare(tmp_path / "out")
    engine.trained.clear()
    return tmp_path / "out"


def compare(folder, *, fresh=False):
    return carry_out(make_plan("compare", QUESTION, Execution(output=str(folder), engine="serial", device="cpu", fresh=fresh)))


def contents(folder, *, index_too=True):
    """Every file but the manifest, which holds times."""
    left_out = {store.MANIFEST} | ({index.INDEX} if not index_too else set())
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in left_out}


def other_version(path):
    data = json.loads(path.read_bytes())
    del data["digest"]
    path.write_bytes(files.sealed(json.dumps({**data, "initbench": "99.0"})))


def unknown_field(path):
    data = json.loads(path.read_bytes())
    del data["digest"]
    path.write_bytes(files.sealed(json.dumps({**data, "segments": []})))


def no_such_place(path):
    data = json.loads(path.read_bytes())
    del data["digest"]
    path.write_bytes(files.sealed(json.dumps({**data, "conditions": []})))


def one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def foreign(path):
    """That of another folder: the same ids, and other bytes."""
    data = json.loads(path.read_bytes())
    del data["digest"]
    data["runs"] = [[*run[:3], "failed", "forged", run[5], files.digest(run[6].encode()), True] for run in data["runs"]]
    path.write_bytes(files.sealed(json.dumps(data)))


BROKEN = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "one bit": one_bit,
    "no JSON": lambda path: path.write_bytes(files.sealed("{")),
    "without a seal": lambda path: path.write_bytes(b"{" + path.read_bytes()[path.read_bytes().index(b",") + 1 :]),
    "of another version": other_version,
    "with an unknown field": unknown_field,
    "without conditions": no_such_place,
    "foreign": foreign,
}


def test_a_finished_command_parses_no_run_and_says_the_same(engine, folder, parsed):
    first = load_results(folder)
    del parsed[:]
    again = compare(folder)
    assert (engine.trained, parsed) == ([], [])
    assert (again.summary, again.doubts, again.missing) == (first.summary, first.doubts, 0)
    assert document(again) == {**document(first), "folder": str(folder)}
    assert parsed == []
    assert again.results == first.results
    assert again.reported == first.reported
    assert sorted(parsed) == sorted(jobs.there(folder))


@pytest.mark.heavy
@pytest.mark.parametrize("name", BROKEN)
def test_whatever_becomes_of_the_index_all_is_as_it_was(engine, folder, parsed, name):
    before, times = contents(folder), {path: path.stat().st_mtime_ns for path in folder.glob("*.*") if path.name != index.INDEX}
    BROKEN[name](folder / index.INDEX)
    again = compare(folder)
    assert (engine.trained, again.doubts, again.mended) == ([], (), ())
    assert sorted(set(parsed)) == sorted(jobs.there(folder))
    assert contents(folder) == before
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("*.*") if path.name != index.INDEX}


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*BROKEN, "as it is"])
def test_a_report_is_the_same_bytes_with_any_index(engine, folder, name):
    before = contents(folder)
    shutil.rmtree(folder / "tables")
    BROKEN.get(name, lambda path: None)(folder / index.INDEX)
    initbench.report(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["a folder", "a pipe"])
def test_what_is_no_file_in_its_place_does_no_harm(engine, folder, make):
    before = contents(folder, index_too=False)
    (folder / index.INDEX).unlink()
    make(folder / index.INDEX)
    again = compare(folder)
    assert (engine.trained, again.doubts, again.mended) == ([], (), ())
    assert contents(folder, index_too=False) == before


def test_a_link_in_its_place_is_replaced_and_not_followed(engine, folder, tmp_path):
    (tmp_path / "victim").write_text("mine")
    (folder / index.INDEX).unlink()
    (folder / index.INDEX).symlink_to(tmp_path / "victim")
    compare(folder)
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (folder / index.INDEX).is_symlink()


def test_where_it_cannot_be_written_there_is_none(engine, folder, monkeypatch):
    before = contents(folder, index_too=False)
    (folder / index.INDEX).unlink()
    write = files.write_bytes

    def refuse(path, data):
        if path.name == index.INDEX:
            raise StorageError("No space left on device.")
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", refuse)
    again = compare(folder)
    assert (engine.trained, again.doubts) == ([], ())
    assert contents(folder) == before


def changed_within(path):
    data = bytearray(path.read_bytes())
    place = data.index(b'"test_accuracy":0.') + len(b'"test_accuracy":0.')
    data[place] = ord("9") if data[place] != ord("9") else ord("8")
    path.write_bytes(data)


HARM = {
    "edited": changed_within,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "of the same size": lambda path: path.write_bytes(b" " * path.stat().st_size),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", HARM)
def test_a_run_that_is_harmed_is_noticed_whatever_its_time_says(engine, folder, name):
    before = contents(folder)
    harmed = sorted(jobs.there(folder))[2]
    path = jobs.path_of(folder, harmed)
    was = path.stat()
    HARM[name](path)
    if path.exists():
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert [job_id for job_id, _ in plan_of(folder).missing] == [harmed]
    again = compare(folder)
    assert engine.trained == [harmed]
    assert [note for note in again.mended if str(path) in note] == list(again.mended)
    assert bool(again.mended) == (name != "removed")
    assert contents(folder) == before


def test_a_run_that_is_replaced_by_another_of_the_same_size_and_time_is_reported(engine, folder):
    name = sorted(jobs.there(folder))[0]
    path = jobs.path_of(folder, name)
    was, result = path.stat(), jobs.read(folder, [name]).results[0]
    last = result.evaluations[-1].model_copy(update={"test_accuracy": 0.1 if result.evaluations[-1].test_accuracy != 0.1 else 0.2})
    jobs.write(folder, result.model_copy(update={"evaluations": (*result.evaluations[:-1], last)}))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    again = compare(folder)
    assert engine.trained == []
    assert last.test_accuracy in [run.evaluations[-1].test_accuracy for run in again.results if run.job_id == name]
    assert compare(folder).summary == load_results(folder).summary == again.summary


def test_a_copy_with_other_times_parses_and_writes_nothing(engine, folder, tmp_path, parsed):
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    compare(tmp_path / "copy")
    assert (engine.trained, parsed) == ([], [])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*") if path.is_file()}


def test_only_looking_writes_no_index(engine, folder):
    (folder / index.INDEX).unlink()
    plan_of(folder, looking=True)
    load_results(folder)
    assert not (folder / index.INDEX).exists()


def test_failed_runs_are_known_as_such_and_tried_again(engine, tmp_path, parsed):
    engine.failing = {1}
    first = compare(tmp_path / "out")
    failed = {run.job_id for run in first.ends if run.status is RunStatus.FAILED}
    assert len(failed) == 2
    engine.failing, engine.trained = set(), []
    del parsed[:]
    assert {name for name, _ in plan_of(tmp_path / "out").missing} == failed
    assert parsed == []
    again = compare(tmp_path / "out")
    assert set(engine.trained) == failed
    assert {run.status for run in again.ends} == {RunStatus.COMPLETED}


def test_the_index_grows_with_the_runs_that_are_made_and_goes_with_them(engine, folder):
    assert set(index.load(folder)) == jobs.there(folder)
    assert len(index.load(folder)) == RUNS
    store.clear(folder)
    assert not (folder / index.INDEX).exists()


def test_a_result_that_changes_after_it_was_looked_at_is_not_mixed_with_the_others(engine, folder):
    again = compare(folder)
    path = jobs.path_of(folder, again.ends[0].job_id)
    changed_within(path)
    with pytest.raises(StorageError, match=rf"{path} has been changed or removed meanwhile. Give the command once more."):
        list(again.results)


@pytest.mark.heavy
def test_an_index_that_vouches_for_what_is_no_run_is_told_of(engine, folder):
    headers = index.load(folder)
    name, header = next(iter(headers.items()))
    jobs.path_of(folder, name).write_bytes(b"{}")
    index.save(folder, (headers | {name: header._replace(digest=files.digest(b"{}"))}).values())
    with pytest.raises(StorageError, match=rf"{name}.json is damaged .*Remove .*{index.INDEX}, and give the command once more."):
        initbench.report(folder)
    (folder / index.INDEX).unlink()
    assert compare(folder).missing == 0
    assert engine.trained == [name]


def test_what_a_run_said_loses_its_control_characters_in_the_index_too(tmp_path):
    header = index.header_of(make_run("xavier", 0), "0" * 64)._replace(reason="a\x1b[2Jb")
    index.save(tmp_path, [header])
    assert "\x1b" not in str(index.load(tmp_path)[header.job_id].reason)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["as it is", "missing", "foreign"])
def test_a_sweep_finds_runs_of_other_folders_by_their_index_and_without(engine, tmp_path, parsed, name):
    def sweep(*depths):
        return QUESTION.model_copy(update={"grid": GridConfig(axes={"model.depth": depths})})

    means = Execution(engine="serial", device="cpu")
    narrow = carry_out(make_plan("sweep", sweep(1, 2), means))
    BROKEN.get(name, lambda path: None)(narrow.folder / index.INDEX)
    engine.trained.clear()
    del parsed[:]
    plan = make_plan("sweep", sweep(1, 2, 3), means)
    assert set(plan.elsewhere) == jobs.there(narrow.folder)
    assert len(parsed) == (0 if name == "as it is" else len(plan.elsewhere))
    assert len(plan.missing) == 3 * RUNS
    wide = carry_out(plan)
    assert len(engine.trained) == RUNS
    assert [jobs.path_of(wide.folder, taken).read_bytes() for taken in plan.elsewhere] == [
        path.read_bytes() for path in plan.elsewhere.values()
    ]
    assert {path.parent for path in plan.elsewhere.values()} == {narrow.folder / jobs.JOBS}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("old", "new", "is_found"),
    [
        ("results/a", "results/b", True),
        ("results/mine/old/a", "results/b", True),
        ("results/a", "other/b", True),
        ("other/a", "other/b", True),
        ("results/a/jobs/c", "results/b", False),
        ("results/.kept/a", "results/b", False),
        ("other/deep/a", "other/b", False),
    ],
)
def test_runs_are_found_under_the_results_root_and_beside_the_folder(engine, tmp_path, monkeypatch, old, new, is_found, capsys):
    monkeypatch.chdir(tmp_path)
    config = QUESTION.model_copy(update={"grid": GridConfig(axes={"model.depth": (1,)})})
    carry_out(make_plan("sweep", config, Execution(engine="serial", device="cpu", output=old)))
    plan = make_plan("sweep", config, Execution(engine="serial", device="cpu", output=new))
    assert len(plan.elsewhere) == (RUNS if is_found else 0)
    with run_screen(quiet=False, verbose=False) as screen:
        carry_out(plan, screen)
    assert (f"Nothing to run: 2 schemes x {RUNS // 2} seeds" in capsys.readouterr().err) == is_found

"""The results folder: whole files or none, nothing of others touched."""

import os
import stat

import pytest

from initbench.errors import StorageError
from initbench.question import plan
from initbench.question.config import ExperimentConfig, View, parse_ref
from initbench.results import store
from initbench.results.record import RunResult, RunStatus

QUESTION = ExperimentConfig(schemes=(parse_ref("xavier"),), seeds=(0,))
(JOB,) = plan.make_jobs(QUESTION)


def result(**more):
    return RunResult(**{"job_id": plan.job_id(JOB), "job": JOB, "status": RunStatus.COMPLETED, "train_losses": (2.5, 1.0), **more})


def manifest(**more):
    listed = (store.PlannedJob(job_id=plan.job_id(JOB), scheme="xavier", seed=0),)
    return store.Manifest(initbench="0", command="run", config_hash="abc", jobs=listed, started=store.now(), **more)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_result_reads_back_to_the_same(tmp_path):
    store.write_result(tmp_path, result())
    assert store.read_results(tmp_path, [result().job_id]) == (result(),)
    assert files(tmp_path) == [f"jobs/{result().job_id}.json"]


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    store.write_text(path, "old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"Cannot write .*a.txt: No space left on device\. Choose another folder with --out"):
        store.write_text(path, "new")
    assert path.read_text() == "old"
    assert files(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"job_id": "x"}', b"\x00\xff"])
def test_a_damaged_job_file_counts_as_not_there(tmp_path, damage):
    store.write_result(tmp_path, result())
    (tmp_path / "jobs" / f"{result().job_id}.json").write_bytes(damage)
    assert store.read_results(tmp_path, [result().job_id]) == ()


def test_a_job_file_under_another_name_is_not_that_job(tmp_path):
    store.write_result(tmp_path, result())
    (tmp_path / "jobs" / f"{result().job_id}.json").rename(tmp_path / "jobs" / "0000.json")
    assert store.read_results(tmp_path, ["0000", result().job_id]) == ()


def test_only_a_failed_run_is_tried_again():
    assert [status for status in RunStatus if not store.is_done(result(status=status))] == [RunStatus.FAILED]


def test_an_empty_or_new_folder_is_free_and_its_own_results_stay(tmp_path):
    store.check_folder(tmp_path / "new", "abc", fresh=False)
    store.check_folder(tmp_path, "abc", fresh=False)
    store.write_manifest(tmp_path, manifest())
    store.check_folder(tmp_path, "abc", fresh=False)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_folder_with_other_files_is_not_taken(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StorageError, match=r"holds other files and no initbench results. Choose another folder with --out"):
        store.check_folder(tmp_path, "abc", fresh=fresh)


def test_results_of_another_question_are_only_replaced_on_demand(tmp_path):
    store.write_manifest(tmp_path, manifest())
    with pytest.raises(StorageError, match=r"another question.*--out.*--fresh"):
        store.check_folder(tmp_path, "def", fresh=False)
    store.check_folder(tmp_path, "def", fresh=True)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file is a file, not a folder"):
        store.check_folder(tmp_path / "file", "abc", fresh=False)
    with pytest.raises(StorageError, match=r"Cannot make .*: .*file is a file"):
        store.check_writable(tmp_path / "file" / "below")


def test_a_folder_that_cannot_be_written_is_found_before_anything_runs():
    with pytest.raises(StorageError, match=r"Cannot write to /proc: .*Choose another folder with --out"):
        store.check_writable(store.Path("/proc/initbench"))


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path):
    store.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_clearing_removes_what_initbench_wrote_and_nothing_else(tmp_path):
    store.write_result(tmp_path, result())
    store.write_manifest(tmp_path, manifest())
    store.write_text(tmp_path / "tables" / "curves.csv", "")
    (tmp_path / "notes.txt").write_text("mine")
    store.clear(tmp_path)
    assert files(tmp_path) == ["notes.txt"]


def test_derived_files_are_current_only_for_the_results_they_were_made_from(tmp_path):
    digest = store.jobs_digest([result()], View())
    for name in store.DERIVED:
        (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("")
    assert store.derived_is_current(tmp_path, manifest(derived_from=digest), digest)
    assert not store.derived_is_current(tmp_path, manifest(derived_from=digest), store.jobs_digest([result()], View(margin=1.0)))
    assert not store.derived_is_current(
        tmp_path, manifest(derived_from=digest), store.jobs_digest([result(train_losses=(2.5, 1.1))], View())
    )
    (tmp_path / "summary.json").unlink()
    assert not store.derived_is_current(tmp_path, manifest(derived_from=digest), digest)


def test_latest_points_to_the_last_folder_and_never_replaces_a_real_one(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        store.link_latest(tmp_path / name)
    assert (tmp_path / "latest").readlink().name == "second"
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    store.link_latest(tmp_path / "first")
    assert not (tmp_path / "latest").is_symlink()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    (tmp_path / "jobs").mkdir()
    dead, living = tmp_path / "jobs" / ".x.json.999999999.tmp", tmp_path / f".y.json.{os.getpid()}.tmp"
    dead.write_text("")
    living.write_text("")
    store.remove_leftovers(tmp_path)
    assert files(tmp_path) == [living.name]


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match=r"manifest.json is damaged: .* Remove .*, or choose another with --out."):
        store.read_manifest(tmp_path)


def test_results_can_be_read_by_others(tmp_path):
    store.write_text(tmp_path / "a.txt", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask

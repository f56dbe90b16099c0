"""The results folder: whole files or none, nothing of others touched."""

import json
import os
import random
import stat
from pathlib import Path

import pytest

from initbench.errors import StorageError
from initbench.question import plan
from initbench.question.config import ExperimentConfig, parse_ref
from initbench.results import jobs, store
from initbench.results.files import sealed
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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "is cut off"),
        (lambda data: data[: len(data) // 2], "is cut off"),
        (lambda data: data[:40], "is damaged"),
        (lambda data: b"", "is empty"),
        (lambda data: data.replace(b"2.5", b"2.6"), "is not as it was written: its checksum does not fit"),
        (lambda data: data.replace(b'"digest"', b'"digess"'), "is not as it was written"),
        (lambda data: data.replace(b'"reason":null,', b""), "is not as it was written"),
        (lambda data: unsealed(data).replace(result().job_id.encode(), b"0" * 16, 1), "holds another job, 0000000000000000"),
        (lambda data: unsealed(data).replace(b'"seed":0', b'"seed":1', 1), "holds the result of another job"),
    ],
)
def test_a_job_file_that_does_not_count_is_named(tmp_path, change, says):
    store.write_result(tmp_path, result())
    path = jobs.path_of(tmp_path, result().job_id)
    path.write_bytes(change(path.read_bytes()))
    found = jobs.read(tmp_path, {result().job_id: JOB})
    assert found.results == ()
    (sentence,) = found.damaged
    assert sentence.startswith(f"{path} {says}")
    assert sentence.endswith(". It does not count; the run is to be made again.")


def unsealed(data):
    """The file as an earlier release wrote it, without a checksum."""
    return b"{" + data.partition(b",")[2]


def test_a_job_file_of_an_earlier_release_is_read_and_counted_as_unchecked(tmp_path):
    store.write_result(tmp_path, result())
    path = jobs.path_of(tmp_path, result().job_id)
    path.write_bytes(unsealed(path.read_bytes()))
    assert jobs.read(tmp_path, [result().job_id]) == jobs.Found((result(),), unchecked=1)


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path):
    path = jobs.path_of(tmp_path, result().job_id)
    path.parent.mkdir()
    os.mkfifo(path)
    assert "is no file that can be read" in jobs.read(tmp_path, [result().job_id]).damaged[0]
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "is no file that can be read" in jobs.read(tmp_path, [result().job_id]).damaged[0]


def test_files_of_a_newer_version_are_refused_and_stay(tmp_path):
    store.write_result(tmp_path, result())
    store.write_manifest(tmp_path, manifest())
    for path, read in (
        (jobs.path_of(tmp_path, result().job_id), lambda: jobs.read(tmp_path, [result().job_id])),
        (tmp_path / "manifest.json", lambda: store.check_folder(tmp_path, "abc", fresh=True)),
    ):
        body = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "digest"} | {"mood": 1}
        for text in (json.dumps(body).encode(), sealed(json.dumps(body)), json.dumps({**body, "digest": "0" * 64}).encode()):
            path.write_bytes(text)
            with pytest.raises(StorageError, match=r"is of a newer version of initbench \(it has mood\); it stays as it is"):
                read()
            assert path.read_bytes() == text


@pytest.mark.parametrize("many", [60, pytest.param(5000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("what", ["job", "manifest"])
def test_flipped_bits_and_cuts_are_all_found_or_harmless(tmp_path, many, what):
    store.write_result(tmp_path, result())
    store.write_manifest(tmp_path, manifest())
    path = jobs.path_of(tmp_path, result().job_id) if what == "job" else tmp_path / "manifest.json"
    whole, dice = path.read_bytes(), random.Random(what)
    for number in range(2 * many):
        data = bytearray(whole)
        place = dice.randrange(len(data)) if number >= 2 * len(SEAL_BITS) else number // 2
        data[place] ^= 1 << dice.randrange(8)
        path.write_bytes(data if number % 2 else whole[:place])
        if what == "job":
            found = jobs.read(tmp_path, {result().job_id: JOB})
            assert found == jobs.Found((result(),)) or (found.results == () and len(found.damaged) == 1), (number, bytes(data))
        else:
            try:
                assert store.read_manifest(tmp_path) == store.Manifest.model_validate_json(b"{" + whole[whole.index(b",") + 1 :])
            except store.DamagedManifest as error:
                assert str(path) in str(error)  # noqa: PT017 - either is right


SEAL_BITS = range(12)
"""The first bytes of a file are tried one by one."""


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
    store.write_manifest(tmp_path, manifest(derived={}))
    store.write_derived(tmp_path, {"tables/curves.csv": "a\n"}, {"plots/loss.png": b"\x89"})
    for name in ("notes.txt", "plots/paper_figure.pdf", "tables/mine.csv", "jobs/notes.json"):
        (tmp_path / name).write_text("mine")
    store.clear(tmp_path)
    assert files(tmp_path) == ["jobs/notes.json", "manifest.json", "notes.txt", "plots/paper_figure.pdf", "tables/mine.csv"]
    store.check_folder(tmp_path, "abc", fresh=False)


def test_a_derived_file_that_is_cut_changed_or_gone_is_named(tmp_path):
    store.write_manifest(tmp_path, manifest(derived={}))
    store.write_derived(tmp_path, {"summary.md": "text", "tables/a.csv": "1", "tables/b.csv": "2"}, {"plots/c.png": b"3"})
    assert store.changed_files(tmp_path, store.read_manifest(tmp_path)) == ()
    (tmp_path / "summary.md").write_text("tex")
    (tmp_path / "tables" / "a.csv").unlink()
    (tmp_path / "plots" / "c.png").unlink()
    os.mkfifo(tmp_path / "plots" / "c.png")
    assert store.changed_files(tmp_path, store.read_manifest(tmp_path)) == ("summary.md", "tables/a.csv", "plots/c.png")


def test_what_is_no_longer_made_goes_and_what_users_put_beside_it_stays(tmp_path):
    store.write_manifest(tmp_path, manifest(derived={}))
    store.write_derived(tmp_path, {"summary.md": "one"}, {"plots/a.png": b"a", "plots/b.png": b"b"})
    (tmp_path / "plots" / "paper_figure.pdf").write_text("mine")
    (tmp_path / "plots" / "c.png").write_text("mine too")
    store.write_derived(tmp_path, {"summary.md": "two"}, {"plots/b.png": b"b", "plots/c.png": b"c"})
    assert files(tmp_path) == ["manifest.json", "plots/b.png", "plots/c.png", "plots/c.png.kept", "plots/paper_figure.pdf", "summary.md"]
    assert (tmp_path / "plots" / "c.png.kept").read_text() == "mine too"
    assert (tmp_path / "plots" / "c.png").read_bytes() == b"c"


@pytest.mark.parametrize("name", ["../outside.txt", "plots/../../outside.txt", "a/b/c", "other/outside.txt", "manifest.json"])
def test_a_manifest_cannot_have_files_removed_that_are_elsewhere(tmp_path, name):
    folder, outside = tmp_path / "out", tmp_path / "outside.txt"
    (folder / "other").mkdir(parents=True)
    outside.write_text("mine")
    (folder / "other" / "outside.txt").write_text("mine")
    store.write_manifest(folder, manifest(derived={name: "0" * 64, str(outside): "0" * 64}))
    store.write_derived(folder, {}, {})
    store.clear(folder)
    assert outside.read_text() == "mine"
    assert files(folder) == ["manifest.json", "other/outside.txt"]


@pytest.mark.parametrize("name", ["plots", "tables", "jobs"])
def test_no_link_is_followed(tmp_path, name):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.png").write_text("mine")
    store.write_manifest(folder, manifest(derived={f"{name}/a.png": "0" * 64}))
    (folder / name).symlink_to(elsewhere)
    for touch in (
        lambda: store.check_folder(folder, "abc", fresh=True),
        lambda: store.clear(folder),
        lambda: store.write_derived(folder, {}, {f"{name}/a.png": b""}),
    ):
        with pytest.raises(StorageError, match=rf"{name} is a link, and initbench writes only inside of .*out. Remove it, or"):
            touch()
    assert (elsewhere / "a.png").read_text() == "mine"
    store.remove_leftovers(folder)


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "summary.md").symlink_to(tmp_path / "victim")
    store.write_text(tmp_path / "summary.md", "ours")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "summary.md").is_symlink()


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
    dead = [tmp_path / "jobs" / ".x.json.999999999.tmp", tmp_path / f".x.json.999999999.{'0' * 16}.tmp", tmp_path / f".z.{os.getpid()}.tmp"]
    living = tmp_path / f".y.json.{os.getppid()}.{'0' * 16}.tmp"
    for path in (*dead, living):
        path.write_text("")
    store.remove_leftovers(tmp_path)
    assert files(tmp_path) == [living.name]


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(
        StorageError, match=r"manifest.json is damaged: .* Give the command that made .* once more: that finds the runs again; --fresh"
    ):
        store.read_manifest(tmp_path)


def test_results_can_be_read_by_others(tmp_path):
    store.write_text(tmp_path / "a.txt", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_temporary_files_have_names_that_nobody_can_foresee(tmp_path, monkeypatch):
    made = []
    opened = os.open

    def noted(path, flags, *mode):
        if str(path).endswith(".tmp"):
            made.append((Path(path).name, flags))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", noted)
    for _ in range(2):
        store.write_text(tmp_path / "a.json", "{}")
    (one, flags), (other, _) = made
    assert one != other
    assert len(set(one)) > 8
    assert flags & os.O_EXCL
    assert flags & os.O_CREAT
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

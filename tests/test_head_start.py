"""The process that imports torch while the command line is read: when it is started, and that it never stays behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from initbench.engines import processes
from initbench.errors import NotThereError
from initbench.workers import head_start
from initbench.workers.worker import Setting

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


class Stub:
    def __init__(self):
        self.ended = False

    def end(self):
        self.ended = True


@pytest.fixture
def started(monkeypatch):
    """What was started instead of processes; no accelerator is here."""
    found = []
    monkeypatch.setattr(head_start, "start", lambda mode: found.append(Stub()) or found[-1])
    monkeypatch.setattr(head_start, "accelerator_possible", lambda: False)
    monkeypatch.setattr(head_start, "_early", [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    return found


@only_linux
@pytest.mark.parametrize("words", ["compare xavier kaiming", "run --method=kaiming", "recommend", "resume results/latest", "smoke --json"])
def test_commands_that_train_get_a_head_start(started, words):
    head_start.begin(words.split())
    assert len(started) == 1
    assert head_start.take() is started[0]
    assert head_start.take() is started[1]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "list",
        "report",
        "compare --help",
        "run -h",
        "compare a b --dry-run",
        "compare --engine serial",
        "run --engine=stacked",
        "probe run",
    ],
)
def test_other_commands_do_not(started, words):
    head_start.begin(words.split())
    assert not started


def test_nothing_is_started_where_an_accelerator_may_do_the_work(started, monkeypatch):
    monkeypatch.setattr(head_start, "accelerator_possible", lambda: True)
    head_start.begin(["compare", "xavier"])
    assert not started


def test_a_single_core_is_left_to_the_command(started, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    head_start.begin(["compare", "xavier"])
    assert not started


@only_linux
def test_a_process_that_cannot_be_started_is_a_sentence_where_it_is_needed(started, monkeypatch):
    def fails(_mode):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(head_start, "start", fails)
    head_start.begin(["compare", "xavier"])
    with pytest.raises(NotThereError, match=r"\(Resource temporarily unavailable\). Try: --engine serial"):
        processes.WorkerPool(Setting("cpu", None))


@only_linux
def test_what_is_not_taken_is_ended(started):
    head_start.begin(["compare"])
    head_start._end_early()
    assert started[0].ended
    head_start._end_early()


@only_linux
def test_a_command_that_fails_leaves_no_process_behind(tmp_path):
    mark = str(tmp_path / "no.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "initbench", "compare", "-c", mark], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert mark in done.stderr
    assert not _workers_in(tmp_path)


@only_linux
def test_a_killed_command_leaves_no_process_behind(tmp_path):
    process = subprocess.Popen([sys.executable, "-m", "initbench", "compare", "xavier", "kaiming"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not _workers_in(tmp_path) and time.monotonic() < end:
        time.sleep(0.01)
    assert _workers_in(tmp_path)
    process.kill()
    process.wait()
    while _workers_in(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _workers_in(tmp_path)


def _workers_in(folder):
    """Processes other than the command itself that were started in a folder and run our code."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = (entry / "cwd").resolve() == folder.resolve()
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if here and b"initbench.workers.fork_server" in words:
            found.append(entry.name)
    return found

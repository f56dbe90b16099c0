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


@pytest.fixture
def started(monkeypatch):
    """What was started instead of the fork server; no accelerator is here."""
    starts = []
    monkeypatch.setattr(head_start, "start_fork_server", lambda: starts.append(1))
    monkeypatch.setattr(head_start, "accelerator_possible", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    return starts


@only_linux
@pytest.mark.parametrize("words", ["compare xavier kaiming", "run --method=kaiming", "recommend", "resume results/latest", "smoke --json"])
def test_commands_that_train_get_a_head_start(started, words):
    head_start.begin(words.split())
    assert len(started) == 1


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
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlockingIOError(11, "Resource temporarily unavailable"), "Resource temporarily unavailable"),
        (EOFError(), "what is to start them has ended"),
    ],
)
def test_a_process_that_cannot_be_started_is_a_sentence_where_it_is_needed(monkeypatch, error, reason):
    def fails(*_):
        raise error

    monkeypatch.setattr(head_start, "accelerator_possible", lambda: False)
    monkeypatch.setattr(head_start, "start_fork_server", fails)
    if isinstance(error, OSError):
        head_start.begin(["compare", "xavier"])
    with pytest.raises(NotThereError, match=rf"\({reason}\). Try: --engine serial"):
        processes.WorkerPool(Setting("cpu", None)).start_worker()


PLAIN_SCRIPT = """
import os, sys
from training_support import jobs_of
from initbench.engines import processes

print("once", os.environ.get("OMP_NUM_THREADS"), flush=True)
jobs = jobs_of("kaiming", seeds=(0, 1), train={"steps": 1, "batch_size": 32})
for result in processes.execute(jobs, device="cpu", data_dir=None, workers=2):
    print(result.status, flush=True)
print(sys.modules["__main__"].__file__ == __file__, os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.heavy
@only_linux
def test_a_script_without_a_guard_is_not_run_again_by_the_workers(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(PLAIN_SCRIPT)
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "2"}
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=environment, cwd=Path(here).parent, check=True)
    assert ran.stdout.split() == ["once", "2", "completed", "completed", "True", "2"]
    assert ran.stderr == ""


@pytest.mark.heavy
@only_linux
def test_a_command_that_fails_leaves_no_process_behind(tmp_path):
    mark = str(tmp_path / "no.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "initbench", "compare", "-c", mark], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert mark in done.stderr
    assert not _workers_in(tmp_path)


@pytest.mark.heavy
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
        if here and b"initbench.workers.preload" in words:
            found.append(entry.name)
    return found

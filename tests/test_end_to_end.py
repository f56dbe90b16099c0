"""The real command in processes of its own: killed and resumed, stopped by signals, from an empty folder."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.heavy

QUESTION = ["compare", "xavier", "kaiming", "--seeds", "2", "--dataset", "synthetic:n=200,test=50,shape=[1,4,4]", "--device", "cpu"]
QUESTION += ["--model", "mlp:depth=2,width=16", "--set", "train.batch_size=32", "--set", "probe.batch_size=32", "--out", "out"]


def command(arguments):
    return [sys.executable, "-m", "initbench", *arguments]


def start(arguments, folder):
    return subprocess.Popen(command(arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process):
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def saved(folder):
    return sorted((folder / "out" / "jobs").glob("*.json"))


def losses(folder):
    return {path.stem: json.loads(path.read_bytes())["train_losses"] for path in saved(folder)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(
        command([*QUESTION, "--steps", "60", "--engine", "processes", "-j", "2"]), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_killed_comparison_goes_on_where_it_was_and_ends_the_same(undisturbed, tmp_path):
    question = [*QUESTION, "--steps", "60", "--engine", "serial"]
    process = start(question, tmp_path)
    wait_until(lambda: saved(tmp_path), process)
    process.kill()
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in saved(tmp_path)}
    assert all(json.loads(path.read_bytes())["status"] == "completed" for path in before)
    resumed = subprocess.run(
        command(["resume", "out", "--engine", "serial", "--device", "cpu"]), cwd=tmp_path, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(before)} done before" in resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in saved(tmp_path) if path in before} == before
    assert losses(tmp_path) == losses(undisturbed)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_finished_comparison_is_shown_again_without_torch_or_pandas(undisturbed):
    code = (
        "import sys\n"
        "from initbench.cli.app import app\n"
        f"app({[*QUESTION, '--steps', '60']!r}, standalone_mode=False)\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=undisturbed, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert "Nothing to run" in done.stderr


def test_the_derived_files_are_the_same_bytes_when_made_again(undisturbed):
    folder = undisturbed / "out"
    derived = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "jobs" and path.name != "manifest.json"]
    before = {path: path.read_bytes() for path in derived}
    assert {"summary.json", "summary.md", "report.html", "curves.csv", "config.yaml"} <= {path.name for path in derived}
    done = subprocess.run(command(["report", "out"]), cwd=undisturbed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in derived} == before


def test_a_termination_leaves_nothing_half_written(tmp_path):
    process = start([*QUESTION, "--steps", "1000000", "--engine", "serial"], tmp_path)
    assert "4 runs" in process.stderr.readline()
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert "Traceback" not in told
    assert "nothing is saved" in told
    assert not (tmp_path / "out").exists()


def test_what_was_finished_before_a_signal_can_be_resumed(tmp_path):
    process = start([*QUESTION, "--steps", "3000", "--engine", "serial"], tmp_path)
    wait_until(lambda: saved(tmp_path), process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "of 4 runs are saved. Go on with: initbench resume out" in told
    assert 1 <= len(saved(tmp_path)) < 4


def test_a_reader_that_leaves_early_is_no_bug(tmp_path):
    done = subprocess.run(f"{sys.executable} -m initbench list | head -1", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "schemes\n"


def test_a_bug_of_ours_is_a_traceback_and_exit_code_1(tmp_path):
    code = "from initbench.cli import app\napp.list.guide.listed = lambda kind: 1 / 0\napp.app(['list'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr

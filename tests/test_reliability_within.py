"""A long run that is killed goes on where it was saved, to the same last bit: alone, stacked, in every engine, and after real kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_support import jobs_of

import initbench
from initbench.errors import StorageError
from initbench.nn.seeds import random_states, set_random_states
from initbench.question.config import Execution, ExperimentConfig
from initbench.results.unfinished import FOLDER
from initbench.stacking.jobs import StackSetting, run_group
from initbench.studies.execution import carry_out
from initbench.studies.plan import make_plan
from initbench.training import keeper, loop
from initbench.training.job import run_job

IMAGES = "synthetic:n=256,test=64,classes=3,shape=[1,8,8],noise=0.5"
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, classes))
        self.calls = 0

    def forward(self, x):
        {counts}
        return self.layers(x)
"""


@pytest.fixture
def saved_each_step(monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(keeper, "SHARE", 1e9)
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)


def run(job, job_id, folder=None, stop_at=None):
    """The result, or None of a run that was stopped; and the steps that were told."""
    told = []

    def report(done, _total):
        told.append(done)
        if done == stop_at:
            raise KeyboardInterrupt

    try:
        return run_job(job, job_id, device="cpu", data_dir=None, report=report, keep_in=folder and str(folder)), told
    except KeyboardInterrupt:
        return None, told


def same(one, other):
    return one.model_dump(exclude={"seconds"}) == other.model_dump(exclude={"seconds"})


@pytest.mark.heavy
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon", "lion"])
@pytest.mark.parametrize("model", ["mlp:depth=2,width=16,dropout=0.2", "cnn:channels=[4,4],norm=batch", "resnet:depth=8,width=2", "own"])
def test_a_run_that_is_stopped_twice_ends_as_one_that_is_not(model, optimizer, saved_each_step, tmp_path):
    if model == "own":
        (tmp_path / "own.py").write_text(OWN.format(counts=""))
        model = f"{tmp_path}/own.py:Net"
    train = {"steps": 40, "batch_size": 32, "optimizer": optimizer, "lr": 0.01, "augment": model.startswith("cnn"), "schedule": "cosine"}
    ((job_id, job),) = jobs_of("kaiming", model=model, dataset=IMAGES, train=train)
    whole, _ = run(job, job_id)
    assert whole.status == "completed", whole.reason
    folder = tmp_path / "unfinished"
    assert run(job, job_id, folder, stop_at=12) == (None, [*range(1, 13)])
    assert run(job, job_id, folder, stop_at=17) == (None, [11, *range(12, 18)])
    again, told = run(job, job_id, folder)
    assert told[0] == 16
    assert same(again, whole)


@pytest.mark.heavy
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("model", ["mlp:depth=2,width=16,dropout=0.2", "cnn:channels=[4,4],norm=batch"])
def test_a_stack_that_is_stopped_ends_as_one_that_is_not(model, optimizer, saved_each_step, tmp_path):
    train = {"steps": 40, "batch_size": 32, "optimizer": optimizer, "lr": 0.01, "augment": model.startswith("cnn")}
    asked = jobs_of("kaiming", "xavier", "normal:std=30", seeds=(0, 1), model=model, dataset=IMAGES, train=train)

    def trained(folder=None, stop_at=None):
        told = []

        def report(_job_id, done, _total):
            told.append(done)
            if done == stop_at:
                raise KeyboardInterrupt

        try:
            results = run_group(asked, StackSetting("cpu", None, report, keep_in=folder and str(folder)))
            return {each.job_id: each for each in results}, told
        except KeyboardInterrupt:
            return None, told

    whole, _ = trained()
    assert {each.provenance["stacked_runs"] for each in whole.values()} == {"6"}
    for stop_at in (13, 25):
        assert trained(tmp_path, stop_at)[0] is None
    again, told = trained(tmp_path)
    assert min(done for done in told if done) == 24
    assert all(same(again[job_id], whole[job_id]) for job_id in whole)


def saved_run(tmp_path, train=None, **parts):
    ((job_id, job),) = jobs_of("kaiming", train={"steps": 30, "batch_size": 32, **(train or {})}, **parts)
    run(job, job_id, tmp_path, stop_at=10)
    return job_id, job


def test_a_file_with_a_flipped_bit_or_cut_off_is_not_used(saved_each_step, tmp_path):
    job_id, job = saved_run(tmp_path)
    path = tmp_path / f"{job_id}.run"
    content = path.read_bytes()
    whole, _ = run(job, job_id)
    for place in range(0, len(content), len(content) // 25):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        assert keeper.read(path) is None
        path.write_bytes(content[:place])
        assert keeper.read(path) is None
    again, told = run(job, job_id, tmp_path)
    assert told[0] == 1
    assert same(again, whole)


@pytest.mark.heavy
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 4]), lambda data: b""])
def test_a_damaged_file_of_a_run_under_way_is_named_before_the_run_begins_anew(change, saved_each_step, tmp_path):
    question = begun(tmp_path)
    (path,) = (tmp_path / FOLDER).iterdir()
    execution = Execution(output=str(tmp_path), engine="serial", device="cpu")
    assert not make_plan("run", question, execution).notes
    path.write_bytes(change(path.read_bytes()))
    (note,) = make_plan("run", question, execution).notes
    assert note == f"{path} is not as it was written: its checksum does not fit. It does not count; the run begins anew."
    assert not make_plan("run", question, execution.model_copy(update={"fresh": True})).notes
    assert steps_of(question, tmp_path)[0] == 1


@pytest.mark.heavy
@pytest.mark.parametrize("condition", ["initbench", "torch", "where", "threads"])
def test_what_was_saved_under_other_conditions_is_not_gone_on_with(condition, saved_each_step, tmp_path, monkeypatch):
    job_id, job = saved_run(tmp_path)
    now = keeper.Keeper.conditions.fget
    monkeypatch.setattr(keeper.Keeper, "conditions", property(lambda self: now(self) | {condition: "another"}))
    assert run(job, job_id, tmp_path)[1][0] == 1


def test_a_file_that_holds_code_runs_none_of_it(tmp_path):
    class Opens:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/was_run",)

    path = tmp_path / "0123456789abcdef.run"
    assert keeper._write(path, {}, {"state": Opens()})
    assert keeper.read(path) is None
    assert not (tmp_path / "was_run").exists()


def test_a_model_that_counts_its_calls_is_not_saved_as_its_count_would_be_lost(saved_each_step, tmp_path):
    (tmp_path / "own.py").write_text(OWN.format(counts="self.calls += self.training"))
    job_id, job = saved_run(tmp_path / "unfinished", model=f"{tmp_path}/own.py:Net", dataset=IMAGES)
    assert not (tmp_path / "unfinished").exists()
    assert run(job, job_id, tmp_path / "unfinished")[0].status == "completed"


def test_a_disk_that_is_full_costs_the_saving_and_not_the_run(saved_each_step, tmp_path):
    (tmp_path / "unfinished").write_text("a file where the folder should be")
    ((job_id, job),) = jobs_of("kaiming")
    assert run(job, job_id, tmp_path / "unfinished")[0].status == "completed"


@pytest.mark.heavy
def test_a_short_run_leaves_no_file_and_a_long_one_waits_a_hundred_times_what_saving_took(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    saved_run(tmp_path)
    assert not list(tmp_path.iterdir())
    kept = keeper.Keeper(tmp_path, ("0123456789abcdef",), "here")
    kept.begin([], [])
    begun = time.perf_counter()
    monkeypatch.setattr(keeper, "_write", lambda *_given: time.sleep(1.0) or True)
    kept.keep({})
    assert kept.due - begun > 101


PATIENT = """
import initbench.training.loop, initbench.training.keeper as keeper
keeper.FIRST_SECONDS, keeper.SHARE = 0.3, 1.0
"""


def files_of(folder):
    """The job files without what depends on the clock, and the bytes of the tables."""
    jobs = {path.name: json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))}
    for each in jobs.values():
        del each["seconds"], each["digest"]
    return jobs, {path.name: path.read_bytes() for path in sorted((folder / "tables").glob("*.csv"))}


def begun(folder):
    """A folder in which a run was stopped, and the question."""
    question = ExperimentConfig(
        schemes=["kaiming"], seeds=[0], model="mlp:depth=1,width=8", dataset=IMAGES, train={"steps": 20, "batch_size": 32}
    )
    plan = make_plan("run", question, Execution(output=str(folder), engine="serial", device="cpu"))
    ((job_id, job),) = plan.jobs
    run(job, job_id, folder / FOLDER, stop_at=10)
    assert list((folder / FOLDER).iterdir())
    return question


def steps_of(question, folder, **execution):
    """The steps that are told while the question is carried out."""
    told = []

    class Seen:
        def planned(self, plan): ...
        def finished(self, result): ...
        def progress(self, sign):
            told.append(sign.done)

    carry_out(make_plan("run", question, Execution(output=str(folder), engine="serial", device="cpu", **execution)), Seen())
    return [done for done in told if done]


@pytest.mark.heavy
def test_the_same_command_goes_on_and_with_fresh_begins_anew(saved_each_step, tmp_path):
    folder = tmp_path / "out"
    question = begun(folder)
    with pytest.raises(StorageError, match="runs that were under way, and none that is finished"):
        initbench.resume(folder)
    assert steps_of(question, folder)[0] == 9
    assert not (folder / FOLDER).exists()
    anew = tmp_path / "anew"
    assert steps_of(begun(anew), anew, fresh=True)[0] == 1
    assert not (anew / FOLDER).exists()


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("engine", ["serial", "processes", "stacked"])
def test_a_command_that_is_killed_within_its_runs_goes_on_within_them(engine, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(PATIENT)
    words = [
        "compare",
        "kaiming",
        "xavier",
        "--seeds",
        "2",
        "--engine",
        engine,
        "--steps",
        "3000",
        "--model",
        "mlp:depth=3,width=64,dropout=0.1",
    ]
    words += ["--device", "cpu", "--set", "train.optimizer=adam", "--set", "train.lr=0.001", "-v"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', Path.cwd())}", "OMP_NUM_THREADS": "1"}

    def command(out):
        return [sys.executable, "-m", "initbench", *words, "--out", str(tmp_path / out)]

    subprocess.run(command("whole"), check=True, env=environment, capture_output=True)
    kept, kills = tmp_path / "killed" / FOLDER, 0
    while kills < 3:
        process = subprocess.Popen(command("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = {path: path.stat().st_mtime_ns for path in kept.glob("*.run")} if kept.exists() else {}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            now = {path: path.stat().st_mtime_ns for path in kept.glob("*.run")} if kept.exists() else {}
            if any(before.get(path) != changed for path, changed in now.items()):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert list(kept.glob("*.run")), "nothing was saved"
    subprocess.run(command("killed"), check=True, env=environment, capture_output=True)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert not kept.exists()


def test_random_states_come_back(tmp_path):
    import random

    import numpy as np

    state = random_states()
    drawn = random.random(), np.random.rand(), torch.rand(1)
    set_random_states(state)
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn

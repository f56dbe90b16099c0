"""The engines against each other, and what becomes of workers that are killed, interrupted or left alone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from training_support import jobs_of

from initbench.engines import processes, serial
from initbench.errors import ConfigError, DataError
from initbench.question.config import Execution
from initbench.results import provenance
from initbench.results.record import RunStatus
from initbench.studies.execution import engine_of, threads_of
from initbench.workers.lasting import Lasting
from initbench.workers.progress import to_check

HERE = Path(__file__).parent
needs_processes = pytest.mark.skipif(sys.platform == "win32", reason="the engine processes is the engine serial there")


def collect(engine, jobs, **options):
    with closing(engine.execute(jobs, **{"device": "cpu", "data_dir": None, **options})) as results:
        return {result.job_id: result for result in results}


def compared(result):
    """What must be equal in every engine."""
    return result.model_copy(update={"seconds": {}, "provenance": {}})


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(process, seconds=10):
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(process)


def test_fewer_runs_than_cores_share_them(monkeypatch):
    monkeypatch.setattr(provenance, "cores", lambda: 12)
    alone = Execution()
    assert [threads_of(alone, runs) for runs in (0, 1, 2, 4, 5, 12, 100)] == [8, 8, 6, 3, 2, 1, 1]
    assert threads_of(Execution(jobs=1), 1) == 1
    assert [engine_of(alone, runs, device) for runs in (1, 2) for device in ("cpu", "cuda:0", "mps")] == [
        "processes", "serial", "serial", "processes", "stacked", "serial"
    ]  # fmt: skip
    assert engine_of(Execution(engine="serial"), 2, "cpu") == "serial"


@pytest.mark.heavy
@needs_processes
def test_a_run_with_two_threads_gives_the_same_within_rounding():
    jobs = jobs_of("kaiming", train={"steps": 5, "batch_size": 64})
    (one,), (two,) = (collect(processes, jobs, workers=1, threads=threads).values() for threads in (1, 2))
    assert (one.provenance["threads"], two.provenance["threads"]) == ("1", "2")
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-4)


@pytest.mark.heavy
def test_both_engines_give_the_same_results():
    jobs = [
        *jobs_of("kaiming", "xavier", seeds=(0, 1)),
        *jobs_of("normal", train={"epochs": 1, "batch_size": 32, "lr": 1e30}),
        *jobs_of("kaiming", model="cnn:channels=[4],norm=batch,dropout=0.2", train={"steps": 6, "batch_size": 32, "augment": True}),
    ]
    long = jobs_of("kaiming", train={"steps": 2000, "batch_size": 32}, probe={"every_steps": 2000, "batch_size": 8})
    told = []
    one, many = collect(serial, jobs), collect(processes, [*jobs, *long], workers=2, report=told.append)
    assert many.pop(long[0][0]).status is RunStatus.COMPLETED
    assert {name: compared(result) for name, result in one.items()} == {name: compared(result) for name, result in many.items()}
    assert list(one) == [name for name, _ in jobs]
    assert any(sign.job_id == long[0][0] and 0 < sign.done < sign.total == 2000 for sign in told)
    assert [result.status for result in one.values()].count(RunStatus.DIVERGED) == 1


@pytest.mark.parametrize(
    ("engine", "parts", "kind", "says"),
    [
        (serial, {"train": {"batch_size": 999}}, ConfigError, "train.batch_size is 999"),
        (processes, {"dataset": "mnist"}, DataError, "initbench data get mnist"),
    ],
    ids=["serial", "processes"],
)
def test_what_makes_jobs_impossible_is_raised_before_anything_runs(engine, parts, kind, says, tmp_path):
    with pytest.raises(kind, match=says):
        engine.execute(jobs_of("kaiming", "xavier", **parts), device="cpu", data_dir=str(tmp_path), workers=1)


def test_only_what_differs_in_more_than_numbers_is_checked_twice():
    jobs = [*jobs_of("kaiming", "xavier", seeds=(0, 1)), *jobs_of("kaiming", train={"lr": 0.5, "batch_size": 32, "epochs": 2})]
    assert len(to_check(jobs)) == 2
    assert len(to_check([*jobs, *jobs_of("kaiming", model="mlp:depth=1")])) == 3


def test_closing_the_serial_engine_lets_go_of_the_data():
    from initbench.training import job as worker

    worker.forget_data()
    results = serial.execute(jobs_of("kaiming", "xavier"), device="cpu", data_dir=None)
    next(results)
    assert worker.load_data.cache_info().currsize == 1
    results.close()
    assert worker.load_data.cache_info().currsize == 0


@pytest.fixture
def killer(tmp_path):
    """A model that ends its own process in the run of seed 1, as the system does when memory runs out."""
    path = tmp_path / "killer.py"
    path.write_text(
        textwrap.dedent(
            """
            import os, signal
            import torch
            from torch import nn

            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer = nn.Linear(36, 3)
                    self.marked = torch.rand(()).item() == MARK

                def forward(self, images):
                    if self.training and self.marked:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return self.layer(images.flatten(1))
            """
        )
    )
    import torch

    from initbench.nn.seeds import derived_seed

    source = torch.Generator().manual_seed(derived_seed(1, "model"))
    layer_weight, layer_bias = torch.empty(3, 36), torch.empty(3)
    layer_weight.uniform_(generator=source), layer_bias.uniform_(generator=source)
    path.write_text(path.read_text().replace("MARK", repr(torch.rand((), generator=source).item())))
    return path


@pytest.mark.heavy
@needs_processes
def test_a_killed_worker_costs_the_run_it_was_at_and_no_other(killer):
    jobs = jobs_of("kaiming", seeds=(0, 1, 2, 3, 4, 5), model=f"{killer}:Net")
    results = collect(processes, jobs, workers=1)
    assert [results[name].status for name, _ in jobs] == ["completed", "failed", *["completed"] * 4]
    assert results[jobs[1][0]].reason == (
        "its process was killed, as the system does when memory runs out; so it was before, with the first of two tries"
    )
    assert results[jobs[1][0]].job == jobs[1][1]


SCRIPT = """
import sys
from contextlib import closing
sys.path.insert(0, {here!r})
from training_support import jobs_of
from initbench.results import provenance
from initbench.question.config import Execution
from initbench.engines import processes

jobs = jobs_of("kaiming", seeds=(0, 1), train={{"steps": 500_000, "batch_size": 32}}, probe={{"every_steps": 500_000}})
results = processes.execute(jobs, device="cpu", data_dir=None, workers=2, report=lambda sign: None)
try:
    print(*[worker.process.pid for worker in results.gi_frame.f_locals["self"].pool.workers], "torch" in sys.modules, flush=True)
    with closing(results):
        next(results)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.heavy
@needs_processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_when_the_parent_is_stopped_its_workers_end_without_a_word(number, code):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(here=str(HERE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # which shells ignore in what they start with &
    )
    *team, has_torch = parent.stdout.readline().split()
    assert has_torch == "False"
    os.killpg(parent.pid, number)
    _, said = parent.communicate(timeout=120)
    assert parent.returncode == code
    assert said == ""
    assert all(gone(int(process)) for process in team)


@pytest.mark.heavy
@needs_processes
@pytest.mark.parametrize(("workers", "expected"), [(None, 3), (2, 2)])
def test_a_run_that_is_left_over_joins_the_others_unless_the_user_says_how_many_at_once(workers, expected, monkeypatch):
    started, start_worker = [], processes.WorkerPool.start_worker
    monkeypatch.setattr(processes, "cores", lambda: 2)
    monkeypatch.setattr(processes.WorkerPool, "start_worker", lambda pool: started.append(1) or start_worker(pool))
    results = collect(processes, jobs_of("kaiming", seeds=(0, 1, 2), train={"steps": 1, "batch_size": 32}), workers=workers)
    assert [result.status for result in results.values()] == [RunStatus.COMPLETED] * 3
    assert len(started) == expected


@pytest.mark.heavy
@needs_processes
def test_workers_last_from_one_call_to_the_next_and_end_with_the_last():
    jobs = jobs_of("kaiming", seeds=(0, 1, 2, 3), train={"steps": 1, "batch_size": 32})
    fresh = collect(processes, jobs, workers=2)
    with Lasting() as lasting:
        first = collect(processes, jobs[:2], workers=2, lasting=lasting)
        pool = lasting.taken(processes.Setting("cpu", None))
        team = [worker.process for worker in pool.workers]
        lasting.leave(pool.setting, pool)
        second = collect(processes, jobs[2:], workers=2, lasting=lasting)
        assert [worker.process for worker in pool.workers] == team
        os.kill(team[0].pid, signal.SIGKILL)
        team[0].join()
        third = collect(processes, jobs[2:], workers=2, lasting=lasting)
        assert team[0] not in [worker.process for worker in pool.workers]
        team = [worker.process for worker in pool.workers]
    assert {name: compared(result) for name, result in {**first, **second}.items()} == {name: compared(fresh[name]) for name in fresh}
    assert {name: compared(result) for name, result in third.items()} == {name: compared(second[name]) for name in second}
    assert all(gone(process.pid) for process in team)


@needs_processes
def test_workers_of_a_call_that_is_left_early_or_of_another_setting_do_not_last():
    jobs = jobs_of("kaiming", seeds=(0, 1, 2), train={"steps": 1, "batch_size": 32})
    with Lasting() as lasting:
        with closing(processes.execute(jobs, device="cpu", data_dir=None, workers=1, lasting=lasting)) as results:
            next(results)
        assert lasting.taken(processes.Setting("cpu", None)) is None
        collect(processes, jobs[:1], workers=1, lasting=lasting)
        assert lasting.taken(processes.Setting("cpu", None, threads=2)) is None
        assert lasting.taken(processes.Setting("cpu", None)) is None


def test_runs_are_left_over_when_fewer_than_the_workers_are_and_these_have_just_begun():
    run = processes.RunJob("id", jobs_of("kaiming")[0][1])

    def left_over(waiting, *fractions):
        team = [processes.Worker(0, None, processes.deque([run]), fraction) for fraction in fractions]
        return processes._are_left_over(team, processes.deque([run] * waiting))

    assert left_over(1, 0.0, 0.2)
    assert not left_over(0, 0.0, 0.0)
    assert not left_over(2, 0.0, 0.0)
    assert not left_over(1, 0.0, 0.9)


def compared_and_probed(_):
    """What a sweep does in each of its workers; at the top level so that a new process finds it."""
    import initbench

    compared = initbench.compare(["xavier", "kaiming"], seeds=2, steps=2)
    probed = initbench.probe("mlp", seeds=4)
    return [run.status for run in compared.results], len(probed.runs), sorted(Path(compared.folder).glob("plots/*.png")) != []


@pytest.mark.heavy
@needs_processes
def test_within_a_worker_of_a_pool_everything_works_in_one_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        statuses, probes, drawn = pool.map(compared_and_probed, [0])[0]
    assert statuses == [RunStatus.COMPLETED] * 4
    assert probes > 8
    assert drawn


@needs_processes
def test_a_run_whose_worker_was_killed_is_tried_once_more(tmp_path):
    path = tmp_path / "once.py"
    path.write_text(
        "import os, pathlib, signal\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(36, 3)\n"
        "    def forward(self, images):\n"
        f"        mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "        if self.training and not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.layer(images.flatten(1))\n"
    )
    jobs = jobs_of("kaiming", seeds=(0, 1), model=f"{path}:Net")
    results = collect(processes, jobs, workers=1)
    assert [results[name].status.value for name, _ in jobs] == ["completed"] * 2

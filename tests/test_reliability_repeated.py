"""The same thing again and again: a finished command once more, the same run in other company, and hundreds of runs in one command."""

import os
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from training_support import TINY, jobs_of

import initbench
from initbench.engines import processes, serial, stacked
from initbench.errors import StorageError
from initbench.results.provenance import NOT_STACKED, STACKED_RUNS

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
NET = """
import random
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes, kind="plain"):
        super().__init__()
        middle = {"norm": nn.BatchNorm1d(16), "dropout": nn.Dropout(0.4)}.get(kind, nn.Identity())
        first = nn.LazyLinear(16) if kind == "lazy" else nn.Linear(36, 16)
        self.layers = nn.Sequential(nn.Flatten(), first, middle, nn.ReLU(), nn.Linear(16, classes))
        self.kind, self.type = kind, {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(kind, torch.float32)
        self.to(self.type)

    def forward(self, images):
        if self.training and self.kind == "raises" and torch.rand(()) < 0.3:
            raise ValueError("no")
        if self.training and self.kind == "changes":
            torch.manual_seed(0)
            torch.set_default_dtype(torch.float64)
        if self.training and self.kind == "torch":
            images = images + torch.randn_like(images)
        if self.training and self.kind == "python":
            images = images * random.random()
        if self.training and self.kind == "numpy":
            images = images * np.random.rand()
        return self.layers(images.to(self.type))
"""
SCHEME = """
import torch
from initbench.init.assign import Law
from initbench.init.contract import Layerwise

def build():
    def fill(weight, layer, generator):
        weight.copy_(0.2 * torch.randn(weight.shape))
        return Law("normal", 0.2)
    return Layerwise("own", fill)
"""
KINDS = ("plain", "norm", "dropout", "lazy", "float64", "bfloat16", "torch", "python", "numpy", "raises", "changes")
SCHEMES = ("kaiming", "lsuv", "metainit")
SHORT = {"train": {"steps": 4, "batch_size": 32}}


@pytest.fixture
def own(tmp_path):
    """The names of a user's scheme and model."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "scheme.py").write_text(SCHEME)
    return str(tmp_path / "scheme.py"), f"{tmp_path / 'net.py'}:Net"


def of_each_kind(own, kinds=KINDS):
    scheme, net = own
    return [job for kind in kinds for job in jobs_of(*SCHEMES, scheme, seeds=(0, 7), model=f"{net}:kind={kind}", **SHORT)]


def collect(engine, jobs, **options):
    with closing(engine.execute(jobs, **{"device": "cpu", "data_dir": None, **options})) as results:
        return {result.job_id: result.model_dump_json(exclude={"seconds", "provenance"}) for result in results}


def provenance_of(engine, jobs):
    with closing(engine.execute(jobs, device="cpu", data_dir=None)) as results:
        return [result.provenance for result in results]


def test_neither_order_nor_company_nor_the_number_of_processes_changes_a_run(own):
    jobs = of_each_kind(own)
    expected = collect(serial, jobs)
    mixed = random.Random(0).sample(jobs, len(jobs))
    assert len(expected) == len(jobs)
    assert collect(serial, mixed) == expected
    assert collect(processes, mixed, workers=3) == expected
    assert collect(processes, jobs[::-1], workers=1) == expected
    for job in jobs[5::29]:
        assert collect(serial, [job]) == {job[0]: expected[job[0]]}


def test_the_company_in_a_stack_changes_no_run_that_draws_random_numbers(own):
    jobs = of_each_kind(own, ("torch", "python", "numpy", "dropout"))
    expected = collect(serial, jobs)
    assert sum('"kind":"dropout"' in result for result in expected.values()) == len(jobs) // 4
    for order in (jobs, jobs[::-1]):
        for name, result in collect(stacked, order).items():
            if '"kind":"dropout"' not in result:
                assert result == expected[name]


@pytest.mark.parametrize("kind", ["torch", "python", "numpy", "dropout"])
def test_a_forward_that_draws_is_not_stacked_and_dropout_is(own, kind):
    found = provenance_of(stacked, jobs_of("kaiming", "xavier", model=f"{own[1]}:kind={kind}", **SHORT))
    if kind == "dropout":
        assert [each[STACKED_RUNS] for each in found] == ["2", "2"]
    else:
        assert all("its forward draws random numbers" in each[NOT_STACKED] for each in found)


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def command(*words, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "initbench", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_finished_command_does_nothing_in_a_copy_and_with_other_times_and_hashes_too(own, tmp_path):
    words = ["compare", "kaiming", "./scheme.py", "--model", "./net.py:Net", "--dataset", TINY, "--seeds", "2", "--steps", "3"]
    words += ["--set", "train.batch_size=32", "--out", "out"]
    first = command(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("net.py", "scheme.py"):
        (moved / name).write_text((tmp_path / name).read_text())
    (tmp_path / "out").rename(moved / "out")
    before = state(moved / "out")
    for again in (words, ["resume", "out"]):
        said = command(*again, cwd=moved, PYTHONHASHSEED="77")
        assert (said.returncode, "Nothing to run" in said.stderr + said.stdout) == (0, True)
        assert state(moved / "out") == before


def test_from_another_working_folder_it_is_the_model_that_is_missing_not_the_folder_that_is_damaged(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    initbench.run("kaiming", model="./net.py:Net", dataset=TINY, steps=2, settings=["train.batch_size=32"], output="out", engine="serial")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(StorageError, match=r"There is no file 'net.py' for the model .* as seen from the folder") as raised:
        initbench.resume("../out")
    assert "missing or damaged" not in str(raised.value)
    assert initbench.report("../out").summary == initbench.load_results("../out").summary  # looking takes no model


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="/proc as Linux has it")
@pytest.mark.parametrize("case", ["serial", "own processes", "stacked", "errors processes", "probe"])
def test_runs_leave_nothing_behind(case):
    words = ["--runs", "200", "--only", case]
    done = subprocess.run([sys.executable, "benchmarks/soak.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| {case} |" in done.stdout

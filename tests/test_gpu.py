"""On a GPU: engines give what the CPU gives, a recorded step what an eager one gives, and what fails there is said in words."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from training_support import jobs_of

import initbench
from initbench.engines import processes, serial, stacked
from initbench.errors import ConfigError, InitbenchError
from initbench.results.provenance import NOT_STACKED, STACKED_RUNS
from initbench.results.record import RunStatus
from initbench.stacking import train as stack_training
from initbench.stacking.jobs import StackSetting, run_group
from initbench.training import keeper, loop
from initbench.training.devices import small_runs
from initbench.training.job import run_job

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

GPU = "cuda"
IMAGES = "synthetic:n=512,test=128,classes=4,shape=[3,16,16],noise=0.5"
MODELS = [
    "mlp:depth=6,width=64",
    "mlp:depth=3,width=64,activation=tanh,norm=layer",
    "cnn:channels=[8,16],norm=batch",
    "resnet:depth=8,width=4",
    "vit:depth=2,width=32,heads=2,patch=4",
]
ENGINES = {"serial": serial, "stacked": stacked, "processes": processes}


def results_of(engine, jobs, device=GPU, **options):
    return {result.job_id: result for result in engine.execute(jobs, device=device, data_dir=None, **options)}


def questions(model, steps=30, **train):
    """Two schemes, two seeds."""
    training = {"steps": steps, "batch_size": 64, "lr": 0.02, "evaluate_every_steps": 10, **train}
    return jobs_of("kaiming", "xavier", seeds=(0, 1), model=model, dataset=IMAGES, train=training)


def assert_alike(results, others, rel):
    assert results.keys() == others.keys()
    for name, one in results.items():
        other = others[name]
        assert (one.status, one.reason) == (other.status, other.reason)
        assert one.train_losses == pytest.approx(other.train_losses, rel=rel, abs=rel)
        assert one.evaluations[-1].test_loss == pytest.approx(other.evaluations[-1].test_loss, rel=10 * rel)
        variances = [item.activation_variance for item in other.layers]
        assert [item.activation_variance for item in one.layers] == pytest.approx(variances, rel=100 * rel)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("engine", list(ENGINES))
def test_every_engine_gives_there_what_the_cpu_gives(engine, model):
    jobs = questions(model, steps=8)  # rounding of 1e-7 grows by a half a step and more where batch norm follows batch norm
    there = results_of(ENGINES[engine], jobs)
    assert {result.provenance["device"] for result in there.values()} == {torch.cuda.get_device_name(0)}
    if engine == "stacked":
        assert {result.provenance.get(STACKED_RUNS) or result.provenance.get(NOT_STACKED) for result in there.values()} == {"4"}
    assert_alike(there, results_of(serial, jobs, device="cpu"), 1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lion", "muon", "rmsprop", "adagrad"])
def test_a_recorded_step_is_an_eager_one(optimizer, monkeypatch):
    jobs = questions("mlp:depth=4,width=32", optimizer=optimizer, lr=0.003)
    recorded = results_of(stacked, jobs)
    monkeypatch.setattr(stack_training, "EAGER_STEPS", 10**9)
    assert_alike(recorded, results_of(stacked, jobs), 1e-6)


def test_more_seeds_on_either_side_change_no_run():
    few = questions("mlp:depth=4,width=32")
    more = jobs_of("kaiming", "xavier", "normal", seeds=(0, 1, 2, 3), model="mlp:depth=4,width=32", dataset=IMAGES, train=few[0][1].train)
    alone, together = results_of(stacked, few), results_of(stacked, more)
    assert_alike(alone, {name: together[name] for name in alone}, 1e-4)


def test_the_same_runs_give_the_same_numbers_again():
    jobs = questions("cnn:channels=[8,16],norm=batch")
    for engine in (serial, stacked):
        first, second = results_of(engine, jobs), results_of(engine, jobs)
        assert {name: one.train_losses for name, one in first.items()} == {name: one.train_losses for name, one in second.items()}


@pytest.fixture
def saved_each_step(monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(keeper, "SHARE", 1e9)
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)


@pytest.mark.parametrize("model", ["mlp:depth=3,width=32,dropout=0.2", "cnn:channels=[8,8],norm=batch"])
@pytest.mark.parametrize("together", [False, True])
def test_a_stopped_run_ends_as_one_that_is_not(together, model, saved_each_step, tmp_path):
    jobs = questions(model, optimizer="adam", lr=0.003)

    def train(stop_at=None, keep=True):
        def report(*progress):
            if progress[-2] == stop_at:
                raise KeyboardInterrupt

        folder = str(tmp_path / "unfinished") if keep else None
        try:
            if together:
                return {each.job_id: each for each in run_group(jobs, StackSetting(GPU, None, report, keep_in=folder))}
            with small_runs():
                return {jobs[0][0]: run_job(jobs[0][1], jobs[0][0], device=GPU, data_dir=None, report=report, keep_in=folder)}
        except KeyboardInterrupt:
            return None

    whole = train(keep=False)
    assert train(stop_at=12) is None
    assert list((tmp_path / "unfinished").iterdir())
    again = train()
    assert {name: one.train_losses for name, one in again.items()} == {name: one.train_losses for name, one in whole.items()}


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_less_precise_products_give_about_the_same(precision):
    jobs = questions("mlp:depth=3,width=64", steps=20)
    rough = results_of(serial, questions("mlp:depth=3,width=64", steps=20, precision=precision))
    exact = results_of(serial, jobs)
    for rough_run, exact_run in zip(rough.values(), exact.values(), strict=True):
        assert rough_run.status is RunStatus.COMPLETED
        assert rough_run.train_losses == pytest.approx(exact_run.train_losses, rel=0.05, abs=1e-3)


@pytest.fixture
def little_memory():
    """Of the GPU's memory one part in a hundred: what is too large for it is made within seconds."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_model_that_does_not_fit_is_refused_before_anything_runs(little_memory):
    large = jobs_of("kaiming", seeds=(0,), model="mlp:depth=3,width=16000", dataset=IMAGES)
    with pytest.raises(ConfigError, match="with its data is out of memory on cuda: choose a smaller model"):
        results_of(serial, large)


@pytest.mark.parametrize("engine", ["serial", "stacked"])
def test_a_run_that_does_not_fit_fails_alone_and_in_words(engine, little_memory):
    small = questions("mlp:depth=2,width=32")
    training = {"steps": 30, "batch_size": 64, "optimizer": "adam"}  # keeps four times the 260 MB of the weights, of 800
    large = jobs_of("kaiming", seeds=(0,), model="mlp:depth=3,width=5500", dataset=IMAGES, train=training)
    found = results_of(ENGINES[engine], [*large, *small])
    failed = found.pop(large[0][0])
    assert failed.status is RunStatus.FAILED
    assert failed.reason.startswith("out of memory on cuda")
    assert {result.status for result in found.values()} == {RunStatus.COMPLETED}


def test_a_token_without_a_row_is_said_in_words_and_the_device_lives_on():
    model = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(24, 2)).cuda()
    tokens = torch.tensor([[0, 1, 9]] * 4, device="cuda")
    with pytest.raises(InitbenchError):
        initbench.probe(model, ["kaiming"], inputs=tokens, labels=torch.zeros(4, dtype=torch.int64, device="cuda"), device=GPU)
    assert torch.ones(3, device="cuda").sum().item() == 3


def test_the_users_generators_are_where_they_were():
    torch.manual_seed(7)
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2)).cuda()
    x = torch.randn(4, 8, device="cuda", generator=torch.Generator("cuda"))
    torch.cuda.set_rng_state(before[0])
    torch.set_rng_state(before[1])
    labels = torch.zeros(4, dtype=torch.int64, device="cuda")
    initbench.init_network(model, "lsuv", inputs=x, batch=lambda size, index: (x, labels))
    initbench.probe(model, ["kaiming"], inputs=x, labels=labels, device=GPU)
    assert all(torch.equal(one, other) for one, other in zip(before, (torch.cuda.get_rng_state(), torch.get_rng_state()), strict=True))


def test_a_network_whose_user_made_the_gpu_the_default_device(tmp_path):
    code = """
import torch, initbench
torch.set_default_device("cuda")
results = initbench.compare(["kaiming", "xavier"], model="mlp:depth=3,width=32", seeds=2, steps=10, device="auto")
print(len(results.summary.schemes), torch.ones(1).device)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "cuda:0"]


@pytest.mark.parametrize("words", [
    ["compare", "xavier", "kaiming", "normal", "--seeds", "3", "--steps", "40", "--out", "RESULTS"],
    ["run", "kaiming", "--model", "cnn", "--steps", "20", "--run-timeout", "300", "--out", "RESULTS"],
    ["probe", "kaiming", "xavier", "--model", "resnet:depth=8,width=4", "--device", "cuda", "--out", "RESULTS"],
    ["recommend", "--model", "mlp:depth=3,width=32", "--steps", "20", "-m", "kaiming", "-m", "xavier", "--out", "RESULTS"],
])  # fmt: skip
def test_the_commands_run_there_and_say_so(words, tmp_path):
    where = str(tmp_path / "out")
    given = [word.replace("RESULTS", where) for word in words]
    done = subprocess.run([sys.executable, "-m", "initbench", *given], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*.json")]
    assert any(torch.cuda.get_device_name(0) in text for text in texts)


def test_a_loss_that_overflows_is_found_at_its_step():
    jobs = jobs_of("normal:std=10", seeds=(0,), model="mlp:depth=30,width=64", dataset=IMAGES, train={"steps": 40, "batch_size": 64})
    there, here = results_of(serial, jobs), results_of(serial, jobs, device="cpu")
    (one,), (other,) = there.values(), here.values()
    assert one.status is other.status
    assert one.first_bad_step == other.first_bad_step
    assert all(math.isfinite(loss) for loss in one.train_losses)
    json.dumps(one.model_dump(mode="json"), allow_nan=False)


def test_a_network_on_the_gpu_is_linted_there():
    """What a rule finds on the CPU it finds of the same module on the GPU, and the module is afterwards as it was."""

    def network():
        torch.manual_seed(0)
        model = nn.Sequential(*(part for _ in range(8) for part in (nn.Linear(64, 64), nn.ReLU())), nn.Linear(64, 5))
        for layer in model[:-1:2]:
            nn.init.normal_(layer.weight, std=1e-3)
        model[4].weight.data[3] = model[4].weight.data[2]
        return model

    here, there = network(), network().to(GPU)
    batch = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in there.state_dict().items()}
    found = {finding.fingerprint for finding in initbench.lint(here, inputs=batch).findings}
    assert {finding.fingerprint for finding in initbench.lint(there, inputs=batch).findings} == found
    assert any(fingerprint.startswith("IB301") for fingerprint in found)
    assert any(fingerprint.startswith("IB104") for fingerprint in found)
    assert all(torch.equal(before[name], value) for name, value in there.state_dict().items())


def test_seeds_are_added_until_it_is_decided_a_stack_at_a_time(tmp_path):
    words = {"model": "mlp:depth=6,width=64", "dataset": IMAGES, "steps": 40, "device": GPU, "output": str(tmp_path / "results")}
    found = initbench.compare(["kaiming", "xavier", "normal"], until="decided", max_seeds=40, **words)
    assert found.summary.anytime
    assert found.config.until.each == 10
    verdicts = {frozenset(pair.names): pair for pair in found.summary.pairs}
    assert verdicts[frozenset({"kaiming", "normal"})].beats("kaiming")
    assert all(STACKED_RUNS in run.provenance for run in found.ends)

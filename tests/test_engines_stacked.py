"""The engine `stacked` against `serial`: the same statuses and losses, whatever is stacked and whatever cannot be."""

import math
from contextlib import closing

import pytest
import torch
from training_support import jobs_of

from initbench.engines import serial, stacked
from initbench.errors import ConfigError, DeviceError
from initbench.question.config import ExperimentConfig
from initbench.results.provenance import NOT_STACKED, STACKED_RUNS
from initbench.results.record import RunStatus
from initbench.stacking import jobs as stacked_jobs
from initbench.stacking.train import train_stacked
from initbench.statistics.findings import Summary
from initbench.studies.answer import Results


def collect(engine, jobs, **options):
    with closing(engine.execute(jobs, **{"device": "cpu", "data_dir": None, **options})) as results:
        return {result.job_id: result for result in results}


def assert_alike(jobs, within=1e-5):
    one, many = collect(serial, jobs), collect(stacked, jobs)
    assert set(one) == set(many)
    for name, alone in one.items():
        result = many[name]
        assert (result.status, result.first_bad_step, result.reason) == (alone.status, alone.first_bad_step, alone.reason)
        assert result.train_losses == pytest.approx(alone.train_losses, rel=within, abs=within)
        assert [item.step for item in result.evaluations] == [item.step for item in alone.evaluations]
        assert losses_in_test(result) == pytest.approx(losses_in_test(alone), rel=max(1e-3, within), nan_ok=True)
        assert [(item.step, item.layer) for item in result.layers] == [(item.step, item.layer) for item in alone.layers]
        variances = [item.activation_variance for item in alone.layers]
        assert [item.activation_variance for item in result.layers] == pytest.approx(variances, rel=max(1e-3, within))
        ratios = [item.update_ratio or 0.0 for item in alone.layers]
        assert [item.update_ratio or 0.0 for item in result.layers] == pytest.approx(ratios, rel=max(1e-2, 10 * within))
        assert result.init == alone.init
    return many


def losses_in_test(result):
    return [math.nan if item.test_loss is None else item.test_loss for item in result.evaluations]


def how(results):
    """How many trained as one, or why a run went alone."""
    return {result.provenance.get(STACKED_RUNS) or result.provenance.get(NOT_STACKED) for result in results.values()}


@pytest.mark.heavy
def test_schemes_seeds_and_numbers_train_as_one_as_they_do_alone():
    jobs = [
        *jobs_of("kaiming", "xavier", seeds=(0, 1), train={"steps": 50, "batch_size": 32, "lr": 0.02}),
        *jobs_of("kaiming", seeds=(2,), train={"steps": 50, "batch_size": 32, "lr": 0.1, "momentum": 0.0, "schedule": "cosine"}),
    ]
    assert how(assert_alike(jobs)) == {"5"}


def test_a_diverged_run_leaves_the_others_alone():
    train = {"steps": 20, "batch_size": 32}
    jobs = [*jobs_of("kaiming", "xavier", train=train), *jobs_of("normal", train={**train, "lr": 1e30})]
    results = assert_alike(jobs)
    assert how(results) == {"3"}
    assert sorted(result.status for result in results.values()) == ["completed", "completed", "diverged"]


def test_a_run_whose_test_loss_is_not_finite_ends_as_it_does_alone(tmp_path):
    """Its last evaluation and probe are there; the runs beside it go on."""
    code = """
        import torch
        class Net(torch.nn.Module):
            def __init__(self, shape, classes):
                super().__init__()
                self.head = torch.nn.Linear(36, classes)
            def forward(self, x):
                x = self.head(x.flatten(1))
                return x if self.training else x / (self.head.bias.abs().max() < 0.02)
    """
    file = tmp_path / "mine.py"
    file.write_text("\n".join(line[8:] for line in code.splitlines()))
    train = {"steps": 20, "batch_size": 32, "evaluate_every_steps": 5}
    shared = {"model": f"{file}:Net", "probe": {"every_steps": 5, "batch_size": 32}}
    jobs = [
        *jobs_of("kaiming", seeds=(0, 1), train={**train, "lr": 1e-5}, **shared),
        *jobs_of("kaiming", train={**train, "lr": 0.05}, **shared),
    ]
    results = assert_alike(jobs)
    assert how(results) == {"3"}
    assert sorted(result.status for result in results.values()) == ["completed", "completed", "diverged"]
    (diverged,) = (result for result in results.values() if result.status == "diverged")
    assert diverged.reason == f"the test loss after step {diverged.first_bad_step - 1} is not finite"
    assert diverged.layers[-1].step == diverged.first_bad_step - 1


@pytest.mark.heavy
def test_models_of_another_structure_make_a_stack_of_their_own():
    jobs = jobs_of("kaiming", "fixup", seeds=(0, 1), model="residual_mlp:depth=4,width=8", train={"steps": 5, "batch_size": 32})
    assert how(assert_alike(jobs)) == {"2"}


def test_a_scheme_that_does_not_apply_is_skipped_and_the_rest_trained():
    results = collect(stacked, jobs_of("kaiming", "xavier", "fixup", train={"steps": 2, "batch_size": 32}))
    assert sorted(result.status for result in results.values()) == ["completed", "completed", "skipped"]


@pytest.mark.heavy
def test_a_model_that_cannot_be_stacked_trains_one_at_a_time_and_says_why(tmp_path):
    code = """
        import torch
        class Net(torch.nn.Module):
            def __init__(self, shape, classes):
                super().__init__()
                self.one = torch.nn.Linear(36, classes)
            def forward(self, x):
                out = self.one(x.flatten(1))
                return out if out.mean().item() > 1e9 else out * 2
    """
    file = tmp_path / "mine.py"
    file.write_text("\n".join(line[8:] for line in code.splitlines()))
    jobs = jobs_of("kaiming", seeds=(0, 1), model=f"{file}:Net", train={"steps": 5, "batch_size": 32})
    (reason,) = how(assert_alike(jobs))
    assert "item" in reason
    results = collect(stacked, jobs).values()
    asked = ExperimentConfig.model_construct()
    (doubt,) = Results(tmp_path, asked, tuple(results), Summary.model_construct()).doubts
    assert doubt.startswith("2 of 2 runs could not be stacked and went one at a time: ")


@pytest.mark.heavy
def test_a_stack_that_does_not_fit_the_memory_is_halved_until_it_does(monkeypatch):
    tried = []

    def small_machine(ready, **options):
        tried.append(len(ready))
        if len(ready) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_stacked(ready, **options)

    monkeypatch.setattr(stacked_jobs, "train_stacked", small_machine)
    jobs = jobs_of("kaiming", seeds=tuple(range(6)), train={"steps": 2, "batch_size": 32})
    assert how(assert_alike(jobs)) == {"2"}
    assert tried == [6, 3, 2, 2, 2]


def test_a_run_that_does_not_even_fit_alone_fails_and_says_so(monkeypatch):
    def no_memory(*given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stacked_jobs, "prepare", no_memory)
    results = collect(stacked, jobs_of("kaiming", seeds=(0, 1, 2)))
    assert [result.status for result in results.values()] == [RunStatus.FAILED] * 3
    assert all(result.reason == "out of memory on cpu: choose a smaller model or train.batch_size" for result in results.values())


def test_chunks_are_few_and_even():
    assert [stacked_jobs._even(jobs, most) for jobs, most in ((5, 16), (17, 16), (33, 16), (32, 16))] == [5, 9, 11, 16]


def test_jobs_group_by_everything_but_scheme_seed_and_numbers():
    same = {"steps": 5, "batch_size": 32}
    jobs = [
        *jobs_of("kaiming", "xavier", seeds=(0, 1), train={**same, "lr": 0.1}),
        *jobs_of("kaiming", train={**same, "optimizer": "adam"}),
        *jobs_of("kaiming", train={**same, "optimizer": "lion"}),
        *jobs_of("kaiming", train={**same, "optimizer": "lion:beta1=0.8"}),
        *jobs_of("kaiming", train={**same, "clip_norm": 1.0}),
        *jobs_of("kaiming", train={**same, "clip_norm": 2.0}),
        *jobs_of("kaiming", train=same, model="mlp:depth=1"),
    ]
    assert [len(group) for group in stacked_jobs.groups(jobs)] == [4, 1, 1, 1, 2, 1]


def test_a_batch_larger_than_the_data_and_a_missing_device_are_found_before_anything_runs():
    with pytest.raises(ConfigError, match=r"train.batch_size is 512, but synthetic.* has 256"):
        stacked.execute(jobs_of("kaiming", train={"steps": 1, "batch_size": 512}), device="cpu", data_dir=None)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="no device 'cuda' here"):
            stacked.execute(jobs_of("kaiming"), device="cuda", data_dir=None)

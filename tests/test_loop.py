"""Training: losses, evaluations, probes, divergence, determinism; on small synthetic data."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from training_support import TINY, job_of

from initbench.init.initialize import initialize
from initbench.nn.build import build_model
from initbench.question.config import ProbeConfig, parse_ref
from initbench.results.record import InitReport
from initbench.training import batches
from initbench.training.evaluate import evaluate
from initbench.training.job import load_data
from initbench.training.loop import Ready, Stopwatch, make_timetable, train

CPU = torch.device("cpu")
PLAIN = torch.contiguous_format
NO_REPORT = InitReport(scheme="none", parameters=())


def tiny():
    return load_data(parse_ref(TINY), Path(), CPU)


def trained(job, model=None, **options):
    data = tiny()
    model = model or build_model(job.model, data.shape, data.classes, job.seed)
    init, layers = initialize(model, job.scheme, seed=job.seed, rules=job.init)
    return train(Ready(job, data, model, layers, init), watch=Stopwatch(), **options), model


def train_settings(**settings):
    return {"epochs": 2, "batch_size": 32, **settings}


def test_a_network_learns_the_synthetic_classes():
    outcome, _ = trained(job_of(train=train_settings(epochs=4)))
    assert outcome.first_bad_step is None
    assert outcome.losses[-1] < 0.5 * outcome.losses[0]
    assert outcome.evaluations[-1].test_accuracy > 0.9


def test_there_is_a_loss_a_step_an_evaluation_an_epoch_and_a_probe_at_both_ends():
    outcome, _ = trained(job_of())
    assert len(outcome.losses) == 16
    assert [(entry.step, entry.epoch) for entry in outcome.evaluations] == [(0, 0.0), (8, 1.0), (16, 2.0)]
    assert sorted({entry.step for entry in outcome.stats}) == [0, 16]
    assert [entry.layer for entry in outcome.stats[:3]] == ["linear1", "linear2", "head"]


def test_steps_instead_of_epochs_and_a_schedule_of_ones_own():
    job = job_of(train={"steps": 11, "batch_size": 32, "evaluate_every_steps": 4}, probe={"every_steps": 5})
    outcome, _ = trained(job)
    assert len(outcome.losses) == 11
    assert [entry.step for entry in outcome.evaluations] == [0, 4, 8, 11]
    assert sorted({entry.step for entry in outcome.stats}) == [0, 5, 10, 11]


def test_no_steps_at_all_measure_the_start():
    outcome, _ = trained(job_of(train={"steps": 0}))
    assert outcome.losses == ()
    assert [entry.step for entry in outcome.evaluations] == [0]
    assert {entry.step for entry in outcome.stats} == {0}
    assert outcome.stats[0].update_ratio is None


def test_the_losses_are_those_of_a_plain_loop():
    job = job_of(train=train_settings(lr=0.1))
    outcome, _ = trained(job)
    data = tiny()
    model = build_model(job.model, data.shape, data.classes, job.seed)
    initialize(model, job.scheme, seed=job.seed, rules=job.init)
    moving = [torch.zeros_like(parameter) for parameter in model.parameters()]
    images = batches.normalize(data.x_train, data.pixels, PLAIN)
    losses = []
    for epoch in range(2):
        order = batches.epoch_order(job.seed, epoch, 256)
        for start in range(0, 256, 32):
            chosen = order[start : start + 32]
            loss = functional.cross_entropy(model(images[chosen]), data.y_train[chosen])
            for parameter, velocity, gradient in zip(
                model.parameters(), moving, torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                velocity.mul_(0.9).add_(gradient)
                parameter.data -= 0.1 * velocity
            losses.append(loss.item())
    assert outcome.losses == pytest.approx(losses, rel=1e-4)


def test_the_evaluation_is_of_the_whole_test_split():
    data = tiny()
    model = build_model(job_of().model, data.shape, data.classes).train()
    loss, accuracy, score = evaluate(model, data, PLAIN).tolist()
    assert math.isnan(score)
    with torch.no_grad():
        logits = model(batches.normalize(data.x_test, data.pixels, PLAIN))
    assert loss == pytest.approx(functional.cross_entropy(logits, data.y_test).item(), rel=1e-6)
    assert accuracy == (logits.argmax(1) == data.y_test).double().mean().item()
    assert model.training


def test_dropout_is_off_in_an_evaluation():
    data = tiny()
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3))
    assert torch.equal(evaluate(model, data, PLAIN)[:2], evaluate(model, data, PLAIN)[:2])


def test_the_update_ratio_is_the_next_step_over_the_weight():
    job = job_of(train={"steps": 1, "batch_size": 32, "lr": 0.1}, model="mlp:depth=0")
    data = tiny()
    model = build_model(job.model, data.shape, data.classes, job.seed)
    init, layers = initialize(model, job.scheme, seed=job.seed, rules=job.init)
    before = model.head.weight.detach().clone()
    outcome = train(Ready(job, data, model, layers, init), watch=Stopwatch())
    expected = (model.head.weight - before).norm() / before.norm()
    assert outcome.stats[0].update_ratio == pytest.approx(expected.item(), rel=1e-5)
    assert outcome.stats[1].update_ratio is None


def test_learning_rate_multipliers_of_the_scheme_are_used():
    job = job_of(train={"steps": 1, "batch_size": 32})
    data = tiny()
    moved = []
    for multipliers in ({}, {"head.weight": 3.0}):
        model = build_model(job.model, data.shape, data.classes, job.seed)
        init, layers = initialize(model, job.scheme, seed=job.seed, rules=job.init)
        before = model.head.weight.detach().clone()
        train(Ready(job, data, model, layers, init.model_copy(update={"lr_multipliers": multipliers})), watch=Stopwatch())
        moved.append(model.head.weight - before)
    assert torch.allclose(moved[1], 3 * moved[0], rtol=1e-3, atol=1e-7)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"model": "mlp:depth=2,width=16,dropout=0.5"},
        {"model": "mlp:depth=2,width=16,norm=batch"},
        {"model": "cnn:channels=[4,4]", "train": train_settings(augment=True)},
        {"train": train_settings(optimizer="adamw", lr=0.01, schedule="cosine", warmup_steps=3, clip_norm=1.0)},
        {"train": train_settings(precision="bfloat16")},
    ],
    ids=str,
)
def test_the_same_job_gives_the_same_bytes_whatever_was_drawn_before(parts):
    job = job_of(**parts)
    torch.manual_seed(1)
    first, _ = trained(job)
    torch.manual_seed(2)
    again, _ = trained(job)
    assert first == again
    other, _ = trained(job.model_copy(update={"seed": 1}))
    assert first.losses != other.losses


def test_training_leaves_the_callers_random_state():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    trained(job_of(model="mlp:depth=1,width=8,dropout=0.5"))
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_is_close_to_float32_and_not_the_same():
    full, _ = trained(job_of())
    half, _ = trained(job_of(train=train_settings(precision="bfloat16")))
    assert full.losses != half.losses
    assert full.losses == pytest.approx(half.losses, abs=0.2)


class Breaks(nn.Module):
    """Gives NaN from a certain training batch on."""

    def __init__(self, at, value=torch.nan):
        super().__init__()
        self.head, self.at, self.value, self.seen = nn.Linear(36, 3), at, value, 0

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            self.seen += 1
        logits = self.head(images.flatten(1))
        return logits * self.value if self.seen > self.at else logits


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("good", [0, 3, 8, 12])
def test_a_diverged_run_keeps_the_steps_before(good, value):
    outcome, _ = trained(job_of(), Breaks(good, value))
    assert outcome.first_bad_step == good + 1
    assert outcome.reason == f"the training loss of step {good + 1} is not finite"
    assert len(outcome.losses) == good
    assert all(entry.step <= good for entry in (*outcome.evaluations, *outcome.stats))


def test_a_run_whose_last_update_breaks_it_is_diverged():
    class BreaksAtTheEnd(Breaks):
        def forward(self, images):
            return super().forward(images) * (1 if self.training or self.seen < 16 else torch.nan)

    outcome, _ = trained(job_of(), BreaksAtTheEnd(99))
    assert outcome.first_bad_step == 16
    assert outcome.reason == "the test loss after step 16 is not finite"
    assert len(outcome.losses) == 16
    assert outcome.evaluations[-1].test_loss is None
    assert outcome.evaluations[-1].test_accuracy is None


def test_a_test_loss_that_is_not_finite_ends_the_run_there():
    class BreaksInEvaluation(Breaks):
        def forward(self, images):
            return super().forward(images) * (1 if self.training or self.seen < 8 else torch.nan)

    outcome, _ = trained(job_of(), BreaksInEvaluation(99))
    assert outcome.first_bad_step == 9
    assert outcome.reason == "the test loss after step 8 is not finite"
    assert len(outcome.losses) == 8
    assert [entry.test_loss is None for entry in outcome.evaluations] == [False, True]


def test_a_rate_that_is_far_too_high_diverges():
    outcome, _ = trained(job_of("normal", train=train_settings(lr=1e30)))
    assert outcome.first_bad_step == len(outcome.losses) + 1


def test_progress_counts_steps(monkeypatch):
    monkeypatch.setattr("initbench.training.loop.REPORT_SECONDS", 0.0)
    told = []
    trained(job_of(), stepped=lambda done, total: told.append((done, total)))
    assert told == [(step, 16) for step in range(1, 17)]


def test_the_stopwatch_takes_inner_parts_off_the_outer_one():
    watch = Stopwatch(clock=iter([0.0, 1.0, 4.0, 5.0, 6.0, 16.0]).__next__)
    with watch.part("train"), watch.part("probe"):
        pass
    with watch.part("train"):
        pass
    assert watch.seconds == {"probe": 3.0, "train": 12.0}


def test_the_default_schedule_is_once_an_epoch():
    job = job_of(train={"epochs": 3, "batch_size": 50})
    schedule = make_timetable(job.train, job.probe, 5)
    assert (schedule.steps, schedule.steps_per_epoch) == (15, 5)
    assert [step for step in range(16) if schedule.evaluates(step)] == [0, 5, 10, 15]
    assert [step for step in range(16) if schedule.probes(step)] == [0, 15]


def test_probes_are_at_ends_of_epochs_a_hundred_steps_apart_unless_somebody_says_when():
    job = job_of(train={"epochs": 10, "batch_size": 1})
    assert [step for step in range(311) if make_timetable(job.train, job.probe, 31).probes(step)] == [0, 124, 310]
    assert [step for step in range(1501) if make_timetable(job.train, job.probe, 150).probes(step)] == list(range(0, 1501, 150))
    own = job_of(train={"steps": 25}, probe={"every_steps": 10})
    assert [step for step in range(26) if make_timetable(own.train, own.probe, 1000).probes(step)] == [0, 10, 20, 25]


@pytest.mark.heavy
def test_training_needs_neither_torch_optim_nor_the_compiler_behind_it():
    """The first optimizer of torch.optim imports the compiler, which takes as long as torch itself."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from training_support import jobs_of\nfrom initbench.training.job import run_job\n"
        "((name, job),) = jobs_of('kaiming')\n"
        "assert run_job(job, name, device='cpu', data_dir=None).status == 'completed'\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], check=True, cwd=Path(__file__).parent.parent)


def test_probes_that_are_frequent_measure_fewer_images_unless_told():
    assert ProbeConfig().images == ProbeConfig(every_steps=10).images == 128
    assert ProbeConfig(every_steps=9).images == 24
    assert ProbeConfig(every_steps=1, batch_size=500).images == 500

"""Runs for the tests of summary and report: made up, seeded, with every outcome a run can have."""

import math
import random

from initbench.question.config import ExperimentConfig, InitRules, Job, ProbeConfig, Ref, TrainConfig, parse_ref
from initbench.results.record import Evaluation, InitReport, LayerStats, ParameterInit, RunResult, RunStatus, Setter

STEPS = 20


def make_config(*schemes: str, seeds: int = 8) -> ExperimentConfig:
    return ExperimentConfig(schemes=tuple(parse_ref(name) for name in schemes), train=TrainConfig(steps=STEPS), seeds=tuple(range(seeds)))


def make_run(scheme: str, seed: int, accuracy: float | None = 0.9, *, depth: int = 3, gain: float = 1.0, **changes) -> RunResult:
    """A run that completed with `accuracy`; None: it diverged. `gain` multiplies the activation variance from layer to layer."""
    noise = random.Random(f"{scheme} {seed}")
    status = RunStatus.COMPLETED if accuracy is not None else RunStatus.DIVERGED
    steps = STEPS if accuracy is not None else 4 + seed
    end = 2.3 * (1 - (0.1 if accuracy is None else accuracy)) + 0.05
    losses = tuple(end + (2.3 - end) * math.exp(-step / 5) + noise.gauss(0, 0.03) for step in range(steps))
    evaluations = tuple(
        Evaluation(
            step=step, epoch=step / 10, test_loss=losses[step - 1] + 0.02, test_accuracy=0.1 + ((accuracy or 0.1) - 0.1) * step / STEPS
        )
        for step in (10, 20)
        if step <= steps
    )
    if accuracy is not None:
        evaluations = (*evaluations[:-1], evaluations[-1].model_copy(update={"test_accuracy": accuracy}))
    fields = {
        "job_id": f"{abs(hash_of(scheme, seed)):016x}",
        "job": Job(
            scheme=parse_ref(scheme),
            seed=seed,
            model=Ref(name="mlp", params={"depth": depth}),
            dataset=Ref(name="mnist5k"),
            init=InitRules(),
            train=TrainConfig(steps=STEPS),
            probe=ProbeConfig(),
        ),
        "status": status,
        "reason": None if accuracy is not None else f"the loss is not finite at step {steps + 1}",
        "first_bad_step": None if accuracy is not None else steps + 1,
        "parameters": 335_114,
        "classes": 10,
        "train_losses": losses,
        "evaluations": evaluations,
        "layers": tuple(stats for step in (0, STEPS) if step <= steps for stats in make_layers(step, depth, gain, noise)),
        "init": make_init(scheme, depth),
        "seconds": {"total": 1.0},
        "provenance": {"torch": "2.15.0", "device": "cpu"},
    }
    return RunResult(**(fields | changes))


def hash_of(scheme: str, seed: int) -> int:
    return random.Random(f"id {scheme} {seed}").getrandbits(64)


def make_layers(step: int, depth: int, gain: float, noise: random.Random) -> list[LayerStats]:
    def spread() -> float:
        return math.exp(noise.gauss(0, 0.05))

    found = []
    for index in range(depth + 1):
        variance = gain**index * spread()
        found.append(
            LayerStats(
                step=step,
                layer=f"layers.{index}" if index < depth else "head",
                position=index,
                pre_activation_mean=0.0,
                pre_activation_variance=2 * variance,
                activation_mean=0.4,
                activation_variance=variance if variance < 1e38 else None,
                zero_fraction=0.5,
                dead_fraction=0.02 * index if index < depth else 0.0,
                gradient_variance=1e-3 * gain ** (depth - index) * spread(),
                weight_variance=0.01,
                weight_gradient_norm=0.1,
                update_ratio=0.001 if step < STEPS else None,
            )
        )
    return found


def make_init(scheme: str, depth: int) -> InitReport:
    names = [f"layers.{index}" for index in range(depth)] + ["head"]
    weights = [
        ParameterInit(
            parameter=f"{name}.weight",
            shape=(256, 256),
            setter=Setter.SCHEME,
            by=scheme,
            law="normal",
            fan_in=256,
            fan_out=256,
            target_mean=0.0,
            target_std=0.0884,
            mean=0.0001,
            std=0.0883,
        )
        for name in names
    ]
    biases = [ParameterInit(parameter=f"{name}.bias", shape=(256,), setter=Setter.RULE, by="bias rule", law="constant") for name in names]
    return InitReport(scheme=scheme, parameters=tuple(entry for pair in zip(weights, biases, strict=True) for entry in pair))


def make_comparison(seeds: int = 8) -> list[RunResult]:
    """xavier 95 %, kaiming 97 %, normal diverged on all seeds but two (stuck there), fixup skipped, one failed run of lecun."""
    runs = []
    for seed in range(seeds):
        noise = random.Random(seed)
        runs.append(make_run("xavier", seed, 0.95 + noise.uniform(-0.004, 0.004), gain=0.5))
        runs.append(make_run("kaiming", seed, 0.97 + noise.uniform(-0.004, 0.004)))
        runs.append(make_run("normal", seed, 0.1 if seed in {2, 5} else None, gain=128.0))
        if seed == 1:
            runs.append(
                make_run(
                    "lecun", seed, status=RunStatus.FAILED, reason="out of memory", train_losses=(), evaluations=(), layers=(), init=None
                )
            )
        else:
            runs.append(make_run("lecun", seed, 0.951 + noise.uniform(-0.004, 0.004), gain=0.7))
        runs.append(
            make_run(
                "fixup",
                seed,
                status=RunStatus.SKIPPED,
                reason="fixup needs residual branches; mlp has none",
                train_losses=(),
                evaluations=(),
                layers=(),
                init=None,
                parameters=None,
                classes=None,
            )
        )
    return runs

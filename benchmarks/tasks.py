"""Each task beside a plain loop of PyTorch: `python benchmarks/tasks.py [TASK ...]`.

The shipped models on the shipped data: a GPT and an LSTM on the text, a deep autoencoder on digits, a U-Net on shapes, a SIREN on an image.
The plain loop has the same start, the same order of examples and torch's own optimizer. Printed: the largest relative difference of the
first 50 losses, and seconds of both, in turns, best of three, with two threads. Exit code 1 where losses differ by more than rounding.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

from initbench.init.initialize import initialize
from initbench.nn.build import build_model
from initbench.question import plan
from initbench.question.config import ExperimentConfig, Job
from initbench.training.batches import epoch_order
from initbench.training.job import load_data, run_job

STEPS, FIRST, TURNS = 200, 50, 3
ROUNDING = 1e-3
"""Relative difference of losses that orders of sums explain after 50 steps."""
CASES = {
    "language, gpt": ("gpt:depth=2,width=48", "text274k", "language:context=32", {"batch_size": 16, "optimizer": "adam", "lr": 0.003}),
    "language, lstm": ("lstm:width=96", "text274k", "language:context=32", {"batch_size": 16, "optimizer": "adam", "lr": 0.01}),
    "autoencoder": ("autoencoder", "mnist5k", "autoencoder", {"batch_size": 128, "optimizer": "adam", "lr": 0.001}),
    "segmentation, unet": ("unet:width=8", "shapes", "segmentation", {"batch_size": 16, "optimizer": "sgd", "lr": 0.05}),
    "regression, siren": ("siren", "coordinates", "regression", {"batch_size": 98, "optimizer": "adam", "lr": 0.001}),
}
"""Of each: model, data, task, how it is trained."""


def plain(job: Job) -> tuple[list[float], float]:
    """Losses of a loop as people write it, and its seconds."""
    data = load_data(job.dataset, Path(), torch.device("cpu"), 0.0, job.task)
    model = build_model(job.model, data.shape, data.classes, job.seed)
    initialize(model, job.scheme, seed=job.seed, rules=job.init)
    train, name = job.train, job.task.name
    if train.optimizer.name == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=train.lr, betas=train.betas)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=train.lr, momentum=train.momentum)
    x, y = data.x_train, data.y_train
    if data.pixels is not None:
        scale, shift = data.pixels
        x = x.permute(0, 3, 1, 2).float() * scale + shift
    losses, begun, epoch = [], time.perf_counter(), 0
    while len(losses) < STEPS:
        order = epoch_order(job.seed, epoch, len(x))
        for start in range(0, len(x) - train.batch_size + 1, train.batch_size):
            chosen = order[start : start + train.batch_size]
            batch = x[chosen]
            optimizer.zero_grad()
            if name == "language":
                batch = batch.long()
                loss = functional.cross_entropy(model(batch[:, :-1]).transpose(1, 2), batch[:, 1:])
            elif name == "segmentation":
                loss = functional.cross_entropy(model(batch), y[chosen])
            else:
                loss = functional.mse_loss(model(batch), batch if name == "autoencoder" else y[chosen])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == STEPS:
                break
        epoch += 1
    return losses, time.perf_counter() - begun


def ours(job: Job) -> tuple[list[float], float]:
    """Losses of initbench, and its seconds of training."""
    result = run_job(job, "0" * 16, device="cpu", data_dir=None)
    return list(result.train_losses), result.seconds["train"]


def main() -> int:
    """Prints a row a task; 1 where losses differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"one of: {', '.join(CASES)}")
    given = parser.parse_args()
    torch.set_num_threads(2)
    failed = False
    print("| task | largest difference of losses | plain loop, s | initbench, s | ratio |\n|---|---|---|---|---|")
    for case in given.tasks or CASES:
        model, dataset, task, train = CASES[case]
        steps = {"steps": STEPS, "evaluate_every_steps": STEPS, **train}
        config = ExperimentConfig(schemes=("xavier",), seeds=(0,), model=model, dataset=dataset, task=task, train=steps)
        (job,) = plan.make_jobs(config)
        pairs = [(plain(job), ours(job)) for _ in range(TURNS)]
        (expected, _), (found, _) = pairs[0]
        apart = max(abs(one - other) / abs(one) for one, other in zip(expected[:FIRST], found[:FIRST], strict=True))
        seconds = [min(pair[side][1] for pair in pairs) for side in (0, 1)]
        failed |= apart > ROUNDING
        print(f"| {case} | {apart:.1e} | {seconds[0]:.2f} | {seconds[1]:.2f} | {seconds[0] / seconds[1]:.2f} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

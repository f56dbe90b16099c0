"""What a training step takes on a CPU with layers as torch computes them, and with layers by oneDNN; in turn.

    python benchmarks/step.py                        # every model, batch 128
    python benchmarks/step.py --models mlp --batch 16
    GOMP_SPINCOUNT=3000 python benchmarks/step.py --threads 2     # as a run has them that shares two cores with no other

Milliseconds a step are the best of the rounds, which alternate between the sides. Then the products alone, as MKL (what torch calls)
and as oneDNN computes them: forward, gradient of the weight, gradient of the input.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch.nn import functional

from initbench.fast import onednn
from initbench.fast.torch_private import linear_product
from initbench.question.config import ExperimentConfig
from initbench.question.plan import make_jobs
from initbench.training import loop
from initbench.training.devices import small_runs
from initbench.training.job import prepare

MODELS = {
    "mlp": "mlp",
    "mlp_64": "mlp:width=64",
    "deep": "mlp:depth=30,width=128",
    "cnn": "cnn:channels=[16,32],kernel=3,pooling=max,head=flatten",
    "cnn_gelu": "cnn:channels=[16,32],activation=gelu",
    "resnet": "resnet:depth=8,width=8",
    "vit": "vit:depth=2,width=64",
}
SIDES = {"torch's layers": False, "by oneDNN": True}
PRODUCTS = ((128, 784, 256), (128, 256, 256), (128, 128, 128), (128, 64, 64), (32, 784, 256), (16, 784, 256), (16, 256, 256))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="steps of a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def ready(model: str, batch: int) -> loop.Ready:
    training = {"steps": 1, "batch_size": batch, "lr": 1e-3}
    data = "synthetic:n=2000,test=100,classes=10,shape=[1,28,28]"
    (job,) = make_jobs(ExperimentConfig(schemes=("kaiming",), seeds=(0,), model=MODELS[model], dataset=data, train=training))
    return prepare(job, device="cpu", data_dir=None, watch=loop.Stopwatch())


def step_of(model: str, batch: int, *, fast: bool) -> Callable[[], None]:
    """One step of a run, as the training loop takes it."""
    unit = loop.Alone(ready(model, batch))
    if not fast:
        unit.first.fast = nullcontext()
    return lambda: unit.advance(0)


def milliseconds(action: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times * 1e3


def of_models(asked: argparse.Namespace) -> None:
    print(
        f"Milliseconds a step, batch {asked.batch}, threads: {asked.threads}\n\n| model | {' | '.join(SIDES)} | gain |\n|---|---|---|---|"
    )
    for model in asked.models:
        actions = {side: step_of(model, asked.batch, fast=fast) for side, fast in SIDES.items()}
        best = dict.fromkeys(SIDES, float("inf"))
        for _ in range(asked.rounds + 1):
            for side, action in actions.items():
                best[side] = min(best[side], milliseconds(action, asked.steps))
        plain, fast = best.values()
        print(f"| {MODELS[model]} | {plain:.2f} | {fast:.2f} | {plain / fast:.2f} |", flush=True)


def of_products(rounds: int) -> None:
    print("\n| microseconds: output, gradient of the weight, of the input | MKL | oneDNN |\n|---|---|---|")
    for images, inputs, outputs in PRODUCTS:
        x, weight, gradient = torch.randn(images, inputs), torch.randn(outputs, inputs), torch.randn(images, outputs)
        pairs = ((x, weight), (gradient.mT, x.mT), (gradient, weight.mT))
        found = []
        for product in (functional.linear, linear_product):
            times = [min(milliseconds(lambda product=product, a=a, b=b: product(a, b), 100) for _ in range(rounds)) * 1e3 for a, b in pairs]
            found.append(", ".join(f"{micro:.0f}" for micro in times))
        print(f"| {images} images, {inputs} to {outputs} | {' | '.join(found)} |", flush=True)


def main() -> None:
    asked = options()
    with small_runs(asked.threads):
        of_models(asked)
        if torch.backends.mkldnn.is_available():
            of_products(asked.rounds)
    here = f"linear layers by oneDNN here: {onednn.multiplies_faster()}"
    print(f"\ntorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {here}")


if __name__ == "__main__":
    main()

"""The stacked engine against one run at a time: time of a step, ways to convolve, waits for the device, a whole comparison.

    python benchmarks/stacked.py                                        # CPU, synthetic MNIST-sized images
    python benchmarks/stacked.py --models mlp mlp_64 mlp_16 deep_128 deep deep_16 --runs 12 --batch 16
    python benchmarks/stacked.py --device cuda --runs 1 32 96 --data DATA_FOLDER --compare

A step's time is the difference of a long and a short training, so that set-up and recording a CUDA graph do not count; each
is the median of the repeats, which alternate between the sides. With --data (a folder with mnist.npz) `--compare` also
times 3 schemes x 32 seeds of the MLP on full MNIST for one epoch, end to end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from initbench.question.config import ExperimentConfig, Job
from initbench.question.plan import make_jobs
from initbench.stacking.layers import default_convolution
from initbench.stacking.train import train_stacked
from initbench.training.devices import small_runs
from initbench.training.job import prepare
from initbench.training.loop import Ready, Stopwatch, train

MODELS = {
    "mlp": "mlp",
    "cnn": "cnn:channels=[16,32],kernel=3,pooling=max,head=flatten",
    "mlp_64": "mlp:width=64",
    "mlp_16": "mlp:width=16",
    "deep_128": "mlp:depth=30,width=128",
    "deep": "mlp:depth=30,width=32",
    "deep_16": "mlp:depth=30,width=16",
    "vit": "vit:depth=2,width=32",
}
IMAGES = "synthetic:n=20000,test=100,classes=10,shape=[1,28,28]"
WAITS = {"aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"}
GOAL_RUNS = 32
GOALS = {"mlp": 1.5, "cnn": 4.0}
"""How many times the time of one run so many stacked runs may take on one H200-class GPU."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["mlp", "cnn"])
    parser.add_argument("--runs", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--convolution", nargs="+", choices=["separate", "unfolded", "grouped"])
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, help="steps of the long training; the short one has a quarter; 40 on the CPU, else 400")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a folder with mnist.npz, for --compare")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    asked = parser.parse_args()
    asked.steps = asked.steps or (40 if asked.device == "cpu" else 400)
    return asked


def jobs(asked: argparse.Namespace, model: str, runs: int, steps: int) -> list[Job]:
    training = {"steps": steps, "batch_size": asked.batch, "evaluate_every_steps": 10**9, "precision": asked.precision, "lr": 0.01}
    probe = {"every_steps": 10**9, "batch_size": 2}
    config = ExperimentConfig(
        schemes=("kaiming",), seeds=tuple(range(runs)), model=MODELS[model], dataset=IMAGES, train=training, probe=probe
    )
    return list(make_jobs(config))


def readied(asked: argparse.Namespace, wanted: list[Job]) -> list[Ready]:
    return [prepare(job, device=asked.device, data_dir=None, watch=Stopwatch()) for job in wanted]


def seconds(asked: argparse.Namespace, work: Callable[[], object]) -> float:
    if asked.device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if asked.device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def one_alone(asked: argparse.Namespace, model: str, steps: int) -> float:
    (ready,) = readied(asked, jobs(asked, model, 1, steps))
    return seconds(asked, lambda: train(ready, watch=Stopwatch()))


def stack(asked: argparse.Namespace, model: str, runs: int, convolution: str, steps: int) -> float:
    ready = readied(asked, jobs(asked, model, runs, steps))
    return seconds(asked, lambda: train_stacked(ready, watch=Stopwatch(), convolution=convolution))


def waits(asked: argparse.Namespace, model: str) -> int:
    """How often the host waits for the device in 20 more steps of a stack: reads of a number and synchronizations."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if asked.device.startswith("cuda"):
        activities.append(torch.profiler.ProfilerActivity.CUDA)

    def count(steps: int) -> int:
        ready = readied(asked, jobs(asked, model, 2, steps))
        with torch.profiler.profile(activities=activities) as profile:
            train_stacked(ready, watch=Stopwatch())
        return sum(event.count for event in profile.key_averages() if event.key in WAITS)

    return count(40) - count(20)


def measure(asked: argparse.Namespace, model: str) -> list[dict[str, object]]:
    ways = asked.convolution or [default_convolution(torch.device(asked.device))]
    sides: dict[tuple[str, int], Callable[[int], float]] = {("alone", 1): lambda steps: one_alone(asked, model, steps)}
    for runs in asked.runs:
        for way in ways if model == "cnn" else ways[:1]:
            sides[way, runs] = lambda steps, runs=runs, way=way: stack(asked, model, runs, way, steps)
    short = max(8, asked.steps // 4)
    found: dict[tuple[str, int], list[float]] = {side: [] for side in sides}
    for _ in range(asked.repeats):
        for side, work in sides.items():
            found[side].append((work(asked.steps + short) - work(short)) / asked.steps * 1e3)
    alone = statistics.median(found["alone", 1])
    rows = []
    for (way, runs), each in found.items():
        step = statistics.median(each)
        rows.append({"model": model, "way": way, "runs": runs, "step_ms": step, "times_one": step / alone, "gain": runs * alone / step})
    return rows


def compare(asked: argparse.Namespace) -> float:
    """Seconds of a whole process: 96 runs of the MLP on full MNIST, one epoch, tables and plots."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "xavier",
            "kaiming",
            "lecun",
            "--dataset",
            "mnist",
            "--seeds",
            "32",
            "--epochs",
            "1",
            "--data-dir",
            str(asked.data.resolve()),
        ]
        means = ["--device", asked.device, "--engine", "stacked", "--out", f"{folder}/out", "--fresh", "--quiet"]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "initbench", "compare", *words, *means], check=True)
        return time.perf_counter() - start


def main() -> None:
    asked = options()
    rows = []
    with small_runs():
        for model in asked.models:
            rows += measure(asked, model)
        print("| model | way | runs | ms a step | ms a run and step | times one run alone | gain |\n|---|---|---|---|---|---|---|")
        for row in rows:
            line = "| {ref} | {way} | {runs} | {step_ms:.2f} | {each:.2g} | {times_one:.2f} | {gain:.2f} |"
            way = row["way"] if row["model"] == "cnn" and row["way"] != "alone" else ""
            print(line.format(**row | {"way": way}, ref=MODELS[str(row["model"])], each=row["step_ms"] / row["runs"]))
        for row in rows:
            goal = GOALS.get(str(row["model"]))
            if goal and asked.device.startswith("cuda") and row["runs"] == GOAL_RUNS:
                met = "met" if row["times_one"] <= goal else "MISSED"
                print(f"{row['model']}, {GOAL_RUNS} runs ({row['way']}): {row['times_one']:.2f} times one, goal {goal}: {met}")
        for model in asked.models:
            print(f"{model}: {waits(asked, model)} waits for the device in 20 more steps of a stack (goal 0)")
    whole = compare(asked) if asked.compare and asked.data else None
    if whole is not None:
        print(f"96 runs of the MLP on full MNIST, one epoch, end to end: {whole:.1f} s (goal on a GPU: 15)")
    print(f"device {asked.device}, torch {torch.__version__}")
    if asked.json:
        asked.json.write_text(
            json.dumps({"device": asked.device, "torch": torch.__version__, "steps": rows, "compare_s": whole}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

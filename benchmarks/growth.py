"""How time and memory grow: with runs, with steps, with layers; and two networks of great depth.

    python benchmarks/growth.py                    # 10 and 100 runs; 2 to 1,000 layers; about five minutes on two cores
    python benchmarks/growth.py --runs 10 100 1000

Runs are whole commands (`initbench compare`, two small runs' worth of steps each) with the peak memory of all their
processes; layers are single runs in this process. Time should be linear and memory flat in the number of runs.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from speed import family_mib

from initbench.question.config import ExperimentConfig, Job
from initbench.question.plan import make_jobs
from initbench.training.devices import small_runs
from initbench.training.job import run_job

DATA = "synthetic:n=2000,test=200,classes=10,shape=[1,28,28]"
DEEP = {"mlp of 1,000 layers": "mlp:depth=999,width=32", "ResNet-110": "resnet:depth=110,width=16"}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", type=int, default=[10, 100])
    parser.add_argument("--layers", nargs="*", type=int, default=[2, 10, 100, 1000])
    parser.add_argument("--steps", nargs="*", type=int, default=[100, 1000])
    return parser.parse_args()


def whole_command(runs: int) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a comparison of so many runs."""
    with tempfile.TemporaryDirectory() as folder:
        question = ["kaiming", "xavier", "--seeds", str(runs // 2), "--dataset", DATA, "--model", "mlp:width=64", "--steps", "50"]
        start, peak = time.perf_counter(), 0.0
        process = subprocess.Popen([sys.executable, "-m", "initbench", "compare", *question, "--out", f"{folder}/out", "--quiet"])
        while process.poll() is None:
            peak = max(peak, family_mib(process.pid))
            try:
                process.wait(0.25)
            except subprocess.TimeoutExpired:
                continue
        if process.returncode:
            raise SystemExit(f"initbench left with {process.returncode}")
        return time.perf_counter() - start, peak


def one(model: str, steps: int, batch: int = 32) -> Job:
    training = {"steps": steps, "batch_size": batch, "lr": 1e-4}
    config = ExperimentConfig(schemes=("orthogonal",), seeds=(0,), model=model, dataset=DATA, train=training, probe={"every_steps": 10**9})
    (only,) = make_jobs(config)
    return only


def spent(job: Job) -> tuple[str, dict[str, float]]:
    with small_runs():
        result = run_job(job, "growth", device="cpu", data_dir=None)
    return f"{result.status}{'' if result.reason is None else ': ' + result.reason}", result.seconds


def main() -> None:
    asked = options()
    print("| grows | size | seconds | seconds a unit | peak MiB or parts |\n|---|---|---|---|---|")
    for runs in asked.runs:
        seconds, peak = whole_command(runs)
        print(f"| runs | {runs} | {seconds:.1f} | {seconds / runs:.3f} | {peak:.0f} MiB, all processes |", flush=True)
    for steps in asked.steps:
        _, seconds = spent(one("mlp:width=64", steps))
        print(f"| steps | {steps} | {seconds['train']:.2f} | {seconds['train'] / steps:.5f} | training only |", flush=True)
    for layers in asked.layers:
        status, seconds = spent(one(f"mlp:depth={layers - 1},width=32", 20))
        parts = ", ".join(f"{part} {seconds[part]:.2f}" for part in ("init", "train", "probe", "evaluate"))
        print(f"| layers | {layers} | {seconds['total']:.2f} | {seconds['total'] / layers:.5f} | {parts}; {status} |", flush=True)
    for name, model in DEEP.items():
        status, seconds = spent(one(model, 3))
        parts = ", ".join(f"{part} {seconds[part]:.2f}" for part in ("init", "train", "probe", "evaluate"))
        print(f"| {name} | 3 steps | {seconds['total']:.2f} | | {parts}; {status} |", flush=True)


if __name__ == "__main__":
    main()

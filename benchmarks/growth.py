"""How time and memory grow: with runs, with finished runs in a folder, with steps, with layers; and two networks of great depth.

    python benchmarks/growth.py                    # 10 and 100 runs; 2 to 1,000 layers; about five minutes on two cores
    python benchmarks/growth.py --runs 10 100 1000
    python benchmarks/growth.py --runs --steps --layers --no-deep --stored 10 100 1000 10000 --planned 100000

Runs are whole commands (`initbench compare`, two small runs' worth of steps each) with the peak memory of all their processes; layers
are single runs in this process. Stored runs are of two steps, and copies of two; of the commands that plan, report and resume them the
memory is that of the largest process, and seconds are those of a processor, which other work on the machine hardly changes.
Time should be linear; memory flat in the number of runs, but for `report`, which keeps the numbers of all.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from speed import family_mib

from initbench.question.config import Execution, ExperimentConfig, Job
from initbench.question.config_file import dump_config
from initbench.question.plan import make_jobs
from initbench.results import files, store
from initbench.results.index import INDEX
from initbench.studies.answer import load_results
from initbench.studies.plan import make_plan, new_manifest

DATA = "synthetic:n=2000,test=200,classes=10,shape=[1,28,28]"
DEEP = {"mlp of 1,000 layers": "mlp:depth=999,width=32", "ResNet-110": "resnet:depth=110,width=16"}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", type=int, default=[10, 100])
    parser.add_argument("--stored", nargs="*", type=int, default=[10, 100], help="finished runs in a folder")
    parser.add_argument("--planned", nargs="*", type=int, default=[], help="runs that are planned and not made")
    parser.add_argument("--no-deep", action="store_true", help="without the networks of great depth")
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


def largest(*words: str) -> str:
    """Processor seconds of a command, and the peak memory of the largest of its processes.

    A process counts with the memory of the one that starts it, so this one stays small.
    """
    process = subprocess.Popen([sys.executable, "-m", "initbench", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"initbench {' '.join(words)} left with {process.returncode}")
    return f"{usage.ru_utime + usage.ru_stime:.1f} s, {usage.ru_maxrss / 1024:.0f} MiB"


def question(runs: int) -> list[str]:
    words = ["xavier", "kaiming", "--seeds", str(runs // 2), "--dataset", DATA, "--model", "mlp:depth=2,width=64", "--steps", "2"]
    return ["compare", *words]


def stored(runs: int) -> Iterator[str]:
    """What a folder of so many finished runs costs: planned anew, reported, resumed with nothing to do, with and without the index."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "out"
        yield largest(*question(runs), "--dry-run", "--json", "--out", f"{place}/new")
        largest(*question(2), "--out", str(folder))
        filling = get_context("spawn").Process(target=fill, args=(folder, runs))  # in another process: this one must stay small
        filling.start()
        filling.join()
        yield largest("report", str(folder))
        yield largest("resume", str(folder))
        (folder / INDEX).unlink()
        yield largest("resume", str(folder))


def fill(folder: Path, runs: int) -> None:
    """Makes a folder with one finished run of each scheme into one with more seeds, whose results are copies of these."""
    (first, second), asked = load_results(folder).results, load_results(folder).config
    config = asked.model_copy(update={"seeds": tuple(range(runs // 2))})
    plan = make_plan("compare", config, Execution(output=str(folder), fresh=True))
    store.write_manifest(folder, new_manifest(plan, None))
    store.write_text(folder / store.CONFIG, dump_config(config))
    for name, job in plan.jobs:
        of_scheme = first if job.scheme == first.job.scheme else second
        result = of_scheme.model_copy(update={"job_id": name, "job": job})
        (folder / store.JOBS / f"{name}.json").write_bytes(files.sealed(result.model_dump_json() + "\n"))


def one(model: str, steps: int, batch: int = 32) -> Job:
    training = {"steps": steps, "batch_size": batch, "lr": 1e-4}
    config = ExperimentConfig(schemes=("orthogonal",), seeds=(0,), model=model, dataset=DATA, train=training, probe={"every_steps": 10**9})
    (only,) = make_jobs(config)
    return only


def spent(job: Job) -> tuple[str, dict[str, float]]:
    from initbench.training.devices import small_runs
    from initbench.training.job import run_job

    with small_runs():
        result = run_job(job, "growth", device="cpu", data_dir=None)
    return f"{result.status}{'' if result.reason is None else ': ' + result.reason}", result.seconds


def main() -> None:
    asked = options()
    if asked.runs or asked.steps or asked.layers or not asked.no_deep:
        grown(asked)
    if asked.stored or asked.planned:
        print("\n| runs | plan | report | resume, nothing to do | the same, without the index |\n|---|---|---|---|---|", flush=True)
    for runs in asked.stored:
        print(f"| {runs:,} | {' | '.join(stored(runs))} |", flush=True)
    for runs in asked.planned:
        print(f"| {runs:,} | {next(stored(runs))} | | | |", flush=True)


def grown(asked: argparse.Namespace) -> None:
    print("| grows | size | seconds | seconds a unit | peak MiB or parts |\n|---|---|---|---|---|")
    for runs in asked.runs:
        seconds, peak = whole_command(runs)
        print(f"| runs | {runs:,} | {seconds:.1f} | {seconds / runs:.3f} | {peak:.0f} MiB, all processes |", flush=True)
    for steps in asked.steps:
        _, seconds = spent(one("mlp:width=64", steps))
        print(f"| steps | {steps:,} | {seconds['train']:.2f} | {seconds['train'] / steps:.5f} | training only |", flush=True)
    for layers in asked.layers:
        status, seconds = spent(one(f"mlp:depth={layers - 1},width=32", 20))
        parts = ", ".join(f"{part} {seconds[part]:.2f}" for part in ("init", "train", "probe", "evaluate"))
        print(f"| layers | {layers:,} | {seconds['total']:.2f} | {seconds['total'] / layers:.5f} | {parts}; {status} |", flush=True)
    for name, model in () if asked.no_deep else DEEP.items():
        status, seconds = spent(one(model, 3))
        parts = ", ".join(f"{part} {seconds[part]:.2f}" for part in ("init", "train", "probe", "evaluate"))
        print(f"| {name} | 3 steps | {seconds['total']:.2f} | | {parts}; {status} |", flush=True)


if __name__ == "__main__":
    main()

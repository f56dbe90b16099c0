"""What it costs to save a run that is under way: `python benchmarks/checkpoints.py`.

For each model, in one process: the same steps with saving every second and without, in turn; of each the time of a step, the bytes and the
seconds of one save, and the share of the time that saving takes at the interval that is used (60 s, or 100 times what a save took).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from initbench.question import plan
from initbench.question.config import ExperimentConfig
from initbench.training import job, keeper

MODELS = ("mlp", "mlp:depth=3,width=2048", "resnet:depth=20,width=16", "torchvision:resnet18")


def timed(model: str, steps: int, saves: list[float], folder: str | None) -> tuple[float, int]:
    """The seconds of a run without those of saving it, and the bytes that are saved."""
    shape = "[3,32,32]" if model.startswith(("resnet", "torchvision")) else "[1,28,28]"
    data = f"synthetic:n=640,test=64,classes=10,shape={shape}"
    question = ExperimentConfig(
        schemes=("kaiming",), seeds=(0,), model=model, dataset=data, train={"steps": steps, "batch_size": 64, "optimizer": "adam"}
    )
    (one,) = plan.make_jobs(question)
    job_id = plan.job_id(one)
    sizes = [0]
    keep = keeper.Keeper.keep

    def measured(kept: keeper.Keeper, state: dict[str, object]) -> None:
        begun = time.perf_counter()
        keep(kept, state)
        saves.append(time.perf_counter() - begun)
        sizes.append(sum(path.stat().st_size for path in Path(folder or ".").glob("*.run")))

    keeper.Keeper.keep = measured
    begun = time.perf_counter()
    result = job.run_job(one, job_id, device="cpu", data_dir=None, keep_in=folder)
    seconds = time.perf_counter() - begun
    keeper.Keeper.keep = keep
    if result.status != "completed":
        raise SystemExit(f"{model}: {result.status}, {result.reason}")
    return seconds, max(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    default, keeper.FIRST_SECONDS, keeper.SHARE = keeper.FIRST_SECONDS, 1.0, 1.0
    print("| model | step | file | a save | seconds with over without | of the time |\n|---|---|---|---|---|---|")
    for model in asked.models:
        ratios, alone, saves, size = [], [], [], 0
        for _ in range(asked.pairs):
            plain, _ = timed(model, asked.steps, [], None)
            with tempfile.TemporaryDirectory() as folder:
                kept, size = timed(model, asked.steps, saves, folder)
            ratios.append(kept / plain)
            alone.append(plain / asked.steps)
        save = statistics.median(saves) if saves else 0.0
        share = save / max(default, save / 0.01)
        print(
            f"| {model} | {1e3 * statistics.median(alone):.0f} ms | {size / 2**20:.0f} MB | {1e3 * save:.0f} ms "
            f"| {statistics.median(ratios):.3f} | {100 * share:.2f} % |"
        )


if __name__ == "__main__":
    main()

"""What measuring costs: training with probes against training without, in turn.

    python benchmarks/probes.py                    # the default experiment, then a probe at every step
    python benchmarks/probes.py --models cnn --repeats 5

Processor seconds of one thread, so that other work on the machine does not count; the first run of each side warms up.
Goals: at most 3 % at the default schedule, at most twice the time with a probe at every step.
"""

import argparse
import statistics
import time

from initbench.question.config import ExperimentConfig, Job
from initbench.question.plan import make_jobs
from initbench.training.devices import small_runs
from initbench.training.job import prepare
from initbench.training.loop import Stopwatch, make_timetable, train

MODELS = {
    "mlp": "mlp",
    "cnn": "cnn:channels=[16,32],kernel=3,pooling=max,head=flatten",
    "resnet": "resnet:depth=8,width=8",
    "vit": "vit:depth=2,width=32",
}
IMAGES = {"mnist5k": 4_000, "mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}
"""Training images."""
NEVER = 10**9
"""Steps between two probes or evaluations when there are to be none but the first and the last."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["mlp", "cnn"])
    parser.add_argument("--dataset", choices=list(IMAGES), default="mnist5k")
    parser.add_argument("--data-dir", help="the folder of data files")
    parser.add_argument("--batch", type=int, help="images in a probe; default: the configuration's own")
    parser.add_argument("--steps", type=int, default=40, help="steps of the dense comparison")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def job(asked: argparse.Namespace, model: str, every: int | None, steps: int | None) -> Job:
    length = {"steps": steps} if steps else {"epochs": 5}
    probe = {key: value for key, value in (("every_steps", every), ("batch_size", asked.batch)) if value is not None}
    training = {**length, "evaluate_every_steps": NEVER}
    config = ExperimentConfig(schemes=("kaiming",), seeds=(0,), model=MODELS[model], dataset=asked.dataset, train=training, probe=probe)
    (only,) = make_jobs(config)
    return only


def probes_of(wanted: Job) -> int:
    per_epoch = max(1, IMAGES[str(wanted.dataset)] // wanted.train.batch_size)
    timetable = make_timetable(wanted.train, wanted.probe, per_epoch)
    return sum(timetable.probes(step) for step in range(timetable.steps + 1))


def seconds(asked: argparse.Namespace, wanted: Job) -> tuple[float, float]:
    """Processor seconds of the steps and of the probes of one run."""
    watch = Stopwatch(clock=time.process_time)
    ready = prepare(wanted, device="cpu", data_dir=asked.data_dir, watch=Stopwatch())
    train(ready, watch=watch)
    return watch.seconds["train"], watch.seconds["probe"]


def main() -> None:
    asked = options()
    print("| model | schedule | probes | training s | probes s | added | goal |\n|---|---|---|---|---|---|---|")
    with small_runs():
        for model in asked.models:
            for schedule, every, steps, goal in (("default", None, None, 3.0), ("every step", 1, asked.steps, 100.0)):
                wanted = job(asked, model, every, steps)
                seconds(asked, wanted)
                found = [seconds(asked, wanted) for _ in range(asked.repeats)]
                training, probing = (statistics.median(each) for each in zip(*found, strict=True))
                added = 100 * probing / training
                count = str(probes_of(wanted))
                print(f"| {model} | {schedule} | {count} | {training:.3f} | {probing:.3f} | {added:.1f} % | {goal:.0f} % |")


if __name__ == "__main__":
    main()

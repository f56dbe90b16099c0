"""Does the best learning rate stay as the network gets wider? `python benchmarks/transfer.py [mlp] [gpt]`.

A sweep over width and learning rate with muP and standard parametrizations, trained with Adam at a constant rate. Printed of each scheme
and width: the loss over the last tenth of the steps at each rate (median of the seeds), and the rate with the least loss: of each seed the
bottom of the parabola through its best rate and the two beside, the geometric mean of the seeds. Then the slope of log2(best rate) over
log2(width), with its 95 % interval: 0 is transfer, -1 is a rate that halves where the width doubles. Finished runs are kept in results/.
"""

import argparse
import math
import time
from collections.abc import Sequence

import initbench
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.inference import median
from initbench.statistics.slopes import slope

BASE = 64
CASES = {
    "mlp": {
        "config": None,
        "schemes": ["kaiming", f"mup:base_width={BASE}"],
        "model": "mlp:depth=3",
        "steps": 100,
        "seeds": 3,
        "widths": [64, 128, 256, 512, 1024],
        "rates": [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016],
        "settings": ["train.optimizer=adam"],
    },
    "gpt": {
        "config": "text_gpt",
        "schemes": ["xavier", f"mup:base_width={BASE}"],
        "model": None,
        "steps": 60,
        "seeds": 2,
        "widths": [32, 64, 128, 256],
        "rates": [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032],
        "settings": [
            *("train.optimizer=adam", "train.schedule=constant", "train.warmup_steps=0"),
            *("train.holdout=0.01", "probe.batch_size=8"),  # both are measured at the ends of a run, and not asked about here
        ],
    },
}
"""Of each: what `initbench sweep` is asked."""


def last_loss(run: RunResult) -> float:
    """The mean training loss of the last tenth of the steps; infinite of a run that diverged."""
    if run.status is not RunStatus.COMPLETED:
        return math.inf
    last = run.train_losses[-max(1, len(run.train_losses) // 10) :]
    return sum(last) / len(last)


def best_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The bottom of the parabola through the best rate and its neighbours, over the logarithm of equally spaced rates."""
    at = min(range(len(rates)), key=lambda place: losses[place])
    if not 0 < at < len(rates) - 1 or not all(map(math.isfinite, losses[at - 1 : at + 2])):
        return rates[at]
    left, middle, right = losses[at - 1 : at + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend else 0.0
    return rates[at] * (rates[at + 1] / rates[at]) ** shift


def main() -> None:
    """Prints a table a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--jobs", type=int, default=None)
    given = parser.parse_args()
    for name in given.cases:
        case = CASES[name]
        begun = time.perf_counter()
        results = initbench.sweep(
            case["schemes"],
            grid={"model.width": case["widths"], "train.lr": case["rates"]},
            config=case["config"],
            model=case["model"],
            steps=case["steps"],
            seeds=case["seeds"],
            settings=case["settings"],
            output=f"results/transfer-{name}",
            jobs=given.jobs,
        )
        told(name, case, results.results, time.perf_counter() - begun)


def told(name: str, case: dict, runs: Sequence[RunResult], seconds: float) -> None:
    """Prints the table of a case."""
    widths, rates = case["widths"], case["rates"]
    losses = {(str(run.job.scheme), run.job.model.params.get("width", 256), run.job.train.lr, run.job.seed): last_loss(run) for run in runs}
    schemes, seeds = dict.fromkeys(key[0] for key in losses), range(case["seeds"])
    print(f"{name}: {case['model'] or case['config']}, {case['steps']} steps of Adam, {case['seeds']} seeds, {seconds:.0f} s")
    print(f"{'scheme':10} {'width':>5}  best rate  " + " ".join(f"{rate:>8g}" for rate in rates))
    for scheme in schemes:
        best = [[best_rate(rates, [losses[scheme, width, rate, seed] for rate in rates]) for width in widths] for seed in seeds]
        for place, width in enumerate(widths):
            middle = math.exp(sum(math.log(row[place]) for row in best) / len(best))
            shown = [median([losses[scheme, width, rate, seed] for seed in seeds]) for rate in rates]
            cells = " ".join(f"{loss:8.3f}" if math.isfinite(loss) else "diverged" for loss in shown)
            print(f"{scheme.partition(':')[0]:10} {width:5}  {middle:9.2g}  {cells}")
        found = slope(widths, best)
        print(f"{scheme.partition(':')[0]:10} slope of the best rate: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")


if __name__ == "__main__":
    main()

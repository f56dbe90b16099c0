"""What the gate of `initbench smoke --baseline` finds, and what it leaves alone: `python benchmarks/gate.py`.

Each trial has seeds of its own, and a model and a scheme in files of their own. A baseline is written, one thing changes, and the gate is
asked again:

- nothing changes, but the runs are trained by another engine, which rounds otherwise, as another machine does: it must pass;
- the variance of every weight is 5 % larger: it must fail, by the exact rules;
- 5 points of test accuracy are lost, of answers alone, so that no exact rule sees it: it must fail, by the statistical one.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from initbench.question.config import Execution
from initbench.question.request import configure
from initbench.statistics import gate
from initbench.studies.execution import carry_out
from initbench.studies.plan import make_plan

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        logits = self.layers(x)
        if {share} and not self.training and len(x) > 300:
            wrong = torch.frac(x.abs().sum((1, 2, 3)) * 7.31) < {share}
            logits = torch.where(wrong[:, None], logits.roll(1, 1), logits)
        return logits
"""
SCHEME = """
from initbench.init.assign import Law
from initbench.init.contract import Layerwise

def build():
    def fill(weight, layer, generator):
        std = ({variance} * 2 / layer.fan_in) ** 0.5
        weight.normal_(0.0, std, generator=generator)
        return Law("normal", std)

    return Layerwise("own", fill)
"""
LOST, LARGER, STEPS, SEEDS = 0.05, 1.05, 120, 8
TITLES = {
    "nothing": "nothing, but trained by an engine that rounds otherwise",
    "variance": "the variance of every weight is 5 % larger",
    "accuracy": "5 points of accuracy are lost",
}
WANTED = {"nothing": gate.Verdict.PASS, "variance": gate.Verdict.FAIL, "accuracy": gate.Verdict.FAIL}


def state_of(folder: Path, seeds: list[int], *, variance: float = 1.0, share: float = 0.0, engine: str = "serial") -> gate.Baseline:
    """What the gate sees of a model and a scheme in this state."""
    (folder / "net.py").write_text(NET.format(share=share))
    (folder / "own.py").write_text(SCHEME.format(variance=variance))
    question = configure(
        "smoke", settings=("train.lr=0.05",), schemes=["./own.py"], model="./net.py:Net", dataset="mnist5k", seeds=seeds, steps=STEPS
    )
    plan = make_plan("smoke", question, Execution(output=str(folder / "results"), fresh=True, engine=engine, device="cpu"))
    return gate.baseline_of(question, carry_out(plan).results)


def trial(folder: Path, number: int) -> dict[str, tuple[gate.Verdict, str]]:
    """The verdict after each change, and what the first check that did not pass found."""
    seeds = list(range(number * SEEDS, (number + 1) * SEEDS))
    before = state_of(folder, seeds)
    reached = [value for scheme in before.schemes.values() for value in scheme.accuracy.values() if value is not None]
    changed = {
        "nothing": state_of(folder, seeds, engine="stacked"),
        "variance": state_of(folder, seeds, variance=LARGER),
        "accuracy": state_of(folder, seeds, share=LOST / (sum(reached) / len(reached))),
    }
    found = {}
    for what, now in changed.items():
        checks = gate.checks(before, now)
        found[what] = gate.verdict_of(checks), "; ".join(f"{each.rule}: {each.found}" for each in checks if each.verdict != "pass")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50)
    trials, begun = parser.parse_args().trials, time.perf_counter()
    counts: dict[str, Counter[str]] = {what: Counter() for what in WANTED}
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(trials):
            for what, (verdict, found) in trial(Path(folder), number).items():
                counts[what][verdict.value] += 1
                if verdict is not WANTED[what] or what not in said:
                    said[what] = found
    print("| changed | pass | inconclusive | fail |\n|---|---|---|---|")
    for what, title in TITLES.items():
        print(f"| {title} | {' | '.join(str(counts[what][verdict]) for verdict in ('pass', 'inconclusive', 'fail'))} |")
    print()
    for what, wanted in WANTED.items():
        print(f"{what}: wanted is {wanted.value}; such as {said[what][:150] or 'no word'}")
    print(f"{trials} trials of {SEEDS} seeds and {STEPS} steps in {time.perf_counter() - begun:.0f} s")
    return int(any(counts[what][wanted.value] != trials for what, wanted in WANTED.items()))


if __name__ == "__main__":
    sys.exit(main())

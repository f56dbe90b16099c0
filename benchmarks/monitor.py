"""What `SignalMonitor` costs: a plain training loop, and the same loop with a monitor, in turns.

    python benchmarks/monitor.py                   # an MLP and a small CNN, 2 threads
    python benchmarks/monitor.py --models cnn --seconds 20 --repeats 5

A turn is a block of steps of the one loop, then of the other, each first as often as the other; so both see the same other work on the
machine. Each ratio is of all the time of the one over that of the other, the first and dearest measurement included: by the clock, and in
processor seconds of all threads, on which other work tells less. `inside` is the time within `monitor.step` over the rest of its own loop.
Goal: at most 1.03 by the clock; where repeats differ by more than that leaves room for, there is no verdict.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

import initbench

BATCH = 64
BLOCK = 20
"""Steps of a turn."""
GOAL = 1.03
ROOM = 0.03
"""Repeats that differ by more cannot tell whether the goal is met."""


def mlp() -> nn.Module:
    hidden = [layer for _ in range(4) for layer in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), *hidden, nn.Linear(256, 10))


def cnn() -> nn.Module:
    first = (nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 49, 10))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn}


class Loop:
    """A loop of somebody's own, on random images; with a monitor or without."""

    def __init__(self, make: Callable[[], nn.Module], *, monitored: bool) -> None:
        torch.manual_seed(0)
        self.model = make()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.images, self.labels = torch.randn(2048, 1, 28, 28), torch.randint(0, 10, (2048,))
        self.monitor = initbench.SignalMonitor(self.model) if monitored else None
        self.seconds, self.processor, self.inside, self.step = 0.0, 0.0, 0.0, 0

    def turn(self, steps: int) -> None:
        start, begun = time.perf_counter(), time.process_time()
        for _ in range(steps):
            first = self.step * BATCH % len(self.images)
            inputs, labels = self.images[first : first + BATCH], self.labels[first : first + BATCH]
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(inputs), labels).backward()
            self.optimizer.step()
            if self.monitor is not None:
                before = time.perf_counter()
                self.monitor.step(inputs, labels)
                self.inside += time.perf_counter() - before
            self.step += 1
        self.seconds += time.perf_counter() - start
        self.processor += time.process_time() - begun


@dataclass(frozen=True)
class Found:
    """One repeat: the monitored loop over the plain one."""

    clock: float
    processor: float
    inside: float
    steps: int
    measured: int


def repeat(make: Callable[[], nn.Module], seconds: float) -> Found:
    """Both loops, for so many seconds of the plain one."""
    Loop(make, monitored=True).turn(BLOCK)
    plain, watched = Loop(make, monitored=False), Loop(make, monitored=True)
    turns = 0
    while plain.seconds < seconds:
        for loop in (plain, watched) if turns % 2 else (watched, plain):
            loop.turn(BLOCK)
        turns += 1
    assert watched.monitor is not None
    own = watched.inside / (watched.seconds - watched.inside)
    return Found(watched.seconds / plain.seconds, watched.processor / plain.processor, 1 + own, watched.step, len(watched.monitor.runs))


def told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--seconds", type=float, default=15.0, help="of the plain loop, each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in asked.models:
        found = [repeat(MODELS[name], asked.seconds) for _ in range(asked.repeats)]
        clock = [each.clock for each in found]
        sure = max(clock) - min(clock) <= ROOM
        verdict = ("meets" if statistics.median(clock) <= GOAL else "MISSES") if sure else "repeats differ too much to tell of"
        processor, inside = told([each.processor for each in found]), told([each.inside for each in found])
        print(f"{name}: by the clock {told(clock)}, processor {processor}, inside {inside}; {verdict} the goal of {GOAL}")
        print(f"    measurements in steps: {', '.join(f'{each.measured} in {each.steps}' for each in found)}")


if __name__ == "__main__":
    main()

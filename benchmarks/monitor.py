"""What `SignalMonitor` costs: a plain training loop, the same loop with a monitor, and the plain one again, in turns.

    python benchmarks/monitor.py                   # an MLP and a small CNN, 2 threads
    python benchmarks/monitor.py --models cnn --seconds 20 --repeats 5

A turn is a block of steps of each loop, each first as often as the others; so all see the same other work on the machine. Each ratio is of
all the time of a loop over that of the first plain one, the first and dearest measurement included: by the clock, in processor seconds
of all threads, and of the second plain loop by the clock, which is 1 but for what other work on the machine does (`noise`). `inside` is all
the time of the monitored loop over that outside of `monitor.step`. Goal: at most 1.03 by the clock; where the noise or the repeats
leave no room to tell, there is no verdict.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import nn
from torch.nn import functional

import initbench

BATCH = 64
BLOCK = 20
"""Steps of a turn."""
ORDERS = tuple(permutations(range(3)))
GOAL = 1.03
ROOM = 0.03
"""Where repeats, or two loops that are alike, differ by more, it cannot be told whether the goal is met."""


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
    """One repeat: the monitored loop over the plain one, and the second plain one over the first (`noise`)."""

    clock: float
    processor: float
    noise: float
    inside: float
    steps: int
    measured: int


def repeat(make: Callable[[], nn.Module], seconds: float) -> Found:
    """All loops, for so many seconds of the first plain one."""
    Loop(make, monitored=True).turn(BLOCK)
    loops = plain, watched, again = [Loop(make, monitored=monitored) for monitored in (False, True, False)]
    turns = 0
    while plain.seconds < seconds or turns % len(ORDERS):
        for place in ORDERS[turns % len(ORDERS)]:
            loops[place].turn(BLOCK)
        turns += 1
    assert watched.monitor is not None
    own = watched.inside / (watched.seconds - watched.inside)
    clock, processor, noise = watched.seconds / plain.seconds, watched.processor / plain.processor, again.seconds / plain.seconds
    return Found(clock, processor, noise, 1 + own, watched.step, len(watched.monitor.runs))


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
        noise = [each.noise for each in found]
        sure = max(clock) - min(clock) <= ROOM and max(abs(each - 1) for each in noise) <= ROOM
        verdict = ("meets" if statistics.median(clock) <= GOAL else "MISSES") if sure else "the machine is too busy to tell of"
        processor, inside = told([each.processor for each in found]), told([each.inside for each in found])
        print(
            f"{name}: by the clock {told(clock)}, noise {told(noise)}, processor {processor}, inside {inside}; {verdict} the goal of {GOAL}"
        )
        print(f"    measurements in steps: {', '.join(f'{each.measured} in {each.steps}' for each in found)}")


if __name__ == "__main__":
    main()

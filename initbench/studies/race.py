"""A race of schemes and values: short trainings for all, longer ones with more seeds for those that are not beaten.

`race` knows nothing of jobs, so that `benchmarks/recommend.py` can repeat it on a table of finished runs. Losses are final losses on
held-out images; all arms of a round have the same seeds, so differences are paired.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from initbench.statistics.findings import Candidate


@dataclass(frozen=True)
class Arm:
    """A scheme at a value."""

    scheme: str
    value: Any


@dataclass(frozen=True)
class Round:
    """`share` of the full training on the first `seeds` (None: all); after it at most `keep` of the arms stay, from `least` to `most`.

    `by_value`: arms are compared with arms of the same value only, and `keep` is of each value's.
    """

    share: float
    seeds: int | None
    keep: float = 0.0
    least: int = 1
    most: int = 10**6
    by_value: bool = False


ROUNDS = (
    Round(1 / 4, 2, keep=1 / 3, least=3, by_value=True),
    Round(1.0, 2, keep=1 / 6, least=4),
    Round(1.0, 4, keep=1 / 16, least=3, most=7),
    Round(1.0, None),
)
"""Short trainings favour large learning rates, so they only compare schemes at the same one; full ones, whose runs the next
round uses again, decide the rest. Seven finalists are as many as eight seeds can separate after Holm."""
WIDENS = 1
"""The round, by its number, in which the leader's values are widened at their edge: the first that is not short."""
MOST_WIDENINGS = 3
"""How often."""
T_99 = (
    31.821,
    6.965,
    4.541,
    3.747,
    3.365,
    3.143,
    2.998,
    2.896,
    2.821,
    2.764,
    2.718,
    2.681,
    2.650,
    2.624,
    2.602,
    2.583,
    2.567,
    2.552,
    2.539,
)
"""What a one-sided paired t test exceeds with probability 1 %, for 1, 2, ... degrees of freedom; beyond the end the last."""

Loss = Callable[[Arm, int, int], float | None]
"""The final loss of an arm in a round (by its number) with a seed; infinite: it diverged; None: it has not been run."""
Beyond = Callable[[Arm, Sequence[Any]], Any | None]
"""The next value to try when an arm leads and is at the edge of the values tried; None: no further."""
Run = tuple[Arm, int, int]
"""What is to be run: arm, number of the round, seed."""


@dataclass
class Race:
    """How a race stands: all runs it takes so far, and for each arm why it went no further. `order` is the last round's, best first."""

    runs: list[Run] = field(default_factory=list)
    out: dict[Arm, tuple[str, int, str]] = field(default_factory=dict)
    order: list[Arm] = field(default_factory=list)
    losses: dict[Arm, list[float]] = field(default_factory=dict)
    rounds: dict[Arm, int] = field(default_factory=dict)
    complete: bool = False


def race(arms: Sequence[Arm], seeds: Sequence[int], loss: Loss, beyond: Beyond | None = None) -> Race:
    """Races the arms as far as the losses are there; `complete` when nothing more is to be run."""
    found, alive = Race(), list(arms)
    for number, stage in enumerate(ROUNDS):
        own = seeds[: stage.seeds]
        widened = 0
        while True:
            found.runs = [run for run in found.runs if run[1] != number] + [(arm, number, seed) for arm in alive for seed in own]
            values = {arm: [loss(arm, number, seed) for seed in own] for arm in alive}
            if any(value is None for row in values.values() for value in row):
                return found
            found.losses |= {arm: [value for value in row if value is not None] for arm, row in values.items()}
            found.order = sorted(alive, key=lambda arm: score(found.losses[arm]))
            further = _further(found, arms, alive, beyond) if number == WIDENS and widened < MOST_WIDENINGS else None
            if further is None:
                break
            alive.append(further)
            widened += 1
        found.rounds |= dict.fromkeys(alive, number + 1)
        if not math.isfinite(score(found.losses[found.order[0]])):
            break
        if number + 1 < len(ROUNDS):
            alive = _survivors(found, stage, number, arms)
    found.complete = True
    return found


def _further(found: Race, arms: Sequence[Arm], alive: Sequence[Arm], beyond: Beyond | None) -> Arm | None:
    leader = found.order[0]
    if beyond is None or not math.isfinite(score(found.losses[leader])):
        return None
    value = beyond(leader, sorted({arm.value for arm in (*arms, *alive) if arm.scheme == leader.scheme}))
    return None if value is None else Arm(leader.scheme, value)


def _survivors(found: Race, stage: Round, number: int, arms: Sequence[Arm]) -> list[Arm]:
    if not stage.by_value:
        return _best_of(found, found.order, stage, number, len(arms))
    values = dict.fromkeys(arm.value for arm in arms)
    sizes = {value: sum(arm.value == value for arm in arms) for value in values}
    groups = ([arm for arm in found.order if arm.value == value] for value in values)
    return [arm for group in groups if group for arm in _best_of(found, group, stage, number, sizes[group[0].value])]


def _best_of(found: Race, ordered: Sequence[Arm], stage: Round, number: int, total: int) -> list[Arm]:
    """Those that neither diverged nor are beaten by the first, as many as there is room for."""
    leader = ordered[0]
    room = min(stage.most, max(stage.least, math.ceil(stage.keep * total)))
    left: list[Arm] = []
    for arm in ordered:
        lost = sum(math.isinf(value) for value in found.losses[arm])
        if lost:
            found.out[arm] = ("diverged", number, f"diverged on {lost} of {len(found.losses[arm])} seeds in round {number + 1}")
        elif is_beaten(found.losses[arm], found.losses[leader]):
            found.out[arm] = ("beaten", number, f"beaten by {leader.scheme} in round {number + 1}")
        elif len(left) == room:
            found.out[arm] = ("set aside", number, f"set aside after round {number + 1}: {room} looked better")
        else:
            left.append(arm)
    return left


def unique(runs: Sequence[Run]) -> tuple[tuple[float, Arm, int], ...]:
    """What is really run, as (share of the full training, arm, seed): rounds use the runs of earlier ones again."""
    return tuple(dict.fromkeys((ROUNDS[number].share, arm, seed) for arm, number, seed in runs))


def score(losses: Sequence[float]) -> float:
    """What arms are ranked by: the mean logarithm of the loss; infinite when any run diverged."""
    return sum(math.log(max(value, 1e-12)) if math.isfinite(value) else math.inf for value in losses) / len(losses)


def is_beaten(losses: Sequence[float], best: Sequence[float]) -> bool:
    """Whether an arm is worse than the leader beyond doubt: one-sided paired t test on logarithms, at 1 %."""
    gaps = [math.log(max(own, 1e-12)) - math.log(max(other, 1e-12)) for own, other in zip(losses, best, strict=True)]
    n = len(gaps)
    if n < 2:
        return False
    mean = sum(gaps) / n
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1))
    return mean > 0 and mean > T_99[min(n - 1, len(T_99)) - 1] * spread / math.sqrt(n)


def candidates(found: Race, chosen: Arm | None, inseparable: Mapping[str, bool]) -> tuple[Candidate, ...]:
    """A line a scheme, its arm that came farthest; `inseparable` says for the other finalists whether they equal the chosen one."""
    best: dict[str, Arm] = {}
    for arm in sorted(found.rounds, key=lambda arm: (-found.rounds[arm], score(found.losses[arm]))):
        best.setdefault(arm.scheme, arm)
    lines = []
    for scheme, arm in best.items():
        fate, _, reason = found.out.get(arm, ("", 0, ""))
        if arm == chosen:
            fate, reason = "chosen", ""
        elif scheme in inseparable:
            fate = "not separable" if inseparable[scheme] else "beaten"
            reason = "" if inseparable[scheme] else "beaten in the last round"
        losses = sorted(found.losses[arm])
        middle = (losses[(len(losses) - 1) // 2] + losses[len(losses) // 2]) / 2
        lines.append(
            Candidate(scheme=scheme, fate=fate or "diverged", value=arm.value, rounds=found.rounds[arm], loss=middle, reason=reason)
        )
    return tuple(lines)

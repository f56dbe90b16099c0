"""A race of schemes and values: short trainings for all, longer ones with more seeds for those that keep up, then a last round that judges.

The early rounds choose, on seeds of their own; who leaves there leaves to save time, and nothing is claimed of it. The last round has
fresh seeds, an arm a scheme, and a favourite that was named before: only there is a scheme shown to be worse.

`race` knows nothing of jobs, so that `benchmarks/recommend.py` can repeat it on a table of finished runs. Losses are final losses on
held-out examples; all arms of a round have the same seeds, so differences are paired.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from initbench.question.config import value_text
from initbench.statistics.findings import Candidate, Fate
from initbench.statistics.inference import median


@dataclass(frozen=True)
class Arm:
    """A scheme at a value."""

    scheme: str
    value: Any


@dataclass(frozen=True)
class Round:
    """`share` of the full training on the first `seeds` of those that choose (None: on those that judge).

    After it at most `keep` of the arms stay, from `least` to `most`. `by_value`: arms are compared with arms of the same value only, and
    `keep` is of each value's. `by_scheme`: of each scheme only its best arm stays.
    """

    share: float
    seeds: int | None
    keep: float = 0.0
    least: int = 1
    most: int = 10**6
    by_value: bool = False
    by_scheme: bool = False


ROUNDS = (
    Round(1 / 4, 2, keep=1 / 3, least=3, by_value=True),
    Round(1.0, 2, keep=1 / 6, least=4),
    Round(1.0, 4, keep=1 / 16, least=3, most=7, by_scheme=True),
    Round(1.0, None),
)
"""Short trainings favour large learning rates, so they only compare schemes at the same one; full ones choose among the rest.
Seven finalists are as many as eight seeds can separate from a favourite after Holm."""
CHOOSING = 4
"""The seeds that the early rounds take, at most."""
WIDENS = 1
"""The round, by its number, in which the leader's values are widened at their edge: the first that is not short."""
MOST_WIDENINGS = 3
"""How often."""
LEARNED = 0.99
"""A loss below this share of that of a guess shows that something was learned."""
FAR = 0.01
"""An arm is far behind where it would look so much worse than the leader by chance with at most this probability: a rule, no verdict."""
Loss = Callable[[Arm, int, int], float | None]
"""The final loss of an arm in a round (by its number) with a seed; infinite: it diverged; None: it has not been run."""
Beyond = Callable[[Arm, Collection[Any]], Any | None]
"""The next value to try when an arm leads and is at the edge of the values tried; None: no further."""


class Trial(NamedTuple):
    """What is to be run: an arm, in a round (by its number), with a seed."""

    arm: Arm
    round: int
    seed: int


@dataclass(frozen=True)
class Exit:
    """Why an arm went no further than a round (by its number).

    `lost` of `seeds` runs diverged; it was far behind `leader`; there was `room` for so many others, which looked better; or `leader`
    is the same scheme at a better value.
    """

    fate: Fate
    round: int
    lost: int = 0
    seeds: int = 0
    leader: Arm | None = None
    room: int = 0

    def __str__(self) -> str:
        """Gives, for example, `far behind kaiming in round 2`."""
        number = self.round + 1
        if self.fate is Fate.DIVERGED:
            return f"diverged on {self.lost} of {self.seeds} seeds in round {number}"
        if self.fate is Fate.STUCK:
            return f"at chance at every value in round {number}"
        if self.fate is Fate.BEHIND:
            return f"far behind {self.leader.scheme if self.leader else ''} in round {number}"
        if self.leader is not None:
            return f"its scheme did better at {value_text(self.leader.value)} in round {number}"
        return f"left out after round {number}: {self.room} others had lower losses"


@dataclass
class Race:
    """How a race stands: all trials it takes so far, and for each arm why it went no further.

    `order` is the last round's, best first; `favourite` the arm that led before the round that judges.
    """

    trials: list[Trial] = field(default_factory=list)
    exits: dict[Arm, Exit] = field(default_factory=dict)
    order: list[Arm] = field(default_factory=list)
    losses: dict[Arm, list[float]] = field(default_factory=dict)
    rounds: dict[Arm, int] = field(default_factory=dict)
    favourite: Arm | None = None
    complete: bool = False

    @property
    def leader(self) -> Arm | None:
        """The best arm of the last round; None when all of them diverged, or before the first loss is there."""
        return self.order[0] if self.order and math.isfinite(score(self.losses[self.order[0]])) else None


def race(
    arms: Sequence[Arm],
    choosing: Sequence[int],
    judging: Sequence[int],
    loss: Loss,
    beyond: Beyond | None = None,
    guess: float = math.inf,
) -> Race:
    """Races the arms as far as the losses are there; `complete` when nothing more is to be run.

    `choosing`, `judging`: the seeds of the early rounds and of the last, none in common; `guess`: the loss of guessing.
    """
    standing, alive = Race(), list(arms)
    for number, stage in enumerate(ROUNDS):
        own = judging if stage.seeds is None else choosing[: stage.seeds]
        widened = 0
        while True:
            earlier = [trial for trial in standing.trials if trial.round != number]
            standing.trials = earlier + [Trial(arm, number, seed) for arm in alive for seed in own]
            values = {arm: [loss(arm, number, seed) for seed in own] for arm in alive}
            if any(value is None for row in values.values() for value in row):
                return standing
            standing.losses |= {arm: [value for value in row if value is not None] for arm, row in values.items()}
            standing.order = sorted(alive, key=lambda arm: score(standing.losses[arm]))
            further = _further(standing.leader, [*arms, *alive], beyond) if number == WIDENS and widened < MOST_WIDENINGS else None
            if further is None:
                break
            alive.append(further)
            widened += 1
        standing.rounds |= dict.fromkeys(alive, number + 1)
        if standing.leader is None:
            break
        if number == 0:
            _leave_stuck(standing, number, guess)
        if number + 1 < len(ROUNDS):
            alive = _survivors(standing, stage, number, arms)
            standing.favourite = alive[0] if alive else None
    standing.complete = True
    return standing


def _further(leader: Arm | None, arms: Sequence[Arm], beyond: Beyond | None) -> Arm | None:
    if beyond is None or leader is None:
        return None
    value = beyond(leader, {arm.value for arm in arms if arm.scheme == leader.scheme})
    return None if value is None else Arm(leader.scheme, value)


def _leave_stuck(standing: Race, number: int, guess: float) -> None:
    """Schemes that learned nothing at any value, where others did, leave: an arm alone may only be slow."""
    learned = {arm.scheme for arm in standing.order if min(standing.losses[arm]) < LEARNED * guess}
    tried = {arm.scheme for arm in standing.order if any(math.isfinite(value) for value in standing.losses[arm])}
    stuck = tried - learned if learned else set()
    standing.exits |= {arm: Exit(Fate.STUCK, number) for arm in standing.order if arm.scheme in stuck}
    standing.order = [arm for arm in standing.order if arm.scheme not in stuck]


def _survivors(standing: Race, stage: Round, number: int, arms: Sequence[Arm]) -> list[Arm]:
    if not stage.by_value:
        return _best_of(standing, _one_of_each(standing, stage, number), stage, number, len(arms))
    values = dict.fromkeys(arm.value for arm in arms)
    sizes = {value: sum(arm.value == value for arm in arms) for value in values}
    groups = ([arm for arm in standing.order if arm.value == value] for value in values)
    return [arm for group in groups if group for arm in _best_of(standing, group, stage, number, sizes[group[0].value])]


def _one_of_each(standing: Race, stage: Round, number: int) -> list[Arm]:
    """The arms in their order; of each scheme only the best where the round wants that."""
    best: dict[str, Arm] = {}
    for arm in standing.order:
        if best.setdefault(arm.scheme, arm) != arm and stage.by_scheme:
            standing.exits[arm] = Exit(Fate.SET_ASIDE, number, leader=best[arm.scheme])
    return list(best.values()) if stage.by_scheme else standing.order


def _best_of(standing: Race, ordered: Sequence[Arm], stage: Round, number: int, total: int) -> list[Arm]:
    """Those that neither diverged nor are far behind the first, as many as there is room for; why the others leave is noted."""
    leader = ordered[0]
    room = min(stage.most, max(stage.least, math.ceil(stage.keep * total)))
    left: list[Arm] = []
    for arm in ordered:
        losses = standing.losses[arm]
        lost = sum(math.isinf(value) for value in losses)
        if lost:
            standing.exits[arm] = Exit(Fate.DIVERGED, number, lost=lost, seeds=len(losses))
        elif is_far_behind(losses, standing.losses[leader]):
            standing.exits[arm] = Exit(Fate.BEHIND, number, leader=leader)
        elif len(left) == room:
            standing.exits[arm] = Exit(Fate.SET_ASIDE, number, room=room)
        else:
            left.append(arm)
    return left


def unique(trials: Sequence[Trial]) -> tuple[tuple[float, Arm, int], ...]:
    """What is really run, as (share of the full training, arm, seed): rounds use the runs of earlier ones again."""
    return tuple(dict.fromkeys((ROUNDS[trial.round].share, trial.arm, trial.seed) for trial in trials))


def score(losses: Sequence[float]) -> float:
    """What arms are ranked by: the mean logarithm of the loss; infinite when any run diverged."""
    return sum(math.log(max(value, 1e-12)) if math.isfinite(value) else math.inf for value in losses) / len(losses)


def is_far_behind(losses: Sequence[float], best: Sequence[float]) -> bool:
    """Whether an arm is so far behind the leader that it need not go on: one-sided paired t test on logarithms, at 1 %."""
    gaps = [math.log(max(own, 1e-12)) - math.log(max(other, 1e-12)) for own, other in zip(losses, best, strict=True)]
    n = len(gaps)
    if n < 2:
        return False
    mean = sum(gaps) / n
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1))
    return mean > 0 and mean > critical_t(n - 1) * spread / math.sqrt(n)


@cache
def critical_t(freedom: int) -> float:
    """What a one-sided t test exceeds by chance with probability `FAR`, for so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - FAR))


def candidates(standing: Race, chosen: Arm | None, inseparable: Mapping[str, bool]) -> tuple[Candidate, ...]:
    """A line a scheme, its arm that came farthest; `inseparable` says of each finalist whether it is not shown to be worse."""
    best: dict[str, Arm] = {}
    for arm in sorted(standing.rounds, key=lambda arm: (-standing.rounds[arm], score(standing.losses[arm]))):
        best.setdefault(arm.scheme, arm)
    lines = []
    for scheme, arm in best.items():
        ended = standing.exits.get(arm)
        if arm == chosen:
            fate, reason = Fate.CHOSEN, ""
        elif scheme in inseparable:
            fate, reason = (Fate.NOT_SEPARABLE, "") if inseparable[scheme] else (Fate.BEATEN, "shown to be worse in the last round")
        else:
            fate, reason = (ended.fate, str(ended)) if ended else (Fate.DIVERGED, "")
        by = ended.leader if ended and ended.fate is Fate.BEHIND else None
        lines.append(
            Candidate(
                scheme=scheme,
                fate=fate,
                value=arm.value,
                rounds=standing.rounds[arm],
                loss=median(standing.losses[arm]),
                reason=reason,
                by=by.scheme if by else None,
                by_value=by.value if by else None,
            )
        )
    return tuple(lines)

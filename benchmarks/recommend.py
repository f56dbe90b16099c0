"""Does `initbench recommend` choose what the full grid would? `python benchmarks/recommend.py [--configs mnist5k_mlp smoke]`.

Runs the full grid once (every scheme, learning rate and seed, at the lengths of the race's rounds; it resumes), then repeats the race
on the table: each trial draws its seeds, 4 to choose on and 8 to judge on, from those of the table. The winner of the full grid is the
arm with the lowest mean log held-out loss over all seeds of the table; while its rate is at the edge, the next one is part of
the grid too, as in the race. Another arm is tied with it when the exact paired test over these seeds does not tell them apart (p > 5 %).
Configs that take hours are shortened: `--set train.steps=300`.

`--alike` races simulated schemes that do not differ: how often is any of them shown to be worse? Exit code 1 when fewer than 95 % of the
choices are the winner or tied with it, or when more than 5 % of these races show what is not there.
"""

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from initbench.errors import InitbenchError
from initbench.question import catalog
from initbench.question.config import ExperimentConfig, Job
from initbench.question.plan import job_id
from initbench.results import store
from initbench.results.record import RunResult
from initbench.statistics.findings import Fate
from initbench.statistics.inference import ALPHA, signed_ranks
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.verdicts import Side, Verdict, compare_family
from initbench.studies.race import CHOOSING, ROUNDS, Arm, Trial, race, score, unique
from initbench.studies.recommend import Entrants, enter, job_of, probes, race_question
from initbench.studies.tune import held_out_loss, make_grid, tune_of

SCHEMES = ("kaiming", "xavier", "lecun", "orthogonal", "torch_default", "normal", "lsuv", "looks_linear", "identity", "sparse")
WANTED = 95.0
ALLOWED = 100 * ALPHA
JUDGING = 8
"""The seeds of the last round."""
LENGTHS = {stage.share: number for number, stage in enumerate(ROUNDS)}
"""A round of each length."""


@dataclass
class Table:
    """Final held-out losses by (share of the full training, arm, seed); an arm that is asked for and missing is run on all seeds."""

    config: ExperimentConfig
    entrants: Entrants
    folder: Path
    workers: int | None
    arms: list[Arm] = field(default_factory=list)
    losses: dict[tuple[float, Arm, int], float] = field(default_factory=dict)

    def add(self, arms: Sequence[Arm]) -> None:
        """Runs arms at every length with every seed."""
        new = [arm for arm in arms if arm not in self.arms]
        if not new:
            return
        wanted = {
            (share, arm, seed): job_of(self.config, self.entrants, Trial(arm, number, seed))
            for share, number in LENGTHS.items()
            for arm in new
            for seed in self.config.seeds
        }
        done = run(self.config, list(wanted.values()), self.folder, self.workers)
        for key, job in wanted.items():
            self.losses[key] = held_out_loss(done[job_id(job)])
        self.arms += new

    def loss(self, arm: Arm, number: int, seed: int) -> float:
        """What the race asks for."""
        self.add([arm])
        return self.losses[ROUNDS[number].share, arm, seed]

    def full(self, arm: Arm) -> list[float]:
        """The losses of a full training on every seed of the table."""
        self.add([arm])
        return [self.losses[1.0, arm, seed] for seed in self.config.seeds]

    def beyond(self, arm: Arm, tried: Sequence[float]) -> float | None:
        """The next learning rate when the best one is at the edge."""
        return make_grid(self.config, tune_of(self.config)).beyond(tried, arm.value)

    def winner(self) -> Arm:
        """The best arm; its learning rates are widened while the best is at their edge."""
        while True:
            best = min(self.arms, key=lambda arm: score(self.full(arm)))
            further = self.beyond(best, sorted(arm.value for arm in self.arms if arm.scheme == best.scheme))
            if further is None:
                return best
            self.add([Arm(best.scheme, further)])

    def tied(self, arm: Arm, winner: Arm) -> bool:
        """Whether the paired test over all seeds cannot tell an arm from the winner."""
        gaps = [one - two if one != two else 0.0 for one, two in zip(self.full(arm), self.full(winner), strict=True)]
        return arm == winner or signed_ranks(gaps).p > ALPHA


@dataclass(frozen=True)
class Found:
    """What repeated races chose."""

    winner: Arm
    tied: int
    hits: float
    good: float
    regrets: tuple[float, ...]
    saved: float


def run(config: ExperimentConfig, jobs: list[Job], folder: Path, workers: int | None) -> dict[str, RunResult]:
    """The results of the jobs; what is there already is not run again."""
    named = {job_id(job): job for job in jobs}
    done = {result.job_id: result for result in store.read_results(folder, named)}
    missing = [(name, job) for name, job in named.items() if name not in done]
    if missing:
        print(f"{len(missing)} runs of {len(named)} with {config.model} on {config.dataset} ...", file=sys.stderr, flush=True)
        for result in catalog.load("engine", "processes")(missing, device="cpu", data_dir=None, workers=workers):
            store.write_result(folder, result)
            done[result.job_id] = result
    return done


def make_table(name: str, given: argparse.Namespace) -> Table:
    """The full grid of a config."""
    config = race_question(name, given.schemes, seeds=given.seeds, settings=given.set)
    entered = enter(config, run(config, list(probes(config)), given.folder, given.workers))
    assert entered is not None
    table = Table(config, entered, given.folder, given.workers)
    table.add(entered.arms)
    return table


def repeat(table: Table, trials: int, source: random.Random) -> Found:
    """Races on the table, each with seeds of its own drawn from it."""
    first, winner = tuple(table.arms), table.winner()
    equal: dict[Arm, bool] = {}
    hits, good, regrets, costs = 0, 0, [], 0.0
    best = score(table.full(winner))
    for _ in range(trials):
        drawn = source.sample(table.config.seeds, min(CHOOSING + JUDGING, len(table.config.seeds)))
        choosing = drawn[: max(1, len(drawn) * CHOOSING // (CHOOSING + JUDGING))]
        judging = drawn[len(choosing) :]
        standing = race(table.entrants.arms, choosing, judging, table.loss, table.beyond, table.entrants.guess)
        chosen = standing.order[0]
        if chosen not in equal:
            equal[chosen] = table.tied(chosen, winner)
        hits += chosen == winner
        good += equal[chosen]
        regrets.append(math.exp(score(table.full(chosen)) - best) - 1)
        costs += sum(share for share, _, _ in unique(standing.trials)) / (len(first) * len(judging))
    tied = sum(table.tied(arm, winner) for arm in table.arms) - 1
    return Found(winner, tied, 100 * hits / trials, 100 * good / trials, tuple(sorted(regrets)), 100 * (1 - costs / trials))


def alike(schemes: int, trials: int, source: random.Random) -> tuple[float, float, float]:
    """Of races of schemes that do not differ, in %: a scheme shown to be worse in the last round, the same if the favourite were
    named after it, and a scheme called far behind on the way, which is no verdict.
    """
    metric = find_metric("final_test_loss")
    arms = [Arm(f"s{number}", value) for number in range(schemes) for value in (0.01, 0.03, 0.1, 0.3, 1.0)]
    false, after, behind = 0, 0, 0
    for _ in range(trials):
        losses: dict[tuple[Arm, int, int], float] = {}

        def loss(arm: Arm, number: int, seed: int, losses: dict[tuple[Arm, int, int], float] = losses) -> float:
            key = (arm, LENGTHS[ROUNDS[number].share], seed)
            return losses.setdefault(key, math.exp(source.gauss(0, 0.2)))

        standing = race(arms, range(JUDGING, JUDGING + CHOOSING), range(JUDGING), loss)
        sides = {arm: Side(arm.scheme, dict(enumerate(standing.losses[arm]))) for arm in standing.order}
        assert standing.favourite is not None
        for first in (standing.favourite, standing.order[0]):
            pairs = [(sides[arm], sides[first]) for arm in standing.order if arm != first]
            shown = any(each.verdict is Verdict.WORSE for each in compare_family(metric, pairs))
            false, after = (false + shown, after) if first is standing.favourite else (false, after + shown)
            if standing.favourite == standing.order[0]:
                after += shown
                break
        behind += any(ended.fate is Fate.BEHIND for ended in standing.exits.values())
    return 100 * false / trials, 100 * after / trials, 100 * behind / trials


def show_alike(sizes: Sequence[int], trials: int) -> float:
    """Prints the races of schemes that do not differ; gives the largest share of false verdicts, in %."""
    print(f"Schemes that do not differ, at five values each: {trials} races, shares of them in %\n")
    print("| schemes | any shown to be worse | the same with a favourite named afterwards | any far behind on the way (no verdict) |")
    print("|---:|---:|---:|---:|")
    worst = 0.0
    for number in sizes:
        false, after, behind = alike(number, trials, random.Random(number))
        worst = max(worst, false)
        print(f"| {number} | {false:.1f} | {after:.1f} | {behind:.1f} |", flush=True)
    return worst


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--configs", nargs="+", default=["mnist5k_mlp", "smoke"])
    arguments.add_argument("--schemes", nargs="+", default=list(SCHEMES))
    arguments.add_argument("--seeds", type=int, default=16, help="of the table; a trial draws 4 to choose on and 8 to judge on")
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes every config, such as train.steps=300")
    arguments.add_argument("--folder", type=Path, default=Path("results/recommend-table"), help="where runs are kept")
    arguments.add_argument("--workers", type=int)
    arguments.add_argument("--alike", type=int, nargs="+", metavar="SCHEMES", help="only race so many simulated schemes that do not differ")
    given = arguments.parse_args()
    if given.alike:
        false = show_alike(given.alike, given.trials)
        print(f"\n{'As good as wanted' if false <= ALLOWED else 'NOT AS GOOD AS WANTED'}: {false:.1f} % at most (allowed {ALLOWED:g} %).")
        return 0 if false <= ALLOWED else 1
    print(f"{len(given.schemes)} schemes x learning rates, {given.seeds} seeds in the table, ", end="")
    print(f"{given.trials} races of {CHOOSING} + {JUDGING} seeds\n")
    print("| options | arms, seeds in the table | winner of the full grid | chosen | chosen or tied | ", end="")
    print("loss above the winner's: median, 95 % | steps saved |")
    print("|---|---:|---|---:|---:|---:|---:|")
    worst = 100.0
    for name in given.configs:
        table = make_table(name, given)
        found = repeat(table, given.trials, random.Random(name))
        worst = min(worst, found.good)
        high = found.regrets[min(len(found.regrets) - 1, int(0.95 * len(found.regrets)))]
        cells = (
            f"`--configs {' --set '.join([name, *given.set])}` ({len(given.schemes)} schemes)",
            f"{len(table.entrants.arms)}, {given.seeds}",
            f"{found.winner.scheme}, {found.winner.value:g} ({found.tied or 'none'} tied)",
            f"{found.hits:.1f} %",
            f"{found.good:.1f} %",
            f"{100 * found.regrets[len(found.regrets) // 2]:.1f} %, {100 * high:.1f} %",
            f"{found.saved:.0f} %",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{'As good as wanted' if worst >= WANTED else 'NOT AS GOOD AS WANTED'}: at least {worst:.1f} % (wanted {WANTED:g} %).")
    return 0 if worst >= WANTED else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InitbenchError as error:
        sys.exit(f"error: {error}")

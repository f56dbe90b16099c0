"""Does `initbench recommend` choose what the full grid would? `python benchmarks/recommend.py [--configs mnist5k_mlp smoke]`.

Runs the full grid once (every scheme, learning rate and seed, at the lengths of the race's rounds; it resumes), then
repeats the race on the table: each trial draws its seeds, in random order, from those of the table. The winner of the full grid is the
arm with the lowest mean log held-out loss over all seeds of the table; another arm is tied with it when the exact paired test over
these seeds does not tell them apart (p > 5 %). Exit code 1 when fewer than 95 % of the choices are the winner or tied with it.
"""

import argparse
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from initbench import catalog, plan, store
from initbench.config import ExperimentConfig
from initbench.questions import racing, recommending, tuning
from initbench.questions.racing import ROUNDS, Arm
from initbench.results import RunResult
from initbench.routes.asking import race_question
from initbench.statistics.inference import ALPHA, signed_ranks

SCHEMES = ("kaiming", "xavier", "lecun", "orthogonal", "torch_default", "normal", "lsuv", "looks_linear", "identity", "sparse")
WANTED = 95.0
LENGTHS = {stage.share: number for number, stage in enumerate(ROUNDS)}
"""A round of each length."""


@dataclass(frozen=True)
class Table:
    """Final held-out losses by (share of the full training, arm, seed)."""

    arms: tuple[Arm, ...]
    losses: dict[tuple[float, Arm, int], float]
    steps: int

    def full(self, arm: Arm, seeds: range) -> list[float]:
        return [self.losses[1.0, arm, seed] for seed in seeds]


def run(config: ExperimentConfig, jobs: list, folder: Path, workers: int | None) -> dict[str, RunResult]:
    """The results of the jobs; what is there already is not run again."""
    named = {plan.job_id(job): job for job in jobs}
    done = {result.job_id: result for result in store.read_results(folder, named)}
    missing = [(name, job) for name, job in named.items() if name not in done]
    if missing:
        print(f"{len(missing)} runs of {len(named)} with {config.model} on {config.dataset} ...", file=sys.stderr, flush=True)
        for result in catalog.load("engine", "processes")(missing, device="cpu", data_dir=None, workers=workers):
            store.write_result(folder, result)
            done[result.job_id] = result
    return done


def make_table(name: str, schemes: list[str], seeds: int, folder: Path, workers: int | None) -> Table:
    config = race_question(name, schemes, seeds=seeds)
    probed = run(config, list(recommending.probes(config)), folder, workers)
    field = recommending.enter(config, probed)
    assert field is not None
    wanted = {
        (share, arm, seed): recommending.job_of(config, field, (arm, number, seed))
        for share, number in LENGTHS.items()
        for arm in field.arms
        for seed in config.seeds
    }
    done = run(config, list(wanted.values()), folder, workers)
    losses = {}
    for key, job in wanted.items():
        value = tuning.HELD_OUT_LOSS.value(done[plan.job_id(job)])
        losses[key] = math.inf if value is None else value
    return Table(field.arms, losses, field.steps)


def tied(table: Table, arm: Arm, winner: Arm, seeds: range) -> bool:
    """Whether the paired test over all seeds cannot tell an arm from the winner."""
    gaps = [one - two for one, two in zip(table.full(arm, seeds), table.full(winner, seeds), strict=True)]
    return arm == winner or signed_ranks(gaps).p > ALPHA


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--configs", nargs="+", default=["mnist5k_mlp", "smoke"])
    arguments.add_argument("--schemes", nargs="+", default=list(SCHEMES))
    arguments.add_argument("--seeds", type=int, default=16, help="of the table; a trial draws 8 of them")
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--folder", type=Path, default=Path("results/recommend-table"), help="where runs are kept")
    arguments.add_argument("--workers", type=int)
    given = arguments.parse_args()
    print(f"{len(given.schemes)} schemes x 5 learning rates, {given.seeds} seeds in the table, {given.trials} races of 8 seeds\n")
    print("| config | arms | winner of the full grid | chosen | chosen or tied | loss above the winner's (median, 95 %) | steps saved |")
    print("|---|---:|---|---:|---:|---:|---:|")
    worst = 100.0
    for name in given.configs:
        table = make_table(name, given.schemes, given.seeds, given.folder, given.workers)
        every = range(given.seeds)
        winner = min(table.arms, key=lambda arm, table=table, every=every: racing.score(table.full(arm, every)))
        equal = {arm: tied(table, arm, winner, every) for arm in table.arms}
        source = random.Random(name)
        hits, good, regrets, costs = 0, 0, [], []
        for _ in range(given.trials):
            seeds = source.sample(every, min(8, given.seeds))
            found = racing.race(table.arms, seeds, lambda arm, number, seed, table=table: table.losses[ROUNDS[number].share, arm, seed])
            chosen = found.order[0]
            hits += chosen == winner
            good += equal[chosen]
            regrets.append(math.exp(racing.score(table.full(chosen, every)) - racing.score(table.full(winner, every))) - 1)
            costs.append(sum(share for share, _, _ in racing.unique(found.runs)) / (len(table.arms) * len(seeds)))
        regrets.sort()
        share = 100 * good / given.trials
        worst = min(worst, share)
        high = regrets[min(len(regrets) - 1, int(0.95 * len(regrets)))]
        cells = (
            f"{winner.scheme}, {winner.value:g} ({sum(equal.values()) - 1} tied)",
            f"{100 * hits / given.trials:.1f} %",
            f"{share:.1f} %",
            f"{100 * regrets[len(regrets) // 2]:.1f} %, {100 * high:.1f} %",
            f"{100 * (1 - sum(costs) / len(costs)):.0f} %",
        )
        print(f"| {name} | {len(table.arms)} | {' | '.join(cells)} |", flush=True)
    print(f"\n{'As good as wanted' if worst >= WANTED else 'NOT AS GOOD AS WANTED'}: at least {worst:.1f} % (wanted {WANTED:g} %).")
    return 0 if worst >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())

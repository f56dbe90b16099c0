"""Are verdicts that may be looked at after every seed as seldom wrong as they say? `python benchmarks/anytime.py [--sets 2000] [--real]`.

Simulated comparisons whose truth is known, looked at after each of 64 seeds: how often any verdict is ever wrong, at most 5 % wanted
(beside it the exact test of a fixed number of seeds, looked at just as often); how often an interval ever misses the median; how many
seeds it takes, beside the fixed number with the same power and a plain mixture of bets on signs; how many runs all pairs of several
schemes take, beside Bonferroni's correction. `--real` only trains: what 64 fixed seeds
find on three configurations, and with how many of those runs the same is found. `--timed` only runs the main job on the embedded images in
both ways, one after the other, three times. All is seeded. Exit code 1 where a figure is out of range.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory

import numpy as np

from initbench import load_results
from initbench.statistics.deciding import Deciding
from initbench.statistics.inference import ALPHA, signed_ranks
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.sequential import BOLDEST, LISTENING, STAKES, equivalence, evidence, fewest, mean_sequence, median_sequence
from initbench.statistics.verdicts import Comparison, Side, Verdict, compare_family

SEEDS = 64
FAMILIES = {
    "3, one sd apart": (0.0, 1.0, 2.0),
    "3, one always diverges": (0.0, 1.0, -math.inf),
    "6, one sd apart": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
    "6, one is better by 1.5": (0.0, 0.0, 0.0, 0.0, 0.0, 1.5),
}
"""Schemes and how good each is, in standard deviations of the pairs."""
SCHEMES = (2, 3, 6, 10)
EFFECTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
DIVERGING = 0.2
"""The share of runs that diverge, of either scheme and whatever its seed, where some do."""
ROOT = Path(__file__).parent.parent
TURNS = 3
PEEKED = 200
"""Sets on which the fixed test is looked at after every seed: each look counts all sign flips."""
CHECKED = 5
"""Sets of which verdicts are made, too."""
MARGIN = 0.5
WORST = 100 * ALPHA
MOST_OF_REAL = 0.30
"""Of the runs of 64 seeds, where the difference is at least one standard deviation of the pairs."""
REAL: tuple[tuple[str, int | None], ...] = (("mnist5k_mlp", None), ("he2015_depth30", 200), ("fashion_mnist_cnn", 60))
"""Shipped configurations, and the steps of a run where it is to be shorter than theirs."""


@dataclass(frozen=True)
class Case:
    """A distribution of one scheme's results over seeds; pairs share part of their noise. `median` is that of one scheme's."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    median: float


def _diverging(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(generator.random(shape) < DIVERGING, -math.inf, generator.normal(size=shape))


CASES = (
    Case("normal", lambda generator, shape: generator.normal(size=shape), 0.0),
    Case("skewed (lognormal)", lambda generator, shape: np.exp(generator.normal(size=shape)), 1.0),
    Case("heavy tails (t, 2 df)", lambda generator, shape: generator.standard_t(2, size=shape), 0.0),
    Case("tenths, with ties", lambda generator, shape: np.round(generator.normal(size=shape), 1), 0.0),
    Case("20 % diverge", _diverging, 0.0),
)


def differences(left: np.ndarray, right: np.ndarray) -> list[float]:
    """Paired differences; two runs without a number are a tie."""
    with np.errstate(invalid="ignore"):
        return [float(value) for value in np.where(left == right, 0.0, np.round(left - right, 12))]


def false_verdicts(case: Case, schemes: int, sets: int) -> float:
    """In %: sets of schemes that do not differ of which any was ever called better or worse, after any seed.

    The wealths of all sets at once, by formulas of their own; of the first sets also as the package has them, and by the verdicts.
    """
    metric = find_metric("final_test_accuracy")
    generator = np.random.default_rng([schemes, len(case.name)])
    results = case.draw(generator, (sets, schemes, SEEDS))
    pairs = list(combinations(range(schemes), 2))
    with np.errstate(invalid="ignore"):
        gaps = [np.where(results[:, one] == results[:, other], 0.0, results[:, one] - results[:, other]) for one, other in pairs]
    wealths = np.sort(np.stack([wealths_of(own) for own in gaps]), axis=0)
    means = (wealths[-1] + np.concatenate([0 * wealths[:1], np.cumsum(wealths[:-1], axis=0)])) / np.arange(1, len(pairs) + 1)[:, None, None]
    found = (means.min(axis=0) >= 1 / ALPHA).any(axis=1)
    for index in range(min(CHECKED, sets)):
        sides = [Side(str(place), dict(enumerate(map(float, row)))) for place, row in enumerate(results[index])]
        judged = compare_family(metric, list(combinations(sides, 2)), anytime=True)
        assert found[index] == any(pair.verdict in {Verdict.BETTER, Verdict.WORSE} for pair in judged)
        best = max(max(evidence(differences(results[index][one], results[index][other])).wealth) for one, other in pairs)
        assert math.isclose(best, wealths[-1, index].max(), rel_tol=1e-9)
    return 100 * float(found.mean())


def wealths_of(gaps: np.ndarray) -> np.ndarray:
    """What bets on the signs of differences, a row a set, are worth after each: as `evidence`, all rows at once."""
    gaps = np.round(gaps, 12)
    return LISTENING * _bets(gaps) + (1 - LISTENING) * _bets(np.where(np.isinf(gaps), 0.0, gaps))


def _bets(gaps: np.ndarray) -> np.ndarray:
    sizes, quantile = np.abs(gaps), np.vectorize(NormalDist().inv_cdf)
    scores = np.zeros(gaps.shape)
    for place in range(gaps.shape[1]):
        so_far, own = sizes[:, : place + 1], sizes[:, place, None]
        seen = (so_far > 0).sum(axis=1)
        below = ((so_far > 0) & (so_far < own)).sum(axis=1)
        up_to = ((so_far > 0) & (so_far <= own)).sum(axis=1)
        middle = np.where(np.isinf(own[:, 0]), up_to - 0.5, (below + up_to) / 2)
        share = np.where(own[:, 0] > 0, middle / np.maximum(seen, 1), 0.0)
        values, where = np.unique(share, return_inverse=True)
        scores[:, place] = quantile((1 + values) / 2)[where]
    total = np.zeros(gaps.shape)
    for boldness in STAKES:
        stake = np.minimum(BOLDEST, np.tanh(boldness * scores)) * np.sign(gaps)
        total += np.cumprod(1 + stake, axis=1) + np.cumprod(1 - stake, axis=1)
    return total / (2 * len(STAKES))


def by_family(sets: int) -> Iterator[tuple[str, float, float, float, float]]:
    """Of results of several schemes: runs until all pairs are decided, and pairs that are; as it is, and with Bonferroni's correction.

    Schemes stop as they do: once all of their pairs are decided.
    """
    for name, shifts in FAMILIES.items():
        generator, taken = np.random.default_rng([23, len(shifts)]), np.zeros(4)
        pairs = list(combinations(range(len(shifts)), 2))
        for _ in range(sets):
            results = generator.normal(size=(len(shifts), SEEDS)) / math.sqrt(2) + np.array(shifts)[:, None]
            rows = np.array([differences(results[one], results[other]) for one, other in pairs])
            won = wealths_of(rows) >= len(pairs) / ALPHA
            bonferroni = {pair: int(own.argmax()) + 1 for pair, own in zip(pairs, won, strict=True) if own.any()}
            for place, found in enumerate((_ends(results), bonferroni)):
                runs = [max(found.get(pair, SEEDS) for pair in pairs if scheme in pair) for scheme in range(len(shifts))]
                taken[2 * place : 2 * place + 2] += sum(runs), 100 * len(found) / len(pairs)
        yield name, *map(float, taken / sets)


def _ends(results: np.ndarray) -> dict[tuple[int, int], int]:
    """After how many seeds each pair is decided, of those that are; schemes without an open pair get no more."""
    schemes = range(len(results))
    decided = Deciding(combinations(map(str, schemes), 2), higher_is_better=True, margin=None)
    ends: dict[tuple[int, int], int] = {}
    for count, column in enumerate(results.T, 1):
        still = decided.open_names if decided.members else frozenset(map(str, schemes))
        decided.take({str(place): float(value) for place, value in enumerate(column) if str(place) in still})
        closed = [(int(pair.names[0]), int(pair.names[1])) for pair in decided.pairs if not pair.is_open]
        ends |= {pair: count for pair in closed if pair not in ends}
    return ends


def false_when_peeked(case: Case, sets: int) -> float:
    """In %: the same of two schemes by the exact test of a fixed number of seeds, looked at after every seed from the sixth on."""
    generator, wrong = np.random.default_rng(7), 0
    for _ in range(sets):
        left, right = case.draw(generator, (2, SEEDS))
        gaps = differences(left, right)
        wrong += any(signed_ranks(gaps[:count]).p <= ALPHA for count in range(6, SEEDS + 1))
    return 100 * wrong / sets


def false_equivalence(case: Case, sets: int) -> float:
    """In %: pairs whose median difference is just the margin that were ever called equivalent within it."""
    generator, wrong = np.random.default_rng(11), 0
    for _ in range(sets):
        gaps = [float(value) for value in case.draw(generator, (SEEDS,)) - case.median + MARGIN]
        wrong += equivalence(gaps, MARGIN)[-1] <= ALPHA
    return 100 * wrong / sets


def missed(case: Case, sets: int) -> float:
    """In %: sets of which any of the 64 intervals for the median did not hold it."""
    generator, wrong = np.random.default_rng(13), 0
    for _ in range(sets):
        intervals = median_sequence([float(value) for value in case.draw(generator, (SEEDS,))])
        wrong += any(not interval.low <= case.median <= interval.high for interval in intervals)
    return 100 * wrong / sets


def missed_means(sets: int) -> float:
    """In %: the same of the mean of accuracies of 1,000 images, between 0 and 1."""
    generator, wrong = np.random.default_rng(17), 0
    for _ in range(sets):
        values = generator.binomial(1000, generator.beta(180, 20, SEEDS)) / 1000
        wrong += any(not interval.low <= 0.9 <= interval.high for interval in mean_sequence(list(map(float, values)), 0.0, 1.0))
    return 100 * wrong / sets


def seeds_taken(gaps: list[float]) -> int | None:
    """After how many seeds two schemes are told apart; None where they are not."""
    wealth = evidence(gaps).wealth
    return next((count for count, value in enumerate(wealth, 1) if value >= 1 / ALPHA), None)


def seeds_taken_by_signs(gaps: list[float]) -> int | None:
    """The same by a plain mixture of bets on signs, whatever the size of a difference."""
    stakes = np.array([0.2, 0.4, 0.6, 0.8, 0.95])
    up, down = np.ones(5), np.ones(5)
    for count, value in enumerate(gaps, 1):
        up, down = up * (1 + stakes * np.sign(value)), down * (1 - stakes * np.sign(value))
        if (up.mean() + down.mean()) / 2 >= 1 / ALPHA:
            return count
    return None


def by_effect(sets: int) -> Iterator[tuple[str, float, float, int, float]]:
    """For each difference in standard deviations of the pairs: share decided, seeds, fixed seeds of the same power, seeds by signs.

    The last is with runs of either scheme that diverge at random.
    """
    for effect, share in [*((effect, 0.0) for effect in EFFECTS), (1.0, DIVERGING)]:
        generator = np.random.default_rng([19, round(100 * effect)])
        normal = generator.normal(effect, 1, (sets, SEEDS))
        lost = generator.random((2, sets, SEEDS)) < share
        left, right = np.where(lost[0], -math.inf, normal), np.where(lost[1], -math.inf, 0.0)
        drawn = [differences(*each) for each in zip(left, right, strict=True)]
        taken = [seeds_taken(gaps) for gaps in drawn]
        power = sum(count is not None for count in taken) / sets
        by_signs = [seeds_taken_by_signs(gaps) or SEEDS for gaps in drawn]
        name = f"{effect:g}" + (f", {100 * share:.0f} % of either diverge" if share else "")
        yield name, 100 * power, _mean(taken), fixed_seeds(drawn, power), sum(by_signs) / sets


def _mean(taken: list[int | None]) -> float:
    return sum(SEEDS if count is None else count for count in taken) / len(taken)


def fixed_seeds(drawn: list[list[float]], power: float) -> int:
    """The fewest seeds, fixed beforehand, with which the exact test tells as many apart; of no more sets than are peeked at."""
    some = drawn[:PEEKED]
    for count in range(6, SEEDS + 1):
        if sum(signed_ranks(gaps[:count]).p <= ALPHA for gaps in some) / len(some) >= min(power, 0.995):
            return count
    return SEEDS


def real() -> Iterator[tuple[str, str, float, str, str, int, int]]:
    """Of each pair of three configurations: its difference in standard deviations, the verdict of 64 fixed seeds, that of adding seeds."""
    from initbench import api
    from initbench.question.config import UntilConfig
    from initbench.studies import until

    metric = find_metric("final_test_accuracy")
    for name, steps in REAL:
        with TemporaryDirectory() as folder:
            asked = {"config": name, "steps": steps, "seeds": SEEDS, "output": str(Path(folder) / "fixed")}
            fixed = api.compare(["xavier", "kaiming", "normal"], **asked)  # type: ignore[arg-type]
            done = {run.job_id: run for run in fixed.results}
            question = fixed.config.model_copy(update={"until": UntilConfig(each=1)})
            found = until.standing(question, done)
            used = until.seeds_of(found.jobs)
            for pair in fixed.summary.pairs:
                both = [seed for seed in used[pair.scheme] if seed in used[pair.other]]
                values = {(str(run.job.scheme), run.job.seed): metric.ranked(run) for run in fixed.results}
                gaps = np.array([values[pair.scheme, seed] - values[pair.other, seed] for seed in range(SEEDS)])
                size = abs(float(gaps.mean() / gaps.std(ddof=1))) if np.isfinite(gaps).all() and gaps.std() else math.inf
                mine = next(each for each in found.latest if set(each.names) == set(pair.names))
                yield (
                    name,
                    f"{pair.scheme} - {pair.other}",
                    size,
                    pair.verdict.value,
                    _as_seen(mine, pair.scheme),
                    len(both),
                    len(found.jobs),
                )


def _as_seen(pair: Comparison, scheme: str) -> str:
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    return (pair.verdict if pair.scheme == scheme else turned.get(pair.verdict, pair.verdict)).value


def main() -> int:
    """Prints the tables; 1 where a figure is out of range."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--timed", action="store_true")
    given = parser.parse_args()
    if given.timed:
        _print_timed()
        return 0
    if given.real:
        bad = _print_real()
        print("\n".join(bad), file=sys.stderr)
        return 1 if bad else 0
    begun, bad = time.perf_counter(), []
    slack = 3 * math.sqrt(WORST * (100 - WORST) / given.sets)
    print(f"False verdicts ever, in %, {given.sets} sets of {SEEDS} seeds, looked at after each ({WORST:g} at most wanted)\n")
    print(f"| results | {' | '.join(f'{number} schemes' for number in SCHEMES)} | fixed test, 2 schemes |")
    print(f"|---|{'---:|' * (len(SCHEMES) + 1)}")
    for case in CASES:
        shares = [false_verdicts(case, number, given.sets) for number in SCHEMES]
        bad += [f"{case.name}: {share:.1f} % false" for share in shares if share > WORST + slack]
        print(
            f"| {case.name} | {' | '.join(f'{share:.1f}' for share in shares)} | {false_when_peeked(case, min(PEEKED, given.sets)):.0f} |",
            flush=True,
        )
    print("\nIntervals that ever miss the median, and equivalence within a margin that the median difference just reaches, in %\n")
    print("| results | missed | false equivalence |\n|---|---:|---:|")
    for case in CASES[:4]:
        share, equal = missed(case, given.sets), false_equivalence(case, given.sets)
        bad += [f"{case.name}: {value:.1f} %" for value in (share, equal) if value > WORST + slack]
        print(f"| {case.name} | {share:.1f} | {equal:.1f} |", flush=True)
    share = missed_means(min(given.sets, 500))
    bad += [f"means: {share:.1f} %"] if share > WORST + slack else []
    print(f"| mean of accuracies, by bounds alone | {share:.1f} | |")
    print(f"\nSeeds until two schemes are told apart, {SEEDS} at most; the fewest possible are {fewest()}\n")
    print("| difference, sd of the pairs | told apart, % | seeds, mean | fixed seeds of that power | bets on signs alone |")
    print("|---:|---:|---:|---:|---:|")
    for effect, power, mean, fixed, signs in by_effect(given.sets):
        print(f"| {effect} | {power:.1f} | {mean:.1f} | {fixed} | {signs:.1f} |", flush=True)
    print(
        "\nAll pairs of several schemes: runs until they are decided, and pairs that are, in %, with e-Holm and Bonferroni's correction\n"
    )
    print("| schemes, sd of the pairs | runs | decided | runs, Bonferroni | decided, Bonferroni |\n|---|---:|---:|---:|---:|")
    for name, *figures in by_family(given.sets):
        print(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |", flush=True)
    print(f"\n{time.perf_counter() - begun:.0f} s. stakes at most {BOLDEST:g}.", file=sys.stderr)
    print("\n".join(bad), file=sys.stderr)
    return 1 if bad else 0


def _print_timed() -> None:
    """The main job until it is decided and with the fixed default, whole processes, in turns; medians of three."""
    print("| `compare xavier kaiming normal` | runs | seconds | pairs told apart |\n|---|---:|---:|---:|")
    ways = {"--until decided": [], "8 seeds, the default": [], "--seeds 64": []}  # type: dict[str, list[tuple[float, int, int]]]
    for _ in range(TURNS):
        for way, found in ways.items():
            words = way.split() if way.startswith("--") else []
            with TemporaryDirectory() as folder:
                begun = time.perf_counter()
                command = [
                    sys.executable,
                    "-m",
                    "initbench",
                    "compare",
                    "xavier",
                    "kaiming",
                    "normal",
                    *words,
                    "-o",
                    f"{folder}/here",
                    "-q",
                ]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
                seconds, answer = time.perf_counter() - begun, load_results(f"{folder}/here")
            apart = sum(pair.verdict in {Verdict.BETTER, Verdict.WORSE} for pair in answer.summary.pairs)
            found.append((seconds, sum(map(len, answer.runs.values())), apart))
    for way, found in ways.items():
        seconds, runs, apart = sorted(found)[len(found) // 2]
        print(f"| {way} | {runs} | {seconds:.1f} | {apart} of 3 |", flush=True)


def _print_real() -> list[str]:
    bad, used = [], {}
    print(f"Real runs: {SEEDS} fixed seeds, and seeds until it is decided\n")
    print("| runs | pair | difference, sd | fixed | until decided | seeds | share of the runs |\n|---|---|---:|---|---|---:|---:|")
    for name, pair, size, fixed, mine, seeds, runs in real():
        share = seeds / SEEDS
        used[name] = runs
        print(f"| {name} | {pair} | {size:.2f} | {fixed} | {mine} | {seeds} | {100 * share:.0f} % |", flush=True)
        if size >= 1 and (mine != fixed or share > MOST_OF_REAL):
            bad.append(f"{name}, {pair}: {mine} with {100 * share:.0f} % of the runs, {fixed} with all")
    print("\n" + "; ".join(f"{name}: {runs} of {3 * SEEDS} runs in all" for name, runs in used.items()))
    return bad


if __name__ == "__main__":
    sys.exit(main())

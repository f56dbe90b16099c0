"""Why one scheme beats another, in sentences that theory and measurement at initialization bear out; else that they do not say why."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from initbench.question.config import value_text
from initbench.question.keys import short
from initbench.reporting.paper import PaperTable, paper_table
from initbench.results.propagation import hidden, signal_at_start
from initbench.results.record import LayerStats, RunResult
from initbench.statistics.findings import Fate, Recommendation, Summary, SweepCell
from initbench.statistics.inference import median
from initbench.statistics.summary import Runs
from initbench.statistics.sweep import trains

ALIKE = 0.02
"""Weights follow one rule where their variance times fan-in is the same to so much."""
NEXT_TO_NOTHING = 0.05
"""A factor a layer that is closer to 1 than this is said to keep the signal."""


@dataclass(frozen=True)
class Account:
    """What is known of one scheme before the first step, medians over its seeds.

    `rule`: the variance of its weights in words, where all hidden ones follow one; `factor`: by what theory expects each layer to multiply
    the variance of the pre-activations; `forward` and `back`: by what the variance of the activations, and of the gradients, was measured
    to change over so many `steps` from layer to layer; None where there is no such number. `lost`: how the signal is lost, where it is.
    """

    scheme: str
    rule: str
    factor: float | None
    forward: float | None
    back: float | None
    steps: int
    lost: str | None


def why(summary: Summary, runs: Runs) -> str:
    """One to three sentences; empty where there is nothing to explain."""
    accounts = {scheme: account for scheme, own in runs.items() if (account := _account(scheme, own, summary)) is not None}
    table = paper_table(summary)
    best = accounts.get(table.rows[0].scheme.scheme) if table.rows else None
    if best is None:
        return ""
    return " ".join([_of_those_that_ran(summary, table, accounts, best), *_left_out(summary.recommendation)])


def why_of_cells(summary: Summary) -> str:
    """Of a sweep: in how many cells each scheme loses the signal at initialization, and in how many it trains; empty where nobody knows."""
    cells = summary.sweep.cells if summary.sweep is not None else ()
    said = [sentence for scheme in summary.schemes if (sentence := _of_cells(scheme.scheme, cells))]
    measured = any(each.signal is not None for cell in cells for each in cell.schemes)
    nowhere = "With no scheme is the signal lost at initialization in any cell, so that it does not say why cells differ."
    return " ".join(said) or nowhere * measured


def _of_cells(name: str, cells: Sequence[SweepCell]) -> str:
    """As in `xavier loses the signal at initialization in 4 of 6 cells and trains in 1 of them; it trains in 2 of the 2 others.`."""
    own = [(cell, scheme) for cell in cells if (scheme := cell.scheme(name)) is not None and scheme.signal is not None]
    lost = [(cell, scheme) for cell, scheme in own if scheme.signal_lost_at is not None]
    if not lost:
        return ""
    cell, first = lost[0]
    where = ", ".join(f"{short(key)} {value_text(value)}" for key, value in cell.values.items())
    there = sum(trains(scheme) for _, scheme in lost)
    others = sum(trains(scheme) for _, scheme in own) - there
    rest = f"; it trains in {others} of the {len(own) - len(lost)} others" if len(lost) < len(own) else ""
    words = f"{name} loses the signal at initialization in {len(lost)} of {len(own)} cells and trains in {there} of them"
    return f"{words}{rest} ({where}: {first.signal})."


def _of_those_that_ran(summary: Summary, table: PaperTable, accounts: dict[str, Account], best: Account) -> str:
    if len(table.rows) == 1:
        return f"{_sentence(best)}."
    whose = " of the last round" if summary.recommendation else ""
    worse = [accounts[row.scheme.scheme] for row in table.rows if row.shown_worse and row.scheme.scheme in accounts]
    if not worse:
        return _of_no_difference(table, accounts, whose)
    losers = [account for account in worse if account.lost]
    if not losers:
        return f"The signal at initialization does not say why: no scheme{whose} that is shown to be worse loses it. {_sentence(best)}."
    if best.lost:
        return f"The signal at initialization does not say why: {best.scheme} loses it as well. {_sentence(best)}."
    shown = "; ".join(map(_sentence, losers[:2]))
    more = f" {len(losers) - 2} more schemes lose it." if len(losers) > 2 else ""
    return f"{shown}.{more} {_sentence(best)}."


def _of_no_difference(table: PaperTable, accounts: dict[str, Account], whose: str) -> str:
    lost = [account for account in accounts.values() if account.lost]
    start = f"No scheme{whose} is shown to be worse than the best"
    if not lost:
        return f"{start}, and with none of them is the signal lost at initialization."
    unsure = f" (that takes at least {table.seeds_needed} seeds)" if table.seeds_needed else ""
    return f"{start}{unsure}. At initialization, though: {'; '.join(map(_sentence, lost[:2]))}."


def _left_out(race: Recommendation | None) -> Iterable[str]:
    """How many schemes a race never began with, for what became of their signal."""
    lost = [line for line in race.candidates if line.fate is Fate.NO_SIGNAL] if race else []
    if lost:
        many = f"{len(lost)} schemes were" if len(lost) > 1 else "1 scheme was"
        yield f"{many} out before the race: {'; '.join(f'{line.scheme}, where {line.signal}' for line in lost[:2])}."


def _account(scheme: str, own: Sequence[RunResult], summary: Summary) -> Account | None:
    found = [(run, signal) for run in own if (signal := signal_at_start(run)) is not None]
    if not found:
        return None
    layers, signals = _hidden_at_start(found[0][0]), [signal for _, signal in found]
    of_scheme = summary.scheme(scheme)
    return Account(
        scheme=scheme,
        rule=_rule(own, layers),
        factor=_expected_factor(layers),
        forward=_middle(signal.activation_ratio for signal in signals),
        back=_middle(signal.gradient_ratio for signal in signals),
        steps=len(layers) - 1,
        lost=of_scheme.signal if of_scheme.signal_lost_at else None,
    )


def _middle(ratios: Iterable[float | None]) -> float | None:
    """The median of what are numbers; None where most are none."""
    every = list(ratios)
    known = [ratio for ratio in every if ratio is not None]
    return median(known) if 2 * len(known) > len(every) else None


def _hidden_at_start(run: RunResult) -> tuple[LayerStats, ...]:
    return hidden(sorted((stats for stats in run.layers if stats.step == 0), key=lambda stats: stats.position))


def _rule(own: Sequence[RunResult], layers: Sequence[LayerStats]) -> str:
    """The variance of the weights of the layers, where they follow one rule."""
    report = next((run.init for run in own if run.init is not None), None)
    names = {stats.layer for stats in layers}
    found = [
        (entry.target_std**2, entry.fan_in)
        for entry in (report.parameters if report else ())
        if entry.target_std and entry.fan_in and entry.parameter.rpartition(".")[0] in names
    ]
    if len(found) < 2:
        return ""
    variances, fans = [variance for variance, _ in found], {fan for _, fan in found}
    if len(fans) > 1 and max(variances) <= min(variances) * (1 + ALIKE):
        return f"sets Var W = {median(variances):.3g}"
    products = [variance * fan for variance, fan in found[1:]]  # the first layer may have no activation before it
    return f"sets Var W = {median(products):.3g}/fan_in" if max(products) <= min(products) * (1 + ALIKE) else ""


def _expected_factor(layers: Sequence[LayerStats]) -> float | None:
    """By what theory multiplies the variance of the pre-activations from one layer to the next, where it does so evenly."""
    known = [value for stats in layers if (value := stats.predicted_pre_activation_variance)]
    if len(known) < 3 or len(known) != len(layers):
        return None
    steps = [math.log(after / before) for before, after in pairwise(known[1:])]
    mean = sum(steps) / len(steps)
    return math.exp(mean) if all(abs(step - mean) < 0.1 + 0.2 * abs(mean) for step in steps) else None


def _sentence(account: Account) -> str:
    """As in `xavier sets Var W = 1/fan_in, by which theory has each layer multiply the variance by 0.5; measured over 19 layers, ...`."""
    rule = account.rule
    if account.factor is not None:
        kept = abs(account.factor - 1) < NEXT_TO_NOTHING
        effect = "keep the variance" if kept else f"multiply the variance by {account.factor:.2g}"
        rule = f"{rule}, with which each layer should {effect}" if rule else f"should {effect} in each layer"
    changes = [f"{what} {_change(ratio)}" for what, ratio in (("activations", account.forward), ("gradients", account.back)) if ratio]
    measured = f"measured over {account.steps} layers, the variance of {' and that of '.join(changes)}" if changes else ""
    lost = account.lost if not changes else f"({account.lost})" if account.lost else ""
    found = " ".join(filter(None, (measured, lost)))
    return f"{account.scheme} {rule}; {found}" if rule else f"{account.scheme}: {found}"


def _change(ratio: float) -> str:
    if 0.5 <= ratio <= 2:
        return f"stays within a factor of {max(ratio, 1 / ratio):.2f}"
    size = f"{ratio:.2g}" if 1e-2 < ratio < 1e3 else f"{ratio:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{'shrinks' if ratio < 1 else 'grows'} to {size} times what it was"

"""Why one scheme beats another, in sentences that theory and measurement at initialization bear out; else that they do not say why."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from initbench.errors import enumerated
from initbench.question.config import value_text
from initbench.question.keys import short
from initbench.reporting.paper import PaperTable, paper_table
from initbench.results.outcome import loss_of_guessing
from initbench.results.probe_run import ProbeRun
from initbench.results.propagation import KEPT_DECADES, Propagation, hidden, signal_at_start, signal_through
from initbench.results.record import InitReport, LayerStats, RunResult
from initbench.statistics.estimates import counted
from initbench.statistics.findings import Candidate, Fate, Recommendation, Summary, SweepCell
from initbench.statistics.inference import median
from initbench.statistics.summary import Runs
from initbench.statistics.sweep import trains

ALIKE = 0.02
"""Weights follow one rule where their variance times fan-in is the same to so much."""
NEXT_TO_NOTHING = 0.05
"""A factor a layer that is closer to 1 than this is said to keep the signal."""
CLEARLY = 0.5
"""Powers of ten by which one signal has to end farther off than another for this to hint at anything."""
WILD = 3.0
"""A first loss of more times that of guessing is named."""
NAMED = 2
"""Schemes of which a whole sentence is said."""


@dataclass(frozen=True)
class Account:
    """What is known of one scheme before the first step, medians over its seeds.

    `rule`: the variance of its weights in words, where all hidden ones follow one; `factor`: by what theory expects each layer to multiply
    the variance of the pre-activations; `forward` and `back`: by what the variance of the activations, and of the gradients, was measured
    to change over so many `steps` from layer to layer; None where there is no such number. `lost`: how the signal is lost, where it is.
    `loss`: the loss before the first step, and `guess` that of equal logits.
    """

    scheme: str
    rule: str
    factor: float | None
    forward: float | None
    back: float | None
    steps: int
    lost: str | None
    loss: float | None
    guess: float | None

    @property
    def decades(self) -> float:
        """How far the signal ends from where it entered, forward or back, in powers of ten; endless where it is lost."""
        if self.lost:
            return math.inf
        return max((abs(math.log10(ratio)) for ratio in (self.forward, self.back) if ratio), default=0.0)

    @property
    def starts_wild(self) -> bool:
        """Whether the first loss is many times that of guessing."""
        return self.loss is not None and self.guess is not None and self.loss > WILD * self.guess

    def explains(self, best: "Account") -> bool:
        """Whether it is clearly worse off than the best before the first step: a hint at why it lost, where the signal is not lost."""
        weaker = self.decades > KEPT_DECADES and self.decades > best.decades + CLEARLY
        return weaker or (self.starts_wild and not best.starts_wild)


def why(summary: Summary, runs: Runs) -> str:
    """One to three sentences; empty where there is nothing to explain."""
    accounts = {scheme: account for scheme, own in runs.items() if (account := _account(scheme, own, summary)) is not None}
    table = paper_table(summary)
    best = accounts.get(table.rows[0].scheme.scheme) if table.rows else None
    if best is None:
        return ""
    return " ".join(
        [_of_those_that_ran(summary, table, accounts, best), *_left_out(summary.recommendation), *_went_out(summary.recommendation)]
    )


def why_of_probe(schemes: Sequence[tuple[str, str | None]], runs: Sequence[ProbeRun]) -> str:
    """The laws of the weights of a probe's worst schemes and of its best, with what theory expects of them; `schemes`: the best first,
    each with how its signal is lost; empty where no law is known.
    """
    accounts = []
    for scheme, lost in schemes:
        own = [run for run in runs if run.scheme == scheme]
        found = [sorted(run.layers, key=lambda stats: stats.position) for run in own if signal_through(run.layers) is not None]
        if found:
            accounts.append(_started(scheme, [run.init for run in own], hidden(found[0]), (), lost))
    if not any(account.rule or account.factor is not None for account in accounts):
        return ""
    losers = [account for account in accounts[::-1] if account.lost]
    kept = [account for account in accounts if not account.lost and (account.rule or account.factor is not None)][:1]
    return "".join(
        f"{said}. " for said in (_sentences(losers) + _more(losers, "loses", "lose", " it, too"), *map(_sentence, kept)) if said
    )[:-1]


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
    if losers := [account for account in worse if account.lost]:
        if best.lost:
            return f"The signal at initialization does not say why: {best.scheme} loses it as well. {_sentence(best)}."
        return f"{_sentences(losers)}{_more(losers, 'loses', 'lose', ' it, too')}. {_sentence(best)}."
    if hints := [account for account in worse if account.explains(best)]:
        hints.sort(key=lambda account: (not account.starts_wild, -account.decades))
        more = _more(hints, "begins", "begin", " clearly worse off, too")
        likely = f"The signal is lost with none of the schemes{whose} that are shown to be worse; a likely reason is how it begins"
        return f"{likely}. {_sentences(hints)}{more}. {_sentence(best)}."
    same = f"no scheme{whose} that is shown to be worse begins clearly worse off than {best.scheme}"
    return f"The signal at initialization does not say why: {same}. {_sentence(best)}."


def _of_no_difference(table: PaperTable, accounts: dict[str, Account], whose: str) -> str:
    ordered = [account for row in table.rows if (account := accounts.get(row.scheme.scheme)) is not None]
    unsure = f" (that takes at least {table.seeds_needed} seeds)" if table.seeds_needed else ""
    start = f"No scheme{whose} is shown to be worse than the best{unsure}"
    if lost := [account for account in ordered[::-1] if account.lost]:
        more = _more(lost, "loses", "lose", " it")
        return f"{start}. At initialization, though, {_some(lost)} the signal: {_sentences(lost)}{more}."
    return f"{start}, and with none of them is the signal lost at initialization."


def _some(lost: Sequence[Account]) -> str:
    return "one of them loses" if len(lost) == 1 else f"{len(lost)} of them lose"


def _more(accounts: Sequence[Account], one: str, several: str, what: str) -> str:
    """As in `; 3 more lose it`: how many are not named."""
    left = len(accounts) - NAMED
    return f"; {left} more {one if left == 1 else several}{what}" if left > 0 else ""


def _sentences(accounts: Sequence[Account]) -> str:
    return "; ".join(map(_sentence, accounts[:NAMED]))


def _left_out(race: Recommendation | None) -> Iterable[str]:
    """How many schemes a race never began with, for what became of their signal."""
    lost = [line for line in race.candidates if line.fate is Fate.NO_SIGNAL] if race else []
    if lost:
        many = f"{len(lost)} schemes were" if len(lost) > 1 else "1 scheme was"
        yield f"{many} out before the race: {'; '.join(f'{line.scheme}, where {line.signal}' for line in lost[:2])}."


def _went_out(race: Recommendation | None) -> Iterable[str]:
    """As in `Round 2 (40 steps, 2 seeds): far behind kaiming at lr 0.1 were xavier at lr 0.1 and 3 more.`: who left when, and how."""
    if race is None:
        return
    name = short(race.key)
    for number, stage in enumerate(race.rounds[: max(0, race.reported - 1)], start=1):
        left = [line for line in race.candidates if line.rounds == number]
        ends: dict[tuple[Fate, str], list[Candidate]] = {}
        for line in left:
            by = f"{line.by} at {name} {value_text(line.by_value)}" if line.by else ""
            ends.setdefault((line.fate, by), []).append(line)
        told = "; ".join(_end(fate, by, lines, name) for (fate, by), lines in ends.items())
        if told:
            yield f"Round {number} ({counted(stage.steps, 'step')}, {counted(stage.seeds, 'seed')}): {told}."


def _end(fate: Fate, by: str, lines: Sequence[Candidate], name: str) -> str:
    each = [f"{line.scheme} at {name} {value_text(line.value)}" if fate is not Fate.STUCK else line.scheme for line in lines]
    who = enumerated(each if len(each) <= NAMED + 1 else [*each[:NAMED], f"{len(each) - NAMED} more"], "and")
    if fate is Fate.BEHIND:
        return f"far behind {by} {'were' if len(lines) > 1 else 'was'} {who}"
    if fate is Fate.STUCK:
        return f"{who} learned nothing at any {name}"
    if fate is Fate.DIVERGED:
        return f"{who} diverged"
    return f"there was no room for {who}"


def _account(scheme: str, own: Sequence[RunResult], summary: Summary) -> Account | None:
    found = [(run, signal) for run in own if (signal := signal_at_start(run)) is not None]
    if not found:
        return None
    of_scheme = summary.scheme(scheme)
    started = _started(
        scheme,
        [run.init for run in own],
        _hidden_at_start(found[0][0]),
        [signal for _, signal in found],
        of_scheme.signal if of_scheme.signal_lost_at else None,
    )
    return replace(
        started,
        loss=_middle(run.train_losses[0] if run.train_losses else None for run, _ in found),
        guess=loss_of_guessing(found[0][0]),
    )


def _started(
    scheme: str, reports: Sequence[InitReport | None], layers: Sequence[LayerStats], signals: Sequence[Propagation], lost: str | None
) -> Account:
    return Account(
        scheme=scheme,
        rule=_rule(reports, layers),
        factor=_expected_factor(layers),
        forward=_middle(signal.activation_ratio for signal in signals),
        back=_middle(signal.gradient_ratio for signal in signals),
        steps=len(layers) - 1,
        lost=lost,
        loss=None,
        guess=None,
    )


def _middle(ratios: Iterable[float | None]) -> float | None:
    """The median of what are numbers; None where most are none."""
    every = list(ratios)
    known = [ratio for ratio in every if ratio is not None]
    return median(known) if 2 * len(known) > len(every) else None


def _hidden_at_start(run: RunResult) -> tuple[LayerStats, ...]:
    return hidden(sorted((stats for stats in run.layers if stats.step == 0), key=lambda stats: stats.position))


def _rule(reports: Sequence[InitReport | None], layers: Sequence[LayerStats]) -> str:
    """The variance of the weights of the layers, where they follow one rule."""
    report = next((report for report in reports if report is not None), None)
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
        effect = "keep the variance" if kept else f"multiply the variance by {_size(account.factor)}"
        rule = f"{rule}, with which each layer should {effect}" if rule else f"should {effect} in each layer"
    changes = [f"{what} {_change(ratio)}" for what, ratio in (("activations", account.forward), ("gradients", account.back)) if ratio]
    over = f"{account.steps} layers" if account.steps > 1 else "one layer"
    measured = f"measured over {over}, the variance of {' and that of '.join(changes)}" if changes else ""
    lost = account.lost if not changes else f"({account.lost})" if account.lost else ""
    found = " ".join(filter(None, (measured, lost)))
    if account.starts_wild:
        found += f"{', ' if found else ''}and the first loss is {_size(account.loss or 0.0)}, where guessing has {account.guess:.3g}"
    return f"{account.scheme} {rule}{'; ' * bool(found)}{found}" if rule else f"{account.scheme}: {found}"


def _change(ratio: float) -> str:
    if 0.5 <= ratio <= 2:
        return f"stays within a factor of {max(ratio, 1 / ratio):.2f}"
    return f"{'shrinks' if ratio < 1 else 'grows'} to {_size(ratio)} times what it was"


def _size(number: float) -> str:
    """A positive number in two digits, as people write it: `0.5`, `130`, `2e-6`."""
    if 1e-2 < number < 1e4:
        return f"{number:.2g}" if number < 100 else f"{round(number, 1 - math.floor(math.log10(number))):.0f}"
    return f"{number:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")

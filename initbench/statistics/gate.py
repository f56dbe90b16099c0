"""A gate for CI: the runs of today against a baseline that was written when all was well.

Two kinds of rules. *Exact*: the number of parameters, which parameter is set by what, the mean and spread of each after initialization, and
the variance at each layer before the first step; all follow from the seed, so that what differs by more than rounding has changed.
*Statistical*: the accuracy of the trained runs, paired by seed: it fails only where the loss is beyond the allowed one with 95 %
confidence, and passes only where it is not, with the same confidence. Time is never looked at.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from initbench.errors import ConfigError, NotThereError
from initbench.question.config import ExperimentConfig, Frozen
from initbench.question.keys import plain_config
from initbench.results import files, provenance
from initbench.results.record import LayerStats, RunResult, RunStatus
from initbench.statistics.inference import difference_interval, hodges_lehmann

ROUNDING = 1e-3
"""Relative difference of two spreads that rounding on another machine explains; seeded draws themselves are the same everywhere."""
SIGNAL_ROUNDING = 1e-2
"""The same for variances at layers, through which rounding grows."""
ALLOWED_LOSS = 0.02
"""Of accuracy, 2 points."""
SEEDS = 8
"""Enough for the intervals; fewer than 5 have none."""
CONFIDENCE = 0.95
SIGNALS = ("pre_activation_variance", "gradient_variance")
"""The quantities of a layer that are compared."""


class Verdict(StrEnum):
    """How a check ended; of several the worst counts."""

    PASS = "pass"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"


class Check(Frozen):
    """One rule for one scheme, what it found, in words."""

    scheme: str
    rule: str
    verdict: Verdict
    found: str


class SchemeBaseline(Frozen):
    """What was there of one scheme; `init` and `signal` are of each seed."""

    parameters: int
    set_by: dict[str, str] = Field(description="parameter -> who set it")
    init: dict[str, dict[str, tuple[float, float]]] = Field(description="seed -> parameter -> mean and standard deviation")
    signal: dict[str, dict[str, tuple[float | None, ...]]] = Field(description="seed -> layer -> variances before the first step")
    accuracy: dict[str, float | None] = Field(description="seed -> accuracy at the end, null for a run that diverged")


class Baseline(Frozen):
    """A whole baseline, as it is in its file."""

    question: dict[str, Any]
    made_with: dict[str, str]
    schemes: dict[str, SchemeBaseline]


def baseline_of(config: ExperimentConfig, results: Iterable[RunResult]) -> Baseline:
    """What today's runs are. Raises: ConfigError where a run failed: nothing can be compared with it."""
    runs: dict[str, list[RunResult]] = {}
    for result in results:
        if result.status in {RunStatus.FAILED, RunStatus.SKIPPED}:
            raise ConfigError(f"{result.job.scheme}, seed {result.job.seed}, {result.status}: {result.reason}")
        runs.setdefault(str(result.job.scheme), []).append(result)
    made_with = {key: value for key, value in provenance.environment().items() if key in {"initbench", "torch"}}
    question = json.loads(json.dumps(plain_config(config)))
    return Baseline(question=question, made_with=made_with, schemes={name: _of_scheme(own) for name, own in sorted(runs.items())})


def _of_scheme(runs: Sequence[RunResult]) -> SchemeBaseline:
    first = runs[0]
    return SchemeBaseline(
        parameters=first.parameters or 0,
        set_by={entry.parameter: entry.by for entry in first.init.parameters} if first.init else {},
        init={
            str(run.job.seed): {entry.parameter: (_short(entry.mean), _short(entry.std)) for entry in run.init.parameters}
            for run in runs
            if run.init is not None
        },
        signal={str(run.job.seed): {each.layer: _signal(each) for each in run.layers if each.step == 0} for run in runs},
        accuracy={str(run.job.seed): _accuracy(run) for run in runs},
    )


def _short(value: float | None) -> float:
    return 0.0 if value is None else float(f"{value:.6g}")


def _signal(stats: LayerStats) -> tuple[float | None, ...]:
    return tuple(None if (value := getattr(stats, name)) is None else _short(value) for name in SIGNALS)


def _accuracy(run: RunResult) -> float | None:
    return run.evaluations[-1].test_accuracy if run.evaluations and run.status is RunStatus.COMPLETED else None


def write(path: Path, baseline: Baseline) -> None:
    """Writes a baseline: sorted, a line a value, so that a change of it can be read in a review."""
    document = json.dumps(baseline.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    files.write_bytes(path, files.sealed(document))


def read(path: Path) -> Baseline:
    """Reads a baseline. Raises: NotThereError where there is none, ConfigError for a file that is not as it was written."""
    try:
        document, fits = files.unsealed(files.read_bytes(path))
        if not fits:
            raise ConfigError(f"{path} is not as --bless wrote it. Get it from your version control, or write it anew with --bless.")
        return Baseline.model_validate_json(document)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotThereError(f"There is no baseline {path}. Make it where all is well, with: --bless") from error
    except (files.UnusableFile, ValidationError) as error:
        raise ConfigError(f"{path} is no baseline of this version. Write it anew with --bless.") from error


def refuse_another_question(path: Path, baseline: Baseline, config: ExperimentConfig) -> None:
    """Raises: ConfigError that names what is asked otherwise than when the baseline was written."""
    asked = json.loads(json.dumps(plain_config(config)))
    keys = sorted(key for key in {*asked, *baseline.question} if asked.get(key) != baseline.question.get(key))
    if keys:
        raise ConfigError(f"{path} is the baseline of another question; it differs in {', '.join(keys)}. Write it anew with --bless.")


def checks(before: Baseline, now: Baseline, allowed: float = ALLOWED_LOSS) -> tuple[Check, ...]:
    """Every rule for every scheme."""
    return tuple(check for name in before.schemes for check in _checks(name, before.schemes[name], now.schemes[name], allowed))


def verdict_of(found: Sequence[Check]) -> Verdict:
    """The worst."""
    order = list(Verdict)
    return max((each.verdict for each in found), key=order.index, default=Verdict.PASS)


def _checks(name: str, before: SchemeBaseline, now: SchemeBaseline, allowed: float) -> Iterator[Check]:
    def check(rule: str, problems: Sequence[str], fine: str) -> Check:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        verdict = Verdict.FAIL if problems else Verdict.PASS
        return Check(scheme=name, rule=rule, verdict=verdict, found=problems[0] + more if problems else fine)

    count = [f"{now.parameters} trainable parameters instead of {before.parameters}"] * (now.parameters != before.parameters)
    yield check("parameters", count, f"{now.parameters} trainable parameters")
    names = sorted({*before.set_by, *now.set_by})
    pairs = ((each, before.set_by.get(each, "not there"), now.set_by.get(each, "not there")) for each in names)
    changed = [f"{each}: {new} instead of {old}" for each, old, new in pairs if old != new]
    yield check("coverage", changed, f"{len(names)} parameters set as before")
    yield check("initialization", list(_drifts(before, now)), "mean and spread of every parameter as before")
    yield check("signal", list(_signal_drifts(before, now)), "variances at every layer as before")
    yield _accuracy_check(name, before.accuracy, now.accuracy, allowed)


def _drifts(before: SchemeBaseline, now: SchemeBaseline) -> Iterator[str]:
    for seed, parameters in before.init.items():
        for parameter, (mean, std) in parameters.items():
            new_mean, new_std = now.init.get(seed, {}).get(parameter, (math.nan, math.nan))
            if not math.isclose(std, new_std, rel_tol=ROUNDING, abs_tol=1e-12):
                change = f", variance {100 * ((new_std / std) ** 2 - 1):+.1f} %" if std else ""
                yield f"{parameter}, seed {seed}: standard deviation {new_std:.4g} instead of {std:.4g}{change}"
            elif not abs(mean - new_mean) <= ROUNDING * max(std, abs(mean)) + 1e-12:
                yield f"{parameter}, seed {seed}: mean {new_mean:.4g} instead of {mean:.4g}"


def _signal_drifts(before: SchemeBaseline, now: SchemeBaseline) -> Iterator[str]:
    for seed, layers in before.signal.items():
        for layer, values in layers.items():
            new = now.signal.get(seed, {}).get(layer, (None,) * len(values))
            for what, old, value in zip(SIGNALS, values, new, strict=True):
                alike = (old is None) == (value is None) and (
                    old is None or value is None or math.isclose(old, value, rel_tol=SIGNAL_ROUNDING, abs_tol=1e-30)
                )
                if not alike:
                    yield f"{layer}, seed {seed}: {what.replace('_', ' ')} {_text(value)} instead of {_text(old)}"


def _text(value: float | None) -> str:
    return "overflowed or not measured" if value is None else f"{value:.4g}"


def _accuracy_check(name: str, before: Mapping[str, float | None], now: Mapping[str, float | None], allowed: float) -> Check:
    def said(verdict: Verdict, found: str) -> Check:
        return Check(scheme=name, rule="accuracy", verdict=verdict, found=found)

    def number(value: float | None) -> float:
        return -math.inf if value is None else value

    both_lost = [seed for seed in before if before[seed] is None and now.get(seed) is None]
    seeds = [seed for seed in before if seed not in both_lost]
    if not seeds:
        return said(Verdict.PASS, f"diverges on all of {len(before)} seeds, as before")
    differences = [number(now.get(seed)) - number(before[seed]) for seed in seeds]
    interval = difference_interval(differences, 2 * (1 - CONFIDENCE))
    change = 100 * hodges_lehmann(differences)
    words = f"{change:+.2f} points of accuracy" if math.isfinite(change) else "runs diverge that did not, or the other way round"
    if interval is None:
        return said(Verdict.INCONCLUSIVE, f"{words}; {len(seeds)} seeds are too few to tell, take at least 5")
    limits = f"{words} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}], {100 * allowed:g} points may be lost"
    if interval.high < -allowed:
        return said(Verdict.FAIL, limits)
    if interval.low >= -allowed:
        return said(Verdict.PASS, limits)
    return said(Verdict.INCONCLUSIVE, f"{limits}: take more seeds")

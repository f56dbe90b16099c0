"""`recommend`: which scheme for this model, data and training? A probe of all schemes, then a race; what to run, and what it says.

Like tuning, everything is a function of the configuration and of the results that are there. The test split is never looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.question import catalog, config_file, plan
from initbench.question.config import ExperimentConfig, Job, ProbeConfig, Ref, TuneConfig, View, value_text
from initbench.question.families import all_schemes
from initbench.question.request import configure
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.estimates import estimate_text
from initbench.statistics.findings import Candidate, Recommendation, Summary
from initbench.statistics.metrics import find_metric, first_signal, is_outcome_of_scheme
from initbench.statistics.summary import summarize
from initbench.statistics.verdicts import Verdict
from initbench.studies import race as racing
from initbench.studies import tune as tuning
from initbench.studies.race import ROUNDS, Arm, Race
from initbench.studies.tune import Done

FATAL = ("explode", "vanish", "overflow")
"""Words of a lost signal that end a scheme's race before it begins, when others keep theirs; a constant signal may be meant."""
NEEDS_BATCHES = {"data-dependent", "learned"}
"""Families whose schemes must be given data."""


@dataclass(frozen=True)
class Field:
    """Who races: the arms, and the schemes that the probe has ruled out, with why."""

    probes: tuple[Job, ...]
    arms: tuple[Arm, ...]
    ruled_out: tuple[Candidate, ...]
    applying: int
    steps: int
    signals: dict[str, str]


def race_question(
    asked: str | None = None,
    schemes: Sequence[str | Ref] | None = None,
    *,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
    data_dir: str | None = None,
    **more: Any,
) -> ExperimentConfig:
    """The question of `recommend`: all schemes of the catalogue unless some are named. `asked`: a config or a model."""
    if asked is not None and config is None:
        is_config = asked.endswith((".yaml", ".yml")) or asked in config_file.shipped()
        config, more = (asked, more) if is_config else (None, {**more, "model": asked})
    chosen = list(schemes or all_schemes())
    return prepared(configure("recommend", config, settings=settings, data_dir=data_dir, schemes=chosen, **more))


def default_tune(config: ExperimentConfig) -> TuneConfig:
    """What is raced over beside the schemes: the learning rate, or what the configuration says."""
    return config.tune or TuneConfig(key="train.lr")


def prepared(config: ExperimentConfig) -> ExperimentConfig:
    """The question in canonical words, with what is raced over."""
    return plan.resolve_config(config.model_copy(update={"tune": default_tune(config)}))


def jobs(config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """Everything to run as far as the results tell: the probes, then round after round."""
    config = prepared(config)
    field = enter(config, done)
    if field is None:
        return probes(config)
    return (*field.probes, *(job_of(config, field, run) for run in race_of(config, field, done).runs))


def probes(config: ExperimentConfig) -> tuple[Job, ...]:
    """One step of every scheme with the first seed: the signal at the start, and how long an epoch is."""
    tune = tuning.tune_of(config)
    train = config.train.model_copy(update={"steps": 1, "epochs": None, "holdout": tune.holdout, "warmup_steps": 0})
    return plan.make_jobs(config.model_copy(update={"tune": None, "train": train, "seeds": config.seeds[:1]}))


def enter(config: ExperimentConfig, done: Done) -> Field | None:
    """Who races, once every probe has ended; None before."""
    asked = probes(config)
    runs = [done.get(plan.job_id(job)) for job in asked]
    found = [run for run in runs if run is not None]
    if len(found) < len(asked):
        return None
    healthy = any(_fault(run) is None for run in found)
    out: list[Candidate] = []
    racing_schemes: list[str] = []
    signals: dict[str, str] = {}
    first: dict[object, str] = {}
    for run in found:
        name, fault = str(run.job.scheme), _fault(run)
        words = first_signal(run)
        signals[name] = words.words if words else ""
        if not is_outcome_of_scheme(run):
            out.append(Candidate(scheme=name, fate="does not apply", reason=run.reason or ""))
        elif fault and healthy:
            out.append(Candidate(scheme=name, fate="no signal", signal=fault, reason=f"at the start {fault}"))
        elif (twin := first.setdefault(_start(run), name)) != name:
            out.append(Candidate(scheme=name, fate="the same", reason=f"the same as {twin} on this model"))
        else:
            racing_schemes.append(name)
    grid = tuning.make_grid(config, tuning.tune_of(config))
    arms = tuple(Arm(scheme, value) for scheme in racing_schemes for value in grid.values)
    applying = sum(each.fate == "no signal" for each in out) + len(racing_schemes)
    return Field(asked, arms, tuple(out), applying, _steps(config, found), signals)


def _fault(run: RunResult) -> str | None:
    """What makes a scheme hopeless before training: a loss that is not finite, a signal that explodes or vanishes."""
    if run.status is RunStatus.DIVERGED:
        return run.reason or "the loss is not finite"
    found = first_signal(run)
    return found.words if found and any(word in found.words for word in FATAL) else None


def _start(run: RunResult) -> object:
    """What two schemes share only when they set the same weights: losses before and after a step, bit by bit."""
    multipliers = tuple(sorted(run.init.lr_multipliers.items())) if run.init else ()
    return (run.train_losses, run.evaluations, multipliers)


def _steps(config: ExperimentConfig, found: Sequence[RunResult]) -> int:
    """The steps of a full training; the probes have shown how many an epoch takes."""
    if config.train.steps is not None:
        return config.train.steps
    lengths = [round(last.step / last.epoch) for run in found if run.evaluations and (last := run.evaluations[-1]).epoch]
    return (config.train.epochs or 1) * (lengths[0] if lengths else 1)


def job_of(config: ExperimentConfig, field: Field, run: racing.Run) -> Job:
    """The job behind a run of the race."""
    arm, number, seed = run
    share = ROUNDS[number].share
    scheme = next(ref for ref in config.schemes if str(ref) == arm.scheme)
    job = tuning.trial(config, scheme, arm.value, seed)
    steps = max(1, round(share * field.steps))
    train = job.train.model_copy(update={"steps": steps, "epochs": None, "warmup_steps": round(share * job.train.warmup_steps)})
    if share < 1:
        train = train.model_copy(update={"evaluate_every_steps": steps})
    probe = ProbeConfig(every_steps=steps, batch_size=job.probe.images)
    return job.model_copy(update={"train": train, "probe": probe})


def race_of(config: ExperimentConfig, field: Field, done: Done) -> Race:
    """How the race stands."""
    grid = tuning.make_grid(config, tuning.tune_of(config))

    def loss(arm: Arm, number: int, seed: int) -> float | None:
        result = done.get(plan.job_id(job_of(config, field, (arm, number, seed))))
        if result is None:
            return None
        value = tuning.HELD_OUT_LOSS.value(result)
        return float("inf") if value is None else value

    return racing.race(field.arms, config.seeds, loss, lambda arm, tried: grid.beyond(tried, arm.value))


def reported(config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """The runs of the last round, of each scheme those at its best value; before that, the probes."""
    config = prepared(config)
    field = enter(config, done)
    race = race_of(config, field, done) if field else None
    if field is None or race is None or not race.order:
        return tuple(run for job in probes(config) if (run := done.get(plan.job_id(job))) is not None)
    last = max(number for _, number, _ in race.runs) if race.complete else max(race.rounds.values(), default=1) - 1
    best: dict[str, Arm] = {}
    for arm in race.order:
        best.setdefault(arm.scheme, arm)
    wanted = [job_of(config, field, run) for run in race.runs if run[1] == last and best.get(run[0].scheme) == run[0]]
    return tuple(run for job in wanted if (run := done.get(plan.job_id(job))) is not None)


def summarize_race(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The finalists against the chosen scheme, with `recommendation` filled in."""
    config = prepared(config)
    order = [str(scheme) for scheme in config.schemes]
    runs = reported(config, done)
    field = enter(config, done)
    race = race_of(config, field, done) if field else Race()
    chosen = race.order[0] if race.complete and race.order and racing.score(race.losses[race.order[0]]) < float("inf") else None
    metric = view.metric or ("final_test_loss" if chosen else None)
    summary = summarize(runs, chosen.scheme if chosen else None, order=order, metric=metric, target=view.target, margin=view.margin)
    equal = {found.scheme: found.verdict is not Verdict.WORSE for found in summary.comparisons if found.metric == summary.metric}
    lines = racing.candidates(race, chosen, equal if chosen else {})
    signals = field.signals if field else {}
    every = tuple(found.model_copy(update={"signal": signals.get(found.scheme)}) for found in lines) + (field.ruled_out if field else ())
    steps, taken = field.steps if field else 0, racing.unique(race.runs)
    arms = (field.applying if field else 0) * len(tuning.make_grid(config, tuning.tune_of(config)).values)
    recommendation = Recommendation(
        key=tuning.tune_of(config).key,
        scheme=chosen.scheme if chosen else None,
        value=chosen.value if chosen else None,
        candidates=every,
        runs=len(probes(config)) + len(taken),
        steps=len(probes(config)) + sum(max(1, round(share * steps)) for share, _, _ in taken),
        full_runs=arms * len(config.seeds),
        full_steps=arms * len(config.seeds) * steps,
        complete=race.complete,
        code=_code(config, chosen) if chosen else "",
    )
    notes = (*_notes(config, recommendation), *summary.notes)
    told = summary.model_copy(update={"headline": _headline(summary, recommendation), "recommendation": recommendation, "notes": notes})
    said = {
        name: tuple(pair.model_copy(update={"sentence": told.words(pair.sentence)}) for pair in getattr(summary, name))
        for name in ("comparisons", "pairs")
    }
    return told.model_copy(update=said)


def _headline(summary: Summary, found: Recommendation) -> str:
    if found.scheme is None:
        return "No scheme can be recommended: " + ("none of them trained" if found.complete else "the race is not finished")
    metric = find_metric("final_test_loss")
    figure = estimate_text(metric, summary.scheme(found.scheme).estimate(metric.name))
    name = found.key.rpartition(".")[2]
    text = f"Use {found.scheme} with {name} {value_text(found.value)}: held-out loss {figure}"
    equal = ", ".join(found.inseparable)
    return text + (f"; not separable from it: {equal}" if equal else "; every other scheme is beaten")


def _notes(config: ExperimentConfig, found: Recommendation) -> tuple[str, ...]:
    tune = tuning.tune_of(config)
    notes = [
        f"Losses and accuracies are of {100 * tune.holdout:g} % of the training images, held out; the test split was not looked at.",
        f"The race took {found.runs} runs and {found.steps:,} steps; the full grid (every different scheme, every {tune.key}, "
        f"every seed) is {found.full_runs} runs and {found.full_steps:,} steps: {100 * found.saved:.0f} % saved.",
    ]
    aside = [each.scheme for each in found.candidates if each.fate == "set aside"]
    if aside:
        notes.append(f"Set aside without being beaten, to save time: {', '.join(aside)}.")
    return tuple(notes)


def _code(config: ExperimentConfig, chosen: Arm) -> str:
    """The lines of Python that adopt the choice."""
    scheme = next(ref for ref in config.schemes if str(ref) == chosen.scheme)
    rules, arguments = config.init, [f'model, method="{chosen.scheme}"']
    if rules.exclude != ("embedding",):
        arguments.append(f"exclude={rules.exclude!r}")
    if rules.bias != "scheme":
        arguments.append(f"bias={rules.bias!r}")
    if rules.layers:
        arguments.append(f"layers={ {pattern: str(ref) for pattern, ref in rules.layers.items()}!r}")
    if rules.in_out:
        arguments.append(f"in_out={rules.in_out!r}")
    entry, _ = catalog.find("scheme", scheme.name)
    lines = ["from initbench import init_network", ""]
    if entry.family in NEEDS_BATCHES:
        arguments.append("batch=batch")
        lines.append("# batch(size, index) gives (inputs, labels) of training data")
    lines.append(f"report = init_network({', '.join(arguments)}, seed=0)")
    lines.append(f"# then train with {tuning.tune_of(config).key.rpartition('.')[2]} = {value_text(chosen.value)}")
    return "\n".join(lines)

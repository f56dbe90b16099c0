"""`recommend`: which scheme for this model, data and training? A probe of all schemes, then a race; what to run, and what it says.

The test split is never looked at.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from initbench.question import catalog, config_file
from initbench.question.config import ExperimentConfig, Job, ProbeConfig, Ref, TuneConfig, View, value_text
from initbench.question.families import all_schemes
from initbench.question.plan import job_id, make_jobs, resolve_config
from initbench.question.request import as_name, configure
from initbench.results.outcome import is_outcome_of_scheme
from initbench.results.propagation import LossKind, signal_at_start
from initbench.results.record import RunResult, RunStatus
from initbench.statistics.estimates import estimate_text
from initbench.statistics.findings import Candidate, Fate, RacedPoint, RacedRound, Recommendation, Summary
from initbench.statistics.inference import median
from initbench.statistics.summary import summarize as summarize_runs
from initbench.statistics.verdicts import Verdict
from initbench.studies.race import CHOOSING, ROUNDS, Arm, Race, Trial, candidates, race, unique
from initbench.studies.study import Done, Outlook, runs_of
from initbench.studies.tune import Grid, choosing_seeds, held_out_loss, make_grid, point_of, trial, tune_of

COMMAND = "recommend"
SEARCHES = True
BORROWS = False
FATAL = {LossKind.EXPLODES, LossKind.VANISHES, LossKind.OVERFLOWS}
"""Ways to lose the signal that end a scheme's race before it begins, when others keep theirs; a constant signal may be meant."""
NAMED = 4
"""Schemes that the headline names; of more it gives the number."""
SHOWN = {
    Fate.NOT_SEPARABLE: "Not shown to be worse than {favourite}, which led before the last round (fresh seeds, exact test after Holm)",
    Fate.BEATEN: "Shown to be worse than {favourite}, which led before the last round (fresh seeds, exact test after Holm)",
    Fate.BEHIND: "Left out as far behind the best of an early round, which saves time and is no verdict",
    Fate.SET_ASIDE: "Left out for want of room, no verdict",
    Fate.DIVERGED: "Out because a run diverged, at the value that came farthest",
    Fate.STUCK: "Out because they learned nothing in the first round at any value",
    Fate.NO_SIGNAL: "Out because their signal at the start is lost",
}
"""What was shown of the schemes of each fate."""
GIVEN = {"batch": "batch(size, index) gives (inputs, labels) of training data", "inputs": "inputs is a batch as the model takes it"}
"""What the arguments of `init_network` are that some schemes need."""


@dataclass(frozen=True)
class Entrants:
    """Who races: the arms, and the schemes that the probe has ruled out, with why; `steps` of a full training."""

    probes: tuple[Job, ...]
    arms: tuple[Arm, ...]
    ruled_out: tuple[Candidate, ...]
    applying: int
    steps: int
    signals: dict[str, str]
    guess: float


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
    asked = as_name("model", asked)
    if asked is not None and config is None:
        is_config = asked.endswith((".yaml", ".yml")) or asked in config_file.shipped()
        config, more = (asked, more) if is_config else (None, {**more, "model": asked})
    return prepared(configure(COMMAND, config, settings=settings, data_dir=data_dir, schemes=schemes or all_schemes(), **more))


def prepared(config: ExperimentConfig) -> ExperimentConfig:
    """The question in canonical words, with what is raced over beside the schemes: the learning rate unless it says another key."""
    return resolve_config(config.model_copy(update={"tune": config.tune or TuneConfig(key="train.lr")}))


def is_asked(command: str, _config: ExperimentConfig) -> bool:
    """Whether the command says so."""
    return command == COMMAND


def jobs(config: ExperimentConfig, done: Done) -> tuple[Job, ...]:
    """Everything to run as far as the results tell: the probes, one run that shows how long the race takes, then round after round."""
    config = prepared(config)
    entrants = enter(config, done)
    if entrants is None:
        return probes(config)
    trials = [job_of(config, entrants, entry) for entry in race_of(config, entrants, done).trials]
    measured = any(job_id(job) in done for job in trials)
    return (*entrants.probes, *(trials if measured else trials[:1]))


def probes(config: ExperimentConfig) -> tuple[Job, ...]:
    """One step of every scheme with one seed: the signal at the start, and how long an epoch is."""
    tune = tune_of(config)
    train = config.train.model_copy(update={"steps": 1, "epochs": None, "holdout": tune.holdout, "warmup_steps": 0})
    return make_jobs(config.model_copy(update={"tune": None, "train": train, "seeds": choosing(config)[:1]}))


def choosing(config: ExperimentConfig) -> tuple[int, ...]:
    """The seeds of the probes and of the early rounds; the last round has those that the question asks for."""
    return choosing_seeds(config, min(CHOOSING, len(config.seeds)))


def enter(config: ExperimentConfig, done: Done) -> Entrants | None:
    """Who races, once every probe has ended; None before."""
    asked = probes(config)
    runs = runs_of(asked, done)
    if len(runs) < len(asked):
        return None
    healthy = any(_fault(run) is None for run in runs)
    out: list[Candidate] = []
    entered: list[str] = []
    signals: dict[str, str] = {}
    first: dict[object, str] = {}
    for run in sorted(runs, key=_simplicity):
        name, fault, signal = str(run.job.scheme), _fault(run), signal_at_start(run)
        signals[name] = str(signal) if signal else ""
        if not is_outcome_of_scheme(run):
            out.append(Candidate(scheme=name, fate=Fate.DOES_NOT_APPLY, reason=run.reason or ""))
        elif fault and healthy:
            out.append(Candidate(scheme=name, fate=Fate.NO_SIGNAL, signal=fault, reason=f"at the start {fault}"))
        elif (twin := first.setdefault(_start(run), name)) != name:
            out.append(Candidate(scheme=name, fate=Fate.THE_SAME, reason=f"sets the same weights as {twin}"))
        else:
            entered.append(name)
    arms = tuple(Arm(scheme, value) for scheme in entered for value in make_grid(config, tune_of(config)).values)
    applying = sum(candidate.fate is Fate.NO_SIGNAL for candidate in out) + len(entered)
    guess = math.log(max((run.classes or 1 for run in runs), default=1))
    return Entrants(asked, arms, tuple(out), applying, _steps(config, runs), signals, guess)


def _simplicity(run: RunResult) -> tuple[int, int]:
    """Of schemes that set the same weights the one that needs least and has fewest parameters races for all; else the order asked."""
    scheme = run.job.scheme
    entry, _ = catalog.find("scheme", scheme.name)
    return len(entry.needs), len(scheme.params)


def _fault(run: RunResult) -> str | None:
    """What makes a scheme hopeless before training: a loss that is not finite, a signal that explodes or vanishes."""
    if run.status is RunStatus.DIVERGED:
        return run.reason or "the loss is not finite"
    signal = signal_at_start(run)
    return str(signal.loss) if signal and signal.loss and signal.loss.how in FATAL else None


def _start(run: RunResult) -> object:
    """What two schemes share only when they set the same weights: what was set, and losses before and after a step, bit by bit."""
    multipliers = tuple(sorted(run.init.lr_multipliers.items())) if run.init else ()
    weights = tuple((each.parameter, each.mean, each.std) for each in run.init.parameters) if run.init else ()
    return (run.train_losses, run.evaluations, multipliers, weights)


def _steps(config: ExperimentConfig, runs: Sequence[RunResult]) -> int:
    """The steps of a full training; the probes have shown how many an epoch takes."""
    if config.train.steps is not None:
        return config.train.steps
    lengths = [round(last.step / last.epoch) for run in runs if run.evaluations and (last := run.evaluations[-1]).epoch]
    return (config.train.epochs or 1) * (lengths[0] if lengths else 1)


def job_of(config: ExperimentConfig, entrants: Entrants, entry: Trial) -> Job:
    """The job behind a trial of the race."""
    share = ROUNDS[entry.round].share
    scheme = next(ref for ref in config.schemes if str(ref) == entry.arm.scheme)
    job = trial(config, scheme, entry.arm.value, entry.seed)
    steps = max(1, round(share * entrants.steps))
    train = job.train.model_copy(update={"steps": steps, "epochs": None, "warmup_steps": round(share * job.train.warmup_steps)})
    if share < 1:
        train = train.model_copy(update={"evaluate_every_steps": steps})
    probe = ProbeConfig(every_steps=steps, batch_size=job.probe.images)
    return job.model_copy(update={"train": train, "probe": probe})


def race_of(config: ExperimentConfig, entrants: Entrants, done: Done) -> Race:
    """How the race stands."""
    grid = make_grid(config, tune_of(config))

    def loss(arm: Arm, number: int, seed: int) -> float | None:
        run = done.get(job_id(job_of(config, entrants, Trial(arm, number, seed))))
        return None if run is None else held_out_loss(run)

    further = partial(_beyond, grid)
    return race(entrants.arms, choosing(config), config.seeds, loss, further, entrants.guess)


def _beyond(grid: Grid, arm: Arm, tried: Collection[Any]) -> Any | None:
    return grid.beyond(tried, arm.value)


def outlook(config: ExperimentConfig, done: Done) -> Outlook | None:
    """The most that the race may still take: no arm is beaten from here on; a run takes the steps, and what its scheme took beside them."""
    config = prepared(config)
    entrants = enter(config, done)
    grid = make_grid(config, tune_of(config))
    known = config.train.steps is not None or entrants is not None
    if entrants is None:
        arms = tuple(Arm(str(scheme), value) for scheme in config.schemes for value in grid.values)
        entrants = Entrants((), arms, (), 0, _steps(config, ()), {}, math.inf)
    standing = race_of(config, entrants, done)
    if standing.complete:
        return None
    now = max(entry.round for entry in standing.trials)

    def loss(arm: Arm, number: int, seed: int) -> float | None:
        run = done.get(job_id(job_of(config, entrants, Trial(arm, number, seed)))) if number < now else None
        return held_out_loss(run) if run else 1.0

    most = race(entrants.arms, choosing(config), config.seeds, loss, partial(_beyond, grid), entrants.guess if now else math.inf)
    jobs = {job_id(job): job for entry in most.trials for job in [job_of(config, entrants, entry)]}
    left = [job for name, job in jobs.items() if name not in done]
    steps = sum(job.train.steps or 0 for job in left)
    pace = _pace(run for name in jobs if (run := done.get(name)))
    if pace is None:
        return Outlook(len(left), steps if known else None)
    beside: dict[str, list[float]] = {}
    for run in done.values():
        beside.setdefault(str(run.job.scheme), []).append(run.seconds.get("total", 0.0) - run.seconds.get("train", 0.0))
    apart = {scheme: sum(seconds) / len(seconds) for scheme, seconds in beside.items()}
    return Outlook(len(left), steps, steps * pace + sum(apart.get(str(job.scheme), 0.0) for job in left))


def _pace(runs: Iterable[RunResult]) -> float | None:
    """The seconds of a step in the runs that took some; None where there are none."""
    paces = [run.seconds["train"] / len(run.train_losses) for run in runs if run.train_losses and "train" in run.seconds]
    return median(paces) if paces else None


def reported(config: ExperimentConfig, done: Done) -> tuple[RunResult, ...]:
    """The runs of the last round, of each scheme those at its best value; before that, the probes."""
    config = prepared(config)
    entrants = enter(config, done)
    standing = race_of(config, entrants, done) if entrants else None
    if entrants is None or standing is None or not standing.order:
        return runs_of(probes(config), done)
    last = _reported_round(standing) - 1
    best: dict[str, Arm] = {}
    for arm in standing.order:
        best.setdefault(arm.scheme, arm)
    finals = [entry for entry in standing.trials if entry.round == last and best.get(entry.arm.scheme) == entry.arm]
    return runs_of((job_of(config, entrants, entry) for entry in finals), done)


def _reported_round(standing: Race) -> int:
    """The last round that is over, counted from 1; before the first is, that one; 0 where nothing races yet."""
    return max(standing.rounds.values(), default=1) if standing.order else 0


def summarize(config: ExperimentConfig, done: Done, view: View) -> Summary:
    """The finalists against the one that led before the last round, with `recommendation` filled in."""
    config = prepared(config)
    entrants = enter(config, done)
    standing = race_of(config, entrants, done) if entrants else Race()
    chosen = standing.leader if standing.complete else None
    summary = summarize_runs(
        reported(config, done),
        standing.favourite.scheme if chosen and standing.favourite else None,
        order=[str(scheme) for scheme in config.schemes],
        usual="final_test_loss" if chosen else None,
        split="held-out",
        **view.model_dump(exclude={"reference"}),
    )
    rounds = _rounds(config, entrants, standing, done) if entrants else ()
    recommendation = _recommendation(config, entrants, standing, chosen, summary).model_copy(update={"rounds": rounds})
    best = {"leader": recommendation.scheme, "inseparable": recommendation.inseparable} if recommendation.scheme else {}
    summary = summary.model_copy(update={"recommendation": recommendation, **best})
    notes = (*_notes(config, recommendation), *summary.notes)
    return summary.model_copy(update={"headline": _headline(summary, recommendation), "notes": notes})


def _recommendation(
    config: ExperimentConfig, entrants: Entrants | None, standing: Race, chosen: Arm | None, summary: Summary
) -> Recommendation:
    pairs = [each for each in summary.comparisons if each.metric == summary.metric]
    favourite = standing.favourite.scheme if chosen and standing.favourite else None
    shown = {each.scheme: each.verdict for each in pairs}
    equal = {scheme: verdict is not Verdict.WORSE for scheme, verdict in shown.items()}
    if chosen and favourite:
        equal[favourite] = shown.get(chosen.scheme) is not Verdict.BETTER
    lines = candidates(standing, chosen, equal if chosen else {})
    signals, ruled_out, applying, steps = (
        (entrants.signals, entrants.ruled_out, entrants.applying, entrants.steps) if entrants else ({}, (), 0, 0)
    )
    taken, probed = unique(standing.trials), len(probes(config))
    arms = applying * len(make_grid(config, tune_of(config)).values)
    return Recommendation(
        key=tune_of(config).key,
        scheme=chosen.scheme if chosen else None,
        value=chosen.value if chosen else None,
        favourite=favourite,
        candidates=(*(line.model_copy(update={"signal": signals.get(line.scheme)}) for line in lines), *ruled_out),
        runs=probed + len(taken),
        steps=probed + sum(max(1, round(share * steps)) for share, _, _ in taken),
        full_runs=arms * len(config.seeds),
        full_steps=arms * len(config.seeds) * steps,
        reported=_reported_round(standing),
        complete=standing.complete,
        code=_code(config, chosen) if chosen else "",
    )


def _rounds(config: ExperimentConfig, entrants: Entrants, standing: Race, done: Done) -> tuple[RacedRound, ...]:
    """What was measured in each round that is over."""
    found = []
    for number in range(max(standing.rounds.values(), default=0)):
        trials = [entry for entry in standing.trials if entry.round == number]
        points = []
        for arm in dict.fromkeys(entry.arm for entry in trials):
            point = point_of(arm.value, runs_of((job_of(config, entrants, entry) for entry in trials if entry.arm == arm), done))
            ended = standing.exits.get(arm)
            out = ended if ended and ended.round == number else None
            points.append(RacedPoint(scheme=arm.scheme, **point.model_dump(), fate=out.fate if out else None, reason=str(out or "")))
        steps = max(1, round(ROUNDS[number].share * entrants.steps))
        found.append(RacedRound(steps=steps, seeds=len({entry.seed for entry in trials}), points=tuple(points)))
    return tuple(found)


def _headline(summary: Summary, choice: Recommendation) -> str:
    if choice.scheme is None:
        return "No scheme can be recommended: " + ("none of them came above chance" if choice.complete else "the race is not finished")
    metric = summary.metric_of("final_test_loss")
    figure = estimate_text(metric, summary.scheme(choice.scheme).estimate(metric.name))
    name = choice.key.rpartition(".")[2]
    text = f"Use {choice.scheme} with {name} {value_text(choice.value)}: held-out loss {figure}"
    parts = [f"not shown to be worse: {_named(choice.inseparable)}"] if choice.inseparable else []
    if aside := (*choice.of_fate(Fate.BEHIND), *choice.of_fate(Fate.SET_ASIDE)):
        parts.append(f"left out on the way, which is no verdict: {_named(aside)}")
    beaten = choice.of_fate(Fate.BEATEN)
    if beaten:
        one = f"{len(beaten)} other scheme{'s are' if len(beaten) > 1 else ' is'} shown to be worse"
        parts.insert(0, one if parts else f"every other scheme that came above chance is shown to be worse: {len(beaten)}")
    return "; ".join([text, *parts])


def _named(schemes: Sequence[str]) -> str:
    return ", ".join(schemes) if len(schemes) <= NAMED else f"{len(schemes)} schemes"


def _notes(config: ExperimentConfig, choice: Recommendation) -> tuple[str, ...]:
    tune = tune_of(config)
    notes = [
        f"Losses and accuracies are of {100 * tune.holdout:g} % of the training examples, held out; the test split was not looked at.",
        f"The race took {choice.runs} runs and {choice.steps:,} steps; the full grid (every different scheme, every {tune.key}, "
        f"every seed) is {choice.full_runs} runs and {choice.full_steps:,} steps: {100 * choice.saved:.0f} % saved.",
    ]
    notes += [
        f"{words.format(favourite=choice.favourite)}: {', '.join(found)}."
        for fate, words in SHOWN.items()
        if (found := choice.of_fate(fate))
    ]
    same = [f"{line.scheme} {line.reason}" for line in choice.candidates if line.fate is Fate.THE_SAME]
    notes += [f"Not raced on this model: {'; '.join(same)}."] if same else []
    return tuple(notes)


def _code(config: ExperimentConfig, chosen: Arm) -> str:
    """The lines of Python that adopt the choice."""
    scheme = next(ref for ref in config.schemes if str(ref) == chosen.scheme)
    rules, arguments = config.init, [f'model, method="{chosen.scheme}"']
    if rules.exclude != ("embedding",):
        arguments.append(f"exclude={rules.exclude!r}")
    if rules.only:
        arguments.append(f"only={rules.only!r}")
    if rules.bias != "scheme":
        arguments.append(f"bias={rules.bias!r}")
    if rules.layers:
        arguments.append(f"layers={ {pattern: str(ref) for pattern, ref in rules.layers.items()}!r}")
    if rules.in_out:
        arguments.append(f"in_out={rules.in_out!r}")
    entry, _ = catalog.find("scheme", scheme.name)
    lines = ["from initbench import init_network", ""]
    arguments += [f"{needed}={needed}" for needed in entry.needs]
    lines += [f"# {GIVEN[needed]}" for needed in entry.needs]
    lines.append(f"report = init_network({', '.join(arguments)}, seed=0)")
    lines.append(f"# then train with {tune_of(config).key.rpartition('.')[2]} = {value_text(chosen.value)}")
    return "\n".join(lines)

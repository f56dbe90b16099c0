"""Many results -> one summary: outcomes, estimates with intervals, paired comparisons, and what may be said about them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from initbench.errors import ConfigError, enumerated, unknown_name
from initbench.metrics import Metric, Split
from initbench.question import catalog
from initbench.question.config import USUAL_TASK, parse_ref
from initbench.results.columns import at_step
from initbench.results.outcome import TRAINED_ABOVE_CHANCE, Outcome, is_outcome_of_scheme, outcome
from initbench.results.propagation import has_stream
from initbench.results.record import RunResult, RunStatus, Setter
from initbench.statistics.curves import of_losses, of_signals
from initbench.statistics.estimates import Estimate, estimate, estimate_text, seeds_text, share
from initbench.statistics.findings import SchemeSummary, Summary
from initbench.statistics.inference import ALPHA, LEVEL, seeds_needed
from initbench.statistics.known_metrics import all_metrics, find_metric, metric_of_score, usual_metric
from initbench.statistics.typical import typical_signal
from initbench.statistics.verdicts import Comparison, Side, Verdict, compare_family, with_means

Runs = dict[str, list[RunResult]]
DECIDED = {Verdict.BETTER, Verdict.WORSE}
VERBS = {RunStatus.DIVERGED: "diverged", RunStatus.FAILED: "failed", RunStatus.SKIPPED: "was skipped"}
"""What a run did that came to no result."""
NAMED = 5
"""Parameters or schemes that a sentence names; of more it gives the number."""


def summarize(
    results: Iterable[RunResult],
    reference: str | None = None,
    *,
    order: Sequence[str] = (),
    metric: str | None = None,
    target: float | None = None,
    margin: float | None = None,
    margin_metric: str | None = None,
    usual: str | None = None,
    split: Split | None = None,
    anytime: bool = False,
    asked_reference: str | None = None,
) -> Summary:
    """The summary of the runs of one question; their order does not matter.

    `order` is the order of the schemes (others follow by name); `reference` is a scheme that the others are compared with, which is
    all that is asked then; without one all pairs are, and the first scheme is what the others are listed against. `metric` is what the
    verdicts are about: unless given the `usual` one, else the final accuracy, or the signal at the start when nothing was trained;
    `target` is an accuracy for the steps to it; `margin` is a difference that does not matter in `margin_metric` (None: in the
    usual metric), in the unit shown (points of accuracy); `split` names the examples that were evaluated, by default as the runs say.
    `anytime`: seeds were added while results were looked at, until the comparisons with `asked_reference` (None: all pairs) were decided;
    those with another reference are then chosen by who looks, and are corrected as all pairs are.

    Raises: ConfigError for an unknown reference or metric.
    """
    runs = group(results, order)
    trained = any(outcome(run) is not Outcome.PROBED for of_scheme in runs.values() for run in of_scheme)
    split = split or _split_of(runs)
    score = next((run.score for own in runs.values() for run in own if run.score is not None), None)
    usual = usual or (usual_metric(_task(runs), score) if trained else "signal_decades")
    primary = find_metric(metric or usual, target, split, score)
    own_margin = margin if (margin_metric or usual) in {metric, primary.name} else None
    scores = () if score is None else (metric_of_score(score, split),)
    shown = tuple({each.name: each for each in (*scores, *all_metrics(target, split), primary)}.values())
    against = _reference(reference, runs)
    chosen_later = anytime and (asked_reference is None or against != _reference(asked_reference, runs))
    own_family = reference is not None and not chosen_later
    figures = {each.name: {scheme: _side(scheme, own, each) for scheme, own in runs.items()} for each in shown}
    looked_for = {name for name, sides in figures.items() if any(side.values for side in sides.values())}
    ranking = {each.name: each for each in shown if each.better and (each.name in looked_for or each.name == primary.name)}
    comparisons: list[Comparison] = []
    pairs: tuple[Comparison, ...] = ()
    for name, each in ranking.items():
        sides = figures[name]
        margin_here = own_margin if name == primary.name else None
        every: tuple[Comparison, ...] = ()
        if name == primary.name or not own_family:
            first = [against, *(scheme for scheme in runs if scheme != against)] if against else []
            every = _compared(each, [(sides[left], sides[right]) for right, left in combinations(first, 2)], margin_here, anytime=anytime)
        if name == primary.name:
            pairs = every
        if own_family and against:
            others = [(sides[scheme], sides[against]) for scheme in runs if scheme != against]
            comparisons += _compared(each, others, margin_here, anytime=anytime)
        else:
            comparisons += [pair for pair in every if pair.other == against]
    losses, signals = of_losses(runs), of_signals(runs)
    estimates = {scheme: tuple(estimate(each, list(figures[each.name][scheme].values.values())) for each in shown) for scheme in runs}
    schemes = tuple(_summarize_scheme(scheme, own, estimates[scheme], losses[scheme], signals[scheme]) for scheme, own in runs.items())
    leader = _leader(primary, schemes)
    summary = Summary(
        headline="",
        metric=primary.name,
        reference=against,
        only_reference=reference is not None,
        target=target,
        margin=own_margin,
        split=split,
        leader=leader,
        inseparable=(),
        schemes=schemes,
        comparisons=tuple(comparisons),
        pairs=pairs,
        notes=(),
        score=score,
    )
    summary = summary.model_copy(update={"inseparable": _inseparable(summary)})
    notes = (*_notes(summary, runs), *_untouched(runs), *_left_alone(runs), *_untold(runs))
    if margin is not None and own_margin is None:
        other = find_metric(margin_metric or usual, target, split, score).label
        notes = (*notes, f"The margin of {margin:g} is one of {other}; verdicts about {primary.label} have none.")
    return summary.model_copy(update={"headline": _headline(primary, summary), "notes": notes})


def _task(runs: Runs) -> str:
    """The name of the task of the runs."""
    return next((run.job.task.name for own in runs.values() for run in own), USUAL_TASK)


def _split_of(runs: Runs) -> Split:
    """The examples that were evaluated: with a holdout those of the training examples that were held out."""
    return "held-out" if any(run.job.train.holdout for of_scheme in runs.values() for run in of_scheme) else "test"


def group(results: Iterable[RunResult], order: Sequence[str] = ()) -> Runs:
    """The runs of each scheme by seed; schemes as in `order`, then by name. Of two results of one job the first by id counts."""
    by_pair = {(str(run.job.scheme), run.job.seed): run for run in sorted(results, key=lambda run: run.job_id, reverse=True)}
    names = {scheme for scheme, _ in by_pair}
    ordered = [*(name for name in order if name in names), *sorted(names - set(order))]
    return {name: [by_pair[pair] for pair in sorted(by_pair) if pair[0] == name] for name in ordered}


def _reference(given: str | None, runs: Runs) -> str | None:
    if given is None or given in runs:
        return given or next(iter(runs), None)
    try:
        scheme = str(catalog.resolve("scheme", parse_ref(given)))
    except ConfigError:
        scheme = given
    if scheme not in runs:
        raise unknown_name("reference", given, runs, f"It must be one of the schemes compared: {', '.join(runs)}.")
    return scheme


def _side(scheme: str, runs: list[RunResult], metric: Metric) -> Side:
    values = {run.job.seed: metric.ranked(run) for run in runs if is_outcome_of_scheme(run) and metric.measured(run)}
    return Side(scheme, values, "; ".join(reasons(runs)) or "has no such measurement")


def reasons(runs: list[RunResult], statuses: Sequence[RunStatus] = tuple(VERBS)) -> tuple[str, ...]:
    """Each reason once, with the outcome and the number of seeds: `was skipped on 8 seeds: it needs residual branches`."""
    counts = Counter((run.status, run.reason or "no reason given") for run in runs if run.status in statuses)
    return tuple(f"{VERBS[status]} on {seeds_text(count)}: {reason.rstrip('.')}" for (status, reason), count in sorted(counts.items()))


def _summarize_scheme(scheme: str, runs: list[RunResult], estimates: tuple[Estimate, ...], losses: str, activations: str) -> SchemeSummary:
    ended = [outcome(run) for run in runs]
    counts = {str(kind): ended.count(kind) for kind in Outcome}
    tried = counts["trained"] + counts["stuck"] + counts["diverged"]
    typical = typical_signal(runs)
    return SchemeSummary(
        scheme=scheme,
        seeds=tuple(run.job.seed for run in runs),
        trained_share=share(counts["trained"], tried),
        first_bad_steps=tuple(sorted(run.first_bad_step for run in runs if run.first_bad_step is not None)),
        reasons=reasons(runs),
        estimates=estimates,
        signal=str(typical) if typical else None,
        signal_lost_at=typical.loss.layer if typical and typical.loss else None,
        stream=any(has_stream(at_step(run.layers, 0)) for run in runs),
        loss_by_step=losses,
        signal_by_layer=activations,
        **counts,
    )


def _compared(metric: Metric, pairs: Sequence[tuple[Side, Side]], margin: float | None, *, anytime: bool) -> tuple[Comparison, ...]:
    found = compare_family(metric, pairs, margin=margin, anytime=anytime)
    return with_means(metric, found, pairs) if anytime else found


def _leader(metric: Metric, schemes: Sequence[SchemeSummary]) -> str | None:
    """The scheme with the best figure; where most runs have no number, the one that trained most often. None when nothing trained."""
    able = [scheme for scheme in schemes if scheme.estimate(metric.name).n > 0 and (scheme.trained or scheme.probed)]

    def rank(scheme: SchemeSummary) -> tuple[bool, float, float]:
        value = scheme.estimate(metric.name).value
        return value is None, 0.0 if value is None else -value if metric.higher_is_better else value, -(scheme.trained_share.value or 0.0)

    return min(able, key=rank).scheme if able else None


def _inseparable(summary: Summary) -> tuple[str, ...]:
    """The schemes that the leader was compared with and is not shown to beat."""
    compared = summary.against(summary.leader).items() if summary.leader else ()
    return tuple(name for name, pair in compared if pair.verdict not in DECIDED | {Verdict.NOT_COMPARABLE})


def _headline(metric: Metric, summary: Summary) -> str:
    """One sentence: who is best, by how much, whom else it beats, and who is not shown to differ from it."""
    if not summary.schemes:
        return "There are no runs"
    if summary.leader is None:
        if all(scheme.probed for scheme in summary.schemes):
            return "Nothing was trained, and the network has too few layers for a signal to be lost between them"
        if any(scheme.trained for scheme in summary.schemes):
            return f"No run has a {metric.label}, so that nothing is compared"
        return _none_trained(summary.schemes)
    best = summary.scheme(summary.leader)
    if len(summary.schemes) == 1:
        text = f"{best.scheme} reaches {estimate_text(metric, best.estimate(metric.name))} {metric.label}"
        if best.estimate(metric.name).value is None:
            text = f"{best.scheme} has no median {metric.label}"
        return f"{text} with one seed" if len(best.seeds) == best.trained == 1 else f"{text}; seeds: {ends_text(best)}"
    chosen = _first_comparison(metric, summary, best.scheme)
    return "; ".join([chosen.sentence, *(words + _listed(names) for words, names in _beside(summary, best.scheme, chosen))])


def _none_trained(schemes: Sequence[SchemeSummary]) -> str:
    """As in `No scheme came above chance: of 16 runs 14 ended at chance and 2 diverged`."""
    words = {"ended at chance": "stuck", "diverged": "diverged", "failed": "failed", "never began": "skipped"}
    counts = {said: sum(getattr(scheme, name) for scheme in schemes) for said, name in words.items()}
    number, ends = sum(counts.values()), {said: count for said, count in counts.items() if count}
    if len(ends) == 1:
        (said,) = ends
        if said == "failed":
            return f"Nothing is known of any scheme: {f'all {number} runs' if number > 1 else 'the only run'} failed"
        return f"No scheme came above chance: {f'all {number} runs' if number > 1 else 'the only run'} {said}"
    return f"No scheme came above chance: of {number} runs {enumerated([f'{count} {said}' for said, count in ends.items()], 'and')}"


def _first_comparison(metric: Metric, summary: Summary, best: str) -> Comparison:
    """What the headline tells first: the best scheme against the reference that was asked for, else against the next best."""
    if summary.only_reference and summary.reference is not None and best != summary.reference:
        return summary.against(summary.reference)[best]
    against = summary.against(best)
    others = [scheme for scheme in summary.schemes if scheme.scheme in against]
    return against[_leader(metric, others) or others[0].scheme]


def named(summary: Summary) -> tuple[str, ...]:
    """The schemes that the headline names; of a race or a search, the best and those that cannot be told from it."""
    if summary.leader is None or len(summary.schemes) == 1:
        return tuple(scheme.scheme for scheme in summary.schemes)
    if summary.recommendation is not None:
        return (summary.leader, *summary.inseparable)
    chosen = _first_comparison(summary.primary, summary, summary.leader)
    beside = [name for _, names in _beside(summary, summary.leader, chosen) for name in _first(names)]
    at_best = named(summary.tuned.at_best) if summary.tuned is not None else ()
    return tuple(dict.fromkeys((*chosen.names, *beside, *at_best)))


def _beside(summary: Summary, best: str, chosen: Comparison) -> Iterable[tuple[str, Sequence[str]]]:
    """Whom the best scheme beats beside the comparison that the headline tells, and who is not shown to differ from it.

    Where seeds were added for the comparisons with a reference, nobody asked for those of another best scheme: the rest is
    about the reference.
    """
    if summary.anytime and summary.only_reference and summary.reference not in {None, best}:
        yield from _beside_reference(summary, best)
        return
    rest = {name: pair for name, pair in summary.against(best).items() if name not in chosen.names}
    beaten = [name for name, pair in rest.items() if pair.beats(best)]
    if chosen.beats(best):
        if beaten:
            yield f"{best} also beats ", beaten
    else:
        second = chosen.rival_of(best)
        by_second = summary.against(second)
        by_both = [name for name in beaten if name in by_second and by_second[name].beats(second)]
        if by_both:
            yield "both beat ", by_both
        if by_one := [name for name in beaten if name not in by_both]:
            yield f"{best} beats ", by_one
    level = [name for name in summary.inseparable if name in rest]
    if level and chosen.verdict is not Verdict.TOO_FEW_SEEDS:
        yield f"not shown to differ from {best}: ", level


def _beside_reference(summary: Summary, best: str) -> Iterable[tuple[str, Sequence[str]]]:
    reference = summary.reference or ""
    rest = {name: pair for name, pair in summary.against(reference).items() if name != best}
    if ahead := [name for name, pair in rest.items() if pair.beats(name)]:
        yield f"{reference} is also beaten by ", ahead
    if behind := [name for name, pair in rest.items() if pair.beats(reference)]:
        yield f"{reference} beats ", behind
    if level := [name for name, pair in rest.items() if pair.verdict not in DECIDED | {Verdict.NOT_COMPARABLE}]:
        yield f"not shown to differ from {reference}: ", level


def _first(names: Sequence[str]) -> Sequence[str]:
    """Those that a sentence names."""
    return names if len(names) <= NAMED else names[: NAMED - 1]


def _listed(names: Sequence[str]) -> str:
    shown = _first(names)
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def trained_text(runs: SchemeSummary) -> str:
    """As in `7 of 8`: how many runs ended above chance."""
    if runs.skipped == len(runs.seeds):
        return "skipped"
    return "not trained" if runs.probed else f"{runs.trained} of {len(runs.seeds)}"


def ends_text(runs: SchemeSummary, what: str = " above chance") -> str:
    """How the runs ended: `7 of 8 above chance, 1 diverged`; below a heading that says `what` is counted, `7 of 8, 1 diverged`."""
    counts = {"at chance": runs.stuck, "diverged": runs.diverged, "failed": runs.failed, "skipped": runs.skipped}
    if runs.skipped == len(runs.seeds):
        return "skipped"
    parts = [trained_text(runs) + what * (not runs.probed)]
    return ", ".join([*parts, *(f"{count} {words}" for words, count in counts.items() if count)])


def _untouched(runs: Runs) -> Iterable[str]:
    """The parameters that nothing initialized, once for all schemes that leave the same ones."""
    left: dict[tuple[str, ...], list[str]] = {}
    for scheme, own in runs.items():
        names = next((run.init.untouched for run in own if run.init), ())
        left.setdefault(names, []).append(scheme)
    for names, schemes in left.items():
        if names:
            who = f" ({', '.join(schemes)})" if len(schemes) < len(runs) else ""
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield (
                f"Nothing initializes {', '.join(names[:NAMED])}{more}{who}: the values stay those of the model's own code. "
                "Give a pattern under init.layers, or name it under init.exclude."
            )


def _left_alone(runs: Runs) -> Iterable[str]:
    """The weights of layers that no scheme set, with why: excluded by name, or frozen."""
    by_reason: dict[str, list[str]] = {}
    for own in runs.values():
        report = next((run.init for run in own if run.init), None)
        for entry in report.parameters if report else ():
            named = by_reason.setdefault(entry.by, [])
            if entry.setter in {Setter.EXCLUDED, Setter.FROZEN} and entry.fan_in is not None and entry.parameter not in named:
                named.append(entry.parameter)
    for reason, names in by_reason.items():
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"No scheme sets {', '.join(names[:NAMED])}{more}: {reason}."


def _untold(runs: Runs) -> Iterable[str]:
    """What could not be told about the model's layers: what the reports of all schemes say alike."""
    told = [next((run.init.notes for run in own if run.init), None) for own in runs.values()]
    known = [notes for notes in told if notes is not None]
    return [note for note in known[0] if all(note in notes for notes in known)] if known else []


def _notes(summary: Summary, runs: Runs) -> Iterable[str]:
    """What a reader must know to read the figures; only what applies."""
    sizes = {scheme.scheme: len(scheme.seeds) - scheme.failed - scheme.skipped for scheme in summary.schemes}
    counts = {size for size in sizes.values() if size}
    if counts == {1}:
        yield f"One seed has no {100 * LEVEL:g} % interval, which takes 6, and its figures may be luck."
    elif counts and min(counts) < 6:
        yield f"Fewer than 6 seeds have no {100 * LEVEL:g} % interval of the median; round brackets are the lowest and the highest seed."
    if summary.anytime:
        listed = ", ".join(f"{scheme} {size}" for scheme, size in sizes.items())
        yield (
            f"Seeds were added while results were looked at ({listed}); verdicts and intervals of differences hold however often one "
            "looks. Verdicts weigh differences by size, intervals count signs alone: a pair may be decided while its interval holds zero"
            f"{' or reaches beyond the margin' if summary.margin is not None else ''}."
        )
    elif len({scheme.seeds for scheme in summary.schemes}) > 1 or len(counts) > 1:
        listed = ", ".join(f"{scheme} {size}" for scheme, size in sizes.items())
        yield f"The schemes do not have the same number of usable seeds ({listed}); each pair is compared on the seeds that both have."
    for scheme in summary.schemes:
        if scheme.first_bad_steps:
            steps = scheme.first_bad_steps
            when = f"at step {steps[0]}" if steps[0] == steps[-1] else f"between steps {steps[0]} and {steps[-1]}"
            yield f"{scheme.scheme} diverged on {scheme.diverged} of {seeds_text(len(scheme.seeds))}, first {when}."
        ended = reasons(runs[scheme.scheme], (RunStatus.FAILED, RunStatus.SKIPPED))
        yield from [scheme.skip] if scheme.skip else (f"{scheme.scheme} {reason}." for reason in ended)
    if any(scheme.diverged for scheme in summary.schemes):
        yield "A run that diverged has no accuracy or loss; in medians, intervals and tests it ranks below every number."
    few = next((pair for pair in summary.pairs if pair.verdict is Verdict.TOO_FEW_SEEDS), None)
    if few and len(counts) == 1 and not any(each.verdict is Verdict.TOO_FEW_SEEDS for each in summary.comparisons):
        yield f"{seeds_text(few.n)} cannot separate all {few.family} pairs at {100 * ALPHA:g} %: use --seeds {seeds_needed(few.family)}."
    stuck = [f"{scheme.scheme} on {scheme.stuck} of {seeds_text(len(scheme.seeds))}" for scheme in summary.schemes if scheme.stuck]
    if stuck:
        least = f"{100 * TRAINED_ABOVE_CHANCE:g} %"
        if _task(runs) == USUAL_TASK:
            what = f"less than {least} of the way from guessing to 100 % {summary.split} accuracy"
        elif any(run.chance_loss is not None for own in runs.values() for run in own):
            what = f"less than {least} of the way from guessing to a {summary.split} loss of 0"
        else:
            what = f"a {summary.split} loss less than {least} below that before the first step"
        yield f"At chance, which is {what}: {', '.join(stuck)}."

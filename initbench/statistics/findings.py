"""What a comparison says, as data: schemes with their estimates, comparisons, own best values, a recommendation."""

import math
from enum import StrEnum
from typing import Any

from initbench.metrics import Metric, Split
from initbench.question.config import Frozen
from initbench.results.record import Number, ScoreOf
from initbench.statistics.estimates import Estimate, Share
from initbench.statistics.known_metrics import all_metrics, find_metric, metric_of_score
from initbench.statistics.verdicts import TIES, Comparison, Verdict


class SchemeSummary(Frozen):
    """All runs of one scheme. `trained_share` is of the runs that trained, were stuck or diverged.

    `stream`: the signal was followed along a residual stream, from its first block to its last.
    `loss_by_step` and `signal_by_layer` are the median training loss and the median variance of the activations before training: at most
    ten heights from 0 to 7 on a logarithmic scale that all schemes share, x where most runs had diverged.
    """

    scheme: str
    seeds: tuple[int, ...]
    trained: int
    stuck: int
    diverged: int
    failed: int
    skipped: int
    probed: int
    trained_share: Share
    first_bad_steps: tuple[int, ...]
    reasons: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    signal: str | None = None
    signal_lost_at: str | None = None
    stream: bool = False
    loss_by_step: str = ""
    signal_by_layer: str = ""

    @property
    def skip(self) -> str:
        """Why it was skipped with all its seeds, in a sentence; empty where it was not."""
        return f"{self.scheme} {'; '.join(self.reasons)}." if self.skipped == len(self.seeds) else ""

    def estimate(self, metric: str) -> Estimate:
        """The estimate of one metric."""
        return next(estimate for estimate in self.estimates if estimate.metric == metric)


class SweepCell(Frozen):
    """One cell of a sweep: its values by key, its schemes, and each against the reference in the sweep's metric.

    `p_fdr` of a scheme is its p after Benjamini and Hochberg's correction over all cells and schemes.
    """

    values: dict[str, Any]
    schemes: tuple[SchemeSummary, ...]
    comparisons: tuple[Comparison, ...]
    p_fdr: dict[str, Number]

    def scheme(self, name: str) -> SchemeSummary | None:
        """The summary of one scheme; None where none of its runs is there."""
        return next((scheme for scheme in self.schemes if scheme.scheme == name), None)


class Reach(Frozen):
    """At which values of the axis that is told of a scheme trains in at least one cell: most of its seeds there end above chance.

    `tried` are those with which any of its runs was no failure and not skipped.
    """

    scheme: str
    values: tuple[Any, ...]
    tried: tuple[Any, ...] = ()


class Lead(Frozen):
    """A scheme against the reference over the cells that both have: in how many which is shown to be better (`first`: from which value of
    the first axis on in every cell; None: from no value but perhaps the last).
    """

    scheme: str
    other: str
    better: int
    worse: int
    unsure: int
    first: Any = None


class Sweep(Frozen):
    """What a sweep says: the axes with their values, the cells, how far each scheme trains `along` an axis, and which leads where."""

    along: str
    axes: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any]
    """Parameters of the model that are no axis, such as its activation and depth."""
    cells: tuple[SweepCell, ...]
    missing: int
    """Cells of which no run is there yet."""
    reaches: tuple[Reach, ...]
    leads: tuple[Lead, ...]


class Summary(Frozen):
    """What a comparison says. `comparisons` are against the reference, for each metric; `pairs` are all pairs in `metric`.

    `only_reference`: a reference was asked for, and the comparisons against it are a family of their own (but where it was chosen after
    seeds were added for all pairs); else they are those of all pairs.
    `margin` is that of `metric`; `split` are the examples that were evaluated: held-out ones in a race and with `train.holdout`.
    """

    headline: str
    metric: str
    reference: str | None
    only_reference: bool = False
    target: float | None
    margin: float | None
    split: Split = "test"
    leader: str | None
    inseparable: tuple[str, ...]
    schemes: tuple[SchemeSummary, ...]
    comparisons: tuple[Comparison, ...]
    pairs: tuple[Comparison, ...]
    notes: tuple[str, ...]
    score: ScoreOf | None = None
    tuned: "Tuned | None" = None
    recommendation: "Recommendation | None" = None
    sweep: Sweep | None = None

    @property
    def anytime(self) -> bool:
        """Whether seeds were added while results were looked at, so that every verdict holds however often one looks."""
        return any(pair.anytime for pair in (*self.pairs, *self.comparisons))

    @property
    def primary(self) -> Metric:
        """What the headline and the pairs are about."""
        return self.metric_of(self.metric)

    def metric_of(self, name: str) -> Metric:
        """The metric of a name, in the words that are true of these runs."""
        return find_metric(name, self.target, self.split, self.score)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics that some run was looked at for, in the words that are true of these runs."""
        own = () if self.score is None else (metric_of_score(self.score, self.split),)
        counted = {each.metric for scheme in self.schemes for each in scheme.estimates if each.n}
        return tuple(each for each in (*own, *all_metrics(self.target, self.split)) if each.name in counted)

    @property
    def has_accuracy(self) -> bool:
        """Whether the task has an accuracy: there is none where there are only losses."""

        def counted(name: str) -> bool:
            return any(scheme.estimate(name).n for scheme in self.schemes)

        return counted("final_test_accuracy") or not counted("final_test_loss")

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence for each scheme against the reference, in the chosen metric."""
        return tuple(comparison.sentence for comparison in self.comparisons if comparison.metric == self.metric)

    def scheme(self, name: str) -> SchemeSummary:
        """The summary of one scheme."""
        return next(scheme for scheme in self.schemes if scheme.scheme == name)

    @property
    def ranking(self) -> tuple[str, ...]:
        """The schemes, the best first by the middle value of what the verdicts are about; last those without one that trained or diverged,
        then what failed, then what was skipped.
        """
        metric = self.primary

        def place(scheme: SchemeSummary) -> tuple[bool, float, bool, bool]:
            value = scheme.estimate(metric.name).value
            ended = scheme.trained + scheme.stuck + scheme.diverged + scheme.probed > 0
            worth = math.inf if value is None else -value if metric.higher_is_better else value
            return scheme.scheme != self.leader, worth, not ended, not scheme.failed

        return tuple(scheme.scheme for scheme in sorted(self.schemes, key=place))

    @property
    def skips(self) -> tuple[str, ...]:
        """Those of the notes that say why a scheme was skipped."""
        return tuple(scheme.skip for scheme in self.schemes if scheme.skip)

    @property
    def undecided(self) -> bool:
        """Whether the seeds are too few for the first of the ranking to be shown better than any other."""
        pairs = self.against(self.ranking[0]).values() if self.schemes else ()
        return any(pair.verdict is Verdict.TOO_FEW_SEEDS for pair in pairs) and not any(pair.beats(self.ranking[0]) for pair in pairs)

    @property
    def best(self) -> tuple[str, ...]:
        """The first of the ranking and all that tie with it; none where there is one scheme, or too few seeds to show any difference."""
        first, *others = self.ranking or ("",)
        if not others or self.undecided or self.scheme(first).estimate(self.metric).value is None:
            return ()
        against = self.against(first)
        return (first, *(name for name in others if name in against and against[name].verdict in TIES))

    def against(self, name: str) -> dict[str, Comparison]:
        """How each other scheme compares with one: in the family of the reference where it is that one, else in that of all pairs."""
        own = (
            [each for each in self.comparisons if each.metric == self.metric]
            if self.only_reference and name == self.reference
            else self.pairs
        )
        return {each.rival_of(name): each for each in own if name in each.names}


class TunedPoint(Frozen):
    """One value that was tried for one scheme: the median of the final held-out loss over `n` seeds, and the loss of each seed.

    `steps`: the most that a run took. `loss` is null where the median is a diverged run; so are the entries of `losses`.
    """

    value: Any
    n: int
    diverged: int
    steps: int = 0
    loss: Number = None
    losses: tuple[Number, ...] = ()


class TunedScheme(Frozen):
    """What was tried for one scheme, in rising order; `best` is null when nothing trained. `at_edge`: it may lie beyond."""

    scheme: str
    best: Any = None
    at_edge: bool = False
    points: tuple[TunedPoint, ...] = ()


class Tuned(Frozen):
    """Each scheme at its own best value of `key`, chosen on held-out training examples and on other seeds than the reported ones."""

    key: str
    base: Any
    seeds: tuple[int, ...]
    holdout: float
    trials: int
    schemes: tuple[TunedScheme, ...]
    at_best: Summary

    def scheme(self, name: str) -> TunedScheme:
        """What was tried for one scheme."""
        return next(scheme for scheme in self.schemes if scheme.scheme == name)


class Fate(StrEnum):
    """What became of a scheme in a race; `beaten`: shown to be worse in the last round, `not separable`: not shown to be.

    `far behind` and `left out` (no room) are ways to leave an early round, and no verdicts.
    """

    CHOSEN = "chosen"
    NOT_SEPARABLE = "not separable"
    BEATEN = "beaten"
    BEHIND = "far behind"
    SET_ASIDE = "left out"
    DIVERGED = "diverged"
    NO_SIGNAL = "no signal"
    STUCK = "at chance"
    THE_SAME = "the same"
    DOES_NOT_APPLY = "does not apply"


class Candidate(Frozen):
    """A scheme in a race: its best value, how far it came and why no further; `loss` is the median held-out loss of its last round.

    `by` and `by_value`: the scheme that it was far behind there, and its value, where it left for that.
    """

    scheme: str
    fate: Fate
    value: Any = None
    rounds: int = 0
    loss: Number = None
    signal: str | None = None
    reason: str = ""
    by: str | None = None
    by_value: Any = None


class RacedPoint(TunedPoint):
    """A scheme at a value in one round of a race; `fate`: why it went no further, in words `reason`; null where it did."""

    scheme: str
    fate: Fate | None = None
    reason: str = ""


class RacedRound(Frozen):
    """A round of a race: every value of every scheme was trained for so many `steps` with so many `seeds`."""

    steps: int
    seeds: int
    points: tuple[RacedPoint, ...]


class Recommendation(Frozen):
    """The scheme to use, the schemes that are not shown to be worse, what it cost, and the lines of Python that adopt it.

    `favourite`: the scheme that led before the last round, which its finalists are compared with. `rounds` are those that are over;
    `reported`: the one that tables, curves and layers are of, counted from 1; 0: the probes.
    """

    key: str
    scheme: str | None
    value: Any = None
    favourite: str | None = None
    candidates: tuple[Candidate, ...]
    rounds: tuple[RacedRound, ...] = ()
    reported: int = 0
    runs: int
    steps: int
    full_runs: int
    full_steps: int
    complete: bool
    code: str

    @property
    def inseparable(self) -> tuple[str, ...]:
        """The schemes of the last round that are not shown to be worse."""
        return self.of_fate(Fate.NOT_SEPARABLE)

    def of_fate(self, fate: Fate) -> tuple[str, ...]:
        """The schemes that something became of."""
        return tuple(candidate.scheme for candidate in self.candidates if candidate.fate is fate)

    @property
    def saved(self) -> float:
        """The share of the full grid's training steps that was not needed."""
        return 1 - self.steps / self.full_steps if self.full_steps else 0.0


Summary.model_rebuild()

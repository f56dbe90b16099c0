"""Comparisons that are decided together while seeds are added: bets on each, and what is refuted with which error over all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from initbench.statistics.inference import ALPHA, difference
from initbench.statistics.sequential import Family, Signs, Within, seeds_left

SMALLEST = 5e-324
"""The margin within which nothing but equal numbers is."""
APART, ABOVE, BELOW = 0, 1, 2
"""The claims about a pair: that the two do not differ; with a margin, that one is better by it or more: the first, or the other."""


@dataclass(eq=False)
class Pair:
    """What is known of one comparison; `names` are the two schemes."""

    names: tuple[str, str]
    margin: float | None
    signs: Signs = field(default_factory=Signs)
    ties: Within = field(default_factory=lambda: Within(SMALLEST))
    within: Within | None = None
    path: list[tuple[float, ...]] = field(default_factory=list)
    """The wealth against each claim, after each seed that both have."""
    ended: int | None = None
    """1: the first is better, -1: the other is, 0: equivalent. What was decided first stays, whatever comes after it."""
    ended_after: int | None = None
    """How many seeds both had then."""
    p: float = 1.0
    """The corrected p against no difference."""
    same: bool = False
    """Whether there was no difference on any seed, and there are enough of them to stop for that."""

    def __post_init__(self) -> None:
        self.within = None if self.margin is None else Within(self.margin)

    @property
    def is_open(self) -> bool:
        """Whether more seeds are wanted for it."""
        return self.ended is None and not self.same

    def take(self, value: float) -> None:
        """Bets on the difference of one more seed; positive is in favour of the first."""
        for bets in (self.signs, self.ties, self.within):
            if bets is not None:
                bets.take(value)
        self.path.append((self.signs.wealth, *(self.within.wealth if self.within else ())))


class Deciding:
    """Pairs of schemes, seed by seed.

    A pair is in the family from the first seed on that both have, so that a scheme that cannot be trained costs the others nothing.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], *, higher_is_better: bool, margin: float | None) -> None:
        self.pairs = tuple(Pair(names, margin) for names in pairs)
        self.sign = 1 if higher_is_better else -1
        self.family = Family()
        self.members: list[Pair] = []

    def take(self, values: Mapping[str, float]) -> None:
        """The results of the schemes that have one on the next seed."""
        new = [pair for pair in self.pairs if all(name in values for name in pair.names)]
        for pair in new:
            one, other = (values[name] for name in pair.names)
            pair.take(self.sign * difference(one, other))
        self.members += [pair for pair in new if len(pair.path) == 1]
        self.family.look([pair.path[-1] for pair in self.members])
        for pair, p in zip(self.members, self.family.p, strict=True):
            pair.p = p[APART]
            pair.same = not pair.signs.count and min(pair.ties.wealth) * ALPHA >= len(self.members)
            if pair.ended is None:
                equal = pair.within is not None and max(p[ABOVE], p[BELOW]) <= ALPHA
                pair.ended = 0 if equal else pair.signs.leaning if p[APART] <= ALPHA else None
                pair.ended_after = None if pair.ended is None else len(pair.path)

    def seeds_left(self, pair: Pair) -> int | None:
        """About how many more seeds a pair takes, a guess; None where nothing grows.

        The sooner of two ends: a difference is shown, or both claims of a large one are refuted.
        """
        place = self.members.index(pair)
        p, needed = self.family.p[place], self.family.needed(place)
        guesses = [0 if each <= ALPHA else seeds_left(won, needed) for each, won in zip(p, zip(*pair.path, strict=True), strict=True)]
        ends = [guesses[APART]]
        if pair.within is not None:
            bounds = [guess for guess in guesses[ABOVE:] if guess is not None]
            ends.append(max(bounds) if len(bounds) == 2 else None)
        known = [max(1, end) for end in ends if end is not None]
        return min(known, default=None)

    @property
    def open_names(self) -> frozenset[str]:
        """The schemes of pairs for which more seeds are wanted."""
        return frozenset(name for pair in self.members if pair.is_open for name in pair.names)

"""Whether the change of each layer grows with the width of the network: slopes with intervals, a verdict a layer, then in words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from initbench.errors import enumerated
from initbench.reporting.panels import NAMED, few
from initbench.results.coordinates import LayerSizes, WidthRun
from initbench.results.record import RunStatus
from initbench.statistics.estimates import counted
from initbench.statistics.slopes import Slope, slope

MARGIN = 0.25
"""A slope this close to 0 is none: exponents in theory are multiples of 1/2, and this is half way to the first."""
FEWEST = 3
"""Widths: two lie on a line whatever they are."""


class Growth(StrEnum):
    """What becomes of the change of a layer as the network gets wider."""

    STAYS = "stays"
    GROWS = "grows"
    VANISHES = "vanishes"
    OPEN = "not decided"
    """The interval of the slope holds a limit."""
    STILL = "does not move"
    """The layer's output does not change, at one width at least."""


@dataclass(frozen=True)
class LayerGrowth:
    """One layer: how its output, and the change of that since the first step, go with width after each step; None where one is zero.

    `change` begins with step 1 and ends with the one that is judged, `output` with step 0; `sizes` are the changes at the judged step,
    a row a seed and one a width.
    """

    layer: str
    output: tuple[Slope | None, ...]
    change: tuple[Slope | None, ...]
    sizes: tuple[tuple[float, ...], ...]

    @property
    def growth(self) -> Growth:
        """What becomes of the change after the judged step."""
        return growth_of(self.change[-1])

    @property
    def at_first(self) -> Growth:
        """What becomes of it after the first step."""
        return growth_of(self.change[0])

    def size_at(self, place: int) -> float:
        """The change at the judged step of a width, by its place: the geometric mean over the seeds."""
        values = [row[place] for row in self.sizes]
        return math.exp(sum(map(math.log, values)) / len(values)) if all(values) else 0.0


@dataclass(frozen=True)
class SchemeGrowth:
    """One scheme: its layers after `step` steps, the last one up to which every number of every run is there (0: none)."""

    scheme: str
    status: RunStatus
    reason: str | None
    widths: tuple[int, ...]
    seeds: int
    steps: int
    step: int = 0
    layers: tuple[LayerGrowth, ...] = ()
    diverged: tuple[WidthRun, ...] = ()

    def named(self, growth: Growth) -> tuple[LayerGrowth, ...]:
        """The layers of which this is the verdict, in the network's order."""
        return tuple(layer for layer in self.layers if layer.growth is growth)

    @property
    def verdict(self) -> str:
        """One sentence, without the scheme and a full stop."""
        return in_words(self)


def growth_of(found: Slope | None) -> Growth:
    """The verdict on a slope: it is decided where its interval lies on one side of each limit."""
    if found is None:
        return Growth.STILL
    if found.low > MARGIN:
        return Growth.GROWS
    if found.high < -MARGIN:
        return Growth.VANISHES
    return Growth.STAYS if found.low >= -MARGIN and found.high <= MARGIN else Growth.OPEN


def judge(runs: Sequence[WidthRun], steps: int) -> tuple[SchemeGrowth, ...]:
    """Every scheme, in the order in which they come."""
    by_scheme: dict[str, list[WidthRun]] = {}
    for run in runs:
        by_scheme.setdefault(run.scheme, []).append(run)
    return tuple(_judged(scheme, own, steps) for scheme, own in by_scheme.items())


def _judged(scheme: str, runs: Sequence[WidthRun], steps: int) -> SchemeGrowth:
    widths = tuple(sorted({run.width for run in runs}))
    seeds = list(dict.fromkeys(run.seed for run in runs))
    bad = next((run for run in runs if run.status in {RunStatus.FAILED, RunStatus.SKIPPED}), None)
    if bad is not None:
        reason = f"at width {bad.width}, seed {bad.seed}: {bad.reason}" if bad.status is RunStatus.FAILED else bad.reason
        return SchemeGrowth(scheme, bad.status, reason, widths, len(seeds), steps)
    names = [layer.layer for layer in runs[0].layers]
    other = next((run for run in runs if [layer.layer for layer in run.layers] != names), None)
    if other is not None:
        reason = f"The model has other layers at width {other.width} than at width {runs[0].width}, so that they cannot be compared"
        return SchemeGrowth(scheme, RunStatus.FAILED, reason, widths, len(seeds), steps)
    step = min(run.finite_until for run in runs)
    by_place = {(run.seed, run.width): run for run in runs}
    grid = [[by_place[seed, width] for width in widths] for seed in seeds]
    layers = tuple(_layer(widths, [[run.layers[place] for run in row] for row in grid], step) for place in range(len(names)))
    return SchemeGrowth(
        scheme,
        RunStatus.COMPLETED,
        None,
        widths,
        len(seeds),
        steps,
        step,
        layers if step else (),
        tuple(run for run in runs if run.status is RunStatus.DIVERGED),
    )


def _layer(widths: Sequence[int], grid: Sequence[Sequence[LayerSizes]], step: int) -> LayerGrowth:
    outputs = [[[each.outputs[at] or 0.0 for each in row] for row in grid] for at in range(step + 1)]
    changes = [[[each.changes[at] or 0.0 for each in row] for row in grid] for at in range(step + 1)]
    return LayerGrowth(
        grid[0][0].layer,
        tuple(_slope(widths, sizes) for sizes in outputs),
        tuple(_slope(widths, sizes) for sizes in changes[1:]),
        tuple(map(tuple, changes[-1])),
    )


def _slope(widths: Sequence[int], sizes: Sequence[Sequence[float]]) -> Slope | None:
    return slope(widths, sizes) if all(map(all, sizes)) else None


def in_words(scheme: SchemeGrowth) -> str:
    """The verdict as one sentence, which names layers."""
    if scheme.status is not RunStatus.COMPLETED:
        return f"{'does not apply' if scheme.status is RunStatus.SKIPPED else 'failed'}: {(scheme.reason or '').rstrip('.')}"
    parts = [*_of_layers(scheme), *_diverged(scheme)] if scheme.step else [*_diverged(scheme), "nothing can be said of its layers"]
    return "; ".join(parts)


def _of_layers(scheme: SchemeGrowth) -> Iterable[str]:
    after = f"after {counted(scheme.step, 'step')}"
    over = f"over the widths {scheme.widths[0]} to {scheme.widths[-1]}"
    if len(scheme.named(Growth.STAYS)) == len(scheme.layers):
        yield f"every layer changes by as much at every width: {_range(scheme.layers)} {over}, {after}"
    else:
        told = {
            Growth.GROWS: "blows up with width",
            Growth.VANISHES: "vanishes with width",
            Growth.STILL: "is zero",
            Growth.OPEN: "is not decided",
            Growth.STAYS: "stays",
        }
        for place, (growth, words) in enumerate((each, told[each]) for each in told if scheme.named(each)):
            layers = scheme.named(growth)
            steepest = sorted(layers, key=lambda layer: -abs(_value(layer)))
            slopes = "" if growth is Growth.STILL else f" ({_range(layers)})"
            yield f"{'that' if place else 'the change'} of {_names(steepest)} {words}{slopes}{'' if place else f' {over}, {after}'}"
    early = [layer for layer in scheme.layers if layer.at_first is Growth.GROWS and layer.growth is not Growth.GROWS]
    if early and scheme.step > 1:
        yield f"in the first step that of {_names(early)} grows ({_range(early, 0)})"


def _names(layers: Sequence[LayerGrowth]) -> str:
    names = [layer.layer for layer in layers]
    return few(names) if len(names) > NAMED else enumerated(names, "and")


def _value(layer: LayerGrowth, at: int = -1) -> float:
    found = layer.change[at]
    return 0.0 if found is None else found.value


def _range(layers: Sequence[LayerGrowth], at: int = -1) -> str:
    """The slopes from the lowest to the highest; of one layer with its interval."""
    values = sorted(_value(layer, at) for layer in layers)
    if len(layers) == 1 and (found := layers[0].change[at]) is not None:
        return f"slope {slope_text(found)}"
    return f"slopes {_rounded(values[0])} to {_rounded(values[-1])}"


def slope_text(found: Slope | None) -> str:
    """`0.52 [0.18, 0.85]`; empty where there is none."""
    return "" if found is None else f"{_rounded(found.value)} [{_rounded(found.low)}, {_rounded(found.high)}]"


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"


def _diverged(scheme: SchemeGrowth) -> Iterable[str]:
    if scheme.diverged:
        widths = sorted({run.width for run in scheme.diverged})
        first = min(run.first_bad_step or 0 for run in scheme.diverged)
        at = f"width{'s' * (len(widths) > 1)} {enumerated([str(width) for width in widths], 'and')}"
        yield f"diverged at {at}, first at step {first}"

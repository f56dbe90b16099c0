"""What the scripts of a page draw, as compact data: numbers of four digits, curves of at most `MOST_POINTS` points."""

import math
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from initbench.quantities import BY_NAME, OF_EVERY_RUN, OF_PROBES, Quantity
from initbench.reporting.figures import MOST_POINTS, stands_apart
from initbench.reporting.looks import looks
from initbench.reporting.roles import layer_roles
from initbench.reporting.scales import WILD
from initbench.results.columns import column
from initbench.results.outcome import outcome
from initbench.results.probe_run import ProbeRun
from initbench.results.propagation import layers_with_states
from initbench.results.record import PREDICTED, InitReport, LayerStats, Place, RunResult
from initbench.statistics.curves import DECADES, thinned
from initbench.statistics.findings import Summary
from initbench.statistics.inference import median
from initbench.statistics.summary import Runs, named

MOST_STEPS = 24
"""Of more probed steps an even choice is shown."""
QUANTILES = ("q05", "q25", "q50", "q75", "q95")
DISTRIBUTIONS = ("activation", "gradient", "weight")
MOST_SHOWN = 6
"""Of more lines the best half of so many, the last and those that the headline names are shown from the start."""
UNSEEN = 0.005
"""Numbers that differ by less than this share of them make lines that cover one another."""
WITH_SPREAD = frozenset({"activation_variance", "gradient_variance"})
"""Quantities of which the lowest and highest seed are kept too."""

Number = float | int | str | None
"""A number; null where nothing was measured; "over" where it overflowed."""
RunLayers = tuple[str, Sequence[LayerStats]]
"""How a run ended, and what was measured of its layers."""


def page_data(summary: Summary, runs: Runs) -> dict[str, Any]:
    """The data of a page about `runs`; docs/results.md does not list it, as it is no file of its own."""
    names = list(runs)
    ranking = [name for name in summary.ranking if name in names]
    layers = {scheme: [(outcome(run).value, layers_with_states(run)) for run in own] for scheme, own in runs.items()}
    every = [(place, run) for place, scheme in enumerate(names) for run in runs[scheme]]
    longest = max((len(run.train_losses) for _, run in every), default=0)
    stretch = -(-longest // MOST_POINTS) or 1
    told = [_run(place, run, stretch) for place, run in every]
    measured = _layers(layers, OF_EVERY_RUN)
    return {
        **_schemes(names, ranking, named(summary), measured["values"], told),
        "runs": told,
        "stretch": stretch,
        "wild": WILD,
        "perEpoch": _steps_per_epoch(run for _, run in every),
        "pace": [_seconds_per_step(runs[scheme]) for scheme in names],
        "accuracy": summary.metric_of("final_test_accuracy").label if summary.has_accuracy else None,
        "loss": summary.metric_of("final_test_loss").label,
        **measured,
        "init": _init([next((run.init for run in runs[scheme] if run.init is not None), None) for scheme in names]),
    }


def probe_data(runs: Mapping[str, Sequence[ProbeRun]]) -> dict[str, Any]:
    """The data of a page about a probe, the best scheme first: no curves; one step, or those at which a monitor measured."""
    names = list(runs)
    layers: dict[str, list[RunLayers]] = {scheme: [(run.status.value, run.layers) for run in own] for scheme, own in runs.items()}
    measured = _layers(layers, (*OF_EVERY_RUN, *OF_PROBES))
    return {
        **_schemes(names, names, names[:1], measured["values"]),
        "runs": [],
        **measured,
        "init": _init([next((run.init for run in own if run.init is not None), None) for own in runs.values()]),
    }


def _schemes(
    names: Sequence[str],
    ranking: Sequence[str],
    told: Collection[str],
    values: Mapping[str, Sequence[Any]],
    runs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The schemes with their looks; those that coincide as `groups`, the best first; and which groups are `shown` from the start.

    `told`: the schemes that the headline names. `empty`: those of which there is nothing to draw, which are in no group.
    """
    own = looks(names)
    curves = [[[run["losses"], run["evaluations"]] for run in runs if run["scheme"] == place] for place in range(len(names))]
    numbers = [[curves[place], [each[place] for each in values.values()]] for place in range(len(names))]
    ranked = [names.index(name) for name in ranking]
    empty = [place for place in ranked if not _measured_at_all(numbers[place])]
    groups: list[list[int]] = []
    for place in ranked:
        twin = next((group for group in groups if _coincide(numbers[group[0]], numbers[place])), None)
        if twin is not None:
            twin.append(place)
        elif place not in empty:
            groups.append([place])
    ends = {*range(MOST_SHOWN // 2), len(groups) - 1} if len(groups) > MOST_SHOWN else set(range(len(groups)))
    shown = [index for index, group in enumerate(groups) if index in ends or any(names[place] in told for place in group)]
    return {
        "schemes": [{"name": name, **own[name]._asdict()} for name in names],
        "groups": groups,
        "empty": empty,
        "shown": shown,
        "decades": DECADES,
    }


def _coincide(one: Any, other: Any) -> bool:
    """Whether nobody can see a difference between the lines of these numbers."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_coincide, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=UNSEEN, abs_tol=1e-12)
    return bool(one == other)


def _measured_at_all(numbers: Any) -> bool:
    return any(map(_measured_at_all, numbers)) if isinstance(numbers, list) else numbers is not None


def _run(scheme: int, run: RunResult, stretch: int) -> dict[str, Any]:
    return {
        "scheme": scheme,
        "seed": run.job.seed,
        "status": run.status.value,
        "badStep": run.first_bad_step,
        "losses": [short(loss) for _, loss in thinned(run.train_losses, stretch)],
        "evaluations": [[item.step, short(item.test_accuracy), short(item.test_loss)] for item in run.evaluations],
    }


def _seconds_per_step(runs: Sequence[RunResult]) -> float | None:
    """What a step took, in the middle of the runs."""
    found = [run.seconds["train"] / len(run.train_losses) for run in runs if run.train_losses and run.seconds.get("train")]
    return float(f"{median(found):.3g}") if found else None


def _steps_per_epoch(runs: Iterable[RunResult]) -> float | None:
    return next((item.step / item.epoch for run in runs for item in run.evaluations if item.epoch), None)


def _layers(found: Mapping[str, Sequence[RunLayers]], every: Sequence[Quantity]) -> dict[str, Any]:
    """The layers, the probed steps, and of each quantity the median over seeds by scheme, step and layer.

    `found`: of each scheme each of its runs. `absent`: by scheme and step how those ended that are not in the medians there.
    """
    names = list(found)
    several = any(len(own) > 1 for own in found.values())
    measured = {scheme: _by_place(own, [each.name for each in every]) for scheme, own in found.items()}
    layers = list(dict.fromkeys(layer for own in measured.values() for layer, _ in own))
    steps = sorted({step for own in measured.values() for _, step in own})
    if len(steps) > MOST_STEPS:
        steps = [steps[round(index * (len(steps) - 1) / (MOST_STEPS - 1))] for index in range(MOST_STEPS)]
    quantities = [each for each in every if not each.name.rpartition("_")[2].startswith("q") or re.search(r"_q\d\d$", each.name) is None]

    def table(quantity: str, choose: Any) -> list[list[list[Number]]]:
        return [[[_of(measured[scheme].get((layer, step)), quantity, choose) for layer in layers] for step in steps] for scheme in names]

    roles = layer_roles(layers)
    values = {each.name: table(each.name, median) for each in quantities}
    shown = [each for each in quantities if _measured_at_all(values[each.name])]
    return {
        "layers": layers,
        "head": _head(layers, measured),
        "roles": [[role, [layers.index(layer) for layer in own]] for role, own in roles.items()],
        "steps": steps,
        "of": [len(found[scheme]) for scheme in names],
        "absent": [[_absent(found[scheme], step) for step in steps] for scheme in names],
        "quantities": [_quantity(each, values[each.name]) for each in shown],
        "values": {each.name: values[each.name] for each in shown},
        "low": {name: table(name, min) for name in sorted(WITH_SPREAD) if several},
        "high": {name: table(name, max) for name in sorted(WITH_SPREAD) if several},
        "theory": {quantity: [_theory(measured[scheme], layers, quantity) for scheme in names] for quantity in PREDICTED},
        "distributions": {
            kind: [[[[_of(measured[scheme].get((layer, step)), f"{kind}_{each}", median, 3) for each in QUANTILES] for layer in layers]
                    for step in (steps[:1] + steps[-1:] if len(steps) > 1 else steps)] for scheme in names]
            for kind in DISTRIBUTIONS
        },
    }  # fmt: skip


class _Seen(NamedTuple):
    """A layer at a step, over the runs: its first record, and of each quantity the numbers that there are."""

    first: LayerStats
    numbers: dict[str, "array[float]"]


Measured = dict[tuple[str, int], _Seen]


def _head(layers: Sequence[str], measured: Mapping[str, Measured]) -> int | None:
    """The place of the head where it stands apart from the other layers, as in the plots."""
    heads = {layer for own in measured.values() for (layer, _), seen in own.items() if seen.first.place is Place.HEAD}
    return max(map(layers.index, heads)) if heads and stands_apart(layers, None) else None


def _absent(own: Sequence[RunLayers], step: int) -> dict[str, int]:
    """How many runs ended in which way of those that were not measured at a step."""
    return dict(Counter(end for end, layers in own if step not in column(layers, "step")))


def _quantity(quantity: Quantity, values: Any) -> dict[str, Any]:
    return {"name": quantity.name, "label": _label(quantity.name), "scale": _scale(quantity, values), "stream": quantity.stream}


def _scale(quantity: Quantity, values: Any) -> str:
    """The scale of a quantity's axis and colours: `share`, `linear` where it can be negative, or `log`."""
    if quantity.unit == "share":
        return "share"
    return "linear" if quantity.unit == "cosine" or _lowest(values) < 0 else "log"


def _lowest(values: Any) -> float:
    """The lowest number of nested lists."""
    if isinstance(values, list):
        return min(map(_lowest, values), default=math.inf)
    return values if isinstance(values, int | float) else math.inf


def _by_place(own: Sequence[RunLayers], quantities: Sequence[str]) -> Measured:
    """The measurements by layer and step, in the order of the layers."""
    found: Measured = {}
    for _, layers in own:
        for stats in sorted(layers, key=lambda stats: (stats.position, stats.step)):
            seen = found.setdefault((stats.layer, stats.step), _Seen(stats, {}))
            for quantity in quantities:
                value = getattr(stats, quantity)
                value = stats.value(quantity) if value is None else value  # of a null only that says what it means
                if value is not None:
                    seen.numbers.setdefault(quantity, array("d")).append(value)
    return found


def _of(seen: _Seen | None, quantity: str, choose: Any, digits: int = 4) -> Number:
    numbers = seen.numbers.get(quantity) if seen else None
    return short(choose(numbers), digits) if numbers else None


def _theory(measured: Measured, layers: Sequence[str], quantity: str) -> list[list[Number] | None]:
    found: list[list[Number] | None] = []
    for layer in layers:
        at_start = measured.get((layer, 0))
        expected = at_start.first.prediction(quantity) if at_start else None
        found.append(None if expected is None or expected.value is None else [short(value) for value in expected])
    return found


def _label(quantity: str) -> str:
    """As at the axes of plots where there is one."""
    known = BY_NAME[quantity]
    figure = known.comparison_plot or known.probe_plot
    return figure.label if figure is not None else quantity.replace("_", " ")


def _init(reports: Sequence[InitReport | None]) -> dict[str, Any]:
    """What each scheme did to each parameter, in its first run that was initialized."""
    places: dict[str, list[Number]] = {}
    for report in reports:
        for entry in report.parameters if report is not None else ():
            shape = "x".join(map(str, entry.shape)) or "scalar"
            places.setdefault(entry.parameter, [entry.parameter, shape, math.prod(entry.shape), entry.fan_in, entry.fan_out])
    order = {name: place for place, name in enumerate(places)}
    return {
        "columns": ["parameter", "shape", "elements", "fan_in", "fan_out", "set by", "law", "std it should have", "std", "mean"],
        "parameters": list(places.values()),
        "rows": [
            [
                [order[entry.parameter], entry.by, entry.law or "", *map(short, (entry.target_std, entry.std, entry.mean))]
                for entry in (report.parameters if report is not None else ())
            ]
            for report in reports
        ],
    }


def short(value: float | None, digits: int = 4) -> Number:
    """A few digits; "over" for what is no finite number."""
    if value is None:
        return None
    if not math.isfinite(value):
        return "over"
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded

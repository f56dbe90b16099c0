"""Tables, figures and files of a coordinate check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench.probing.coordinate_verdicts import MARGIN, Growth, LayerGrowth, SchemeGrowth, growth_of, slope_text
from initbench.probing.page import page
from initbench.question.given import is_given
from initbench.reporting import draw, tidy
from initbench.reporting.panels import Band, Curve, Panel, Plot, in_rows
from initbench.reporting.tables import Table, markdown
from initbench.results import store
from initbench.results.coordinates import WidthRun
from initbench.statistics.estimates import counted, seeds_text
from initbench.statistics.inference import LEVEL
from initbench.statistics.slopes import Slope

if TYPE_CHECKING:
    from initbench.probing.coordinates import Check

MOST_DRAWN = 12
"""Layers that a figure shows: of more those whose change depends most on the width."""


def layer_table(scheme: SchemeGrowth) -> Table:
    """A row a layer: the slope of its output before training, of its change after the first and the judged step, and the verdict."""
    first = ("change, slope after step 1",) if scheme.step > 1 else ()
    ends = (f"at {scheme.widths[0]}", f"at {scheme.widths[-1]}")
    columns = ("layer", "output, slope at start", *first, f"change, slope after step {scheme.step}", *ends, "")
    rows = []
    for layer in scheme.layers:
        sizes = [f"{layer.size_at(place):.3g}" for place in (0, -1)]
        early = [slope_text(layer.change[0])] if first else []
        rows.append((layer.layer, slope_text(layer.output[0]), *early, slope_text(layer.change[-1]), *sizes, str(layer.growth)))
    marked = frozenset(row for row, layer in enumerate(scheme.layers) if layer.growth in {Growth.GROWS, Growth.VANISHES})
    title = f"{scheme.scheme}: slopes over log2 of the width [{LEVEL:.0%}]; {seeds_text(scheme.seeds)} at each width"
    return Table(title, columns, tuple(rows), frozenset(range(1, len(columns) - 1)), marked)


def scheme_table(schemes: Sequence[SchemeGrowth]) -> Table:
    """A row a scheme: how many layers there are of each verdict, and the steepest one."""
    rows = []
    for each in schemes:
        if not each.layers:
            rows.append((each.scheme, "diverged" if each.diverged else str(each.status), *[""] * len(Growth)))
            continue
        counts = [str(len(each.named(growth)) or "") for growth in Growth]
        known = [layer for layer in each.layers if layer.change[-1] is not None]
        steepest = max(known, key=_steepness, default=None)
        told = f"{steepest.layer} {slope_text(steepest.change[-1])}" if steepest else ""
        rows.append((each.scheme, *counts, told))
    title = f"layers whose change since the first step stays, grows or vanishes with the width: slopes beyond {MARGIN:g} or {-MARGIN:g}"
    return Table(title, ("scheme", *map(str, Growth), "steepest"), tuple(rows), frozenset(range(1, len(Growth) + 1)))


def _steepness(layer: LayerGrowth) -> float:
    found = layer.change[-1]
    return 0.0 if found is None else abs(found.value)


def verdict_lines(schemes: Sequence[SchemeGrowth]) -> tuple[str, ...]:
    """One sentence a scheme."""
    return tuple(f"{each.scheme}: {each.verdict}." for each in schemes)


def notes(check: Check) -> tuple[str, ...]:
    """What a reader must know, without full stops."""
    train = check.config.train
    rate = "" if is_given(train.optimizer.name) else f" at a learning rate of {train.lr:g}"
    told = [
        f"Trained for {counted(train.steps or 0, 'step')} of {train.optimizer.shown}{rate} on the same batches at every width, "
        f"{seeds_text(len(check.config.seeds))} each; what a scheme does to learning rates counts",
        "A change is the mean absolute difference of a layer's output from that before the first step, on a "
        f"fixed batch of {check.config.probe.images} training inputs",
        f"A slope of 0: as much at every width; it stays where its {LEVEL:.0%} interval is within {-MARGIN:g} and {MARGIN:g}, as "
        "exponents in theory are multiples of 1/2",
    ]
    said = dict.fromkeys(f"{run.scheme}: {note.rstrip('.')}" for run in check.runs if run.width == check.widths[-1] for note in run.notes)
    return (*told, *check.changed, *said)


def plots(schemes: Sequence[SchemeGrowth]) -> tuple[Plot, ...]:
    """The changes over the width, and their slopes over the steps: a panel a layer, a line a scheme."""
    done = [each for each in schemes if each.layers]
    if not done:
        return ()
    names = tuple(each.scheme for each in done)
    drawn, note = _drawn(done)
    step = done[0].step if len({each.step for each in done}) == 1 else None
    after = f"after {counted(step, 'step')}" if step else "after the last step whose numbers are all finite"
    sizes = in_rows([_size_panel(layer, done, note) for layer in drawn])
    slopes = in_rows([_slope_panel(layer, done, note) for layer in drawn])
    made = [Plot("change", f"Change of each layer's output over the width, {after}", sizes, names, parts=True)]
    if max(each.step for each in done) > 1:
        made.append(Plot("slope", "How the change of each layer's output goes with the width, step by step", slopes, names, parts=True))
    return tuple(made)


def _drawn(schemes: Sequence[SchemeGrowth]) -> tuple[list[str], tuple[str, ...]]:
    """The layers that are drawn, in the network's order, and a note where some are not."""
    steepest: dict[str, float] = {}
    for layer in (layer for each in schemes for layer in each.layers):
        steepest[layer.layer] = max(steepest.get(layer.layer, 0.0), _steepness(layer))
    kept = set(sorted(steepest, key=lambda name: -steepest[name])[:MOST_DRAWN])
    left = len(steepest) - len(kept)
    note = (f"These are the {MOST_DRAWN} of {len(steepest)} layers whose change depends most on the width; all are in tables/slopes.csv",)
    return [name for name in steepest if name in kept], note if left else ()


def _of(schemes: Sequence[SchemeGrowth], name: str) -> Iterator[tuple[SchemeGrowth, LayerGrowth]]:
    return ((each, layer) for each in schemes for layer in each.layers if layer.layer == name)


def _size_panel(name: str, schemes: Sequence[SchemeGrowth], note: tuple[str, ...]) -> Panel:
    lines = []
    for each, layer in _of(schemes, name):
        places = [log2(width) for width in each.widths]
        lines += [Curve(each.scheme, tuple(zip(places, row, strict=True)), "seed") for row in layer.sizes]
        middle = ((place, layer.size_at(at)) for at, place in enumerate(places))
        lines.append(Curve(each.scheme, tuple(middle), named=True))
    ticks = tuple((log2(width), str(width)) for width in schemes[0].widths)
    return Panel(name, "width (log scale)", "mean |change|", tuple(lines), ticks=ticks, notes=note)


def _slope_panel(name: str, schemes: Sequence[SchemeGrowth], note: tuple[str, ...]) -> Panel:
    lines, bands = [], []
    for each, layer in _of(schemes, name):
        known = [(float(step), found) for step, found in enumerate(layer.change, 1) if found is not None]
        if known:
            lines.append(Curve(each.scheme, tuple((step, found.value) for step, found in known), named=True))
            bands.append(Band(each.scheme, tuple((step, found.low, found.high) for step, found in known)))
    told = (*note, f"0: as much at every width; bands are {LEVEL:.0%} intervals")
    return Panel(name, "step", "slope", tuple(lines), tuple(bands), scale="number", notes=told)


def coordinates_csv(runs: Iterable[WidthRun]) -> str:
    """A row a layer, width, seed and step: the mean absolute output, and its change since the first step."""
    columns = ("scheme", "width", "seed", "layer", "step", "output", "change")
    rows: list[list[object]] = []
    for run in runs:
        for layer in run.layers:
            pairs = zip(layer.outputs, layer.changes, strict=True)
            rows += [[run.scheme, run.width, run.seed, layer.layer, step, *pair] for step, pair in enumerate(pairs)]
    return tidy.write(columns, rows)


def slopes_csv(schemes: Iterable[SchemeGrowth]) -> str:
    """A row a layer and step, of the output and of its change: the slope over log2 of the width, its interval and the verdict on it."""
    rows: list[list[object]] = []
    for each in schemes:
        for layer in each.layers:
            for what, begin, found in (("output", 0, layer.output), ("change", 1, layer.change)):
                rows += [[each.scheme, layer.layer, what, step, *_numbers(slope)] for step, slope in enumerate(found, begin)]
    return tidy.write(("scheme", "layer", "of", "step", "slope", "low", "high", "verdict"), rows)


def _numbers(found: Slope | None) -> list[object]:
    return [None, None, None, str(Growth.STILL)] if found is None else [found.value, found.low, found.high, str(growth_of(found))]


def runs_csv(runs: Iterable[WidthRun]) -> str:
    """A row a network: how its run ended, and its losses in the first and the last step."""
    columns = ("scheme", "width", "seed", "status", "reason", "first_bad_step", "first_loss", "last_loss")
    ends = ((run, (run.losses[0], run.losses[-1]) if run.losses else (None, None)) for run in runs)
    rows = ([run.scheme, run.width, run.seed, run.status.value, run.reason, run.first_bad_step, *losses] for run, losses in ends)
    return tidy.write(columns, rows)


def document(check: Check) -> dict[str, Any]:
    """The check as one JSON document."""
    return {
        "folder": None if check.folder is None else str(check.folder),
        "widths": list(check.widths),
        "steps": check.config.train.steps,
        "margin": MARGIN,
        "verdicts": {each.scheme: each.verdict for each in check.schemes},
        "schemes": [
            {
                "scheme": each.scheme,
                "status": each.status.value,
                "judged_step": each.step,
                "layers": [
                    {
                        "layer": layer.layer,
                        "verdict": str(layer.growth),
                        "output": [None if found is None else vars(found) for found in layer.output],
                        "change": [None if found is None else vars(found) for found in layer.change],
                    }
                    for layer in each.layers
                ],
            }
            for each in check.schemes
        ],
        "runs": [run.model_dump(mode="json") for run in check.runs],
    }


def write(folder: Path, check: Check, config: str, command: str | None, provenance: dict[str, str], typed: str) -> None:
    """Writes tables, figures, coordinates.json, summary.md and the page; `command` asks the same again. Raises: StorageError."""
    widths = ", ".join(map(str, check.widths))
    title = f"coordinate check of {check.model.shown} on {check.config.dataset.shown}, widths {widths}"
    lines, said, overview = verdict_lines(check.schemes), notes(check), scheme_table(check.schemes)
    pictures = {plot.name: (plot.title, draw.draw(plot)) for plot in plots(check.schemes)}
    tables = [layer_table(each) for each in check.schemes if each.layers]
    told = "".join(f"- {line}\n" for line in lines)
    asked = " and ".join(str(each.scheme) for each in check.schemes) if len(check.schemes) < 3 else f"{len(check.schemes)} schemes"
    store.write_derived(
        folder,
        {
            "config.yaml": config,
            "coordinates.json": json.dumps(document(check), allow_nan=False, ensure_ascii=False) + "\n",
            "tables/coordinates.csv": coordinates_csv(check.runs),
            "tables/slopes.csv": slopes_csv(check.schemes),
            "tables/runs.csv": runs_csv(check.runs),
            "summary.md": "\n".join(
                [
                    f"# {title}\n",
                    told,
                    *map(markdown, [overview, *tables]),
                    "## Notes\n\n" + "".join(f"- {note}.\n" for note in said),
                ]
            ),
            "report.html": page(
                title,
                lines,
                said,
                {name: (shown, made[".svg"]) for name, (shown, made) in pictures.items()},
                schemes=overview,
                layers=[(table, "") for table in tables],
                layers_note="In marked rows the change of the layer grows or vanishes with the width.",
                provenance=provenance,
                asked=("config.yaml", config),
                question=f"Do the layers of {check.model.shown} change by as much at every width, with {asked}?",
                command=command,
                typed=typed,
                several="widths",
            ),
        },
        {f"plots/{name}{ending}": made[ending] for name, (_, made) in pictures.items() for ending in made},
    )

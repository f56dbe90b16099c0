"""The tables and tidy files of a probe, as data."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from initbench.errors import enumerated
from initbench.probing.health import LayerHealth, SchemeHealth, inside
from initbench.quantities import QUANTITIES, Quantity, columns_in_order
from initbench.reporting.tables import Table, markdown
from initbench.reporting.tidy import write
from initbench.results.probe_run import ProbedLayer, ProbeRun
from initbench.results.propagation import LOST_DECADES
from initbench.results.record import PREDICTED, RunStatus

PROBED = columns_in_order(tuple(name for name in ProbedLayer.model_fields if name not in {"step", "update_ratio"}))
"""The columns of a layer in layers.csv."""
RUN = ("scheme", "seed", "status")
SCHEME_COLUMNS = ("scheme", "signal", "gradient", "correlation", "dead", "condition", "logits", "loss", "outside")
TOLD = 6
"""So many notes on layers are shown; all are in the record of a run."""
SHOWN_ROWS = 40
"""A table of more layers shows evenly spaced ones on a terminal."""


def scheme_table(schemes: Sequence[SchemeHealth]) -> Table:
    """A row a scheme, the best first: how far the signal strays, and what the outputs look like."""
    columns = SCHEME_COLUMNS
    rows = tuple(_scheme_row(each) for each in schemes)
    chance = next((each.chance_loss for each in schemes if each.chance_loss is not None), None)
    along = any(point.stream for each in schemes for point in each.forward)
    where = "at the end of the residual stream over its beginning" if along else "last hidden layer over first"
    title = f"signal: activations' variance, {where}; gradient: squared length, first over last; correlation: of two inputs"
    title += "; condition: largest over smallest singular value; outside: values outside of their predicted band"
    title += f"; loss of equal logits: {chance:.3f}" if chance is not None else ""
    return Table(title, columns, rows, frozenset(range(1, len(columns))))


def _scheme_row(scheme: SchemeHealth) -> tuple[str, ...]:
    if scheme.status is not RunStatus.COMPLETED:
        return (scheme.scheme, str(scheme.status), *[""] * 7)
    hidden = scheme.hidden
    dead = [share for layer in hidden if (share := layer.dead_fraction) is not None]
    outside, bands = sum(layer.outside for layer in scheme.layers), sum(layer.bands for layer in scheme.layers)
    return (
        scheme.scheme,
        _number(scheme.activations, "lost" if len(scheme.forward) > 1 else ""),
        _number(scheme.gradients, "lost" if len(scheme.back) > 1 else ""),
        f"{hidden[-1].correlation:.3f}" if hidden and hidden[-1].correlation is not None else "",
        f"{max(dead):.0%}" if dead else "",
        _number(hidden[0].condition if hidden else None, ""),
        _number(scheme.output_std, "overflow"),
        _number(scheme.first_loss, "overflow" if scheme.chance_loss is not None else ""),
        f"{outside}/{bands}" if bands else "",
    )


def layer_table(scheme: SchemeHealth, *, most: int | None = None, narrow: bool = False) -> Table:
    """A row a weight layer: measured, with the predicted value and band beside it; a star marks what is outside of its band.

    The marked row is the one at which the signal is lost. `narrow` leaves out what does not fit 80 columns: some quantities, and the
    predicted value within its band.
    """
    cells = [cell for cell in _cells(scheme.layers, narrow=narrow) if cell.always or not narrow]
    count = len(scheme.layers)
    shown = range(count) if most is None or count <= most else sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
    rows = tuple(tuple(cell.text(scheme.layers[index]) for cell in cells) for index in shown)
    marked = frozenset(row for row, index in enumerate(shown) if scheme.layers[index].layer == scheme.leaves_at)
    left = f", {len(rows)} of {count} layers" if len(rows) < count else ""
    right = frozenset(index for index, cell in enumerate(cells) if cell.right)
    return Table(f"{scheme.scheme}{left}", tuple(cell.title for cell in cells), rows, right, marked)


@dataclass(frozen=True)
class Cell:
    """A column of the layer table; those that are not shown `always` are left out on a narrow terminal."""

    title: str
    text: Callable[[LayerHealth], str]
    always: bool = True
    right: bool = True


def _cells(layers: Sequence[LayerHealth], *, narrow: bool) -> list[Cell]:
    """The columns of the layer table: every quantity with a heading, each with its prediction beside it where there may be one."""
    cells = [Cell("layer", lambda layer: layer.layer, right=False)]
    for quantity in QUANTITIES:
        nowhere = all(getattr(layer, quantity.name) is None for layer in layers)
        if quantity.heading is None or (quantity.optional and nowhere):
            continue
        cells.append(Cell(quantity.heading, partial(_measured, quantity), quantity.always))
        if quantity.name in PREDICTED:
            expected = Cell(f"{quantity.heading}, expected", partial(_predicted, quantity), quantity.always, right=False)
            band = Cell(f"{quantity.heading} band", partial(_band, quantity), quantity.always)
            cells.append(band if narrow else expected)
    return cells


def _measured(quantity: Quantity, layer: LayerHealth) -> str:
    value = getattr(layer, quantity.name)
    if quantity.spread is not None:
        return _with_ends(value, *(getattr(layer, name) for name in quantity.spread))
    state = layer.value(quantity.name) if quantity.of is not None else value
    if state is None:
        return ""
    _, low, high = layer.expected.prediction(quantity.name)
    star = "" if low is None or high is None or inside(state, low, high) else " *"
    if value is None:
        return "overflow" + star
    return {"number": f"{value:.3g}", "share": f"{value:.0%}", "cosine": f"{value:.3f}"}[quantity.unit] + star


def _predicted(quantity: Quantity, layer: LayerHealth) -> str:
    value, low, high = layer.expected.prediction(quantity.name)
    return _number(value, "") if low is None or high is None else _with_ends(value, low, high)


def _band(quantity: Quantity, layer: LayerHealth) -> str:
    return _with_ends(*layer.expected.prediction(quantity.name)).partition(" ")[2]


def _with_ends(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return ""
    digits = 2 if f"{low:.2g}" != f"{high:.2g}" else 4  # a band that rounding would close
    return f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def attention_table(scheme: SchemeHealth, *, most: int | None = None) -> Table:
    """A row an attention, in the order in which they come: what its softmax does, and how far apart the tokens before it are."""
    count = len(scheme.attention)
    shown = range(count) if most is None or count <= most else sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
    rows = tuple(
        (each.module, str(each.keys), _number(each.entropy, ""), _number(each.largest, ""), _number(each.apart, ""))
        for each in (scheme.attention[index] for index in shown)
    )
    title = f"{scheme.scheme}: attention; entropy: of its weights, over that of equal ones; apart: share of the tokens' squared length"
    columns = ("attention", "keys", "entropy", "largest weight", "apart")
    return Table(f"{title} that is not common to all of an input", columns, rows, frozenset(range(1, len(columns))))


def attention_csv(runs: Iterable[ProbeRun]) -> str:
    """Each attention of each run, one a row."""
    columns = ("module", "keys", "entropy", "largest", "apart")
    rows = ([run.scheme, run.seed, run.status.value, *(getattr(each, name) for name in columns)] for run in runs for each in run.attention)
    return write((*RUN, *columns), rows)


def embedding_table(scheme: SchemeHealth) -> Table:
    """A row an embedding: its size, and what it gives."""
    rows = tuple((each.module, f"{each.rows} x {each.width}", _number(each.variance, "overflow")) for each in scheme.embeddings)
    columns = ("embedding", "rows x width", "variance")
    return Table(f"{scheme.scheme}: embeddings; variance: of the numbers that they give", columns, rows, frozenset(range(1, len(columns))))


def embeddings_csv(runs: Iterable[ProbeRun]) -> str:
    """Each embedding of each run, one a row."""
    columns = ("module", "rows", "width", "variance")
    rows = ([run.scheme, run.seed, run.status.value, *(getattr(each, name) for name in columns)] for run in runs for each in run.embeddings)
    return write((*RUN, *columns), rows)


def law_table(run: ProbeRun) -> Table:
    """A row a weight layer: which known law its numbers follow."""
    rows = tuple((law.layer, "x".join(map(str, law.shape)), law.description, law.drawn_by) for law in run.laws)
    return Table(f"{run.scheme}: what the weights look like", ("layer", "shape", "law and scale", "drawn so by"), rows)


def verdict_lines(schemes: Sequence[SchemeHealth]) -> tuple[str, ...]:
    """One sentence a scheme, the best first."""
    return tuple(f"{each.scheme}: {each.verdict}." for each in schemes)


def notes(schemes: Sequence[SchemeHealth], runs: Sequence[ProbeRun]) -> tuple[str, ...]:
    """What a reader must know: what gradients are of, where the healthy range ends, why there is no prediction."""
    objectives = sorted({run.objective for run in runs if run.objective})
    said = [f"Gradients are of the {objective.removeprefix('a ')}" for objective in objectives]
    said.append(f"A signal is lost where its variance is {10**LOST_DECADES:,.0f}x away from where it entered")
    if any(point.stream for each in schemes for point in each.forward):
        said.append(
            "The signal is followed along the residual stream; what is inside a branch is not compared with that. Where norms hold what n"
            " blocks add, these may make the activations n + 1 times as large, and the gradient twice as large a block"
        )
    unpredicted: dict[str, set[str]] = {}
    for layer in (layer for each in schemes for layer in each.layers if layer.expected.prediction_note):
        unpredicted.setdefault(layer.expected.prediction_note or "", set()).add(layer.layer)
    for reason, without in unpredicted.items():
        count = len(without)
        said.append(f"{reason[0].upper()}{reason[1:]} ({count} {'layer' if count == 1 else 'layers'})")
    return (*said[:6], *_told(runs)[:TOLD])


def _told(runs: Sequence[ProbeRun]) -> list[str]:
    """What the runs say, each once, after the scheme where not all schemes say it, and the seed where not all of its seeds do."""
    by_note: dict[str, list[ProbeRun]] = {}
    for run in runs:
        for note in run.notes:
            by_note.setdefault(note.removesuffix("."), []).append(run)
    told = []
    for note, own in by_note.items():
        names = list(dict.fromkeys(run.scheme for run in own))
        if len(names) == len({run.scheme for run in runs}):
            told.append(note)
            continue
        every_seed = len(own) == sum(run.scheme in names for run in runs)
        told.append(f"{enumerated(names, 'and')}{'' if every_seed else f', seed {own[0].seed}'}: {note}")
    return told


def step_table(steps: Sequence[SchemeHealth]) -> Table:
    """A row a measurement of a network that is trained: how far the signal strays, units that are dead or saturated, the outputs."""
    shown = ("signal", "gradient", "dead", "logits", "loss")
    columns = ("at", "signal", "gradient", "dead", "saturated", "logits", "loss")
    rows = []
    for each in steps:
        cells = dict(zip(SCHEME_COLUMNS, _scheme_row(each), strict=True))
        shares = [share for layer in each.hidden if (share := layer.saturated_fraction) is not None]
        texts = {name: cells[name] for name in shown} | {"at": each.scheme, "saturated": f"{max(shares):.0%}" if shares else ""}
        rows.append(tuple(texts[name] for name in columns))
    title = (
        "signal: activations' variance, last hidden layer or block over first; gradient: squared length, first over last; dead, saturated:"
    )
    return Table(f"{title} of the worst hidden layer", columns, tuple(rows), frozenset(range(1, len(columns))))


def steps_csv(runs: Iterable[ProbeRun], wanted: Collection[str]) -> str:
    """Each of the `wanted` weight layers at each measured step, one a row."""
    columns = ("step", *PROBED)
    return write(columns, ([getattr(layer, name) for name in columns] for run in runs for layer in run.layers if layer.layer in wanted))


def losses_csv(runs: Iterable[ProbeRun]) -> str:
    """Each measurement: what gradients are of, that loss, and the scale of the outputs."""
    columns = ("objective", "loss", "output_std")
    return write(("step", *columns), ([run.layers[0].step, run.objective, run.first_loss, run.output_std] for run in runs))


def layers_csv(runs: Iterable[ProbeRun]) -> str:
    """Each weight layer of each run, one a row."""
    rows: list[list[object]] = []
    for run in runs:
        head = [run.scheme, run.seed, run.status.value]
        rows += [[*head, *(getattr(layer, name) for name in PROBED)] for layer in run.layers] or [[*head, *[None] * len(PROBED)]]
    return write((*RUN, *PROBED), rows)


def runs_csv(runs: Iterable[ProbeRun]) -> str:
    """Each run: how it ended, the scale of its outputs, its first loss."""
    columns = ("reason", "objective", "first_loss", "chance_loss", "output_std", "parameters")
    return write((*RUN, *columns), ([run.scheme, run.seed, run.status.value, *(getattr(run, name) for name in columns)] for run in runs))


def summary_markdown(title: str, overview: Table, schemes: Sequence[SchemeHealth], runs: Sequence[ProbeRun]) -> str:
    """The whole of summary.md."""
    parts = [f"# {title}\n", "".join(f"- {line}\n" for line in verdict_lines(schemes)), markdown(overview)]
    for run in runs:
        if run.laws and run.seed == runs[0].seed:
            parts += [f"## {run.scheme}: what the weights look like\n", markdown(law_table(run))]
    parts.append("## Notes\n\n" + "".join(f"- {line}.\n" for line in notes(schemes, runs)))
    return "\n".join(parts)


def _number(value: float | None, absent: str) -> str:
    return absent if value is None else f"{value:.3g}"

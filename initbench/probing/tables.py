"""The tables and tidy files of a probe, as data."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from initbench.probing.health import HEALTHY_DECADES, LayerHealth, SchemeHealth, inside
from initbench.report.tables import Table, markdown
from initbench.results.probe_record import ProbedLayer, ProbeRun
from initbench.results.record import RunStatus

PROBED = tuple(name for name in ProbedLayer.model_fields if name not in {"step", "update_ratio"})
"""The columns of a layer in layers.csv."""
RUN = ("scheme", "seed", "status")
SHOWN_ROWS = 40
"""A table of more layers shows evenly spaced ones on a terminal."""


def scheme_table(found: Sequence[SchemeHealth]) -> Table:
    """A row a scheme, the best first: how far the signal strays, and what the outputs look like."""
    columns = ("scheme", "signal", "gradient", "alike", "dead", "cond.", "logits", "loss", "off")
    rows = tuple(_scheme_row(each) for each in found)
    chance = next((each.chance_loss for each in found if each.chance_loss is not None), None)
    title = (
        "signal: activations' variance, last hidden layer over first; gradient: squared length, first over last; off: outside of the band"
    )
    title += f"; loss of equal logits: {chance:.3f}" if chance is not None else ""
    return Table(title, columns, rows, frozenset(range(1, len(columns))))


def _scheme_row(found: SchemeHealth) -> tuple[str, ...]:
    if found.status is not RunStatus.COMPLETED:
        return (found.scheme, str(found.status), *[""] * 7)
    hidden = found.layers[:-1] if len(found.layers) > 2 else found.layers
    dead = [layer.dead_fraction for layer in hidden if layer.dead_fraction is not None]
    outside, bands = sum(layer.outside for layer in found.layers), sum(layer.bands for layer in found.layers)
    return (
        found.scheme,
        _number(found.activations, "gone"),
        _number(found.gradients, "gone" if any(layer.gradient_variance is not None for layer in hidden) else ""),
        f"{hidden[-1].correlation:.3f}" if hidden and hidden[-1].correlation is not None else "",
        f"{max(dead):.0%}" if dead else "",
        _number(hidden[0].condition if hidden else None, ""),
        _number(found.output_std, "overflow"),
        _number(found.first_loss, "overflow" if found.chance_loss is not None else ""),
        f"{outside}/{bands}" if bands else "",
    )


def layer_table(found: SchemeHealth, *, most: int | None = None, narrow: bool = False) -> Table:
    """A row a weight layer: measured, with the predicted value and band beside it; a star marks what is outside of its band.

    Marked rows are those at which the signal leaves the healthy range. `narrow` leaves out what does not fit 80 columns.
    """
    cells = [cell for cell in CELLS if cell.always or not narrow]
    count = len(found.layers)
    shown = range(count) if most is None or count <= most else sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
    rows = tuple(tuple(cell.text(found.layers[index]) for cell in cells) for index in shown)
    marked = frozenset(row for row, index in enumerate(shown) if found.layers[index].layer == found.leaves_at)
    left = f", {len(rows)} of {count} layers" if len(rows) < count else ""
    right = frozenset(index for index, cell in enumerate(cells) if cell.title not in {"layer", "expected"})
    return Table(f"{found.scheme}{left}", tuple(cell.title for cell in cells), rows, right, marked)


@dataclass(frozen=True)
class Cell:
    """A column of the layer table; those that are not shown `always` are left out on a narrow terminal."""

    title: str
    text: Callable[[LayerHealth], str]
    always: bool = True


def _measured(quantity: Literal["pre_activation", "gradient"], found: LayerHealth) -> str:
    value = found.pre_activation_variance if quantity == "pre_activation" else found.gradient_variance
    absent = "overflow" if quantity == "pre_activation" else ""
    return _number(value, absent) + _star(found.expected, value, quantity)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _singular(found: LayerHealth) -> str:
    if found.jacobian_mean is None or found.jacobian_min is None or found.jacobian_max is None:
        return ""
    return f"{found.jacobian_mean:.2g} [{found.jacobian_min:.2g}, {found.jacobian_max:.2g}]"


CELLS = (
    Cell("layer", lambda found: found.layer),
    Cell("variance", lambda found: _measured("pre_activation", found)),
    Cell("expected", lambda found: _predicted(found.expected, "pre_activation")),
    Cell("after activation", lambda found: _number(found.activation_variance, "overflow"), always=False),
    Cell("zeros", lambda found: _share(found.zero_fraction), always=False),
    Cell("dead", lambda found: _share(found.dead_fraction)),
    Cell("gradient", lambda found: _measured("gradient", found)),
    Cell("expected", lambda found: _predicted(found.expected, "gradient")),
    Cell("alike", lambda found: "" if found.correlation is None else f"{found.correlation:.3f}"),
    Cell("singular values", _singular, always=False),
)
"""The columns of the layer table."""


def _predicted(layer: ProbedLayer, quantity: str) -> str:
    line, low, high = (getattr(layer, f"predicted_{quantity}_variance{end}") for end in ("", "_low", "_high"))
    if line is None or low is None or high is None:
        return "" if line is None else f"{line:.3g}"
    return f"{line:.2g} [{low:.2g}, {high:.2g}]"


def _star(layer: ProbedLayer, value: float | None, quantity: str) -> str:
    low, high = getattr(layer, f"predicted_{quantity}_variance_low"), getattr(layer, f"predicted_{quantity}_variance_high")
    if low is None or high is None:
        return ""
    return "" if inside(value, low, high) else " *"


def law_table(run: ProbeRun) -> Table:
    """A row a weight layer: which known law its numbers follow."""
    rows = []
    for law in run.laws:
        shape, _, schemes = law.words.partition(": ")
        rows.append((law.layer, "x".join(map(str, law.shape)), shape, schemes))
    return Table(f"{run.scheme}: what the weights look like", ("layer", "shape", "law and scale", "drawn so by"), tuple(rows))


def verdict_lines(found: Sequence[SchemeHealth]) -> tuple[str, ...]:
    """One sentence a scheme, the best first."""
    return tuple(f"{each.scheme}: {each.verdict}." for each in found)


def notes(found: Sequence[SchemeHealth], runs: Sequence[ProbeRun]) -> tuple[str, ...]:
    """What a reader must know: what gradients are of, where the healthy range ends, why there is no prediction."""
    objectives = sorted({run.objective for run in runs if run.objective})
    said = [f"Gradients are of the {objective.removeprefix('a ')}" for objective in objectives]
    said.append(
        f"A layer is outside of the healthy range where its variance is {10**HEALTHY_DECADES:g}x away from where the signal entered"
    )
    reasons = [layer.expected.prediction_note for each in found for layer in each.layers if layer.expected.prediction_note]
    for reason in dict.fromkeys(reasons[:200]):
        count = reasons.count(reason)
        said.append(f"{reason[0].upper()}{reason[1:]} ({count} {'layer' if count == 1 else 'layers'})")
    return tuple(said[:6])


def layers_csv(runs: Iterable[ProbeRun]) -> str:
    """Each weight layer of each run, one a row."""
    rows: list[list[object]] = []
    for run in runs:
        head = [run.scheme, run.seed, run.status.value]
        rows += [[*head, *(getattr(layer, name) for name in PROBED)] for layer in run.layers] or [[*head, *[None] * len(PROBED)]]
    return _csv((*RUN, *PROBED), rows)


def runs_csv(runs: Iterable[ProbeRun]) -> str:
    """Each run: how it ended, the scale of its outputs, its first loss."""
    columns = ("reason", "objective", "first_loss", "chance_loss", "output_std", "parameters")
    return _csv((*RUN, *columns), [[run.scheme, run.seed, run.status.value, *(getattr(run, name) for name in columns)] for run in runs])


def summary_markdown(title: str, found: Sequence[SchemeHealth], runs: Sequence[ProbeRun]) -> str:
    """The whole of summary.md."""
    parts = [f"# {title}\n", "".join(f"- {line}\n" for line in verdict_lines(found)), markdown(scheme_table(found))]
    for run in runs:
        if run.laws and run.seed == runs[0].seed:
            parts += [f"## {run.scheme}: what the weights look like\n", markdown(law_table(run))]
    parts.append("## Notes\n\n" + "".join(f"- {line}.\n" for line in notes(found, runs)))
    return "\n".join(parts)


def _number(value: float | None, absent: str) -> str:
    return absent if value is None else f"{value:.3g}"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if value is None else f"{value:.9g}" if isinstance(value, float) else value for value in row] for row in rows])
    return text.getvalue()

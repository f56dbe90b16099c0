"""The table of a paper: a row a scheme, the best in bold with those that tie, in LaTeX (booktabs), Markdown, CSV or JSON."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from initbench.metrics import Metric
from initbench.reporting import tidy
from initbench.reporting.tables import Table, markdown
from initbench.statistics.estimates import Estimate, interval_text, number_text, seeds_text
from initbench.statistics.findings import SchemeSummary, Summary
from initbench.statistics.inference import ALPHA, seeds_needed
from initbench.statistics.verdicts import Comparison

FORMATS = ("latex", "markdown", "csv", "json")
METRICS = ("final_test_accuracy", "final_test_loss")
"""The columns beside the metric of the verdicts."""
MARK = {"latex": r"$^{\dagger}$", "markdown": "†"}
"""What stands at a scheme that is shown to be worse than the best one."""
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "†": r"$\dagger$",
}  # fmt: skip
"""How LaTeX writes the characters that it gives a meaning; what begins with text is in the kernel since 2020."""


@dataclass(frozen=True)
class PaperRow:
    """A scheme: its estimates, and how it stands to the best one by the test; `p_holm` is None where it was not tested."""

    scheme: SchemeSummary
    estimates: tuple[Estimate, ...]
    as_good_as_best: bool = False
    shown_worse: bool = False
    p_holm: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """The rows, the best first, their metrics (the first is what the test is about), and a caption that says n and the test."""

    metrics: tuple[Metric, ...]
    rows: tuple[PaperRow, ...]
    caption: str
    seeds_needed: int | None = None
    """Where there are too few for the test to show anything."""


def paper_table(summary: Summary) -> PaperTable:
    """The table of a comparison, in the metric of its verdicts."""
    names = METRICS if summary.has_accuracy else METRICS[1:]
    metrics = tuple(summary.metric_of(name) for name in dict.fromkeys((summary.metric, *names)))
    order = summary.ranking
    against_best = summary.against(order[0]) if order else {}
    best = summary.best
    rows = tuple(_row(summary.scheme(scheme), metrics, against_best.get(scheme), best=scheme in best) for scheme in order)
    decided = [each for each in against_best.values() if each.p_holm is not None]
    needed = seeds_needed(max(each.family for each in decided)) if summary.undecided else None
    return PaperTable(metrics, rows, _caption(metrics[0], rows, decided), needed)


def _row(scheme: SchemeSummary, metrics: tuple[Metric, ...], pair: Comparison | None, *, best: bool) -> PaperRow:
    """`pair`: the scheme and the best one; None for the best itself."""
    estimates = tuple(scheme.estimate(metric.name) for metric in metrics)
    worse = pair is not None and pair.beats(pair.rival_of(scheme.scheme))
    return PaperRow(scheme, estimates, best, worse, pair.p_holm if pair else None)


def _caption(metric: Metric, rows: tuple[PaperRow, ...], decided: list[Comparison]) -> str:
    counts = sorted({row.estimates[0].n for row in rows if row.estimates[0].n})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else seeds_text(counts[0] if counts else 0)
    several = bool(counts) and counts[-1] > 1
    has_interval = any(estimate.level is not None for row in rows for estimate in row.estimates)
    spread = "95 % intervals of the median in brackets" if has_interval else "lowest and highest seed in parentheses"
    parts = [f"Median over {seeds}, {spread}." if several else f"{seeds.capitalize()}."]
    if len(rows) < 2:
        return parts[0]
    family = max((each.family for each in decided), default=0)
    anytime = any(each.anytime for each in decided)
    kind = (
        "bets on the signs of paired seeds, valid at every look" if anytime else "the exact sign-flip test on signed ranks of paired seeds"
    )
    correction = f", after {'e-' * anytime}Holm's correction over {family} comparisons" if family > 1 else ""
    test = f"{kind}, {100 * ALPHA:g} %{correction}"
    if any(row.as_good_as_best for row in rows):
        parts.append(f"Bold: the best {metric.label}, and what cannot be told from it by {test}.")
        if any(row.shown_worse for row in rows):
            parts.append("†: worse than the best by that test.")
    else:
        parts.append(f"So few seeds cannot show a difference in {metric.label} by {test}; nothing is set in bold.")
    if any(estimate.without_number for row in rows for estimate in row.estimates):
        parts.append(f"A run that {metric.absent} counts as worse than every number.")
    return " ".join(parts)


def render(table: PaperTable, ending: str) -> str:
    """The table in one of the `FORMATS`."""
    return {"latex": _latex, "markdown": _markdown, "csv": _csv, "json": _json}[ending](table)


def _heading(metric: Metric) -> str:
    return metric.label + (f" ({metric.unit})" if metric.unit else "")


def _text(metric: Metric, estimate: Estimate) -> tuple[str, str]:
    """The number and its interval."""
    if estimate.n == 0:
        return "", ""
    if estimate.value is None:
        return metric.absent, ""
    return number_text(metric, estimate.value), interval_text(metric, estimate).strip()


def _no_result(scheme: SchemeSummary) -> str:
    """What became of a scheme without any result: `skipped`, `failed`."""
    return "skipped" if scheme.skipped == len(scheme.seeds) else "failed" if scheme.failed else "no result"


def _above_chance(scheme: SchemeSummary) -> str:
    share = scheme.trained_share
    return f"{share.successes}/{share.n}" if share.n else ""


def _markdown(table: PaperTable) -> str:
    rows = []
    for row in table.rows:
        cells = [" ".join(filter(None, _text(metric, each))) for metric, each in zip(table.metrics, row.estimates, strict=True)]
        cells[0] = cells[0] or _no_result(row.scheme)
        rows.append((row.scheme.scheme + MARK["markdown"] * row.shown_worse, *cells, _above_chance(row.scheme)))
    columns = ("scheme", *map(_heading, table.metrics), "above chance")
    best = [(place, 1) for place, row in enumerate(table.rows) if row.as_good_as_best]
    return f"{markdown(Table('', columns, tuple(rows), frozenset(range(1, len(columns)))), best)}\n{table.caption}\n"


def _latex(table: PaperTable) -> str:
    columns, rows = ("scheme", *map(_heading, table.metrics), "above chance"), []
    for row in table.rows:
        cells = []
        for place, (metric, estimate) in enumerate(zip(table.metrics, row.estimates, strict=True)):
            number, interval = map(escaped, _text(metric, estimate))
            number = number or escaped(_no_result(row.scheme)) * (place == 0)
            number = rf"\textbf{{{number}}}" if place == 0 and row.as_good_as_best else number
            cells.append(number + (rf" {{\footnotesize {interval}}}" if interval else ""))
        name = escaped(row.scheme.scheme) + MARK["latex"] * row.shown_worse
        rows.append((name, *cells, escaped(_above_chance(row.scheme))))
    return booktabs(table.caption, columns, rows)


def booktabs(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A floating table; `rows` are in LaTeX already."""
    lines = [r"% \usepackage{booktabs}", r"\begin{table}", r"\centering", r"\small", rf"\caption{{{escaped(caption)}}}"]
    lines += [
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(columns) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(map(escaped, columns)) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Anybody's text for LaTeX: no command, and no character that pdfLaTeX lacks."""
    return "".join(LATEX.get(letter, letter if letter.isprintable() and ord(letter) < 256 else f"[U+{ord(letter):04X}]") for letter in text)


def _records(table: PaperTable) -> list[dict[str, str | int | float | bool | None]]:
    records = []
    for row in table.rows:
        share = row.scheme.trained_share
        record: dict[str, str | int | float | bool | None] = {"scheme": row.scheme.scheme, "above_chance": share.successes, "runs": share.n}
        for metric, estimate in zip(table.metrics, row.estimates, strict=True):
            values = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
            values |= {"_lowest_seed": estimate.lowest, "_highest_seed": estimate.highest}
            record |= {metric.name + end: value if value is not None and math.isfinite(value) else None for end, value in values.items()}
        record |= {"as_good_as_best": row.as_good_as_best, "worse_than_best": row.shown_worse, "p_holm": row.p_holm}
        record["note"] = "; ".join(row.scheme.reasons)
        records.append(record)
    return records


def _csv(table: PaperTable) -> str:
    records = _records(table)
    return tidy.write(tuple(records[0]), (tuple(record.values()) for record in records))


def _json(table: PaperTable) -> str:
    return json.dumps({"caption": table.caption, "rows": _records(table)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

"""Writes everything that is derived from a probe: tables, plots, summary, page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from initbench.probing import figures as signal_plots
from initbench.probing import tables as signal_tables
from initbench.probing.health import SchemeHealth
from initbench.reporting import draw
from initbench.reporting.page import inline_svg
from initbench.reporting.tables import Table
from initbench.reporting.templates import template
from initbench.results import store
from initbench.results.probe_run import ProbeRun, Question

MOST_TABLES = 12
"""Schemes whose layers the page shows; all are in layers.csv."""
MOST_ROWS = 400
"""Layers that a table of the page shows."""


def title_of(question: Question) -> str:
    """What was asked, in words."""
    names = ", ".join(map(str, question.schemes)) if len(question.schemes) <= 5 else f"{len(question.schemes)} schemes"
    return f"probe of {question.model} on {question.given}: {names or 'the weights as they are'}"


def write(folder: Path, question: Question, runs: Sequence[ProbeRun], schemes: Sequence[SchemeHealth], provenance: dict[str, str]) -> None:
    """Writes every derived file of a probe; plots that are no longer made are removed. Raises: StorageError."""
    pictures = {plot.name: (plot.title, draw.draw(plot)) for plot in signal_plots.plots(schemes)}
    title = title_of(question)
    laws = [signal_tables.law_table(run) for run in runs if run.laws and run.seed == runs[0].seed]
    layers = [signal_tables.layer_table(each, most=MOST_ROWS) for each in schemes[:MOST_TABLES] if each.layers]
    texts = {
        "tables/layers.csv": signal_tables.layers_csv(runs),
        "tables/runs.csv": signal_tables.runs_csv(runs),
        "summary.md": signal_tables.summary_markdown(title, schemes, runs),
        "report.html": page(
            title,
            signal_tables.verdict_lines(schemes),
            signal_tables.notes(schemes, runs),
            {name: (shown, made[".svg"]) for name, (shown, made) in pictures.items()},
            schemes=signal_tables.scheme_table(schemes),
            laws=laws,
            layers=layers,
            provenance=provenance,
            asked=("question.json", question.model_dump_json(indent=2)),
        ),
    }
    store.write_derived(folder, texts, {f"plots/{name}{ending}": made[ending] for name, (_, made) in pictures.items() for ending in made})


def page(
    title: str,
    verdicts: Sequence[str],
    notes: Sequence[str],
    pictures: dict[str, tuple[str, bytes]],
    *,
    schemes: Table | None = None,
    laws: Iterable[Table] = (),
    layers: Iterable[Table] = (),
    provenance: dict[str, str],
    asked: tuple[str, str],
) -> str:
    """The self-contained page as HTML; `asked`: the name of a file that says what was asked, and what is in it."""
    from markupsafe import Markup

    return template(Path(__file__).with_name("probe.html.jinja")).render(
        title=title,
        headline=verdicts[0] if verdicts else "",
        verdicts=verdicts,
        notes=notes,
        schemes=schemes,
        plots=[(name, shown, Markup(inline_svg(content.decode(), shown))) for name, (shown, content) in pictures.items()],
        laws=list(laws),
        layers=list(layers),
        provenance=list(provenance.items()),
        asked_as=asked[0],
        asked=asked[1],
    )

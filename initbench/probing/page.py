"""Writes everything that is derived from a probe: tables, plots, summary, page."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError
from initbench.probing import figures as signal_plots
from initbench.probing import tables as signal_tables
from initbench.probing.health import SchemeHealth
from initbench.question import catalog
from initbench.question.config import InitRules, value_text
from initbench.reporting import draw
from initbench.reporting.network import Module, network
from initbench.reporting.page import embedded, inline_svg
from initbench.reporting.page_data import probe_data
from initbench.reporting.tables import Table
from initbench.reporting.templates import template
from initbench.reporting.why import why_of_probe
from initbench.results import store
from initbench.results.probe_run import ProbeRun, Question

MOST_TABLES = 12
"""Schemes whose layers the page shows; all are in layers.csv."""
MOST_ROWS = 400
"""Layers that a table of the page shows."""
MOST_NAMED = 5
"""Schemes that a sentence names."""


def title_of(question: Question) -> str:
    """What was asked, in words."""
    return f"probe of {question.model} on {question.given}: {_names(question) or 'the weights as they are'}"


def asked_of(question: Question) -> str:
    """The question in a sentence."""
    if question.as_is:
        return f"Do the weights of {question.model}, as they are, keep the signal of {question.given}?"
    which = f"Does {_names(question)} keep" if len(question.schemes) == 1 else f"Which of {_names(question)} keeps"
    return f"{which} the signal of {question.given} through {question.model}?"


def _names(question: Question) -> str:
    many = len(question.schemes) > MOST_NAMED
    return f"{len(question.schemes)} schemes" if many else ", ".join(map(str, question.schemes))


def trouble(schemes: Sequence[SchemeHealth]) -> str:
    """Which schemes lose the signal, each with the layer, in a sentence; empty where none does."""
    lost = [f"{each.scheme} ({each.lost})" for each in schemes if each.lost is not None]
    if not lost:
        return ""
    more = f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
    return f"The signal is lost with {len(lost)} of {len(schemes)}: {', '.join(lost[:MOST_NAMED])}{more}."


def command_of(question: Question) -> str | None:
    """The command that asks the same; None for what it cannot be given: a module, a batch, schemes by layer without a config."""
    if question.init.layers:
        return None
    try:
        catalog.resolve("model", question.model)
    except ConfigError:
        return None
    if question.dataset is not None:
        given = ["--dataset", str(question.dataset)]
    elif question.input and (question.input.startswith("int:") or Path(question.input).is_file()):
        given = ["--input", question.input, "--classes", str(question.classes)]
    else:
        return None
    looked = ["--checkpoint", question.checkpoint] if question.checkpoint else ["--as-is"] * question.as_is
    schemes = [word for scheme in question.schemes for word in ("-m", str(scheme))]
    rules, usual = question.init.model_dump(mode="json"), InitRules().model_dump(mode="json")
    changed = [word for key, value in rules.items() if value != usual[key] for word in ("--set", f"init.{key}={value_text(value)}")]
    size, seeds = ["--batch", str(question.batch_size)], ["--seeds", _seeds_text(question.seeds)]
    return shlex.join(["initbench", "probe", *schemes, *looked, "--model", str(question.model), *given, *size, *seeds, *changed])


def _seeds_text(seeds: Sequence[int]) -> str:
    """The seeds as `--seeds` takes them: how many where they are the first ones, else a list."""
    return str(len(seeds)) if tuple(seeds) == tuple(range(len(seeds))) else f"{','.join(map(str, seeds))},"


def write(
    folder: Path,
    question: Question,
    runs: Sequence[ProbeRun],
    schemes: Sequence[SchemeHealth],
    provenance: dict[str, str],
    typed: str = "",
) -> None:
    """Writes every derived file of a probe; plots that are no longer made are removed. Raises: StorageError."""
    pictures = {plot.name: (plot.title, draw.draw(plot)) for plot in signal_plots.plots(schemes)}
    title = title_of(question)
    laws = [signal_tables.law_table(run) for run in runs if run.laws and run.seed == runs[0].seed]
    layers = [
        (signal_tables.layer_table(each, most=MOST_ROWS), str(each.lost) if each.lost else "")
        for each in sorted(schemes, key=lambda each: each.lost is None)[:MOST_TABLES]
        if each.layers
    ]
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
            question=asked_of(question),
            trouble=trouble(schemes),
            why=why_of_probe([(each.scheme, str(each.lost) if each.lost else None) for each in schemes], runs),
            command=command_of(question),
            typed=typed,
            network=_network(runs),
            data=_explored(runs, schemes),
        ),
    }
    store.write_derived(folder, texts, {f"plots/{name}{ending}": made[ending] for name, (_, made) in pictures.items() for ending in made})


def _network(runs: Sequence[ProbeRun]) -> Module | None:
    run = next((run for run in runs if run.init is not None), None)
    return network(run.init, run.layers) if run is not None and run.init is not None else None


def _explored(runs: Sequence[ProbeRun], schemes: Sequence[SchemeHealth]) -> dict[str, Any] | None:
    """What the scripts of the page draw; None where no layer was measured."""
    by_scheme = {each.scheme: [run for run in runs if run.scheme == each.scheme] for each in schemes if each.layers}
    return probe_data(by_scheme) if by_scheme else None


def page(
    title: str,
    verdicts: Sequence[str],
    notes: Sequence[str],
    pictures: dict[str, tuple[str, bytes]],
    *,
    schemes: Table | None = None,
    laws: Iterable[Table] = (),
    layers: Iterable[tuple[Table, str]] = (),
    points: Table | None = None,
    provenance: dict[str, str],
    asked: tuple[str, str],
    question: str,
    trouble: str = "",
    why: str = "",
    command: str | None,
    typed: str = "",
    network: Module | None = None,
    data: dict[str, Any] | None = None,
) -> str:
    """The self-contained page as HTML.

    `layers`: tables, each with how and where the signal is lost, empty where it is not; `points`: those of a map; `asked`: the
    name of a file that says what was asked, and what is in it; `typed`: the command line that asked; `data`: what scripts draw.
    """
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
        points=points,
        question=question,
        trouble=trouble,
        why=why,
        command=command,
        typed=typed,
        network=network,
        data=embedded(data) if data else None,
        provenance=list(provenance.items()),
        asked_as=asked[0],
        asked=asked[1],
    )

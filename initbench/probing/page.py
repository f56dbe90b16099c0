"""Writes everything that is derived from a probe: tables, plots, summary, page."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.errors import ConfigError
from initbench.probing import tables as signal_tables
from initbench.probing.health import SchemeHealth
from initbench.question import catalog
from initbench.question.config import InitRules, value_text
from initbench.reporting import draw
from initbench.reporting.network import Module, network
from initbench.reporting.page import embedded, inline_svg
from initbench.reporting.page_data import probe_data
from initbench.reporting.panels import Plot
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


@dataclass(frozen=True)
class Subject:
    """What a page is about: its title, its question as a heading and as a file, the command that asks the same where there is one.

    `several` is what is compared, in words; `at` is the word before one of them.
    """

    title: str
    question: str
    asked: tuple[str, str]
    command: str | None = None
    several: str = "schemes"
    at: str = "with"


def subject_of(question: Question) -> Subject:
    """What the page of a probe is about."""
    return Subject(title_of(question), asked_of(question), ("question.json", question.model_dump_json(indent=2)), command_of(question))


def title_of(question: Question) -> str:
    """What was asked, in words."""
    return f"probe of {question.model.shown} on {question.given}: {_names(question) or 'the weights as they are'}"


def asked_of(question: Question) -> str:
    """The question in a sentence."""
    if question.as_is:
        return f"Do the weights of {question.model.shown}, as they are, keep the signal of {question.given}?"
    which = f"Does {_names(question)} keep" if len(question.schemes) == 1 else f"Which of {_names(question)} keeps"
    return f"{which} the signal of {question.given} through {question.model.shown}?"


def _names(question: Question) -> str:
    many = len(question.schemes) > MOST_NAMED
    return f"{len(question.schemes)} schemes" if many else ", ".join(map(str, question.schemes))


def trouble(schemes: Sequence[SchemeHealth], at: str = "with") -> str:
    """Which schemes (or `at` which steps they) lose the signal, each with the layer, in a sentence; empty where none does."""
    lost = [f"{each.scheme} ({each.lost})" for each in schemes if each.lost is not None]
    if not lost:
        return ""
    more = f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
    return f"The signal is lost {at} {len(lost)} of {len(schemes)}: {', '.join(lost[:MOST_NAMED])}{more}."


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
    subject: Subject,
    runs: Sequence[ProbeRun],
    schemes: Sequence[SchemeHealth],
    provenance: dict[str, str],
    *,
    overview: Table,
    plots: Sequence[Plot],
    tables: Mapping[str, str],
    explored: Mapping[str, Sequence[ProbeRun]],
    typed: str = "",
) -> None:
    """Writes every derived file of a probe: `plots`, `tables` by their names in tables/, and the summary and the page, which begin with
    the `overview`; plots that are no longer made are removed. `explored`: the runs that scripts draw, by what they are called; none where
    no layer was measured. Raises: StorageError.
    """
    pictures = {plot.name: (plot.title, draw.draw(plot)) for plot in plots}
    laws = [signal_tables.law_table(run) for run in runs if run.laws and run.seed == runs[0].seed]
    layers = [
        (signal_tables.layer_table(each, most=MOST_ROWS), str(each.lost) if each.lost else "")
        for each in sorted(schemes, key=lambda each: each.lost is None)[:MOST_TABLES]
        if each.layers
    ]
    layers += [(signal_tables.attention_table(each, most=MOST_ROWS), "") for each in schemes[:MOST_TABLES] if each.attention]
    layers += [(signal_tables.embedding_table(each), "") for each in schemes[:MOST_TABLES] if each.embeddings]
    texts = {
        **{f"tables/{name}.csv": text for name, text in tables.items()},
        "summary.md": signal_tables.summary_markdown(subject.title, overview, schemes, runs),
        "report.html": page(
            subject.title,
            signal_tables.verdict_lines(schemes),
            signal_tables.notes(schemes, runs),
            {name: (shown, made[".svg"]) for name, (shown, made) in pictures.items()},
            schemes=overview,
            laws=laws,
            layers=layers,
            provenance=provenance,
            asked=subject.asked,
            question=subject.question,
            several=subject.several,
            trouble=trouble(schemes, subject.at),
            why=why_of_probe([(each.scheme, str(each.lost) if each.lost else None) for each in schemes], runs),
            command=subject.command,
            typed=typed,
            network=_network(runs),
            data=probe_data(explored) if explored else None,
        ),
    }
    store.write_derived(folder, texts, {f"plots/{name}{ending}": made[ending] for name, (_, made) in pictures.items() for ending in made})


def _network(runs: Sequence[ProbeRun]) -> Module | None:
    run = next((run for run in runs if run.init is not None), None)
    return network(run.init, run.layers) if run is not None and run.init is not None else None


def page(
    title: str,
    verdicts: Sequence[str],
    notes: Sequence[str],
    pictures: dict[str, tuple[str, bytes]],
    *,
    schemes: Table | None = None,
    laws: Iterable[Table] = (),
    layers: Iterable[tuple[Table, str]] = (),
    layers_note: str = "",
    points: Table | None = None,
    provenance: dict[str, str],
    asked: tuple[str, str],
    question: str,
    several: str = "schemes",
    trouble: str = "",
    why: str = "",
    command: str | None,
    typed: str = "",
    network: Module | None = None,
    data: dict[str, Any] | None = None,
) -> str:
    """The self-contained page as HTML.

    `layers`: tables, each with how and where the signal is lost, empty where it is not, and what they say where that is another thing
    (`layers_note`); `points`: those of a map; `asked`: the
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
        layers_note=layers_note,
        points=points,
        question=question,
        several=several,
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

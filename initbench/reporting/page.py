"""One self-contained page about a comparison: no network, light and dark, printable."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench.question import config_file
from initbench.question.config import ExperimentConfig
from initbench.question.families import all_schemes
from initbench.reporting.axes import GRID, INK, PAPER
from initbench.reporting.network import Module, network
from initbench.reporting.page_data import page_data
from initbench.reporting.panels import Plot
from initbench.reporting.search import SENSITIVITY, reported_words, study_tables, values_table
from initbench.reporting.tables import Table, layer_table, metric_table, outcome_table, pair_table, scheme_table, with_best
from initbench.reporting.templates import template
from initbench.reporting.why import why
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.summary import Runs

if TYPE_CHECKING:
    from markupsafe import Markup

PLACES, DECIMALS, GAPS = re.compile(r'(?<= [dxy]=")[^"]*'), re.compile(r"(\.\d)\d+"), re.compile(r"\s*([A-Za-z])\s*")
"""The places of lines and marks in a picture, whose second decimal nobody sees, and blanks that no reader of a path needs."""
FONT = re.compile(r" font-family: [^;\"]*;")
"""What each text of a picture says of its font; in a page it has that of the page."""
MOST_LAYER_TABLES = 12
"""Schemes whose layers the page shows as tables; all are in layers.csv."""
OPEN_LAYER_TABLES = 4
"""With more schemes than this their layer tables are folded."""
OF_THE_OCCASION = re.compile(rb'<div class="typed">.*?</div>\n|"pace":\[[^]]*\],', re.DOTALL)
"""What a page says of its command and of time."""


@dataclass(frozen=True)
class LayerSection:
    """The layers of one scheme, and in words what becomes of the signal."""

    scheme: str
    words: str
    lost: bool
    table: Table


def question(config: ExperimentConfig, summary: Summary) -> str:
    """What was asked, in a sentence: `Which initialization for mlp on mnist5k: xavier, kaiming or normal?`."""
    names = [str(ref) for ref in config.schemes]
    network = f"{config.model.shown} on {config.dataset.shown}"
    if summary.recommendation is not None:
        return f"Which initialization for {network}?"
    if summary.sweep is not None:
        network += f" over {' and '.join(summary.sweep.axes)}"
    if len(names) == 1:
        return f"How does {network} train with {names[0]}?"
    *shown, last = names if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"]
    return f"Which initialization for {network}: {', '.join(shown)} or {last}?"


def render(config: ExperimentConfig, summary: Summary, runs: Runs, plots: Sequence[tuple[Plot, bytes]], typed: str = "") -> str:
    """The whole page as HTML; `typed`: the command line that asked, where there was one."""
    from markupsafe import Markup

    every = [run for own in runs.values() for run in own]
    ranked = _best_first(summary)
    best = summary.best if len(summary.best) < len(summary.schemes) else summary.best[:1]
    sections = [_layer_section(summary, each.scheme, runs[each.scheme]) for each in ranked.schemes if each.scheme in runs]
    pictures = [(plot, Markup(inline_svg(content.decode(), plot.title))) for plot, content in plots]
    return template(Path(__file__).with_name("page.html.jinja")).render(
        title=question(config, summary),
        summary=summary,
        schemes=with_best(scheme_table(ranked), best),
        studies=[with_best(table, best) if summary.recommendation else table for table in study_tables(ranked)],
        outcomes=with_best(outcome_table(ranked), best),
        anytime=summary.anytime,
        pairs=pair_table(ranked) if len(summary.schemes) > 2 else None,
        metrics=with_best(metric_table(ranked), best),
        sections=[section for section in sections if section is not None][:MOST_LAYER_TABLES],
        tables_left_out=max(0, len(sections) - MOST_LAYER_TABLES),
        folded=len(sections) > OPEN_LAYER_TABLES,
        sensitivity=[each for each in pictures if each[0].name == SENSITIVITY],
        values=values_table(ranked),
        reported=reported_words(summary),
        plots=[each for each in pictures if each[0].name != SENSITIVITY],
        typed=typed,
        command=_command(config, summary),
        config=config_file.dump_config(config),
        provenance=provenance_of(every),
        why=why(summary, runs),
        network=_network(every),
        data=embedded(page_data(summary, runs)),
        runs=len(every),
        minutes=sum(run.seconds.get("total", 0.0) for run in every) / 60,
    )


def _best_first(summary: Summary) -> Summary:
    """The same with its schemes and pairs as the tables of a page have them: the best first, those without a number last."""
    order = {scheme: place for place, scheme in enumerate(summary.ranking)}
    pairs = sorted(summary.pairs, key=lambda pair: sorted(order[name] for name in pair.names))
    return summary.model_copy(
        update={"schemes": tuple(sorted(summary.schemes, key=lambda each: order[each.scheme])), "pairs": tuple(pairs)}
    )


def without_occasion(page: bytes) -> bytes:
    """A page without the command as typed, and the seconds that steps took: the rest follows from the question and the results."""
    return OF_THE_OCCASION.sub(b"", page)


def embedded(data: dict[str, Any]) -> "Markup":
    """Data as JSON within a page: no name in it can end the element that it stands in."""
    from markupsafe import Markup

    document = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(document.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _network(runs: Sequence[RunResult]) -> Module | None:
    run = next((run for run in runs if run.init is not None), None)
    return network(run.init, [stats for stats in run.layers if stats.step == 0]) if run is not None and run.init is not None else None


def inline_svg(text: str, title: str) -> str:
    """An SVG file as an element of a page: as wide as its column, ink and grid in the page's colours, with a text for screen readers."""
    import html

    body = text[text.index("<svg") :]
    head, rest = body.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    rest = PLACES.sub(lambda place: GAPS.sub(r"\1", DECIMALS.sub(r"\1", place[0])), rest)
    rest = re.sub(r"\n\s*", "\n", FONT.sub("", rest))
    rest = rest.replace(INK, "currentColor").replace(GRID, "var(--grid)").replace(PAPER, "var(--paper)")
    return f'{head} role="img" aria-label="{html.escape(title)}">{rest}'


def _layer_section(summary: Summary, scheme: str, own: list[RunResult]) -> LayerSection | None:
    of_scheme = summary.scheme(scheme)
    table = layer_table(own, of_scheme.signal_lost_at)
    if not table.rows:
        return None
    return LayerSection(scheme, of_scheme.signal or "", of_scheme.signal_lost_at is not None, table)


def _command(config: ExperimentConfig, summary: Summary) -> str:
    if summary.recommendation is not None:
        named = () if set(config.schemes) == set(all_schemes()) else config.schemes
        return " ".join(["initbench recommend -c config.yaml", *(f"-m {scheme}" for scheme in named)])
    command = "initbench compare" if len(config.schemes) > 1 else "initbench run"
    reference = f" --reference {summary.reference}" if summary.only_reference else ""
    usual = summary.metric in {"final_test_accuracy", "signal_decades"}
    look = {"metric": None if usual else summary.metric, "target": summary.target, "margin": summary.margin}
    return f"{command} -c config.yaml{reference}" + "".join(f" --{key} {value}" for key, value in look.items() if value is not None)


def provenance_of(runs: Sequence[RunResult]) -> list[tuple[str, str]]:
    """Each fact about how the runs were made, with all of its values where machines differ."""
    facts: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.provenance.items():
            facts.setdefault(name, set()).add(value)
    return [(name, ", ".join(sorted(values))) for name, values in facts.items()]

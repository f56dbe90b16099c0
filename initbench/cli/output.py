"""The only file that prints, with `live.py` for runs under way: data to stdout, everything for people to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from initbench.cli.columns import fit
from initbench.cli.guide import Listed, Page
from initbench.errors import printable_lines
from initbench.question.catalog import Entry, Parameter
from initbench.question.config import value_text
from initbench.question.plan import changes, name_user_files
from initbench.results.record import RunResult
from initbench.statistics.curves import HEIGHTS
from initbench.statistics.estimates import seconds_text, seeds_text
from initbench.statistics.findings import Summary
from initbench.statistics.inference import seeds_needed
from initbench.studies.plan import Plan
from initbench.studies.published import Replication

if TYPE_CHECKING:
    from initbench.cli.doctor import HealthCheck
    from initbench.data.manage import DataStatus
    from initbench.init.checks import SchemeCheck
    from initbench.reporting.tables import Table as TextTable


BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*#@"
"""Eight heights of a curve, and what stands for them where a terminal has no such letters."""
MOST_VALUES_SHOWN = 12
"""Values of an axis of a sweep that are all written out."""
LEAST_COLUMNS = 3
"""So many columns a table has, however narrow the terminal."""
LONGEST = 1000
"""Letters of a line about a problem, at most."""


def literal(content: str) -> str:
    """Text of anybody's for rich: no markup, and no control characters."""
    return escape(printable_lines(content))


def people() -> Console:
    """Where everything for people goes: stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _tell(console: Console, content: str, style: str = "", title: str = "") -> None:
    """Prints sentences, the `title` they begin with in `style`, or all of them. A terminal gets lines that end between words."""
    content = printable_lines(content)
    if console.is_terminal:
        lines = (
            fill(
                line,
                console.width,
                subsequent_indent=" " * (len(line) - len(line.lstrip())),
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line in content.splitlines()
        )
        content = "\n".join(lines)
    told = Text(content, "" if title else style)
    told.stylize(style, 0, len(title))
    console.print(told, soft_wrap=True)


def say(text: str) -> None:
    """A line for people."""
    _tell(people(), text)


def hint(text: str) -> None:
    """A quiet line for people: where to look, what to do next."""
    _tell(people(), text, "dim")


def warn(text: str) -> None:
    """Something that is not as it should be, and what to do about it."""
    _tell(people(), f"Warning: {text}", "yellow", "Warning:")


def at_once(text: str) -> None:
    """A line for people from within a signal handler, where nothing that has a buffer can be used."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def annotation(line: str) -> None:
    """A line that GitHub reads, on stderr."""
    print(line, file=sys.stderr)


def error(text: str) -> None:
    """Why it does not go on; one problem a line, of a very long one (a name of thousands of letters) the beginning and the end."""
    lines = [line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}" for line in text.splitlines() or [""]]
    title = "Error:" if len(lines) == 1 else f"{len(lines)} errors:"
    _tell(people(), f"{title} {lines[0]}" if len(lines) == 1 else "\n  ".join([title, *lines]), "bold red", title)


def document(data: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False))


def text(content: str) -> None:
    """Text as it is but for control characters, on stdout."""
    print(printable_lines(content).rstrip("\n"))


def sentence(content: str) -> None:
    """A sentence on stdout: on a terminal broken between words, elsewhere one line."""
    _tell(Console(highlight=False), content)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    best: frozenset[int] = frozenset(),
) -> None:
    """A table on stdout; the columns in `right` are aligned there, the rows in `best` bold. What does not fit goes to further lines."""
    console = Console(highlight=False)
    if title:
        console.print(f"[bold]{literal(title)}[/bold]")
    fitted = fit(columns, rows, right, console.width)
    left_out: list[str] = []
    while fitted.width > console.width and len(fitted.columns) > LEAST_COLUMNS and (console.is_terminal or "COLUMNS" in os.environ):
        left_out.insert(0, columns[len(fitted.columns) - 1])
        shown = len(columns) - len(left_out)
        fitted = fit(columns[:shown], [row[:shown] for row in rows], right, console.width)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, (column, width) in enumerate(zip(fitted.columns, fitted.widths, strict=True)):
        drawn.add_column(column, justify="right" if index in right else "left", width=width, no_wrap=index in right, overflow="fold")
    for index, row in enumerate(fitted.rows):
        drawn.add_row(*(literal(cell) for cell in row), style="bold" if index in best else None)
    Console(highlight=False, width=max(console.width, fitted.width)).print(drawn)
    if left_out:
        hint(f"No room on this terminal for: {'; '.join(left_out)}.")


def listing(title: str, lines: Iterable[Listed]) -> None:
    """Names grouped by family, a line each."""
    by_family: dict[str, list[Listed]] = {}
    for line in lines:
        by_family.setdefault(line.family, []).append(line)
    console = Console(highlight=False)
    width = max((len(line.name) for group in by_family.values() for line in group), default=0)
    console.print(f"[bold]{title}[/bold]" + ("" if by_family else "  (none)"))
    for family in sorted(by_family):
        if family:
            console.print(f"\n[italic]{literal(family)}[/italic]")
        drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        drawn.add_column(min_width=width, no_wrap=True)
        drawn.add_column(overflow="fold")
        for line in by_family[family]:
            also = f" [dim]Also: {', '.join(line.aliases)}.[/dim]" if line.aliases else ""
            drawn.add_row(f"[cyan]{literal(line.name)}[/cyan]", literal(line.summary) + also)
        console.print(drawn)
    console.print()


def checks(results: Iterable[HealthCheck]) -> None:
    """What `doctor` found, with what to do where something does not work."""
    marks = {"fine": "[green]fine[/green]", "limited": "[yellow]limited[/yellow]", "broken": "[red]broken[/red]"}
    rows = [(marks[check.state], check.what, literal(" ".join(part for part in (check.found, check.remedy) if part))) for check in results]
    Console(highlight=False).print(_grid(rows))


def data_files(statuses: Iterable[DataStatus]) -> None:
    """The datasets and their files."""
    columns = ("dataset", "state", "training", "test", "shape", "classes", "digest")
    table("", columns, [_data_row(status) for status in statuses], right=frozenset({2, 3}))


def _data_row(status: DataStatus) -> tuple[str, ...]:
    state = "damaged" if status.problem else "there" if status.there else "not there"
    if status.record is None:
        return (status.name, state, "", "", "", "", "")
    record = status.record
    shape = "x".join(str(size) for size in record.shape)
    return (status.name, state, f"{record.train_images:,}", f"{record.test_images:,}", shape, str(record.classes), record.digest[:12])


@contextmanager
def download(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for a download; gives the function to call with (bytes so far, bytes in all)."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = people()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def dry_run(plan: Plan, parameters: int | None) -> None:
    """What would be run, and what is done already; `parameters` are None where they were not counted."""
    missing = {name for name, _ in plan.missing}
    rows: list[tuple[str, ...]] = [
        (name, str(job.scheme), str(job.seed), ", ".join(changes(job, plan.config)), "to do" if name in missing else "done")
        for name, job in plan.jobs
    ]
    columns: tuple[str, ...] = ("job", "scheme", "seed", "with", "state")
    if not any(row[3] for row in rows):
        rows, columns = [(*row[:3], row[4]) for row in rows], (*columns[:3], columns[4])
    table(question_text(plan), columns, rows, right=frozenset({2}))
    more = f" What they show decides on further ones. {outlook_text(plan)}".rstrip() if plan.study.SEARCHES else ""
    counted = "" if parameters is None else f"{parameters:,} trainable parameters; "
    sentence(f"{counted}{len(missing)} of {count_text(len(rows), 'run')} to do.{more} Results: {plan.folder}")
    _say_doubt(plan)


def dry_sweep(plan: Plan, seconds: float | None) -> None:
    """How large a sweep is, what of it is done, and how long the rest takes; `seconds` are None where that cannot be told."""
    grid = plan.config.grid
    axes = grid.axes.items() if grid is not None else ()
    rows = [(key, _values_text(values), str(len(values))) for key, values in axes]
    schemes = ", ".join(map(str, plan.config.schemes))
    rows += [("schemes", schemes, str(len(plan.config.schemes))), ("seeds", "", str(len(plan.config.seeds)))]
    table(question_text(plan), ("axis", "values", "number"), rows, right=frozenset({2}))
    where = f", where {' and '.join(grid.where)}" if grid is not None and grid.where else ""
    cells = len(plan.jobs) // (len(plan.config.schemes) * len(plan.config.seeds))
    there = f", {len(plan.elsewhere)} finished in other folders, which are taken from there" * bool(plan.elsewhere)
    left = len(plan.missing) - len(plan.elsewhere)
    time = ""
    if seconds is not None:
        time = f", about {seconds_text(seconds)} of training by a few steps of some of them"
    elif left and name_user_files(job for _, job in plan.missing):
        time = "; how long it takes is not measured, as a look at a plan runs no code of yours"
    sentence(f"{count_text(cells, 'cell')}{where}, {count_text(len(plan.jobs), 'run')}: {len(plan.done)} done{there}, {left} to do{time}.")
    sentence(f"Results: {plan.folder}")
    _say_doubt(plan)


def _say_doubt(plan: Plan) -> None:
    if doubt := seeds_doubt(plan):
        hint(doubt)


def _values_text(values: Sequence[Any]) -> str:
    """The values of an axis; of many the first and the last."""
    texts = [value_text(value) for value in values]
    return ", ".join(texts if len(texts) <= MOST_VALUES_SHOWN else [*texts[:4], "...", *texts[-2:]])


def outcome(summary: Summary) -> None:
    """The table of schemes, the sentence that says who won and, on stderr, what a reader must know."""
    from initbench.reporting import search, sweep, tables

    of_cells = (sweep.table(summary),) if summary.sweep is not None else ()
    for drawn in of_cells or (*_with_curves(tables.scheme_table(summary), summary), *search.study_tables(summary)):
        table(drawn.title, drawn.columns, drawn.rows, right=drawn.right, best=drawn.best | drawn.level)
        text("")
    sentence(summary.headline + ".")
    if summary.recommendation is not None and summary.recommendation.code:
        text("\n" + summary.recommendation.code)
    for note in summary.notes:
        hint(note)


def _with_curves(drawn: TextTable, summary: Summary) -> tuple[TextTable, ...]:
    """The table with the loss and the signal as curves of a few letters; a terminal that has no room beside gets these in a table below."""
    letters = str.maketrans(HEIGHTS, BLOCKS if _can_print(BLOCKS) else PLAIN)
    ranked = [summary.scheme(row[0]) for row in drawn.rows]
    every = {
        "loss, by step": [scheme.loss_by_step.translate(letters) for scheme in ranked],
        "signal, by layer": [scheme.signal_by_layer.translate(letters) for scheme in ranked],
    }
    found = {heading: curves for heading, curves in every.items() if any(curves)}
    rows = tuple((*row, *curves) for row, *curves in zip(drawn.rows, *found.values(), strict=True))
    wider = replace(drawn, columns=(*drawn.columns, *found), rows=rows)
    console = Console()
    if fit(wider.columns, wider.rows, wider.right, console.width).width <= console.width:
        return (wider,)
    if not console.is_terminal or not found:
        return (drawn,)
    alone = tuple((row[0], *row[len(drawn.columns) :]) for row in rows)
    return drawn, replace(drawn, title="", columns=("scheme", *found), rows=alone, right=frozenset())


def _can_print(letters: str) -> bool:
    """Whether stdout has these letters."""
    try:
        letters.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def published(figures: Iterable[Replication]) -> None:
    """Published figures beside the measured ones, a table a source."""
    by_title: dict[str, list[Replication]] = {}
    for line in figures:
        by_title.setdefault(f"{line.title} ({line.source})", []).append(line)
    for title, lines in by_title.items():
        columns = ("figure", "scheme", "published", "accepted", "here", "n", "verdict")
        table(title, columns, [_published_row(line) for line in lines], right=frozenset({4, 5}))
        text("")


def _published_row(line: Replication) -> tuple[str, ...]:
    here = "" if line.here is None else f"{line.here:.3g}"
    if line.here_low is not None and line.here_high is not None:
        here += f" [{line.here_low:.3g}, {line.here_high:.3g}]"
    accepted = f"{line.figure.low:g} to {line.figure.high:g}"
    return (line.figure.what, line.figure.scheme, line.figure.published, accepted, here, str(line.n), line.agreement.value)


def layers(summary: Summary, results: Sequence[RunResult]) -> None:
    """A table of layers for each scheme: signal, gradient and weights before the first step."""
    from initbench.reporting import tables

    for scheme in summary.schemes:
        runs = [run for run in results if str(run.job.scheme) == scheme.scheme and run.layers]
        if runs:
            drawn = tables.layer_table(runs, scheme.signal_lost_at)
            table(f"{scheme.scheme}, before the first step", drawn.columns, drawn.rows, right=drawn.right)
            text("")


def scheme_checks(results: Iterable[SchemeCheck]) -> None:
    """What a scheme owes, a line each."""
    marks = {True: "[green]passed[/green]", False: "[red]failed[/red]"}
    Console(highlight=False).print(_grid((marks[check.passed], check.what, literal(check.found)) for check in results))


def entry_page(entry: Entry, page: Page, command: str, example: str) -> None:
    """Everything the catalogue knows of one name, and a `command` and an `example` in Python that use it."""
    console = Console(highlight=False)
    console.print(f"[bold cyan]{literal(entry.name)}[/bold cyan] [dim]({entry.kind}{f', {entry.family}' if entry.family else ''})[/dim]\n")
    console.print(literal(page.summary))
    for paragraph in page.formula:
        console.print(f"\n{literal(paragraph)}")
    for title, part in (("Applies to", page.applies), ("Needs", page.needs)):
        if part:
            console.print(f"\n[bold]{title}[/bold] {literal(part)}")
    if entry.aliases:
        console.print("\n[bold]Also known as[/bold]")
        for alias, params in sorted(entry.aliases.items()):
            meaning = f" = {entry.name}:" + ",".join(f"{key}={value}" for key, value in params.items()) if params else ""
            console.print(f"  {alias}{meaning}")
    if entry.parameters:
        console.print("\n[bold]Parameters[/bold]")
        console.print(_grid((_parameter_row(parameter) for parameter in entry.parameters), indent=2))
    if page.source:
        console.print(f"\n[bold]Source[/bold]\n{literal(page.source)}")
    console.print(f"\n[bold]File[/bold]\n  {literal(entry.path.name)} [dim]in {literal(str(entry.path.parent))}[/dim]", soft_wrap=True)
    console.print(f"\n[bold]On the command line[/bold]\n{literal(command)}", soft_wrap=True)
    console.print(f"\n[bold]In Python[/bold]\n{literal(example)}", soft_wrap=True)


def _parameter_row(parameter: Parameter) -> tuple[str, ...]:
    default = "required" if parameter.required else f"default {plain(parameter.default)}"
    allowed = ", ".join(map(str, parameter.choices)) or parameter.annotation
    return f"[cyan]{parameter.name}[/cyan]", literal(allowed), literal(default)


def _grid(rows: Iterable[Sequence[str]], indent: int = 0) -> Table:
    """Rows of markup without a header, in columns as wide as they need."""
    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, indent))
    for row in rows:
        drawn.add_row(*row)
    return drawn


def question_text(plan: Plan) -> str:
    """What is asked, in words: `3 schemes x 8 seeds with mlp on mnist5k`."""
    config = plan.config
    seeds = ("up to " if config.until is not None else "") + count_text(len(config.seeds), "seed")
    return f"{count_text(len(config.schemes), 'scheme')} x {seeds} with {config.model.shown} on {config.dataset.shown}"


def news_text(plan: Plan) -> tuple[str, ...]:
    """How open comparisons stand, where seeds are added until they are decided."""
    if plan.config.until is None:
        return ()
    from initbench.studies import until

    return until.news(plan.config, plan.results)


def outlook_text(plan: Plan) -> str:
    """What may still come where results decide that, and how long it takes: empty where the jobs say it all."""
    from initbench.studies.execution import runs_at_once

    coming = plan.study.outlook(plan.config, plan.results)
    if coming is None:
        return ""
    steps = "" if coming.steps is None else f" and {coming.steps:,} steps"
    what = "it" if plan.config.until is not None else "the race"
    amount = f"{what} takes at most {count_text(coming.runs, 'run')}{steps}"
    if coming.seconds is None:
        return f"From here on {amount}; after its first run you are told how long that is."
    workers = min(runs_at_once(plan.execution), max(1, coming.runs))
    at_once = f", {workers} at once" if workers > 1 else ""
    return f"From here on {amount}: about {seconds_text(coming.seconds / workers)} at the pace of the runs so far{at_once}."


def seeds_doubt(plan: Plan) -> str:
    """That so few seeds can show no difference, whatever it is; empty where they can, or where the command chooses how many it takes."""
    schemes, seeds = len(plan.config.schemes), len(plan.config.seeds)
    if plan.config.until is not None:
        return ""
    if plan.command == "sweep" and schemes > 1 and seeds < seeds_needed(1):
        return f"{seeds_text(seeds)} cannot show a difference in any cell, however large: for that, use --seeds {seeds_needed(1)} or more."
    asked = schemes - 1 if plan.view.reference else schemes * (schemes - 1) // 2
    needed = seeds_needed(asked) if schemes > 1 and plan.command == "compare" else 0
    if seeds >= needed:
        return ""
    fewer = seeds_needed(schemes - 1)
    instead = f", or {fewer} and a --reference that the others are compared with" if fewer < needed else ""
    return (
        f"{seeds_text(seeds)} cannot show a difference between {schemes} schemes, however large: for that, use --seeds {needed}{instead}."
    )


def count_text(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def plain(value: Any) -> str:
    """A default value as a config file has it."""
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)

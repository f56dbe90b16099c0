"""The only file that prints: data to stdout, everything for people to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initbench.catalog import Entry
from initbench.guide import Line
from initbench.provenance import Check
from initbench.results import RunResult, RunStatus
from initbench.route import Plan
from initbench.summary import Summary

if TYPE_CHECKING:
    from rich.progress import TaskID

    from initbench.datasets.manage import DataStatus
    from initbench.engines import Progress


STYLES = {RunStatus.COMPLETED: "green", RunStatus.DIVERGED: "yellow", RunStatus.FAILED: "red", RunStatus.SKIPPED: "dim"}
"""The colour of each way a run ends, on a terminal that has colours."""


def _data() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _people() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for people."""
    _people().print(escape(text))


def hint(text: str) -> None:
    """A quiet line for people: where to look, what to do next."""
    _people().print(f"[dim]{escape(text)}[/dim]")


def warn(text: str) -> None:
    """Something that is not as it should be, and what to do about it."""
    _people().print(f"[yellow]Warning:[/yellow] {escape(text)}")


def error(text: str) -> None:
    """Why it does not go on; one problem a line."""
    lines = text.splitlines() or [""]
    title = "Error:" if len(lines) == 1 else f"{len(lines)} errors:\n "
    _people().print(f"[bold red]{title}[/bold red] " + "\n  ".join(escape(line) for line in lines))


def document(data: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False))


def text(content: str) -> None:
    """Text as it is, on stdout."""
    print(content.rstrip("\n"))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset(), note: str = ""
) -> None:
    """A table on stdout that fits the width; the columns in `right` are aligned there."""
    console = Console(highlight=False)
    drawn = Table(title=escape(title) or None, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    console.print(drawn)
    if note:
        console.print(f"[dim]{escape(note)}[/dim]")


def listing(title: str, lines: Iterable[Line]) -> None:
    """Names grouped by family, a line each."""
    by_family: dict[str, list[Line]] = {}
    for line in lines:
        by_family.setdefault(line.family, []).append(line)
    console = Console(highlight=False)
    width = max((len(line.name) for found in by_family.values() for line in found), default=0)
    console.print(f"[bold]{title}[/bold]" + ("" if by_family else "  (none)"))
    for family in sorted(by_family):
        if family:
            console.print(f"\n[italic]{escape(family)}[/italic]")
        drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        drawn.add_column(min_width=width, no_wrap=True)
        drawn.add_column(overflow="fold")
        for line in by_family[family]:
            also = f" [dim]Also: {', '.join(line.aliases)}.[/dim]" if line.aliases else ""
            drawn.add_row(f"[cyan]{escape(line.name)}[/cyan]", escape(line.summary) + also)
        console.print(drawn)
    console.print()


def checks(found: Iterable[Check]) -> None:
    """What `doctor` found, with what to do where something does not work."""
    console = Console(highlight=False)
    marks = {"fine": "[green]fine[/green]", "limited": "[yellow]limited[/yellow]", "broken": "[red]broken[/red]"}
    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for check in found:
        drawn.add_row(marks[check.state], check.what, escape(" ".join(part for part in (check.found, check.remedy) if part)))
    console.print(drawn)


def data_files(found: Iterable[DataStatus]) -> None:
    """The datasets and their files."""
    columns = ("dataset", "state", "training", "test", "shape", "classes", "digest")
    table("", columns, [_data_row(status) for status in found], right=frozenset({2, 3}))


def _data_row(status: DataStatus) -> tuple[str, ...]:
    state = "damaged" if status.problem else "there" if status.there else f"get it: initbench data get {status.name}"
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

    console = _people()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def dry_run(steps: Plan, parameters: int) -> None:
    """What would be run, and what is done already."""
    missing = {name for name, _ in steps.missing}
    rows = [(name, str(job.scheme), str(job.seed), "to do" if name in missing else "done") for name, job in steps.jobs]
    table(_question(steps), ("job", "scheme", "seed", "state"), rows, right=frozenset({2}))
    text(f"{parameters:,} trainable parameters; {len(missing)} of {_count(len(rows), 'run')} to do. Results: {steps.folder}")


def outcome(summary: Summary) -> None:
    """The table of schemes, the sentence that says who won, and what a reader must know."""
    from initbench.report import tables

    drawn = tables.scheme_table(summary)
    table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
    text("")
    text(summary.headline + ".")
    for note in summary.notes:
        hint(note)


def entry_page(entry: Entry, example: str) -> None:
    """Everything the catalogue knows of one name."""
    console = Console(highlight=False)
    console.print(f"[bold cyan]{escape(entry.name)}[/bold cyan] [dim]({entry.kind})[/dim]\n")
    console.print("\n\n".join(escape(_flowing(paragraph)) for paragraph in entry.doc.strip().split("\n\n")))
    if entry.aliases:
        console.print("\n[bold]Also known as[/bold]")
        for alias, params in sorted(entry.aliases.items()):
            console.print(
                f"  {alias}" + (f" = {entry.name}:" + ",".join(f"{key}={value}" for key, value in params.items()) if params else "")
            )
    if entry.parameters:
        console.print("\n[bold]Parameters[/bold]")
        drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        for parameter in entry.parameters:
            default = "required" if parameter.required else f"default {_plain(parameter.default)}"
            drawn.add_row(f"[cyan]{parameter.name}[/cyan]", escape(parameter.annotation), escape(default))
        console.print(drawn)
    console.print(f"\n[bold]File[/bold]\n  {escape(entry.path.name)} [dim]in {escape(str(entry.path.parent))}[/dim]", soft_wrap=True)
    console.print(f"\n[bold]In Python[/bold]\n{escape(example)}", soft_wrap=True)


def _flowing(paragraph: str) -> str:
    """A paragraph without its line ends; indented ones and lists keep theirs."""
    lines = paragraph.splitlines()
    return paragraph if any(line.startswith((" ", "-", "*")) for line in lines) else " ".join(lines)


class RunScreen:
    """Tells how the runs go: live bars on a terminal, one plain line a finished run elsewhere."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.console = _people()
        self.live = self.console.is_terminal and not quiet
        self.labels: dict[str, str] = {}
        self.finished_runs = 0
        self.bars: _Bars | None = None

    def planned(self, steps: Plan) -> None:
        """Says what will be done."""
        self.labels = {name: f"{job.scheme}, seed {job.seed}" for name, job in steps.missing}
        if self.quiet:
            return
        kept = f", {len(steps.done)} done before" if steps.done else ""
        say(f"{_count(len(self.labels), 'run')} of {_question(steps)}{kept}.")
        if self.live:
            self.bars = _Bars(self.console, self.labels)

    def progress(self, sign: Progress) -> None:
        """Moves the bar of a run under way."""
        if self.bars:
            self.bars.move(sign)

    def finished(self, result: RunResult) -> None:
        """Counts a finished run; what went wrong is always said."""
        self.finished_runs += 1
        if self.bars:
            self.bars.finish(result.job_id)
        wrong = result.status is RunStatus.FAILED
        if not self.quiet and (wrong or self.verbose or not self.live):
            label = (
                f"[{self.finished_runs:>{len(str(len(self.labels)))}}/{len(self.labels)}] {self.labels.get(result.job_id, result.job_id)}"
            )
            self.console.print(f"{escape(label)}: [{STYLES[result.status]}]{escape(_outcome(result))}[/]")

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self.bars:
            self.bars.close()
        self.bars = None


@contextmanager
def run_screen(*, quiet: bool, verbose: bool) -> Iterator[RunScreen]:
    """A `RunScreen` that is closed whatever happens."""
    screen = RunScreen(quiet=quiet, verbose=verbose)
    try:
        yield screen
    finally:
        screen.close()


class _Bars:
    """One bar over all runs and one for each that is under way."""

    def __init__(self, console: Console, labels: dict[str, str]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
        self.bars = Bars(*columns, console=console, transient=True)
        self.labels = labels
        self.shares: dict[str, float] = {}
        self.tasks: dict[str, TaskID] = {}
        self.total = self.bars.add_task("all runs", total=len(labels))
        self.bars.start()

    def move(self, sign: Progress) -> None:
        if sign.job_id not in self.tasks:
            self.tasks[sign.job_id] = self.bars.add_task(self.labels.get(sign.job_id, ""), total=sign.total)
        self.bars.update(self.tasks[sign.job_id], completed=sign.done)
        self.shares[sign.job_id] = sign.done / max(1, sign.total)
        self.bars.update(self.total, completed=sum(self.shares.values()))

    def finish(self, job_id: str) -> None:
        if job_id in self.tasks:
            self.bars.remove_task(self.tasks.pop(job_id))
        self.shares[job_id] = 1.0
        self.bars.update(self.total, completed=sum(self.shares.values()))

    def close(self) -> None:
        self.bars.stop()


def _question(steps: Plan) -> str:
    config = steps.config
    return f"{_count(len(config.schemes), 'scheme')} x {_count(len(config.seeds), 'seed')} with {config.model} on {config.dataset}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _outcome(result: RunResult) -> str:
    if result.status is RunStatus.DIVERGED:
        return f"diverged at step {result.first_bad_step}"
    if result.status is not RunStatus.COMPLETED:
        return f"{result.status}: {result.reason}"
    seconds = f" ({result.seconds['total']:.1f} s)" if "total" in result.seconds else ""
    last = result.evaluations[-1] if result.evaluations else None
    if last is None or last.test_accuracy is None or last.test_loss is None:
        return f"completed{seconds}"
    return f"{last.test_accuracy:.1%} test accuracy, loss {last.test_loss:.3f}{seconds}"


def _plain(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)

"""What is printed while runs are under way: live bars on a terminal, one plain line a finished run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from initbench.cli.output import count_text, literal, news_text, outlook_text, people, question_text, seeds_doubt
from initbench.results.record import RunResult, RunStatus
from initbench.studies.plan import Plan
from initbench.workers.progress import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

STYLES = {RunStatus.COMPLETED: "green", RunStatus.DIVERGED: "yellow", RunStatus.FAILED: "red", RunStatus.SKIPPED: "dim"}
"""The colour of each way a run ends, on a terminal that has colours."""


class RunScreen:
    """Tells how the runs go: live bars on a terminal, one plain line a finished run elsewhere."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.console = people()
        self.live = self.console.is_terminal and not quiet
        self.labels: Mapping[str, str] = {}
        self.finished_runs = 0
        self.rounds = 0
        self.bars: _Bars | None = None

    def planned(self, plan: Plan) -> None:
        """Says what will be done."""
        self.close()
        self.finished_runs = 0
        self.labels = plan.labels()
        self.rounds += bool(self.labels)
        if self.quiet:
            return
        taken = f", {plan.taken} of them copied from other folders" if plan.taken else ""
        before = f", {len(plan.done)} done before{taken}" if plan.done else ""
        runs = count_text(len(self.labels), "run") if self.labels else "Nothing to run"
        of = " in this round of" if plan.study.SEARCHES and self.labels else ":"
        more = (*news_text(plan), outlook_text(plan), seeds_doubt(plan)) if self.labels else ()
        lines = [said for said in (f"{runs}{of} {question_text(plan)}{before}.", *more) if said]
        stay = self.live and plan.config.until is not None and self.rounds > 1  # in the place of those of the round before
        for said in () if stay else lines:
            self.console.print(literal(said))
        if self.live and self.labels:
            self.bars = _Bars(self.console, self.labels, lines if stay else ())

    def progress(self, sign: Progress) -> None:
        """Moves the bar of a run under way."""
        if self.bars and sign.total:
            self.bars.move(sign)

    def finished(self, result: RunResult) -> None:
        """Counts a finished run; what went wrong is always said."""
        self.finished_runs += 1
        if self.bars:
            self.bars.finish(result.job_id)
        wrong = result.status is RunStatus.FAILED
        if wrong or (not self.quiet and (self.verbose or not self.live)):
            label = (
                f"[{self.finished_runs:>{len(str(len(self.labels)))}}/{len(self.labels)}] {self.labels.get(result.job_id, result.job_id)}"
            )
            self.console.print(f"{literal(label)}: [{STYLES[result.status]}]{literal(_outcome(result))}[/]")

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self.bars:
            self.bars.close()
        self.bars = None


def _rich_bars(console: Console, above: Sequence[str] = ()) -> Bars:
    """Bars that say what, how many of how many, and how long the others take; `above` them stand lines."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    class Below(Bars):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from map(literal, above)
            yield from super().get_renderables()

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    return Below(*columns, console=console, transient=True)


@contextmanager
def probe_bar(total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar over the parts of a probe on a terminal, from the first second on; gives what is to be told the name of a finished part."""
    console = people()
    if quiet or not console.is_terminal:
        yield lambda _name: None
        return
    with _rich_bars(console) as bars:
        task = bars.add_task("building the model", total=total)
        yield lambda name: bars.update(task, advance=1, description=literal(f"probed {name}"))


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

    def __init__(self, console: Console, labels: Mapping[str, str], above: Sequence[str] = ()) -> None:
        self.bars = _rich_bars(console, above)
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
        written = len(self.shares) == len(self.labels) and all(share == 1.0 for share in self.shares.values())
        self.bars.update(self.total, completed=sum(self.shares.values()), description="writing tables and plots" if written else "all runs")

    def close(self) -> None:
        self.bars.stop()


def _outcome(result: RunResult) -> str:
    if result.status is RunStatus.DIVERGED:
        return f"diverged at step {result.first_bad_step}"
    if result.status is not RunStatus.COMPLETED:
        return f"{result.status}: {result.reason}"
    seconds = f" ({result.seconds['total']:.1f} s)" if "total" in result.seconds else ""
    last = result.evaluations[-1] if result.evaluations else None
    if last is None or last.test_loss is None:
        return f"completed{seconds}"
    split = "held-out" if result.job.train.holdout else "test"
    if result.score is not None and last.test_score is not None:
        return f"{split} {result.score.name} {last.test_score:.3f}, loss {last.test_loss:.3f}{seconds}"
    if last.test_accuracy is None:
        return f"{split} loss {last.test_loss:.3f}{seconds}"
    return f"{100 * last.test_accuracy:.1f} % {split} accuracy, loss {last.test_loss:.3f}{seconds}"

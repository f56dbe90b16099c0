"""What commands that train have in common: run a plan, show what it gave, leave in order when stopped."""

import typer

from initbench import api
from initbench.cli import output as console
from initbench.cli.live import run_screen
from initbench.cli.stopping import StopRequest, stoppable
from initbench.cli.timing import TimingWatch
from initbench.results.record import RunStatus

FAILED_RUNS = 3
"""The exit code of a command that finished with failed runs among its results."""
SIGNAL_BASE = 128
"""Exit codes of a command stopped by a signal begin here."""


def carry_out(steps: api.Plan, *, dry_run: bool, as_json: bool, quiet: bool, verbose: bool, profile: bool = False) -> None:
    """Runs a plan and shows what it gave; with `dry_run` only says what would be done. Leaves with 3 when runs failed.

    With `profile`, where the time went comes last, on stderr.
    """
    if dry_run:
        parameters = api.parameters_of(steps)
        if as_json:
            jobs = [{"job_id": name, "scheme": str(job.scheme), "seed": job.seed} for name, job in steps.jobs]
            missing = [name for name, _ in steps.missing]
            console.document({"folder": str(steps.folder), "parameters": parameters, "jobs": jobs, "missing": missing})
        else:
            console.dry_run(steps, parameters)
        return
    timing = TimingWatch()
    results = run_plan(steps, quiet=quiet, verbose=verbose, timing=timing)
    show(results, as_json=as_json, quiet=quiet, layers=verbose or steps.command == "run")
    if profile:
        console.say("\n".join(timing.lines()))
    failed = [result for result in results.results if result.status is RunStatus.FAILED]
    if failed:
        console.warn(f"{len(failed)} of {len(results.results)} runs failed. Try them again with: initbench resume {results.folder}")
        raise typer.Exit(FAILED_RUNS)


def show(results: api.Results, *, as_json: bool, quiet: bool, layers: bool = False) -> None:
    """Prints the answer: tables and verdict, or one JSON document."""
    if as_json:
        console.document(api.document(results))
    else:
        if layers:
            console.layers(results.summary, results.results)
        console.outcome(results.summary, quiet=quiet)
    if results.missing:
        planned = results.missing + len(results.results)
        console.warn(f"{results.missing} of {planned} runs are not there yet. Go on with: initbench resume {results.folder}")
    for doubt in results.doubts:
        console.warn(doubt)
    if not quiet:
        console.hint(f"Results: {results.folder}. Open {results.folder / 'report.html'}")


def run_plan(steps: api.Plan, *, quiet: bool, verbose: bool, timing: TimingWatch | None = None) -> api.Results:
    """Carries out a plan; when the user stops it, says what is saved and how to go on."""
    try:
        with run_screen(quiet=quiet, verbose=verbose) as screen, stoppable(timing.over(screen) if timing else screen) as watch:
            return api.carry_out(steps, watch)
    except StopRequest as stop:
        now = api.as_it_stands(steps)
        if now.done:
            console.say(f"Stopped. {len(now.done)} of {len(now.jobs)} runs are saved. Go on with: initbench resume {steps.folder}")
        else:
            console.say("Stopped before a run was finished; nothing is saved.")
        raise typer.Exit(SIGNAL_BASE + stop.number) from None

"""What commands that train have in common: run a plan, show what it gave, leave in order when stopped."""

from typing import Any

import typer

from initbench.cli import output
from initbench.cli.heartbeat import heartbeat
from initbench.cli.live import run_screen
from initbench.cli.options import DisplayOptions
from initbench.cli.stopping import SIGNAL_BASE, StopRequest, stoppable
from initbench.cli.timing import TimingWatch
from initbench.errors import NotThereError
from initbench.question.grid import cells
from initbench.question.plan import name_user_files
from initbench.results import unfinished
from initbench.studies.answer import Results
from initbench.studies.execution import carry_out, look_ahead
from initbench.studies.plan import Plan, as_it_stands

MOST_COUNTED = 10_000
"""Runs of a plan, at most, of which parameters are counted for saying what would be done."""
FAILED_RUNS = 3
"""The exit code of a command that finished with failed runs among its results, or with runs that are missing."""


def run_and_show(plan: Plan, display: DisplayOptions, *, dry_run: bool, profile: bool = False) -> None:
    """Runs a plan and shows what it gave; with `dry_run` only says what would be done. Leaves with 3 when runs failed.

    With `profile`, where the time went comes last, on stderr.
    """
    for note in plan.notes:
        output.warn(note)
    if dry_run:
        _show_plan(plan, as_json=display.as_json)
        try:
            look_ahead(plan.execution)
        except NotThereError as error:
            output.warn(str(error))
        return
    timing = TimingWatch()
    results = run_plan(plan, display, timing)
    show_results(results, display, layers=display.verbose or plan.command == "run")
    if profile:
        output.say("\n".join(timing.lines()))
    if results.failed:
        output.warn(f"{results.failed}. Try them again with: initbench resume {results.folder}")
        raise typer.Exit(FAILED_RUNS)
    if results.missing:
        raise typer.Exit(FAILED_RUNS)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    """Says what would be done; and how many trainable parameters the model has, which is built for that where no code but ours runs,
    and where the plan itself does not take longer.
    """
    if plan.config.grid is not None and not as_json:
        from initbench.studies.pilot import estimated_seconds

        output.dry_sweep(plan, estimated_seconds(plan))
        return
    parameters = None
    if len(plan.jobs) <= MOST_COUNTED and not name_user_files(job for _, job in plan.jobs):
        from initbench.training.job import check

        parameters = check(plan.jobs[0][1], device="cpu", data_dir=plan.execution.data_dir)
    if as_json:
        jobs = [{"job_id": name, "scheme": str(job.scheme), "seed": job.seed} for name, job in plan.jobs]
        missing = [name for name, _ in plan.missing]
        output.document({"folder": str(plan.folder), "parameters": parameters, **_cells(plan), "jobs": jobs, "missing": missing})
    else:
        output.dry_run(plan, parameters)


def _cells(plan: Plan) -> dict[str, Any]:
    """Of a sweep its axes, and each cell with its values and jobs."""
    if plan.config.grid is None:
        return {}
    each, every = len(plan.config.schemes), cells(plan.config)
    jobs: list[list[str]] = [[] for _ in every]
    for place, (name, _) in enumerate(plan.jobs):
        jobs[place // each % len(every)].append(name)  # seed by seed, cell by cell
    own = [{"values": dict(cell.values), "jobs": names} for cell, names in zip(every, jobs, strict=True)]
    return {"axes": {key: list(values) for key, values in plan.config.grid.axes.items()}, "cells": own}


def show_results(results: Results, display: DisplayOptions, *, layers: bool = False) -> None:
    """Prints the answer: tables and verdict, or one JSON document."""
    if display.as_json:
        output.document(document(results))
    elif not display.quiet:
        if layers:
            output.layers(results.summary, results.results)
        output.outcome(results.summary)
    if results.missing:
        planned = results.missing + len(results.results)
        fixed = results.summary.comparisons and not results.summary.anytime
        early = " Verdicts count when all of them are: whoever looks before, and then stops, is wrong more often than 5 %." if fixed else ""
        output.warn(f"{results.missing} of {planned} runs are not there yet.{early} Go on with: initbench resume {results.folder}")
    for doubt in results.doubts:
        output.warn(doubt)
    if not display.quiet:
        output.hint(f"Results: {results.folder}. Open {results.folder / 'report.html'}")


def document(results: Results) -> dict[str, Any]:
    """The results as one JSON document: the folder, how each run ended, the summary."""
    runs = [
        {"job_id": run.job_id, "scheme": run.scheme, "seed": run.seed, "status": run.status, "reason": run.reason} for run in results.ends
    ]
    return {"folder": str(results.folder), "runs": runs, "summary": results.summary.model_dump(mode="json")}


def run_plan(plan: Plan, display: DisplayOptions, timing: TimingWatch | None = None) -> Results:
    """Carries out a plan; when the user stops it, says what is saved and how to go on."""
    try:
        with (
            run_screen(quiet=display.quiet, verbose=display.verbose) as screen,
            heartbeat(screen) as beat,
            stoppable(timing.over(beat) if timing else beat) as watch,
        ):
            return carry_out(plan, watch)
    except StopRequest as stop:
        now = as_it_stands(plan)
        if now.done:
            output.say(f"Stopped. {len(now.done)} of {len(now.jobs)} runs are saved. Go on with: initbench resume {plan.folder}")
        elif unfinished.there(plan.folder):
            output.say("Stopped before a run was finished. The same command goes on with what was saved of those under way.")
        else:
            output.say("Stopped before a run was finished; nothing is saved.")
        raise typer.Exit(SIGNAL_BASE + stop.number) from None

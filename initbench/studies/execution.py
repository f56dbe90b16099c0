"""Carrying out a plan: where and how many at once when nobody says, and the runs that are missing.

Nothing here prints: what happens is told to a `Watch`. What is finished already costs neither torch nor pandas.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from initbench.errors import ConfigError, InitbenchError
from initbench.question import catalog, config_file
from initbench.question.config import Execution, ExperimentConfig
from initbench.question.plan import changes, name_objects
from initbench.results import files, jobs, lock, provenance, store, unfinished
from initbench.results.record import RunResult
from initbench.studies.answer import Results, derive
from initbench.studies.plan import Plan, as_it_stands, new_manifest
from initbench.workers import head_start
from initbench.workers.lasting import Lasting

if TYPE_CHECKING:
    from initbench.workers.progress import Progress

MOST_THREADS = 8
"""For networks as small as these more would wait for each other; measured with two, the rest is caution."""


class Watch(Protocol):
    """Somebody who is told how it goes."""

    def planned(self, plan: Plan) -> None:
        """Once, before anything is run."""

    def progress(self, sign: Progress) -> None:
        """Now and then, from a run under way."""

    def finished(self, result: RunResult) -> None:
        """A run's result is in its file."""


def carry_out(plan: Plan, watch: Watch | None = None) -> Results:
    """Runs what is missing, each result to its file as it comes, then makes the derived files if they are not current.

    Where results decide what to run next (tuning, a race), this goes on until nothing more is to be run.
    Raises: InitbenchError, before the first run and before anything is written, for whatever would make runs impossible.
    """
    with lock.locked(plan.folder):
        store.remove_leftovers(plan.folder)
        begun = plan if plan.execution.fresh or not plan.missing else _taken_over(as_it_stands(plan))
        return replace(_carried_out(begun, watch), mended=plan.notes)


def _carried_out(plan: Plan, watch: Watch | None) -> Results:
    if watch:
        watch.planned(plan)
    tried: set[str] = set()
    borrows = not plan.execution.fresh
    with Lasting() as lasting:
        while missing := tuple(name for name, _ in plan.missing if name not in tried):
            if tried and watch:
                watch.planned(plan)
            _run_missing(plan, watch, lasting)
            tried |= set(missing)
            before, plan = plan, as_it_stands(plan)
            plan = _taken_over(replace(plan, taken=before.taken)) if borrows else plan
    _keep_question(plan)
    return derive(plan)


def _taken_over(plan: Plan) -> Plan:
    """The plan with copies of the results that stand elsewhere, also those of jobs that follow from these."""
    looked_at: set[Path] = set()
    while new := {name: path for name, path in plan.elsewhere.items() if path not in looked_at}:
        store.check_writable(plan.folder)
        _begin(plan)
        wanted, taken = dict(plan.jobs), plan.taken
        for name, path in new.items():
            looked_at.add(path)
            if (result := jobs.read_file(path, wanted[name])) is not None:
                store.write_result(plan.folder, result)
                taken += 1
        plan = replace(as_it_stands(plan), taken=taken)
    return plan


def _run_missing(plan: Plan, watch: Watch | None, lasting: Lasting) -> None:
    """Nothing is written, and with `fresh` no finished run is removed, before the first result is there."""
    store.check_writable(plan.folder)
    if plan.execution.fresh:
        unfinished.remove(plan.folder)
    device = device_of(plan.execution.device, elsewhere=plan.execution.ray_address is not None)
    engine = engine_of(plan.execution, len(plan.missing), device)
    if name_objects(job for _, job in plan.missing):
        if engine == "ray":
            raise ConfigError("Objects of a Python program cannot travel to a cluster of Ray. Put them into a file: model='./mine.py:Net'.")
    else:  # a process that is copied has no other thread
        import_ahead(engine)
    execute = catalog.load("engine", engine)
    with naming_cells(plan.config):
        results = execute(
            plan.missing,
            device=device,
            data_dir=plan.execution.data_dir,
            workers=plan.execution.jobs,
            threads=threads_of(plan.execution, len(plan.jobs)),
            report=watch.progress if watch else None,
            **_if_known(execute, engine, plan, lasting),
        )
    begun = False
    with contextlib.closing(results):
        for result in results:
            if not begun:
                _begin(plan)
            begun = True
            store.write_result(plan.folder, result)
            unfinished.remove(plan.folder, [result.job_id])
            if watch:
                watch.finished(result)
    unfinished.remove(plan.folder)


@contextlib.contextmanager
def naming_cells(config: ExperimentConfig) -> Iterator[None]:
    """Where a job of a sweep is impossible, its cell is named. Raises: the error, in more words."""
    try:
        yield
    except InitbenchError as error:
        if config.grid is None or error.job is None:
            raise
        raise type(error)(f"The cell '{', '.join(changes(error.job, config))}' of the grid cannot be used: {error}") from error


def _if_known(execute: Callable[..., Any], engine: str, plan: Plan, lasting: Lasting) -> dict[str, Any]:
    """What an engine is given only if it has such a parameter. Raises: ConfigError where the user asks for one that it lacks."""
    parameters = inspect.signature(execute).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given: dict[str, Any] = {"keep_in": str(plan.folder.absolute() / unfinished.FOLDER)}
    if "lasting" in parameters:  # which only an engine that leaves something can use
        given["lasting"] = lasting
    if plan.execution.run_timeout is not None:
        given["run_timeout"] = plan.execution.run_timeout
        if "run_timeout" not in parameters and not takes_all:
            raise ConfigError(f"The engine '{engine}' cannot end a run that takes too long. Leave out --run-timeout.")
    if plan.execution.ray_address is not None:
        given["address"] = plan.execution.ray_address
        if "address" not in parameters and not takes_all:
            raise ConfigError(f"The engine '{engine}' has no cluster. Leave out --ray-address, or use --engine ray.")
    return {name: value for name, value in given.items() if name in parameters or takes_all}


def _begin(plan: Plan) -> None:
    earlier = store.known_manifest(plan.folder)
    made_before = earlier is not None or bool(jobs.there(plan.folder))
    if plan.execution.fresh:
        store.clear(plan.folder)
    manifest = new_manifest(plan, earlier)
    if plan.execution.fresh or not made_before:
        manifest = manifest.model_copy(update={"derived": {}})
    store.write_manifest(plan.folder, manifest)
    _keep_question(plan)


def _keep_question(plan: Plan) -> None:
    """Manifest and config are in the folder, whatever happened to them, and `latest` points there."""
    if store.known_manifest(plan.folder) is None:
        store.write_manifest(plan.folder, new_manifest(plan, None))
    text, path = config_file.dump_config(plan.config), plan.folder / store.CONFIG
    if files.digest_of(path) != files.digest(text.encode()):
        store.write_text(path, text)
    if plan.folder.parent == store.RESULTS:
        store.link_latest(plan.folder)


def device_of(name: str, *, elsewhere: bool = False) -> str:
    """The device that `auto` means; torch is asked only where an accelerator may be. One that is named for runs elsewhere stays."""
    if elsewhere and name != "auto":
        return name
    if name == "cpu" or (name == "auto" and not head_start.accelerator_possible()):
        return "cpu"
    from initbench.training.devices import choose_device

    return str(choose_device(name))


def engine_of(execution: Execution, runs: int, device: str) -> str:
    """On the CPU worker processes, on CUDA all runs as one; else one after the other. Measured in docs/performance.md."""
    if execution.engine != "auto":
        return execution.engine
    if execution.ray_address is not None:
        return "ray"
    if device.startswith("cuda"):
        return "stacked" if runs > 1 else "serial"
    return "processes" if device == "cpu" else "serial"


def threads_of(execution: Execution, runs: int) -> int:
    """Threads of each run: fewer runs than cores share these, unless the user says how many go at once, each on a core."""
    return 1 if execution.jobs else max(1, min(MOST_THREADS, provenance.cores() // max(1, runs)))


def runs_at_once(execution: Execution) -> int:
    """How many runs go at once, where that is known: worker processes on the CPU; 1 elsewhere."""
    on_cpu = execution.device == "cpu" or (execution.device == "auto" and not head_start.accelerator_possible())
    return (execution.jobs or provenance.cores()) if on_cpu and execution.engine in {"auto", "processes"} else 1


def look_ahead(execution: Execution) -> None:
    """For a plan that is only shown: whether its engine is there and can be reached, where it has a way to look.

    Raises: as the engine does.
    """
    if execution.engine == "auto" and execution.ray_address is None:
        return
    execute = catalog.load("engine", engine_of(execution, 1, "cpu"))
    reach = getattr(sys.modules.get(execute.__module__), "reach", None)
    if reach is not None:
        reach(execution.ray_address)


def import_ahead(engine: str) -> None:
    """Where the runs are in other processes, imports what drawing needs while these start; a thread of its own does it.

    It is no daemon: a process that ends while one of these is within C++ code is aborted.
    """
    if engine == "processes":
        from initbench.reporting.draw import import_ahead as import_drawing

        threading.Thread(target=import_drawing).start()

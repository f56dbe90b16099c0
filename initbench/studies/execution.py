"""How runs are carried out when nobody says."""

import threading

from initbench.question.config import Execution
from initbench.results import provenance
from initbench.workers import head_start

MOST_THREADS = 8
"""For networks as small as these more would wait for each other; measured with two, the rest is caution."""


def device_of(name: str) -> str:
    """The device that `auto` means; torch is asked only where an accelerator may be."""
    if name == "cpu" or (name == "auto" and not head_start.accelerator_possible()):
        return "cpu"
    from initbench.training.devices import choose_device

    return str(choose_device(name))


def engine_of(execution: Execution, runs: int, device: str) -> str:
    """On the CPU worker processes, on CUDA all runs as one; else one after the other. Measured in docs/performance.md."""
    if execution.engine != "auto":
        return execution.engine
    if device.startswith("cuda"):
        return "stacked" if runs > 1 else "serial"
    return "processes" if device == "cpu" else "serial"


def threads_of(execution: Execution, runs: int) -> int:
    """Threads of each run: fewer runs than cores share these, unless the user says how many go at once, each on a core."""
    return 1 if execution.jobs else max(1, min(MOST_THREADS, provenance.cores() // max(1, runs)))


def import_ahead(engine: str) -> None:
    """Where the runs are in other processes, imports what drawing needs while these start; a thread of its own does it."""
    if engine == "processes":
        from initbench.report.draw import import_ahead as import_drawing

        threading.Thread(target=import_drawing, daemon=True).start()

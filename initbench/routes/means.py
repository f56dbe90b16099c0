"""How runs are carried out when nobody says."""

import threading

from initbench import provenance
from initbench.config import Execution


def device_of(name: str) -> str:
    """The device that `auto` means; torch is asked only where an accelerator may be."""
    if name == "cpu" or (name == "auto" and not provenance.accelerator_possible()):
        return "cpu"
    from initbench.training.devices import choose_device

    return str(choose_device(name))


def engine_of(execution: Execution, runs: int, device: str) -> str:
    """Several runs: one worker a core on the CPU, all as one on CUDA; else one after the other. Measured in docs/performance.md."""
    if execution.engine != "auto":
        return execution.engine
    if runs < 2:
        return "serial"
    if device.startswith("cuda"):
        return "stacked"
    workers = execution.jobs or provenance.cores()
    return "processes" if device == "cpu" and workers > 1 else "serial"


def import_ahead(engine: str) -> None:
    """Where the runs are in other processes, imports what drawing needs while these start; a thread of its own does it."""
    if engine == "processes":
        from initbench.report.draw import import_ahead as import_drawing

        threading.Thread(target=import_drawing, daemon=True).start()

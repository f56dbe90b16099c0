"""How runs are carried out when nobody says."""

from initbench import provenance
from initbench.config import Execution


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

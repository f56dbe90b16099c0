"""On what a result was made: versions, machine, source revision. No paths, no names of people or machines."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import initbench

STACKED_RUNS, NOT_STACKED, NOT_RESTORED, OF_BATCHES, BATCHES = "stacked_runs", "not_stacked", "not_restored", "of_batches", "batches"
"""In the provenance of a run: how many trained as one, why it went alone where it should have been stacked, and what it or a run
before it changed in its process that could not be put back."""


def package_version(name: str) -> str | None:
    """The installed version of a distribution, read without importing it; None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    known = {
        "initbench": initbench.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_cores": str(cores()),
        **{name: text for name in ("torch", "numpy") if (text := package_version(name)) is not None},
    }
    revision = source_revision()
    return tuple({**known, **({"git": revision} if revision else {})}.items())


def environment() -> dict[str, str]:
    """Versions, processor and source revision, without importing anything heavy; the worker adds device and threads."""
    return dict(_environment())


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_start_processes() -> bool:
    """Whether this process may have children: a daemonic one of `multiprocessing`, such as a worker of its `Pool`, may not."""
    from multiprocessing.process import current_process

    return not current_process().daemon


def cpu_name() -> str:
    """The processor's model name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def source_revision() -> str | None:
    """`git describe` of the checkout that initbench runs from (`-dirty` with changes); None outside of one."""
    checkout = Path(__file__).parent.parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

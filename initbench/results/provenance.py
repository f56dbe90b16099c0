"""On what a result was made: versions, machine, source revision. No paths, no names of people or machines."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import initbench

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "pydantic", "typer", "rich", "ruamel.yaml", "jinja2")
"""The packages that initbench needs to run, by their distribution names."""


def package_version(name: str) -> str | None:
    """The installed version of a distribution, read without importing it; None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    found = {
        "initbench": initbench.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_cores": str(cores()),
        **{name: text for name in ("torch", "numpy") if (text := package_version(name)) is not None},
    }
    revision = source_revision()
    return tuple({**found, **({"git": revision} if revision else {})}.items())


def environment() -> dict[str, str]:
    """Versions, processor and source revision, without importing anything heavy; the worker adds device and threads."""
    return dict(_environment())


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


@dataclass(frozen=True)
class Check:
    """One thing that `doctor` looked at; a `broken` one stops initbench from working, a `limited` one only a part of it."""

    what: str
    state: Literal["fine", "limited", "broken"]
    found: str
    remedy: str = ""


ASK_TORCH = """
import json, torch
cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
torch.ones(2, 2) @ torch.ones(2, 2)
print(json.dumps([torch.__version__, torch.get_num_threads(), cuda, torch.backends.mps.is_available()]))
"""
ASK_TORCHVISION = "import torchvision; torchvision.datasets.MNIST; print(torchvision.__version__)"


def examine() -> tuple[Check, ...]:
    """Python, packages, torch, its devices and torchvision; torch is asked in a process of its own, which may crash."""
    found = [
        Check("initbench", "fine", initbench.__version__ + (f" ({source_revision()})" if source_revision() else "")),
        Check("python", "fine", f"{platform.python_version()}, {platform.system()} {platform.machine()}, {cpu_name()}, {cores()} cores"),
    ]
    missing = [name for name in PACKAGES if package_version(name) is None]
    versions = ", ".join(f"{name} {package_version(name)}" for name in PACKAGES if name not in missing)
    if missing:
        found.append(Check("packages", "broken", f"not installed: {', '.join(missing)}", f"python -m pip install {' '.join(missing)}"))
    else:
        found.append(Check("packages", "fine", versions))
    worked, answer = _ask(ASK_TORCH)
    if worked:
        torch_version, threads, cuda, mps = json.loads(answer)
        found.append(Check("torch", "fine", f"{torch_version}, {threads} threads"))
        found.append(Check("device", "fine", ", ".join([*cuda, *(["mps"] if mps else []), "cpu"])))
    else:
        found.append(Check("torch", "broken", answer, "Install torch again, as its own site says for your machine."))
    worked, answer = _ask(ASK_TORCHVISION)
    limit = "Everything works without it but `initbench data get` and the models torchvision:NAME; install the version made for your torch."
    found.append(Check("torchvision", "fine", answer) if worked else Check("torchvision", "limited", answer, limit))
    return tuple(found)


def _ask(code: str) -> tuple[bool, str]:
    """Whether the code ran in a Python of its own, and the last line that it left."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"it ended with the exit status {done.returncode}"

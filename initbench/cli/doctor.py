"""The command `doctor`: what is installed and what works here."""

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from initbench import __version__
from initbench.cli import output
from initbench.cli.options import DataDir, Json
from initbench.errors import NotThereError
from initbench.question.data_folder import data_folder
from initbench.results.provenance import cores, cpu_name, package_version, source_revision

EXAMPLE = "Example: initbench doctor --json"
PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "pydantic", "typer", "rich", "ruamel.yaml", "jinja2", "safetensors",
)  # fmt: skip
"""The packages that initbench needs to run, by their distribution names."""
ROOM_GIB = 1.0
"""Less free disk space than this is worth a warning."""
ASK_TORCH = """
import json, torch
cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
torch.ones(2, 2) @ torch.ones(2, 2)
print(json.dumps([torch.__version__, torch.get_num_threads(), cuda, torch.backends.mps.is_available()]))
"""
ASK_TORCHVISION = "import torchvision; torchvision.datasets.MNIST; print(torchvision.__version__)"
"""What torch and torchvision are asked; the first also multiplies once."""


@dataclass(frozen=True)
class HealthCheck:
    """One thing that `doctor` looked at; a `broken` one stops initbench from working, a `limited` one only a part of it."""

    what: str
    state: Literal["fine", "limited", "broken"]
    found: str
    remedy: str = ""


def doctor(*, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check what is installed and what works here: exit code 5 when something that is needed does not."""
    checks = (*examine(), *examine_room(data_dir))
    if as_json:
        output.document([asdict(check) for check in checks])
    else:
        output.checks(checks)
    broken = [check.what for check in checks if check.state == "broken"]
    if broken:
        raise NotThereError(f"Does not work: {', '.join(broken)}. The remedies are above.")


def examine() -> tuple[HealthCheck, ...]:
    """Python, packages, torch, its devices and torchvision; torch is asked in a process of its own, which may crash."""
    revision, system = source_revision(), f"{platform.system()} {platform.machine()}"
    checks = [
        HealthCheck("initbench", "fine", __version__ + (f" ({revision})" if revision else "")),
        HealthCheck("python", "fine", f"{platform.python_version()}, {system}, {cpu_name()}, {cores()} cores"),
    ]
    missing = [name for name in PACKAGES if package_version(name) is None]
    if missing:
        absent = " ".join(missing)
        checks.append(HealthCheck("packages", "broken", f"not installed: {', '.join(missing)}", f"python -m pip install {absent}"))
    else:
        checks.append(HealthCheck("packages", "fine", ", ".join(f"{name} {package_version(name)}" for name in PACKAGES)))
    worked, answer = _ask(ASK_TORCH)
    if worked:
        torch_version, threads, cuda, mps = json.loads(answer)
        checks.append(HealthCheck("torch", "fine", f"{torch_version}, {threads} threads"))
        checks.append(HealthCheck("device", "fine", ", ".join([*cuda, *(["mps"] if mps else []), "cpu"])))
    else:
        checks.append(HealthCheck("torch", "broken", answer, "Install torch again, as its own site says for your machine."))
    worked, answer = _ask(ASK_TORCHVISION)
    limit = "Everything works without it but `initbench data get` and the models torchvision:NAME; install the version made for your torch."
    checks.append(HealthCheck("torchvision", "fine", answer) if worked else HealthCheck("torchvision", "limited", answer, limit))
    return tuple(checks)


def examine_room(data_dir: str | None = None) -> tuple[HealthCheck, HealthCheck]:
    """Which data are there, and how much room is left on the disk."""
    from initbench.data import manage

    root = data_folder(data_dir)
    there = ", ".join(status.name for status in manage.list_data(root) if status.there)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    data = HealthCheck("data", "fine", f"{there} (data folder: {root})")
    if free > ROOM_GIB:
        return data, HealthCheck("disk", "fine", f"{free:.1f} GiB free here")
    return data, HealthCheck("disk", "limited", f"{free:.1f} GiB free here", "Make room.")


def _ask(code: str) -> tuple[bool, str]:
    """Whether the code ran in a Python of its own, and the last line that it left."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"it ended with the exit status {done.returncode}"

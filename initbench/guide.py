"""What there is to choose from and what works here, for people: the content of `list`, `show` and `doctor`."""

import contextlib
import shutil
from pathlib import Path
from typing import NamedTuple

from initbench import catalog, config_file, provenance
from initbench.config import parse_ref
from initbench.errors import ConfigError, unknown_name
from initbench.provenance import Check

KINDS: dict[str, catalog.Kind] = {folder: kind for kind, folder in catalog.FOLDERS.items()}
"""The kinds of the catalogue by their plural."""
LISTED = (*KINDS, "configs")
"""What `list` lists."""
EXAMPLE_VALUES = {"str": "NAME", "float": "0.5"}
"""What stands for a required parameter in an example."""
ROOM_GIB = 1.0
"""Less free disk space than this is worth a warning."""


class Line(NamedTuple):
    """A line of `initbench list`."""

    name: str
    family: str
    aliases: tuple[str, ...]
    summary: str


def listed(kind: str) -> tuple[Line, ...]:
    """The names of a kind (`schemes`, `models`, `datasets`, `engines`, `configs`), without importing what they name."""
    if kind == "configs":
        return tuple(Line(name, "", (), config_file.headline(path)) for name, path in config_file.shipped().items())
    return tuple(Line(entry.name, entry.family, tuple(sorted(entry.aliases)), entry.summary) for entry in catalog.entries(KINDS[kind]))


def shown(name: str) -> tuple[catalog.Entry | Path, ...]:
    """Everything that has a name (parameters after it do not matter): catalogue entries and files of shipped configs.

    Raises: ConfigError when nothing has it.
    """
    short = parse_ref(name).name
    found: list[catalog.Entry | Path] = []
    for kind in KINDS.values():
        with contextlib.suppress(ConfigError):
            found.append(catalog.find(kind, short)[0])
    found += [path for config, path in config_file.shipped().items() if config == short]
    if not found:
        names = [line.name for kind in LISTED for line in listed(kind)]
        raise unknown_name("name", name, names, "See: initbench list")
    return tuple(found)


def example(entry: catalog.Entry) -> str:
    """Lines of Python that use an entry, to be pasted."""
    needed = ",".join(
        f"{parameter.name}={EXAMPLE_VALUES.get(parameter.annotation, 1)}" for parameter in entry.parameters if parameter.required
    )
    name = f"{entry.name}:{needed}" if needed else entry.name
    if entry.kind == "scheme":
        return f'from initbench import init_network\nreport = init_network(model, method="{name}", seed=0)'
    word = f', {entry.kind}="{name}"'
    return f'from initbench import compare\nprint(compare(["xavier", "kaiming"]{word}).summary.headline)'


def doctor(data_dir: str | None = None) -> tuple[Check, ...]:
    """What is installed, what works, which data are there, and how much room is left."""
    from initbench.datasets import files, manage

    root = files.data_folder(data_dir)
    there = ", ".join(status.name for status in manage.list_data(root) if status.there)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    disk = Check("disk", "fine" if free > ROOM_GIB else "limited", f"{free:.1f} GiB free here", "" if free > ROOM_GIB else "Make room.")
    return (*provenance.examine(), Check("data", "fine", f"{there} (data folder: {root})"), disk)

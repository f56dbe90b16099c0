"""What there is to choose from and what works here, for people: the content of `list`, `show` and `doctor`."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from initbench.errors import ConfigError, unknown_name
from initbench.question import catalog, config_file
from initbench.question.config import parse_ref
from initbench.question.data_folder import data_folder
from initbench.results import provenance
from initbench.results.provenance import Check
from initbench.statistics.known_metrics import find_metric

KINDS: dict[str, catalog.Kind] = {folder: kind for kind, folder in catalog.FOLDERS.items()}
"""The kinds of the catalogue by their plural."""
LISTED = (*KINDS, "configs")
"""What `list` lists."""
EXAMPLE_VALUES = {"str": "NAME", "float": "0.5"}
"""What stands for a required parameter in an example."""
APPLIES, NEEDS = "Applies to:", "Needs:"
"""The labels in the docstring of a scheme."""
ROOM_GIB = 1.0
"""Less free disk space than this is worth a warning."""


class Line(NamedTuple):
    """A line of `initbench list`."""

    name: str
    family: str
    aliases: tuple[str, ...]
    summary: str


def listed(kind: str) -> tuple[Line, ...]:
    """The names of a kind (`schemes`, `models`, `datasets`, `engines`, `metrics`, `configs`), without importing what they name."""
    if kind == "configs":
        return tuple(Line(name, "", (), config_file.headline(path)) for name, path in config_file.shipped().items())
    return tuple(Line(entry.name, entry.family, tuple(sorted(entry.aliases)), entry.summary) for entry in catalog.entries(KINDS[kind]))


def shown(name: str) -> tuple[catalog.Entry | Path, ...]:
    """Everything that has a name (parameters after it do not matter): catalogue entries and files of shipped configs.

    A file of the user's own is shown as the kind that it is. Raises: ConfigError when nothing has the name.
    """
    short = parse_ref(name).name
    entries: list[catalog.Entry] = []
    why: ConfigError | None = None
    for kind in KINDS.values():
        try:
            entries.append(catalog.find(kind, short)[0])
        except ConfigError as error:
            why = error
    found: list[catalog.Entry | Path] = [*_own(short, entries)]
    found += [path for config, path in config_file.shipped().items() if config == short]
    if not found and why is not None and (".py" in short or ":" in short):
        raise why
    if not found:
        names = [line.name for kind in LISTED for line in listed(kind)]
        raise unknown_name("name", name, names, "See: initbench list")
    return tuple(found)


def _own(name: str, entries: list[catalog.Entry]) -> list[catalog.Entry]:
    """Of what a user's file could be, what it is, by the functions that it defines and what it imports; others pass."""
    if not entries or catalog.user_file(entries[0].kind, name) is None:
        return entries
    entries = [entry for entry in entries if entry.defined]
    if not entries:
        raise ConfigError(
            f"'{name}' is no scheme, model, dataset, engine or metric: a file defines build, load or execute, or name what it defines."
        )
    asked = {entry.function: entry.kind for entry in entries if entry.function in {"load", "execute"}}
    text = entries[0].path.read_text(encoding="utf-8")
    built = "scheme" if "initbench.schemes" in text else "metric" if "initbench.metrics" in text else "model"
    kind = asked.get(entries[0].function, built)
    return [entry for entry in entries if entry.kind == kind] or entries[:1]


class Page(NamedTuple):
    """What the docstring of a scheme says, part by part, as flowing text; a part that it does not have is empty."""

    summary: str
    formula: tuple[str, ...]
    applies: str
    needs: str
    source: str
    model: str


def page(entry: catalog.Entry) -> Page:
    """The parts of an entry's docstring, and a shipped model that a scheme applies to: the first that `Applies to` names."""
    paragraphs = [_flowing(part) for part in entry.doc.strip().split("\n\n")]
    told = next((part for part in paragraphs if part.startswith(APPLIES)), "")
    applies, _, needs = told.removeprefix(APPLIES).partition(NEEDS)
    formula = tuple(part for part in paragraphs[1:] if part != told and not part.startswith("Source:"))
    models = {model.name for model in catalog.entries("model")}
    named = (ref for ref in re.findall(r"`([^`]+)`", applies) if ref.partition(":")[0] in models)
    return Page(entry.summary, formula, applies.strip(), needs.strip(), entry.source, next(named, "mlp"))


def _flowing(paragraph: str) -> str:
    """A paragraph without its line ends; indented ones and lists keep theirs."""
    lines = paragraph.splitlines()
    return paragraph if any(line.startswith((" ", "-", "*")) for line in lines) else " ".join(lines)


def setting(entry: catalog.Entry) -> str:
    """The name with a value for every parameter that has no default, such as `constant:value=0.5`."""
    needed = [f"{found.name}={EXAMPLE_VALUES.get(found.annotation, 1)}" for found in entry.parameters if found.required]
    return f"{entry.name}:{','.join(needed)}" if needed else entry.name


def example(entry: catalog.Entry) -> str:
    """Lines of Python that use an entry, to be pasted."""
    name = setting(entry)
    if entry.kind == "metric":
        look = ", ".join(f"{key}={value!r}" for key, value in _look(entry).items())
        imports = "from initbench import compare\nfrom initbench.question.config import View"
        return f'{imports}\nprint(compare(["xavier", "kaiming"], view=View({look})).summary.headline)'
    if entry.kind != "scheme":
        return f'from initbench import compare\nprint(compare(["xavier", "kaiming"], {entry.kind}="{name}").summary.headline)'
    told = page(entry)
    if "data" in told.needs or "example batch" in told.needs:
        return f'from initbench import run\nprint(run("{name}", model="{told.model}", steps=10).results[0].init)'
    return f'from initbench import build_model, init_network\nprint(init_network(build_model("{told.model}"), "{name}", seed=0))'


def _look(metric: catalog.Entry) -> dict[str, object]:
    """What to look at so that verdicts are about a metric; nothing for one that ranks nothing, which every summary shows."""
    needed = {parameter.name: 0.5 for parameter in metric.parameters if parameter.required}
    return {"metric": metric.name, **needed} if find_metric(metric.name, needed.get("target")).better else {}


def command(entry: catalog.Entry) -> str:
    """A command that uses an entry."""
    name = setting(entry)
    if entry.kind == "metric":
        return "initbench compare xavier kaiming" + "".join(f" --{key} {value}" for key, value in _look(entry).items())
    if entry.kind != "scheme":
        return f"initbench compare xavier kaiming --{entry.kind} {name}"
    model = page(entry).model
    return f"initbench run {name}" + (f" --model {model}" if model != "mlp" else "")


def doctor(data_dir: str | None = None) -> tuple[Check, ...]:
    """What is installed, what works, which data are there, and how much room is left."""
    from initbench.data import manage

    root = data_folder(data_dir)
    there = ", ".join(status.name for status in manage.list_data(root) if status.there)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    disk = Check("disk", "fine" if free > ROOM_GIB else "limited", f"{free:.1f} GiB free here", "" if free > ROOM_GIB else "Make room.")
    return (*provenance.examine(), Check("data", "fine", f"{there} (data folder: {root})"), disk)

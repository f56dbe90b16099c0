"""What there is to choose from and what works here, for people: the content of `list` and `show`."""

from pathlib import Path
from typing import NamedTuple

from initbench.errors import ConfigError, enumerated, unknown_name
from initbench.question import catalog, config_file, user_files
from initbench.question.config import parse_ref
from initbench.statistics.known_metrics import find_metric

FOLDERS: dict[str, catalog.Kind] = {convention.folder: kind for kind, convention in catalog.KINDS.items()}
"""The kinds of the catalogue by their plural."""
LISTED = (*FOLDERS, "configs")
"""What `list` lists."""
EXAMPLE_VALUES = {"str": "NAME", "float": "0.5"}
"""What stands for a required parameter in an example."""
APPLIES, NEEDS = "Applies to:", "Needs:"
"""The labels in the docstring of a scheme."""


class Listed(NamedTuple):
    """A line of `initbench list`."""

    name: str
    family: str
    aliases: tuple[str, ...]
    summary: str


def listed(kind: str) -> tuple[Listed, ...]:
    """The names of a kind, one of `LISTED`, without importing what they name."""
    if kind == "configs":
        return tuple(Listed(name, "", (), config_file.headline(path)) for name, path in config_file.shipped().items())
    return tuple(Listed(entry.name, entry.family, tuple(sorted(entry.aliases)), entry.summary) for entry in catalog.entries(FOLDERS[kind]))


def shown(name: str) -> tuple[catalog.Entry | Path, ...]:
    """Everything that has a name (parameters after it do not matter): catalogue entries and files of shipped configs.

    A file of the user's own is shown as the kind that it is. Raises: ConfigError when nothing has the name.
    """
    short = parse_ref(name).name
    entries: list[catalog.Entry] = []
    why: ConfigError | None = None
    for kind in catalog.KINDS:
        try:
            entries.append(catalog.find(kind, short)[0])
        except ConfigError as error:
            why = error
    if entries and catalog.user_file(entries[0].kind, short) is not None:
        entries = [_own(short, entries)]
    configs = [path for config, path in config_file.shipped().items() if config == short]
    if not entries and not configs:
        if why is not None and (catalog.is_file_name(short) or ":" in short):
            raise why
        names = [line.name for kind in LISTED for line in listed(kind)]
        raise unknown_name("name", name, names, "See: initbench list")
    return (*entries, *configs)


def _own(name: str, entries: list[catalog.Entry]) -> catalog.Entry:
    """Of what a user's file could be, what it is: by the function that it defines, the room of initbench that it imports, else a model.

    Raises: ConfigError when it defines nothing that could be meant.
    """
    defined = [entry for entry in entries if entry.defined]
    if not defined:
        functions = list(dict.fromkeys(convention.function for convention in catalog.KINDS.values()))
        raise ConfigError(
            f"'{name}' is no {enumerated([*catalog.KINDS], 'or')}: a file defines {enumerated(functions, 'or')}, or name what it defines."
        )
    by_function = [entry for entry in defined if entry.function == catalog.KINDS[entry.kind].function] or defined
    imported = user_files.imports(by_function[0].path)
    by_import = [entry for entry in by_function if f"initbench.{catalog.KINDS[entry.kind].folder}" in imported]
    models = [entry for entry in by_function if entry.kind == "model"]
    return (by_import or models or by_function)[0]


class Page(NamedTuple):
    """What the docstring of a scheme says, part by part, as flowing text; a part that it does not have is empty."""

    summary: str
    formula: tuple[str, ...]
    applies: str
    needs: str
    source: str


def page(entry: catalog.Entry) -> Page:
    """The parts of an entry's docstring."""
    paragraphs = [_flowing(part) for part in entry.doc.strip().split("\n\n")]
    told = next((part for part in paragraphs if part.startswith(APPLIES)), "")
    applies, _, needs = told.removeprefix(APPLIES).partition(NEEDS)
    formula = tuple(part for part in paragraphs[1:] if part != told and not part.startswith("Source:"))
    return Page(entry.summary, formula, applies.strip(), needs.strip(), entry.source)


def _flowing(paragraph: str) -> str:
    """A paragraph without its line ends; indented ones and lists keep theirs."""
    lines = paragraph.splitlines()
    return paragraph if any(line.startswith((" ", "-", "*")) for line in lines) else " ".join(lines)


def setting(entry: catalog.Entry) -> str:
    """The name with a value for every parameter that has no default, such as `constant:value=0.5`."""
    needed = [f"{parameter.name}={EXAMPLE_VALUES.get(parameter.annotation, 1)}" for parameter in entry.parameters if parameter.required]
    return f"{entry.name}:{','.join(needed)}" if needed else entry.name


def example(entry: catalog.Entry) -> str:
    """Lines of Python that use an entry, to be pasted."""
    name, model = setting(entry), entry.example_model
    if entry.kind == "optimizer":
        return f'from initbench import compare\nprint(compare(["xavier", "kaiming"], settings=["train.optimizer={name}"]).summary.headline)'
    if entry.kind == "metric":
        look = ", ".join(f"{key}={value!r}" for key, value in _look(entry).items())
        imports = "from initbench import compare\nfrom initbench.question.config import View"
        return f'{imports}\nprint(compare(["xavier", "kaiming"], view=View({look})).summary.headline)'
    if entry.kind == "export":
        return f'from initbench import compare, export\nprint(export("{name}", compare(["xavier", "kaiming"]).folder))'
    if entry.kind == "rule":
        return f'from initbench import lint\nprint(lint("mlp", inputs="784", select=["{name}"]))'
    if entry.kind != "scheme":
        return f'from initbench import compare\nprint(compare(["xavier", "kaiming"], {entry.kind}="{name}").summary.headline)'
    if entry.needs:
        return f'from initbench import run\nprint(run("{name}", model="{model}", steps=10).results[0].init)'
    return f'from initbench import build_model, init_network\nprint(init_network(build_model("{model}"), "{name}", seed=0))'


def _look(metric: catalog.Entry) -> dict[str, object]:
    """What to look at so that verdicts are about a metric; nothing for one that ranks nothing, which every summary shows."""
    needed = {parameter.name: 0.5 for parameter in metric.parameters if parameter.required}
    return {"metric": metric.name, **needed} if find_metric(metric.name, needed.get("target")).better else {}


def command(entry: catalog.Entry) -> str:
    """A command that uses an entry."""
    name = setting(entry)
    if entry.kind == "optimizer":
        return f"initbench compare xavier kaiming --set train.optimizer={name}"
    if entry.kind == "metric":
        return "initbench compare xavier kaiming" + "".join(f" --{key} {value}" for key, value in _look(entry).items())
    if entry.kind == "export":
        return f"initbench export {name}"
    if entry.kind == "rule":
        return f"initbench lint ./net.py:Net --input 3x224x224 --select {next(iter(entry.aliases), name)}"
    if entry.kind != "scheme":
        return f"initbench compare xavier kaiming --{entry.kind} {name}"
    return f"initbench run {name}" + (f" --model {entry.example_model}" if entry.example_model != catalog.USUAL_MODEL else "")

"""Writes schemes.md, optimizers.md, commands.md, config.md and the quantities in results.md from the source: `make docs`."""

import textwrap
from pathlib import Path
from typing import Any

import typer

from initbench.cli import guide
from initbench.cli.app import app
from initbench.cli.output import plain
from initbench.quantities import documented
from initbench.question import catalog
from initbench.question.schema import schema

DOCS = Path(__file__).parent
BEGIN, END = "<!-- quantities: made by `make docs` -->\n", "<!-- end of quantities -->\n"
"""What stands around the rows that are made, in results.md."""
INTRODUCTION = """\
# Initialization schemes

Made from the source by `make docs`; a test keeps it current. The same, in a terminal: `initbench list schemes` and
`initbench show NAME`. Compare a whole family: `initbench compare --family residual -c cifar10_resnet`; everything:
`initbench compare all` (what does not apply to the model is skipped and says why).

W is a weight, b a bias. Fans are the module's own: those of one group, one gate, one of q, k and v. What nothing else is said
about: biases start at 0, norms at 1 and 0, embeddings keep their values. Every parameter draws from a generator of its own.

What a scheme *needs* beside the model: `data` and `labels` (training batches, as `run` and `compare` give them), `gradients`
(of the model, of second order), `model hooks` (it adds numbers to the forward pass, or transforms it).
"""

RULES = """\
# Rules of the linter

Made from the source by `make docs`; a test keeps it current. The same, in a terminal: `initbench list rules` and
`initbench lint --explain IB302`. How to use them: [lint.md](lint.md).
"""
GROUPS = {
    "state": "no input needed",
    "law": "a standard deviation and the fans that it was made with",
    "signal": "with an input or a batch",
}
LABELS = ("Measured:", "Expected:", "Remedy:", "Source:")

COMMANDS = """\
# Commands

Made from the source by `make docs`; a test keeps it current. The same, in a terminal: `initbench --help` and `initbench COMMAND --help`.
In a usage line a word in brackets may be left out, and one with dots may be several. An option of one value is given once; those that may
be repeated say so.
"""

CONFIG = """\
# Config keys

Made from the source by `make docs`; a test keeps it current. A config is a YAML file (`-c mine.yaml`); `--set train.lr=0.1` sets
one key of it. `initbench config show mnist_mlp` prints a shipped one, `initbench config validate mine.yaml` names what is wrong,
with its line, and `initbench config schema` gives editors what they need.
"""

OPTIMIZERS = """\
# Optimizers

Made from the source by `make docs`; a test keeps it current. The same, in a terminal: `initbench list optimizers` and
`initbench show NAME`. Choose one with `--set train.optimizer=muon`, parameters after the name: `rmsprop:alpha=0.9,momentum=0.5`.
The keys `train.lr`, `weight_decay`, `clip_norm`, `schedule` and `warmup_steps` hold for every optimizer, `momentum` and `nesterov`
for sgd, `betas` for adam and adamw; what else there is, is a parameter of the optimizer.

Each takes the steps of torch.optim or of its authors, to rounding, alone and with many runs as one, each with a learning rate of
its own; tests compare them. w is a weight, t the number of the step from 1, all state 0 at the start unless said.

Your own is a file with `build(train, *, ...)` that gives a rule (`./mine.py`; the contract is in `initbench/optimizers/__init__.py`).
It runs alone and stacked as it is written.
"""


def optimizers() -> str:
    """The page of the optimizers."""
    return "\n".join([OPTIMIZERS, *(_section(entry, "##") for entry in _shipped("optimizer"))])


def rules() -> str:
    """The page of the linter's rules, group by group."""
    lines = [RULES]
    for group, what in GROUPS.items():
        found = sorted((entry for entry in _shipped("rule") if entry.family == group), key=lambda entry: next(iter(entry.aliases)))
        lines += [f"## {group.capitalize()}: {what}\n"]
        for entry in found:
            summary, *parts = (part.strip() for part in entry.doc.strip().split("\n\n"))
            lines += [f"### {next(iter(entry.aliases))} {entry.name}\n", f"{' '.join(summary.split())}\n", *map(_paragraph, _parts(parts))]
    return "\n".join(lines)


def _parts(paragraphs: list[str]) -> list[tuple[str, str]]:
    """Each labelled part of a rule's docstring, with its label: several may stand in one paragraph."""
    found: list[tuple[str, str]] = []
    for line in "\n".join(paragraphs).splitlines():
        label = next((label for label in LABELS if line.startswith(label)), None)
        if label is not None:
            found.append((label, line.removeprefix(label).strip()))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line}")
    return found


def _paragraph(part: tuple[str, str]) -> str:
    label, text = part
    if label == "Remedy:":
        code = textwrap.dedent(text.strip("\n"))
        return f"*Remedy*\n\n```py\n{code}\n```\n"
    return f"*{label.removesuffix(':')}* {_escaped(' '.join(text.split()))}\n"


def _shipped(kind: catalog.Kind) -> list[catalog.Entry]:
    return [entry for entry in catalog.entries(kind) if catalog.PACKAGE in entry.path.parents]


def schemes() -> str:
    """The page of the schemes."""
    shipped = _shipped("scheme")
    families = {family: [entry for entry in shipped if entry.family == family] for family in sorted({entry.family for entry in shipped})}
    parts = [
        INTRODUCTION,
        f"{len(shipped)} schemes:\n\n" + "\n".join(_overview(family, found) for family, found in families.items()) + "\n",
    ]
    for family, found in families.items():
        parts += [f"## Family: {family}\n", *(_section(entry) for entry in found)]
    return "\n".join(parts)


def _overview(family: str, found: list[catalog.Entry]) -> str:
    return f"- {family}: " + ", ".join(f"[{entry.name}](#{entry.name})" for entry in found)


def _section(entry: catalog.Entry, level: str = "###") -> str:
    page = guide.page(entry)
    parts = [
        f"{level} {entry.name}",
        *(_escaped(part) for part in (page.summary, *page.formula)),
    ]
    if page.applies:
        parts.append(f"*Applies to* {page.applies} *Needs* {page.needs}")
    if entry.aliases:
        parts.append(
            "*Also known as* " + ", ".join(f"`{alias}`{_meaning(entry, params)}" for alias, params in sorted(entry.aliases.items())) + "."
        )
    if entry.parameters:
        rows = ["| parameter | allowed | default |", "|---|---|---|", *(_row(parameter) for parameter in entry.parameters)]
        parts.append("\n".join(rows))
    parts += [f"*Source* {_escaped(page.source)}", f"```python\n{guide.example(entry)}\n```"]
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """Text whose asterisks are asterisks."""
    return text.replace("*", "\\*")


def _meaning(entry: catalog.Entry, params: dict[str, object]) -> str:
    return f" (`{entry.name}:{','.join(f'{key}={value}' for key, value in params.items())}`)" if params else ""


def _row(parameter: catalog.Parameter) -> str:
    allowed = ", ".join(map(str, parameter.choices)) or parameter.annotation.replace("|", "or")
    return f"| `{parameter.name}` | {allowed} | {'required' if parameter.required else plain(parameter.default)} |"


def results() -> str:
    """The page as it is, with the rows of the quantities made anew."""
    before, _, rest = (DOCS / "results.md").read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}| column | meaning |\n|---|---|\n{documented()}{END}{rest.partition(END)[2]}"


def commands() -> str:
    """The page of the commands: what each does, its words and options."""
    whole: Any = typer.main.get_command(app)
    parts = [COMMANDS]
    for name, command in whole.commands.items():
        for below, each in [(f"{name} {below}", each) for below, each in getattr(command, "commands", {}).items()] or [(name, command)]:
            parts.append(_command(below, each))
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join(["initbench", name, *map(_usage, arguments)])
    words = [f"| `{_cell(each.metavar)}`{_default(each)} | {_cell(each.help)} |" for each in arguments]
    named = "\n".join(["| word | what it is |", "|---|---|", *words, "", ""]) if words else ""
    options = [each for each in command.params if each.param_type_name == "option" and "--help" not in each.opts]
    rows = [f"| `{', '.join(each.opts)}` | {_option_value(each)} | {_cell(each.help)} |" for each in options]
    table = "\n".join(["| option | value | what it does |", "|---|---|---|", *rows]) if rows else "It has no options."
    examples = "\n".join(line.partition(": ")[2] for line in (command.epilog or "").splitlines() if line.strip())
    example = f"```sh\n{examples}\n```\n" if examples else ""
    return f"## {name}\n\n{_escaped(command.help or '')}\n\nUsage: `{usage}`\n\n{named}{table}\n\n{example}"


def _usage(argument: Any) -> str:
    """An argument as a usage line has it: in brackets where it may be left out, with dots where there may be several."""
    return (argument.metavar if argument.required else f"[{argument.metavar}]") + ("..." if argument.nargs != 1 else "")


def _option_value(option: Any) -> str:
    return _cell("on or off" if option.is_flag else f"`{option.metavar}`{_default(option)}")


def _default(parameter: Any) -> str:
    default = parameter.default
    return "" if callable(default) or default in (None, False, True) else f"; default {plain(getattr(default, 'value', default))}"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def config() -> str:
    """The page of the config keys."""
    made = schema()
    parts = [CONFIG]
    rows = [_key_row(name, each, "") for name, each in made["properties"].items()]
    parts.append("\n".join(["| key | value | default | what it is |", "|---|---|---|---|", *rows]) + "\n")
    for part, kind in (("train", "TrainConfig"), ("init", "InitRules"), ("probe", "ProbeConfig"), ("tune", "TuneConfig")):
        found = made["$defs"][kind]
        rows = [_key_row(name, each, f"{part}.") for name, each in found["properties"].items()]
        heads = ["| key | value | default | what it is |", "|---|---|---|---|"]
        parts.append(f"## {part}\n\n{_escaped(found.get('description', ''))}\n\n" + "\n".join([*heads, *rows]) + "\n")
    return "\n".join(parts)


def _key_row(name: str, key: dict[str, Any], before: str) -> str:
    default = key.get("default")
    if isinstance(default, dict):
        default = default.get("name")
    return (
        f"| `{before}{name}` | {_cell(_kind(key))} | {_cell('' if default is None else plain(default))} | {_cell(key.get('description'))} |"
    )


def _kind(key: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "enum" in key:
        return ", ".join(map(str, key["enum"]))
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(_kind(each) for each in key["anyOf"] if each.get("type") != "null"))
    if "$ref" in key:
        kind = key["$ref"].rpartition("/")[2]
        return "name with parameters" if kind == "Ref" else "see below"
    words = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "string": "text",
        "array": "list",
        "object": "mapping",
    }
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    found = [f"{said} {key[limit]}" for limit, said in limits.items() if limit in key]
    return " ".join([words.get(key.get("type", ""), "any"), *found])


PAGES = {
    "schemes.md": schemes,
    "optimizers.md": optimizers,
    "rules.md": rules,
    "results.md": results,
    "commands.md": commands,
    "config.md": config,
}
"""What each page is made by."""

if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text(), encoding="utf-8")

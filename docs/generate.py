"""Writes docs/schemes.md from the source of the schemes: `python docs/generate.py`, or `make docs`."""

from pathlib import Path

from initbench.cli import guide
from initbench.cli.output import plain
from initbench.question import catalog

PAGE = Path(__file__).parent / "schemes.md"
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


def document() -> str:
    """The whole page."""
    shipped = [entry for entry in catalog.entries("scheme") if catalog.PACKAGE in entry.path.parents]
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


def _section(entry: catalog.Entry) -> str:
    page = guide.page(entry)
    parts = [
        f"### {entry.name}",
        *(_escaped(part) for part in (page.summary, *page.formula)),
        f"*Applies to* {page.applies} *Needs* {page.needs}",
    ]
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


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")

"""Writes schemes.md, optimizers.md and the quantities in results.md from the source: `python docs/generate.py`, or `make docs`."""

from pathlib import Path

from initbench.cli import guide
from initbench.cli.output import plain
from initbench.quantities import documented
from initbench.question import catalog

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
    return "\n".join([OPTIMIZERS, *(_section(entry) for entry in _shipped("optimizer"))])


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


def _section(entry: catalog.Entry) -> str:
    page = guide.page(entry)
    parts = [
        f"### {entry.name}",
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


PAGES = {"schemes.md": schemes, "optimizers.md": optimizers, "results.md": results}
"""What each page is made by."""

if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text(), encoding="utf-8")

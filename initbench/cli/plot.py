"""The command `plot`: figures of a results folder for a paper, a slide or a notebook."""

from pathlib import Path
from typing import Annotated, Literal

from initbench import api
from initbench.cli import output
from initbench.cli.endings import kind_of
from initbench.cli.options import OUTPUT, Quiet, argument, option
from initbench.errors import ConfigError, enumerated
from initbench.reporting.shown import Shown
from initbench.results import files, store

EXAMPLE = "Example: initbench plot results/latest signal --format pdf --style paper --columns 1"

Given = Annotated[list[str] | None, argument("FOLDER|PLOT", "A results folder (default: results/latest) and plots, such as loss.")]
ENDINGS = {".pdf": "pdf", ".svg": "svg", ".png": "png"}
Ending = Annotated[
    Literal["pdf", "svg", "png"] | None,
    option(OUTPUT, "--format", "pdf|svg|png", "The kind of file. Default: as the name of --out ends, else pdf."),
]
StyleName = Annotated[
    Literal["paper", "slide", "notebook"],
    option(OUTPUT, "--style", "paper|slide|notebook", "paper: 7 points or more at the printed width, no title; slide: large type."),
]
Columns = Annotated[Literal["1", "2"], option(OUTPUT, "--columns", "1|2", "How many columns of a two-column page it is wide.")]
Highlight = Annotated[str | None, option(OUTPUT, "--highlight", "SCHEME", "One scheme in colour, the others grey behind it.")]
OutFile = Annotated[Path | None, option(OUTPUT, "-o --out", "FILE", "Where it goes; of several plots, a folder. Default: PLOT.pdf here.")]

PAGE = 9.5
"""Inches that a page of a paper has for text, at most."""


def plot(
    *,
    given: Given = None,
    ending: Ending = None,
    style: StyleName = "paper",
    columns: Columns = "1",
    highlight: Highlight = None,
    out: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Draw figures of a results folder, the same bytes for the same results; without the name of a plot, list those that there are."""
    folder, names = _read(given or [])
    shown = results_or_probe(folder)
    if not names:
        output.text("\n".join(f"{each.name:<16} {each.title}" for each in shown.plots))
        return
    for name in names:
        shown.chosen(name, highlight)  # what is not there is said before anything is written
    file = out if out is not None and len(names) == 1 and not out.is_dir() else None
    if file is not None and file.suffix.lower() not in {"", *ENDINGS}:
        raise ConfigError(f"--out is {file}. A figure ends in {enumerated(list(ENDINGS), 'or')}.")
    kind = kind_of(file, ending, ENDINGS, "pdf")
    for name in dict.fromkeys(names):
        path = (out or Path()) / f"{name}.{kind}" if file is None else file if file.suffix else file.with_name(f"{file.name}.{kind}")
        files.write_bytes(path, shown.drawn(name, f".{kind}", style=style, columns=int(columns), highlight=highlight))
        if not quiet:
            output.text(str(path))
        high = shown.inches_high(name, style=style, columns=int(columns), highlight=highlight)
        if style == "paper" and high > PAGE:
            fits = shown.inches_high(name, style=style, columns=2, highlight=highlight) <= PAGE
            output.hint(f"{path} is {high:.0f} inches high, more than a page holds: try {'--columns 2' if fits else '--highlight SCHEME'}.")


def results_or_probe(folder: Path) -> Shown:
    """What a results folder holds. Raises: StorageError where it holds nothing that can be shown."""
    return api.load_probe(folder) if (folder / store.PROBE).is_file() else api.load_results(folder)


def _read(given: list[str]) -> tuple[Path, list[str]]:
    """The folder and the names of plots; a first word that is no folder is a plot's name."""
    if given and (Path(given[0]).is_dir() or len(Path(given[0]).parts) > 1):
        return Path(given[0]), given[1:]
    return store.LATEST, given

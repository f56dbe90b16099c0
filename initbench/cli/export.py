"""The command `export`: results in the formats of other tools."""

from pathlib import Path
from typing import Annotated

from initbench import api, exports
from initbench.cli import output
from initbench.cli.options import OUTPUT, Folder, Quiet, argument, option
from initbench.results.store import LATEST

EXAMPLE = "Example: initbench export tensorboard results/latest"


def _formats(incomplete: str) -> list[str]:
    return [name for name in exports.NAMES if name.startswith(incomplete)]


Format = Annotated[str, argument("FORMAT", f"{', '.join(exports.NAMES[:-1])} or {exports.NAMES[-1]}.", _formats)]
OutFolder = Annotated[Path | None, option(OUTPUT, "-o --out", "DIR", "Where it goes. Default: FORMAT in the results folder.")]


def export(*, name: Format, folder: Folder = LATEST, out: OutFolder = None, quiet: Quiet = False) -> None:
    """Write results in the format of another tool, here; nothing is sent anywhere. Each needs its extra: pip install initbench[FORMAT]."""
    results = api.load_results(folder)
    written = exports.export(results, name, out or results.folder / "exports" / name)
    if not quiet:
        output.text(str(written))

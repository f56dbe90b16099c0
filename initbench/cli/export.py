"""The command `export`: results for other tools."""

from pathlib import Path
from typing import Annotated

from initbench import api
from initbench.cli import output
from initbench.cli.options import OUTPUT, ExportName, Folder, Quiet, option
from initbench.results import store

EXAMPLE = "Example: initbench export tensorboard results/latest"

OutFolder = Annotated[
    Path | None, option(OUTPUT, "-o --out", "DIR", "A new or empty folder. Default: exports/FORMAT in the results folder.")
]
Fresh = Annotated[bool, option(OUTPUT, "--fresh", "", "Replace an earlier export that is there.")]


def export(*, name: ExportName, folder: Folder = store.LATEST, out: OutFolder = None, fresh: Fresh = False, quiet: Quiet = False) -> None:
    """Write results in the format of another tool, here; nothing is sent anywhere. Each of ours needs the extra of its name."""
    made = api.export(name, folder, out, fresh=fresh)
    if not quiet:
        output.text(str(made.folder))
        output.hint(f"{output.count_text(made.runs, 'run')}. Open with: {made.opened_with}")

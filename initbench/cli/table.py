"""The command `table`: the table of a comparison or a sweep, for a paper."""

from pathlib import Path
from typing import Annotated, Literal

from initbench import api
from initbench.cli import output
from initbench.cli.endings import kind_of
from initbench.cli.options import OUTPUT, Folder, MetricName, option
from initbench.errors import ConfigError
from initbench.reporting import sweep
from initbench.reporting.paper import paper_table, render
from initbench.results import files, store

EXAMPLE = "Example: initbench table results/latest --format latex --out table.tex"

ENDINGS = {".tex": "latex", ".md": "markdown", ".csv": "csv", ".json": "json"}
Format = Annotated[
    Literal["latex", "markdown", "csv", "json"] | None,
    option(OUTPUT, "--format", "latex|markdown|csv|json", "How it is written. Default: as the name of --out ends, else latex."),
]
OutFile = Annotated[Path | None, option(OUTPUT, "-o --out", "FILE", "Where it goes. Default: it is printed.")]


def table(*, folder: Folder = store.LATEST, ending: Format = None, metric: MetricName = None, out: OutFile = None) -> None:
    """Write the table of a comparison for a paper: the best in bold with those that tie, intervals, a caption with n and the test."""
    if (folder / store.PROBE).is_file():
        raise ConfigError(f"{folder} holds a probe, which compares nothing. Its tables are in {folder / 'tables'}.")
    summary = api.load_results(folder, metric).summary
    kind = kind_of(out, ending, ENDINGS, "latex")
    made = None if summary.sweep is not None else paper_table(summary)
    text = sweep.paper_table(summary, kind) if made is None else render(made, kind)
    if out is None:
        output.text(text.removesuffix("\n"))
    else:
        files.write_bytes(out, text.encode())
    if made is not None and made.seeds_needed is not None:
        output.hint(f"So few seeds cannot show a difference, however large: use --seeds {made.seeds_needed} or more.")

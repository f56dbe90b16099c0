"""The command `report`: tables, plots and the page anew, for one results folder or several merged, or against published figures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from initbench import api
from initbench.cli import output
from initbench.cli.options import Against, DisplayOptions, Folders, Json, MergeOut, Quiet, ViewOptions, flat
from initbench.cli.running import show_results
from initbench.errors import ConfigError, GateFailed
from initbench.results.store import LATEST
from initbench.studies import published
from initbench.studies.merge import merge

EXAMPLE = "Example: initbench report results/latest --reference kaiming"


@flat
def report(
    *,
    folders: Folders = None,
    view: ViewOptions,
    against: Against = None,
    out: MergeOut = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the tables, plots and the report of a results folder anew; merge folders; compare with published figures."""
    named = folders or [LATEST]
    if len(named) > 1 and out is None:
        raise ConfigError(f"{len(named)} folders are merged into a new one: name it with --out.")
    if len(named) == 1 and out is not None:
        raise ConfigError("--out is for merging: name two results folders or more.")
    if against is not None:
        _show_published(named, against, as_json=as_json)
        return
    folder = named[0] if out is None else merge(named, out)
    show_results(api.report(folder, **asdict(view)), DisplayOptions(as_json, quiet))


def _show_published(folders: Sequence[Path], name: str, *, as_json: bool) -> None:
    """Raises: GateFailed where a published figure does not agree with the measured one."""
    lines = [line for folder in folders for line in published.against(api.load_results(folder), name)]
    if as_json:
        output.document([line.model_dump(mode="json") for line in lines])
    else:
        output.published(lines)
    differing = [line.figure for line in lines if line.agreement is published.Agreement.DIFFERS]
    if differing:
        figures = output.count_text(len(lines), "figure")
        raise GateFailed(f"{len(differing)} of {figures} of {name} do not agree, first: {differing[0].what} of {differing[0].scheme}.")

"""The command `resume`: what was stopped goes on."""

from initbench.cli.options import DisplayOptions, Folder, Profile, RunOptions, flat
from initbench.cli.running import run_and_show
from initbench.results.store import LATEST
from initbench.studies.plan import plan_of

EXAMPLE = "Example: initbench resume results/latest"


@flat
def resume(*, folder: Folder = LATEST, running: RunOptions, profile: Profile = False, display: DisplayOptions) -> None:
    """Go on where a run or a comparison was stopped; failed runs are tried again."""
    run_and_show(plan_of(folder, running.execution, looking=running.dry_run), display, dry_run=running.dry_run, profile=profile)

"""The command `run`: one scheme, layer by layer."""

import typer

from initbench.cli.options import DisplayOptions, ExecutionOptions, Profile, SchemeOptions, Strict, TrainingOptions, flat
from initbench.cli.running import run_and_show
from initbench.studies.plan import make_plan

EXAMPLE = "Example: initbench run --method kaiming --model mlp:depth=10 --epochs 2"


@flat
def run(
    context: typer.Context,
    *,
    schemes: SchemeOptions,
    training: TrainingOptions,
    strict: Strict = False,
    execution: ExecutionOptions,
    profile: Profile = False,
    display: DisplayOptions,
) -> None:
    """Train with one scheme and look at what happens, layer by layer."""
    question = training.question("run", schemes.named, execution.data_dir, strict=strict or None)
    run_and_show(make_plan("run", question, execution.execution, typed=context.obj), display, dry_run=execution.dry_run, profile=profile)

"""The command `compare`: several schemes with the same seeds."""

from dataclasses import asdict

import typer

from initbench.cli.options import (
    DisplayOptions,
    ExecutionOptions,
    Family,
    Profile,
    SchemeOptions,
    Strict,
    TrainingOptions,
    Tune,
    ViewOptions,
    flat,
)
from initbench.cli.running import run_and_show
from initbench.question.families import PREFIX
from initbench.question.request import view_of
from initbench.studies.plan import make_plan

EXAMPLE = "Example: initbench compare xavier kaiming normal --steps 200\n\nOr: initbench compare --family residual -c cifar10_resnet"


@flat
def compare(
    context: typer.Context,
    *,
    schemes: SchemeOptions,
    family: Family = None,
    tune: Tune = None,
    training: TrainingOptions,
    view: ViewOptions,
    strict: Strict = False,
    execution: ExecutionOptions,
    profile: Profile = False,
    display: DisplayOptions,
) -> None:
    """Train with several schemes and the same seeds, and say what differs."""
    named = [*schemes.named, *(PREFIX + name for name in family or ())]
    looked_at = view_of(**asdict(view))
    question = training.question("compare", named, execution.data_dir, tune=tune, strict=strict or None)
    plan = make_plan("compare", question, execution.execution, looked_at, typed=context.obj)
    run_and_show(plan, display, dry_run=execution.dry_run, profile=profile)

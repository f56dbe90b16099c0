"""The command `compare`: several schemes with the same seeds."""

from dataclasses import asdict

import typer

from initbench.cli.options import (
    DisplayOptions,
    ExecutionOptions,
    Family,
    MaxSeeds,
    Profile,
    SchemeOptions,
    Strict,
    TrainingOptions,
    Tune,
    Until,
    ViewOptions,
    flat,
)
from initbench.cli.running import run_and_show
from initbench.question.families import PREFIX
from initbench.question.request import view_of
from initbench.studies.plan import make_plan

EXAMPLE = (
    "Example: initbench compare xavier kaiming normal --steps 200\n\nOr: initbench compare --family residual -c cifar10_resnet\n\n"
    "Or: initbench compare xavier kaiming normal --until decided --margin 0.5"
)


@flat
def compare(
    context: typer.Context,
    *,
    schemes: SchemeOptions,
    family: Family = None,
    tune: Tune = None,
    training: TrainingOptions,
    until: Until = None,
    max_seeds: MaxSeeds = None,
    view: ViewOptions,
    strict: Strict = False,
    execution: ExecutionOptions,
    profile: Profile = False,
    display: DisplayOptions,
) -> None:
    """Train with several schemes and the same seeds, and say what differs."""
    named = [*schemes.named, *(PREFIX + name for name in family or ())]
    looked_at = view_of(**asdict(view))
    more = {"tune": tune, "strict": strict or None, "until": until, "max_seeds": max_seeds, "view": looked_at}
    question = training.question("compare", named, execution.data_dir, **more)
    plan = make_plan("compare", question, execution.execution, looked_at, typed=context.obj)
    run_and_show(plan, display, dry_run=execution.dry_run, profile=profile)

"""The command `sweep`: a comparison in every cell of a grid."""

from dataclasses import asdict

import typer

from initbench.cli.options import (
    DisplayOptions,
    ExecutionOptions,
    Family,
    Grid,
    SchemeOptions,
    Strict,
    TrainingOptions,
    ViewOptions,
    Where,
    flat,
)
from initbench.cli.running import run_and_show
from initbench.question.families import PREFIX
from initbench.question.request import grid_of, view_of
from initbench.studies.plan import make_plan

EXAMPLE = (
    "Example: initbench sweep xavier kaiming --grid model.depth=4,8,16,32 --grid train.lr=1e-3..1:log:4 --seeds 6 --steps 100\n\n"
    "Or: initbench sweep -c depth_scheme"
)


@flat
def sweep(
    context: typer.Context,
    *,
    schemes: SchemeOptions,
    family: Family = None,
    grid: Grid = None,
    where: Where = None,
    training: TrainingOptions,
    view: ViewOptions,
    strict: Strict = False,
    execution: ExecutionOptions,
    display: DisplayOptions,
) -> None:
    """Compare schemes in every cell of a grid: at which depth, width or learning rate does which one stop training?"""
    named = [*schemes.named, *(PREFIX + name for name in family or ())]
    looked_at = view_of(**asdict(view))
    question = training.question("sweep", named, execution.data_dir, strict=strict or None, grid=grid_of(grid or (), where or ()))
    run_and_show(make_plan("sweep", question, execution.execution, looked_at, typed=context.obj), display, dry_run=execution.dry_run)

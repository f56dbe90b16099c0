"""The command `recommend`: the scheme for a config or a model."""

from dataclasses import asdict

import typer

from initbench.cli.options import ConfigOrModel, DisplayOptions, ExecutionOptions, Method, TrainingOptions, Tune, flat
from initbench.cli.running import run_and_show
from initbench.errors import ConfigError
from initbench.studies.plan import make_plan
from initbench.studies.recommend import race_question

EXAMPLE = "Example: initbench recommend --model mlp:depth=10"


@flat
def recommend(
    context: typer.Context,
    *,
    asked: ConfigOrModel = None,
    method: Method = None,
    training: TrainingOptions,
    tune: Tune = None,
    execution: ExecutionOptions,
    display: DisplayOptions,
) -> None:
    """Find the scheme for a config or a model: a probe of all schemes, then a race over schemes and learning rates."""
    if asked is not None and (training.config is not None or training.model is not None):
        raise ConfigError(f"'{asked}' is a config or a model: give either it or --config and --model.")
    words = asdict(training) | {"settings": training.settings or ()}
    question = race_question(asked, method, **words, tune=tune, data_dir=execution.data_dir, dashes="--")
    run_and_show(make_plan("recommend", question, execution.execution, typed=context.obj), display, dry_run=execution.dry_run)

"""The export `wandb`."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from initbench.exports import ExportedRun, environment, needed

LONGEST_TAG = 64
"""Letters of a tag, at most; longer ones are refused."""


def write(runs: Sequence[ExportedRun], out: Path, title: str) -> str:
    """Offline runs of Weights & Biases, scheme and seed as tags: nothing is sent before you give the command `wandb sync` yourself."""
    with environment(WANDB_MODE="offline", WANDB_DIR=str(out), WANDB_ERROR_REPORTING="false", WANDB_SILENT="true"):
        wandb = needed("wandb", "wandb")
        settings = wandb.Settings(
            mode="offline",
            silent=True,
            console="off",
            disable_git=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        for run in runs:
            logged = wandb.init(
                project=title,
                dir=str(out),
                id=run.result.job_id,
                name=run.name,
                group=run.tags["scheme"][:LONGEST_TAG],
                tags=[text[:LONGEST_TAG] for text in (run.tags["scheme"], f"seed {run.tags['seed']}", run.tags["outcome"])],
                config={**run.tags, **run.parameters},
                settings=settings,
                reinit="finish_previous",
            )
            for step, values in run.steps.items():
                logged.log(values, step=step)
            logged.summary.update(run.metrics)
            logged.finish(exit_code=0)
    return f"wandb sync {quote(str(out / 'wandb'))}/offline-run-*"

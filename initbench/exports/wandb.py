"""Offline runs of Weights & Biases, which `wandb sync` can upload; nothing is sent here."""

from pathlib import Path

from initbench.exports import by_step, finals, run_name, settings
from initbench.studies.answer import Results

EXTRA = "wandb"


def export(results: Results, out: Path) -> None:
    """A run each, in the group of its scheme."""
    import wandb

    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    for run in results.results:
        made = wandb.init(
            project="initbench",
            name=run_name(run),
            id=run.job_id,
            group=str(run.job.scheme)[:128],
            config=settings(run),
            dir=str(out),
            mode="offline",
            reinit="finish_previous",
            settings=quiet,
        )
        for step, values in by_step(run).items():
            made.log(values, step=step)
        made.summary.update({"status": str(run.status), **finals(run)})
        made.finish()

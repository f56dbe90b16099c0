"""A folder of event files, one folder a run: `tensorboard --logdir FOLDER`."""

from pathlib import Path

from initbench.exports import by_step, finals, run_name, settings
from initbench.studies.answer import Results

EXTRA = "tensorboard"


def export(results: Results, out: Path) -> None:
    """Scalars by step, and hyperparameters with the final figures."""
    import tensorboard  # noqa: F401 - what torch says of its lack names no package
    from torch.utils.tensorboard import SummaryWriter

    for run in results.results:
        with SummaryWriter(log_dir=str(out / run_name(run))) as writer:
            for step, values in by_step(run).items():
                for name, value in values.items():
                    writer.add_scalar(name, value, step, new_style=True, double_precision=True)
            writer.add_text("status", f"{run.status}: {run.reason}" if run.reason else str(run.status))
            writer.add_hparams(settings(run), {f"hparam/{name}": value for name, value in finals(run).items()}, run_name=".")

"""The export `tensorboard`."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from initbench.exports import ExportedRun, needed

WAITING = 10_000
"""Numbers that wait for the thread that writes them; with the usual ten the two wait for each other."""


def write(runs: Sequence[ExportedRun], out: Path, title: str) -> str:  # noqa: ARG001 - folders have no title
    """Event files of TensorBoard, a folder a run: losses, evaluations and layers by step, hyper-parameters with the final metrics.

    Numbers are written as 64-bit floats: a signal that vanishes below 1e-38 is not 0, one that explodes above 1e38 is not infinite.
    """
    needed("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    for run in runs:
        with SummaryWriter(str(out / run.name), max_queue=WAITING) as writer:
            for name, points in run.series.items():
                for step, value in points:
                    writer.add_scalar(name, value, step, new_style=True, double_precision=True)
            last = max(run.steps, default=0)
            for name, value in run.metrics.items():
                writer.add_scalar(f"final/{name}", value, last, new_style=True, double_precision=True)
            shown = {f"final/{name}": value for name, value in run.metrics.items()}
            for summary in hparams(run.tags | run.parameters, shown):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(summary)
    return f"tensorboard --logdir {quote(str(out))}"

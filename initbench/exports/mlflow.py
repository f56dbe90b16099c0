"""A local MLflow store in one SQLite file: `mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`."""

import logging
from pathlib import Path

from initbench.exports import by_step, finals, run_name, settings
from initbench.results.record import RunStatus
from initbench.studies.answer import Results

EXTRA = "mlflow"
AT_ONCE = 1000
"""Numbers in one request, MLflow's own limit."""
LONGEST = 6000
"""Letters of a parameter, likewise."""


def export(results: Results, out: Path) -> None:
    """An experiment named after the results folder, with a run each."""
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it tells how it makes its tables
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=f"sqlite:///{(out / 'mlflow.db').absolute()}")
    known = client.get_experiment_by_name(results.folder.name)
    experiment = client.create_experiment(results.folder.name) if known is None else known.experiment_id
    for run in results.results:
        tags = {"scheme": str(run.job.scheme)[:LONGEST], "seed": str(run.job.seed), "status": str(run.status), "job_id": run.job_id}
        made = client.create_run(experiment, run_name=run_name(run), tags=tags).info.run_id
        client.log_batch(made, params=[Param(name, str(value)[:LONGEST]) for name, value in settings(run).items()])
        numbers = [Metric(_safe(name), value, 0, step) for step, values in by_step(run).items() for name, value in values.items()]
        numbers += [Metric(name, value, 0, 0) for name, value in finals(run).items()]
        for start in range(0, len(numbers), AT_ONCE):
            client.log_batch(made, metrics=numbers[start : start + AT_ONCE])
        client.set_terminated(made, "FINISHED" if run.status is RunStatus.COMPLETED else "FAILED")


def _safe(name: str) -> str:
    """MLflow takes letters, digits and `_-. /:` in the name of a metric."""
    return "".join(letter if letter.isalnum() or letter in "_-./: " else "_" for letter in name)

"""The export `mlflow`."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from shlex import quote

from initbench.exports import ExportedRun, environment, needed

AT_ONCE = 1000
"""Numbers in a call, at most."""


def write(runs: Sequence[ExportedRun], out: Path, title: str) -> str:
    """A local MLflow store (SQLite), the results folder as its experiment: parameters, metrics by step, scheme and seed as tags."""
    address = f"sqlite:///{(out / 'mlflow.db').absolute().as_posix()}"
    with environment(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_LOGGING_LEVEL="WARNING"):
        mlflow = needed("mlflow", "mlflow")
        client = mlflow.MlflowClient(tracking_uri=address)
        experiment = client.create_experiment(title, artifact_location=(out / "artifacts").absolute().as_uri())
        for run in runs:
            begun = int(time.time() * 1000)
            logged = client.create_run(experiment, start_time=begun, run_name=run.name, tags=run.tags).info.run_id
            parameters = [mlflow.entities.Param(name, str(value)) for name, value in run.parameters.items()]
            client.log_batch(logged, params=parameters)
            last = max(run.steps, default=0)
            series = {**run.series, **{f"final/{name}": ((last, value),) for name, value in run.metrics.items()}}
            numbers = (mlflow.entities.Metric(name, value, begun, step) for name, points in series.items() for step, value in points)
            while part := list(islice(numbers, AT_ONCE)):
                client.log_batch(logged, metrics=part)
            client.set_terminated(logged, "FAILED" if run.tags["status"] == "failed" else "FINISHED")
    return f"mlflow ui --backend-store-uri {quote(address)}"

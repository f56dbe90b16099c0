"""The export `parquet`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from initbench.exports import ExportedRun, needed
from initbench.question.config import Frozen
from initbench.results.record import LayerStats, ParameterInit

Row = dict[str, Any]
Types = dict[str, type]
"""Columns with what is in them: text, whole numbers, numbers, or true and false."""

WHICH: Types = {"run": str, "scheme": str, "seed": int, "status": str, "outcome": str, "purpose": str}
"""The columns that say which run a row is of."""


def write(runs: Sequence[ExportedRun], out: Path, title: str) -> str:  # noqa: ARG001 - tables have no title
    """Tables for pandas, polars, DuckDB and R: runs (configuration and final metrics), curves, layers and init, with all digits."""
    arrow, parquet = needed("pyarrow", "parquet"), needed("pyarrow.parquet", "parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    tables: dict[str, tuple[Types, Iterator[Row]]] = {
        "runs": (_run_columns(runs), map(_run, runs)),
        "curves": ({**WHICH, "step": int, "epoch": float, "quantity": str, "value": float}, _curves(runs)),
        "layers": ({**WHICH, **_columns(LayerStats)}, _layers(runs)),
        "init": ({**WHICH, **_columns(ParameterInit), "lr_multiplier": float}, _init(runs)),
    }
    for name, (columns, rows) in tables.items():
        schema = arrow.schema([(column, kinds[kind]) for column, kind in columns.items()])
        parquet.write_table(arrow.Table.from_pylist(list(rows), schema), out / f"{name}.parquet")
    return f'import pandas; pandas.read_parquet("{(out / "curves.parquet").as_posix()}")'


def _columns(record: type[Frozen]) -> Types:
    """What is in the column of each field of a record."""
    within = {name: get_args(field.annotation) or (field.annotation,) for name, field in record.model_fields.items()}
    plain = {name: get_origin(field.annotation) is not tuple for name, field in record.model_fields.items()}
    return {name: next((kind for kind in (int, float) if plain[name] and kind in kinds), str) for name, kinds in within.items()}


def _row(record: Frozen) -> Row:
    """The fields of a record; sizes joined by `x` and names by spaces, as in the CSV tables."""
    values = {name: getattr(record, name) for name in type(record).model_fields}
    joined = {
        name: (" " if value and isinstance(value[0], str) else "x").join(map(str, value))
        for name, value in values.items()
        if isinstance(value, tuple)
    }
    return values | joined


def _run_columns(runs: Sequence[ExportedRun]) -> Types:
    """A parameter that is a number in one run and a text in another is text."""
    kinds: dict[str, set[type]] = {}
    for run in runs:
        for name, value in run.parameters.items():
            kinds.setdefault(name, set()).add(type(value))
    given = {name: next(iter(found)) if len(found) == 1 else float if found == {int, float} else str for name, found in kinds.items()}
    metrics = {name: float for run in runs for name in run.metrics}
    return {**WHICH, "job_id": str, "reason": str, **given, **metrics}


def _which(run: ExportedRun) -> Row:
    return {**{name: run.tags.get(name) for name in WHICH}, "run": run.name, "seed": run.result.job.seed}


def _run(run: ExportedRun) -> Row:
    return {**run.parameters, **run.metrics, **_which(run), "job_id": run.result.job_id, "reason": run.result.reason}


def _curves(runs: Sequence[ExportedRun]) -> Iterator[Row]:
    for run in runs:
        epochs = {item.step: item.epoch for item in run.result.evaluations}
        for name in ("train_loss", "test_loss", "test_accuracy"):
            for step, value in run.series.get(name, ()):
                epoch = None if name == "train_loss" else epochs[step]
                yield {**_which(run), "step": step, "epoch": epoch, "quantity": name, "value": value}


def _layers(runs: Sequence[ExportedRun]) -> Iterator[Row]:
    for run in runs:
        for stats in run.result.layers:
            yield {**_which(run), **_row(stats)}


def _init(runs: Sequence[ExportedRun]) -> Iterator[Row]:
    for run in runs:
        if run.result.init is not None:
            for entry in run.result.init.parameters:
                multiplier = run.result.init.lr_multipliers.get(entry.parameter, 1)
                yield {**_which(run), **_row(entry), "lr_multiplier": float(multiplier)}

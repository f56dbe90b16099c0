"""The tidy tables as Parquet files: `pandas.read_parquet("FOLDER/curves.parquet")`."""

from pathlib import Path

from initbench.studies.answer import Results

EXTRA = "parquet"


def export(results: Results, out: Path) -> None:
    """A file for each table of the results folder."""
    import pyarrow  # noqa: F401 - named where it is missing

    for path in sorted((results.folder / "tables").glob("*.csv")):
        results.to_pandas(path.stem).to_parquet(out / f"{path.stem}.parquet", index=False)

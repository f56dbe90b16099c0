"""Everything that is derived from the runs: tables, plots, summary, page; the same runs give the same bytes."""

from collections.abc import Iterable
from pathlib import Path

from initbench import plan, store
from initbench.config import ExperimentConfig
from initbench.report import draw, figures, page, tables, tidy
from initbench.results import RunResult
from initbench.summary import group, summarize


def write(
    folder: Path,
    config: ExperimentConfig,
    results: Iterable[RunResult],
    reference: str | None = None,
    *,
    metric: str | None = None,
    target: float | None = None,
    margin: float | None = None,
) -> tuple[Path, ...]:
    """Writes every derived file of a results folder and gives their paths; plots that are no longer made are removed.

    Raises: StorageError when the folder cannot be written; ConfigError for an unknown reference or metric.
    """
    results = tuple(results)
    order = [str(ref) for ref in plan.resolve_config(config).schemes]
    summary = summarize(results, reference, order=order, metric=metric, target=target, margin=margin)
    by_scheme = group(results, order)
    runs = [run for found in by_scheme.values() for run in found]
    question = page.question(config)
    pictures = [(plot, draw.draw(plot)) for plot in figures.plots(summary, by_scheme)]
    drawn = {f"plots/{plot.name}{ending}": content for plot, made in pictures for ending, content in made.items()}
    files = {
        "tables/curves.csv": tidy.curves(runs),
        "tables/layers.csv": tidy.layers(runs),
        "tables/init.csv": tidy.init(runs),
        "tables/summary.csv": tidy.summary(summary),
        "tables/comparisons.csv": tidy.comparisons(summary),
        "summary.md": tables.summary_markdown(summary, question),
        "report.html": page.render(config, summary, by_scheme, [(plot, made[".svg"]) for plot, made in pictures]),
        "summary.json": summary.model_dump_json(indent=2) + "\n",
    }
    for name, content in files.items():
        store.write_text(folder / name, content)
    for name, picture in drawn.items():
        store.write_bytes(folder / name, picture)
    for stale in set((folder / "plots").glob("*.*")) - {folder / name for name in drawn}:
        stale.unlink(missing_ok=True)
    return tuple(folder / name for name in (*files, *drawn))

"""Writes everything that is derived from the runs of a results folder; the same runs give the same bytes."""

from collections.abc import Iterable
from pathlib import Path

from initbench.question.config import ExperimentConfig
from initbench.question.plan import resolve_config
from initbench.reporting import draw, figures, page, search, tables, tidy
from initbench.results import store
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.summary import group


def write_report(
    folder: Path, config: ExperimentConfig, summary: Summary, reported: Iterable[RunResult], every: Iterable[RunResult]
) -> tuple[Path, ...]:
    """Writes every derived file of a results folder and gives their paths; plots that are no longer made are removed.

    `reported`: the runs that tables and plots of schemes are about; `every`: all of them, those that only served to choose too.
    Raises: StorageError when the folder cannot be written.
    """
    order = [str(ref) for ref in resolve_config(config).schemes]
    by_scheme = group(reported, order)
    runs = [run for own in by_scheme.values() for run in own]
    question = page.question(config)
    plots = [*search.plots(summary), *figures.plots(summary, by_scheme)]
    pictures = list(zip(plots, draw.draw_all(plots), strict=True))
    drawn = {f"plots/{plot.name}{ending}": content for plot, made in pictures for ending, content in made.items()}
    files = {
        "tables/curves.csv": tidy.curves(runs),
        "tables/layers.csv": tidy.layers(runs),
        "tables/init.csv": tidy.init(runs),
        "tables/summary.csv": tidy.summary(summary),
        "tables/comparisons.csv": tidy.comparisons(summary),
        "summary.md": tables.summary_markdown(summary, question, search.study_tables(summary)),
        "report.html": page.render(config, summary, by_scheme, [(plot, made[".svg"]) for plot, made in pictures]),
        "summary.json": summary.model_dump_json(indent=2) + "\n",
        **search.tables(summary, every),
    }
    return store.write_derived(folder, files, drawn)

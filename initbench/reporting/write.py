"""Writes everything that is derived from the runs of a results folder; the same runs give the same bytes."""

from collections.abc import Iterable
from pathlib import Path

from initbench.question.config import ExperimentConfig
from initbench.question.plan import resolve_config
from initbench.reporting import decisions, draw, figures, page, panels, search, sweep, tables, tidy
from initbench.results import store
from initbench.results.record import RunResult
from initbench.statistics.findings import Summary
from initbench.statistics.summary import Runs, group


def by_scheme(config: ExperimentConfig, reported: Iterable[RunResult]) -> Runs:
    """The runs of each scheme, in the order of the question."""
    return group(reported, [str(ref) for ref in resolve_config(config).schemes])


def plots_of(summary: Summary, runs: Runs) -> tuple[panels.Plot, ...]:
    """All plots of a results folder."""
    if summary.sweep is not None:
        return sweep.plots(summary)
    return (*search.plots(summary), *decisions.plots(summary, runs), *figures.plots(summary, runs))


def write_report(
    folder: Path, config: ExperimentConfig, summary: Summary, reported: Iterable[RunResult], every: Iterable[RunResult], typed: str = ""
) -> tuple[Path, ...]:
    """Writes every derived file of a results folder and gives their paths; plots that are no longer made are removed.

    `reported`: the runs that tables and plots of schemes are about; `every`: all of them, those that only served to choose too;
    `typed`: the command line that asked, where there was one.
    Raises: StorageError when the folder cannot be written.
    """
    if summary.sweep is not None:
        return _write_sweep(folder, config, summary, list(every), typed)
    of_schemes = by_scheme(config, reported)
    runs = [run for own in of_schemes.values() for run in own]
    question = page.question(config, summary)
    plots = plots_of(summary, of_schemes)
    pictures = list(zip(plots, draw.draw_all(plots), strict=True))
    drawn = {f"plots/{plot.name}{ending}": content for plot, made in pictures for ending, content in made.items()}
    files = {
        "tables/curves.csv": tidy.curves(runs),
        "tables/layers.csv": tidy.layers(runs),
        "tables/init.csv": tidy.init(runs),
        "tables/summary.csv": tidy.summary(summary),
        "tables/comparisons.csv": tidy.comparisons(summary),
        "summary.md": tables.summary_markdown(summary, question, search.study_tables(summary)),
        "report.html": page.render(config, summary, of_schemes, [(plot, made[".svg"]) for plot, made in pictures], typed),
        "summary.json": summary.model_dump_json(indent=2) + "\n",
        **search.tables(summary, every),
    }
    return store.write_derived(folder, files, drawn)


def _write_sweep(folder: Path, config: ExperimentConfig, summary: Summary, every: list[RunResult], typed: str) -> tuple[Path, ...]:
    question, plots = page.question(config, summary), sweep.plots(summary)
    pictures = list(zip(plots, draw.draw_all(plots), strict=True))
    inlined = [(plot, page.inline_svg(made[".svg"].decode(), plot.title)) for plot, made in pictures]
    files = {
        "tables/cells.csv": sweep.cells_csv(summary),
        "tables/runs.csv": sweep.runs_csv(config, every),
        "summary.md": sweep.summary_markdown(summary, question),
        "report.html": sweep.page(config, summary, question, inlined, page.provenance_of(every), typed),
        "summary.json": summary.model_dump_json(indent=2) + "\n",
    }
    return store.write_derived(folder, files, {f"plots/{plot.name}{ending}": made[ending] for plot, made in pictures for ending in made})

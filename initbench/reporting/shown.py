"""What results and probes have in common for whoever looks at them in a notebook: plots, and a table as HTML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from initbench.errors import ConfigError, enumerated

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from initbench.reporting.axes import Style
    from initbench.reporting.panels import Plot
    from initbench.reporting.tables import Table


class Shown(ABC):
    """Something with plots and a table."""

    @property
    @abstractmethod
    def plots(self) -> tuple[Plot, ...]:
        """What each plot shows, as data."""

    @property
    @abstractmethod
    def overview(self) -> tuple[str, Table]:
        """What was found, in a sentence, and the table that says it."""

    @property
    @abstractmethod
    def where(self) -> Path | None:
        """The results folder, where there is one."""

    def plot(self, name: str = "signal", *, style: str = "notebook", columns: int = 2, highlight: str | None = None) -> Figure:
        """One plot as a figure of matplotlib: `results.plot("loss")`; `style`: paper, slide or notebook, of 1 or 2 columns.

        `highlight`: the one scheme in colour, before the others in grey. Raises: ConfigError for a name that there is not.
        """
        from initbench.reporting.draw import figure_of

        return figure_of(self.chosen(name, highlight), _style(style, columns))

    def inches_high(self, name: str, *, style: str, columns: int, highlight: str | None = None) -> float:
        """How high the picture of a plot is."""
        from initbench.reporting.layout import inches_high

        return inches_high(self.chosen(name, highlight), _style(style, columns))

    def drawn(self, name: str, ending: str, *, style: str, columns: int, highlight: str | None = None) -> bytes:
        """One plot as a file: `ending` is .png, .svg or .pdf. Raises: ConfigError as `plot` does."""
        from initbench.reporting.draw import draw

        return draw(self.chosen(name, highlight), _style(style, columns), (ending,))[ending]

    def chosen(self, name: str, highlight: str | None = None) -> Plot:
        """One plot as data. Raises: ConfigError for a name or a scheme that there is not."""
        there = {plot.name: plot for plot in self.plots}
        if name not in there:
            raise ConfigError(f"There is no plot '{name}' of {self.where or 'this'}. There are: {', '.join(there) or 'none'}.")
        plot = there[name]
        if highlight is None:
            return plot
        if highlight not in plot.schemes:
            raise ConfigError(f"There is no scheme '{highlight}' in this plot. There are: {', '.join(plot.schemes)}.")
        return plot.highlighting(highlight)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from initbench.reporting.templates import template

        sentence, table = self.overview
        return template(Path(__file__).with_name("shown.html.jinja")).render(sentence=sentence, table=table)


def as_frame(text: str) -> pd.DataFrame:
    """A table of text in which layers are named: the layer `0` of a sequence keeps its name."""
    import io

    import pandas as pd

    return pd.read_csv(io.StringIO(text), dtype={"layer": str})


def read_table(folder: Path, table: str) -> pd.DataFrame:
    """A table of a results folder. Raises: ConfigError for a name that there is not."""
    import pandas as pd

    path = folder / "tables" / f"{table}.csv"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv")))
        raise ConfigError(f"There is no table '{table}' in {folder}. There are: {there}.")
    return pd.read_csv(path)


def _style(style: str, columns: int) -> Style:
    from initbench.reporting.draw import STYLES

    if (style, columns) not in STYLES:
        names = list(dict.fromkeys(name for name, _ in STYLES))
        raise ConfigError(f"There is no style '{style}' of {columns} columns. There are {enumerated(names, 'and')}, of 1 or 2 columns.")
    return STYLES[style, columns]

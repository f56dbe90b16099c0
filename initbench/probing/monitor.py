"""The public class `SignalMonitor`: layer statistics, verdicts and a page of a network that somebody trains in a loop of their own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench.errors import ConfigError, InitbenchError, suggestion
from initbench.probing import figures, tables
from initbench.probing.health import SchemeHealth, health
from initbench.probing.verdicts import distance, while_trained
from initbench.reporting.panels import Plot
from initbench.reporting.shown import Shown
from initbench.reporting.tables import Table
from initbench.results import lock, provenance
from initbench.results.probe_run import ProbeRun

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from initbench.training.watched import OwnLoss

SHARE = 0.03
"""Measuring takes at most this share of the time of training."""
MARKS = (1, 2, 5)
"""Steps that are measured, times a power of ten."""
BEFORE = ", before the first step"
"""What titles of plots say of a probe, and not of a monitor."""
LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""Packages that have the class of a callback; the first that is installed counts."""


@dataclass
class Schedule:
    """When a step is measured: the first one, then every so many, or at steps that grow geometrically and never for more than `SHARE`.

    A measurement is expected to take as long as the longest so far, so that the dear first one, which also finds out about the model, is
    followed by a long pause. What steps take is read off the clock.
    """

    every: int | None = None
    clock: Callable[[], float] = time.perf_counter
    mark: int = 1
    spent: float = 0.0
    longest: float = 0.0
    _begun: float | None = None

    def due(self, step: int) -> bool:
        """Whether `step`, the number of steps so far, is measured."""
        if self.every is not None:
            return step == 1 or step % self.every == 0
        if step < self.mark or self._begun is None:
            return step >= self.mark
        trained = self.clock() - self._begun - self.spent
        return self.spent + self.longest <= SHARE * trained

    def measured(self, step: int, seconds: float) -> None:
        """Notes that `step` was measured, which took so long."""
        if self._begun is None:
            self._begun = self.clock() - seconds
        self.spent, self.longest, self.mark = self.spent + seconds, max(self.longest, seconds), mark_after(step)


def mark_after(step: int) -> int:
    """The first of 1, 2, 5, 10, 20, 50, ... that is more than `step`."""
    power = int(10 ** (len(str(step)) - 1))
    return next(mark * power for mark in (*MARKS, 10) if mark * power > step)


class SignalMonitor(Shown):
    """Layer statistics of a network while you train it: `monitor = SignalMonitor(model)`, and `monitor.step(inputs, labels)` in the loop.

    `every`: a measurement every so many steps, the first included; without it at steps that grow geometrically, put off so that
    measuring takes at most 3 % of the time. `inputs`, `labels`: a fixed batch that is measured in place of those of the loop. `layers`: a
    glob, or several, of the layers that tables and files show. The model, its mode, gradients, buffers, hooks and all random states are
    as they were after each measurement. Raises: InitbenchError with one sentence.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int | None = None,
        inputs: Any = None,
        labels: Any = None,
        layers: str | Sequence[str] = (),
    ) -> None:
        from initbench.training.watched import Watched

        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ConfigError(f"The monitor is to measure every {every!r} steps. Give a whole number from 1, or nothing.")
        if labels is not None and inputs is None:
            raise ConfigError("There are labels, and no batch that they belong to. Give the batch as `inputs`.")
        self._watched = Watched(model)
        self._schedule = Schedule(every)
        self._fixed = (inputs, labels)
        self._patterns = (layers,) if isinstance(layers, str) else tuple(layers)
        self._health: list[SchemeHealth] = []
        self._folder: Path | None = None
        self.steps = 0
        self.runs: tuple[ProbeRun, ...] = ()

    def step(self, inputs: Any = None, labels: Any = None, *, loss: OwnLoss | None = None) -> bool:
        """Counts a step of training, and measures the batch where that is due; gives whether it was.

        `inputs` in any form that `probe` takes. Gradients are those of the cross entropy with `labels` (N,), of `loss`, a function of
        what the model gives that returns the mean over the batch, or of a random projection of the outputs.
        Raises: InitbenchError for a model or a batch that cannot be measured.
        """
        self.steps += 1
        if not self._schedule.due(self.steps):
            return False
        self.measure(inputs, labels, loss=loss)
        return True

    def measure(self, inputs: Any = None, labels: Any = None, *, loss: OwnLoss | None = None) -> None:
        """Measures now, whether or not it is due: at the end of training, for example. Raises: InitbenchError as `step` does."""
        if self._fixed[0] is not None:
            inputs, labels = self._fixed[0], None if loss is not None else self._fixed[1]
        if inputs is None:
            raise ConfigError(
                "There is no batch to measure. Call monitor.step(inputs, labels), or give the monitor a fixed one as `inputs`."
            )
        self._watched.wait()
        start = time.perf_counter()
        run = self._watched.measure(self.steps, inputs, labels, loss)
        self._check_patterns(run)
        self.runs = (*(each for each in self.runs if each.scheme != run.scheme), run)
        self._schedule.measured(self.steps, time.perf_counter() - start)

    @property
    def schemes(self) -> tuple[SchemeHealth, ...]:
        """How the signal does at each step that was measured, the first one first."""
        known = {each.scheme: each for each in self._health if each.scheme != self.runs[-1].scheme}
        self._health = [known.get(run.scheme) or while_trained(health(run.scheme, [run])) for run in self.runs]
        return tuple(self._health)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """A sentence on the first and the latest step that was measured, and one on how far the signal is where it is lost."""
        ends = self.schemes[:1] + self.schemes[1:][-1:]
        said = tables.verdict_lines(ends)
        far = [(f"At {each.scheme} {words}." if (words := distance(each)) else "") for each in ends]
        return tuple(line for pair in zip(said, far, strict=True) for line in pair if line)

    @property
    def plots(self) -> tuple[Plot, ...]:
        """What each plot shows, as data: a line a step, evenly chosen where there are many."""
        every, most = self.schemes, figures.MOST_SHOWN
        if len(every) > most:
            every = tuple(every[round(index * (len(every) - 1) / (most - 1))] for index in range(most))
        return tuple(replace(plot, title=f"{plot.title.removesuffix(BEFORE)}, while it is trained") for plot in figures.plots(every))

    @property
    def overview(self) -> tuple[str, Table]:
        """The verdict on the latest step, and a row a step."""
        lines = tables.verdict_lines(self.schemes[-1:])
        return lines[0] if lines else "Nothing was measured yet.", tables.step_table(self.schemes)

    @property
    def where(self) -> Path | None:
        """The folder that was written last."""
        return self._folder

    def to_pandas(self, table: str = "layers") -> pd.DataFrame:
        """A row a layer and step (`layers`), or a row a step (`steps`). Raises: ConfigError for another name."""
        import io

        import pandas as pd

        texts = self._tables()
        if table not in texts:
            raise ConfigError(f"There is no table '{table}' of a monitor. There are: {', '.join(texts)}.")
        return pd.read_csv(io.StringIO(texts[table]))

    def write(self, folder: str | Path, *, fresh: bool = False) -> Path:
        """Writes tables, plots, summary.md and report.html to a folder of its own; what this model's monitor wrote there is replaced.

        `fresh` replaces any other results of initbench there. Raises: InitbenchError where nothing was measured, StorageError.
        """
        from initbench.probing import page
        from initbench.probing.run import folder_hash, prepare_folder

        if not self.runs:
            raise InitbenchError("Nothing was measured yet, so there is nothing to write. Call monitor.step(inputs, labels) first.")
        target, name = Path(folder), self._watched.name
        asked = {"model": name, "every": self._schedule.every, "layers": self._patterns, "measured": [_step_of(run) for run in self.runs]}
        subject = page.Subject(
            title=f"monitor of {name}, {self.steps} steps",
            question=f"Does {name} keep the signal while it is trained?",
            asked=("monitor.json", json.dumps(asked, indent=2)),
            several="steps",
            at="at",
        )
        layers = [layer for run in self.runs for layer in run.layers if self._shows(layer.layer)]
        with lock.locked(target):
            prepare_folder(target, folder_hash({"monitor": name}), "monitor", fresh=fresh, typed="")
            page.write(
                target,
                subject,
                self.runs,
                [self._shown(each) for each in self.schemes],
                {**provenance.environment(), "device": self.runs[-1].device},
                overview=tables.step_table(self.schemes),
                plots=self.plots,
                tables=self._tables(),
                explored={name: [self.runs[-1].model_copy(update={"layers": tuple(layers)})]},
            )
        self._folder = target
        return target

    def callback(self, batch: Callable[[Any], tuple[Any, Any]] | None = None) -> Any:
        """A callback for Lightning's trainer, which calls `step` after each training batch: `Trainer(callbacks=[monitor.callback()])`.

        `batch` makes (inputs, labels) of what the loader gives, labels None where there are none; without it that is told from its form.
        """

        def on_train_batch_end(_self: object, trainer: Any, _module: Any, _outputs: Any, content: Any, _index: int) -> None:
            from initbench.training.watched import of_batch

            if getattr(trainer, "is_global_zero", True):
                self.step(*(of_batch if batch is None else batch)(content)) if self._fixed[0] is None else self.step()

        return type("SignalMonitorCallback", (_callback_class(),), {"on_train_batch_end": on_train_batch_end})()

    def _tables(self) -> Mapping[str, str]:
        wanted = [layer.layer for run in self.runs for layer in run.layers if self._shows(layer.layer)]
        return {"layers": tables.steps_csv(self.runs, frozenset(wanted)), "steps": tables.losses_csv(self.runs)}

    def _shows(self, layer: str) -> bool:
        return not self._patterns or any(fnmatchcase(layer, pattern) for pattern in self._patterns)

    def _shown(self, each: SchemeHealth) -> SchemeHealth:
        """The same with the layers alone that are shown."""
        return replace(each, layers=tuple(layer for layer in each.layers if self._shows(layer.layer)))

    def _check_patterns(self, run: ProbeRun) -> None:
        names = [layer.layer for layer in run.layers]
        for pattern in self._patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                few = ", ".join(names[:6]) + ", ..." * (len(names) > 6)
                raise ConfigError(f"The pattern '{pattern}' matches no weight layer.{suggestion(pattern, names)} There are {few}.")

    def __repr__(self) -> str:
        """Says how much was measured, and the verdict on the latest step."""
        return f"<SignalMonitor of {self._watched.name}, measured {len(self.runs)} times in {self.steps} steps: {self.overview[0]}>"

    def __str__(self) -> str:
        """A row a step, the layers of the latest one, and the verdicts."""
        sentence, steps = self.overview
        if not self.runs:
            return sentence
        latest = tables.layer_table(self._shown(self.schemes[-1]), most=tables.SHOWN_ROWS, narrow=True)
        parts = [_aligned(steps), f"{latest.title}:\n{_aligned(latest)}", "\n".join(self.verdicts)]
        return "\n\n".join(parts)


def _step_of(run: ProbeRun) -> int:
    return run.layers[0].step


def _aligned(table: Table) -> str:
    """The table as text, in columns, without those that are empty."""
    columns = [(place, column) for place, column in enumerate(zip(table.columns, *table.rows, strict=True)) if any(column[1:])]
    padded = []
    for place, column in columns:
        width = max(map(len, column))
        padded.append([text.rjust(width) if place in table.right else text.ljust(width) for text in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _callback_class() -> type:
    """Lightning's class of a callback where it is installed, else a class of nothing."""
    for name in LIGHTNING:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            try:
                return importlib.import_module(name).Callback  # type: ignore[no-any-return]
            except (ImportError, AttributeError):
                continue
    return object

"""The signal of a scheme: that of the medians over its seeds, layer by layer, as tables and drawings show them."""

from collections.abc import Sequence
from dataclasses import dataclass

from initbench.results.columns import at_step
from initbench.results.propagation import Propagation, layer_value, signal_at_start, signal_through
from initbench.results.record import LayerStats, Place, RunResult
from initbench.statistics.inference import median


@dataclass(frozen=True)
class TypicalLayer:
    """A layer before training, over the runs of a scheme."""

    layer: str
    place: Place | None
    size: int
    measured: tuple[tuple[RunResult, LayerStats], ...]

    def value(self, quantity: str) -> float | None:
        """The median over the runs that measured it; None where most did not."""
        known = [value for run, stats in self.measured if (value := layer_value(run, stats, quantity)) is not None]
        return median(known) if 2 * len(known) > len(self.measured) else None


def typical_signal(runs: Sequence[RunResult]) -> Propagation | None:
    """How the signal passes at step 0, by the medians of runs of one scheme; None where fewer than two hidden layers were measured."""
    measured = [run for run in runs if signal_at_start(run) is not None]
    by_layer: dict[str, list[tuple[RunResult, LayerStats]]] = {}
    for run in measured:
        for stats in sorted(at_step(run.layers, 0), key=lambda each: each.position):
            by_layer.setdefault(stats.layer, []).append((run, stats))
    layers = [TypicalLayer(name, own[0][1].place, own[0][1].size, tuple(own)) for name, own in by_layer.items()]
    return signal_through(layers)

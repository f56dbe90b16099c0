"""Trains one network for a coordinate check: after every step it is measured how large each layer's output and its change are."""

from collections.abc import Iterator

import torch
from torch import Tensor

from initbench.measure.coordinates import outputs_of, sizes
from initbench.question.config import Job
from initbench.results.coordinates import LayerSizes, WidthRun
from initbench.results.record import RunStatus
from initbench.training.devices import device_name, small_runs
from initbench.training.job import Failure, attempt, prepare
from initbench.training.loop import Alone, Ready, Stopwatch, Timetable, train_unit


class _Steps(Timetable):
    """A timetable of steps alone."""

    def evaluates(self, step: int) -> bool:  # noqa: ARG002 - never
        """Never."""
        return False

    def probes(self, step: int) -> bool:  # noqa: ARG002 - never
        """Never."""
        return False


class _Measured(Alone):
    """A run alone that measures its layers' outputs before the first step and after each; training is as without."""

    def __init__(self, ready: Ready) -> None:
        super().__init__(ready)
        self.timetable = _Steps(**vars(self.timetable))
        self.begin = self._outputs()
        self.sizes = [sizes(self.begin, self.begin)]

    def advance(self, step: int) -> None:
        """One step, measured; a run whose loss is not finite ends with it."""
        super().advance(step)
        self.sizes.append(sizes(self._outputs(), self.begin))
        self.look(step + 1)

    def _outputs(self) -> dict[str, Tensor]:
        run = self.first
        with run.precision():
            return outputs_of(run.model, run.layers, run.probe_inputs)


def run_width(job: Job, width: int, *, device: str, data_dir: str | None) -> WidthRun:
    """What the job gives, whose model has this width; never raises."""

    def run() -> WidthRun:
        watch, units = Stopwatch(), []

        def make() -> _Measured:
            units.append(_Measured(ready))
            return units[0]

        ready = prepare(job, device=device, data_dir=data_dir, watch=watch)
        (trained,) = train_unit(make, ready, watch, None)
        (unit,) = units
        return WidthRun(
            scheme=str(job.scheme),
            width=width,
            seed=job.seed,
            status=RunStatus.COMPLETED if trained.first_bad_step is None else RunStatus.DIVERGED,
            reason=trained.reason,
            first_bad_step=trained.first_bad_step,
            layers=_layers(unit),
            losses=trained.losses,
            device=device_name(ready.data.device),
            notes=(*ready.init.notes, *_unseen(unit)),
        )

    with small_runs():
        result = attempt(run, device, job.seed)
    if isinstance(result, Failure):
        return WidthRun(scheme=str(job.scheme), width=width, seed=job.seed, status=result.status, reason=result.reason)
    return result


def _layers(unit: _Measured) -> tuple[LayerSizes, ...]:
    values = torch.stack(unit.sizes, -1).tolist()
    return tuple(
        LayerSizes(layer=name, outputs=tuple(outputs), changes=tuple(changes))
        for name, (outputs, changes) in zip(unit.begin, values, strict=True)
    )


def _unseen(unit: _Measured) -> Iterator[str]:
    """The layers that the pass does not show, in a sentence."""
    hidden = [layer.name for layer in unit.first.layers if layer.name not in unit.begin]
    if hidden:
        yield f"Not measured, as they are hidden inside a recurrent module or not met in the pass: {', '.join(hidden)}"

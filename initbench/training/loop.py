"""The training loop: one drive for a run alone and for many runs as one; losses, evaluations and layer statistics come out."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import DataError, too_long
from initbench.fast.layers import fast_layers
from initbench.fast.tape import Tape, is_plain
from initbench.measure import probes
from initbench.nn.inputs import Inputs, called
from initbench.nn.layers import WeightLayer
from initbench.nn.seeds import derived_seed, random_states, set_random_states
from initbench.question.config import USUAL_TASK, Job, ProbeConfig, TrainConfig
from initbench.results.record import Evaluation, InitReport, LayerStats
from initbench.tasks import Task
from initbench.theory.prediction import LayerPrediction
from initbench.training.batches import DeviceData, memory_format
from initbench.training.devices import products
from initbench.training.evaluate import evaluate
from initbench.training.keeper import Keeper, copy_into, numbers_of
from initbench.training.limit import TooLong
from initbench.training.loaded import LoadedData, batch_named, checksum, count_of
from initbench.training.optimizer import Optimizer, optimizer_of
from initbench.training.state import end_if_copy

LOOK_EVERY_STEPS = 25
"""On the CPU, where looking costs nothing, losses are checked this often, so that a diverged run ends soon."""
STEPS_BETWEEN_PROBES = 100
"""Where nobody says when to probe, it is done at ends of epochs that are at least so far apart: it then costs some 3 %."""
REPORT_SECONDS = 0.1
"""Progress is reported at most this often."""

Stepped = Callable[[int, int], None]
"""Called now and then with (steps done, steps in all)."""


def within(seconds: float | None, stepped: Stepped) -> Stepped:
    """`stepped`, which from so many seconds after now on raises TooLong."""
    end = None if seconds is None else time.monotonic() + seconds

    def checked(done: int, total: int) -> None:
        if end is not None and time.monotonic() > end:
            raise TooLong(too_long(seconds))
        stepped(done, total)

    return checked


@dataclass(frozen=True)
class Ready:
    """An initialized model with the data it is to be trained on."""

    job: Job
    data: DeviceData | LoadedData
    model: nn.Module
    layers: tuple[WeightLayer, ...]
    init: InitReport
    expected: dict[str, LayerPrediction] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What training gave. `first_bad_step` is None unless the run diverged; `reason` then says in words what was not finite."""

    losses: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    stats: tuple[LayerStats, ...]
    first_bad_step: int | None = None
    reason: str | None = None
    seen: int | None = None
    """A checksum of the batches of somebody's own that it was trained on; None of others, and where not all are known."""


@dataclass(frozen=True)
class Timetable:
    """When a run is evaluated and probed: at the start, at the end and every so many steps."""

    steps: int
    steps_per_epoch: int
    evaluate_every: int
    probe_every: int
    probe_until: int

    def evaluates(self, step: int) -> bool:
        """Whether the test split is evaluated after `step` updates."""
        return step in (0, self.steps) or step % self.evaluate_every == 0

    def probes(self, step: int) -> bool:
        """Whether the signal is measured after `step` updates."""
        return step in (0, self.steps) or (step % self.probe_every == 0 and step <= self.probe_until)


def make_timetable(train: TrainConfig, probe: ProbeConfig, per_epoch: int) -> Timetable:
    """The timetable for a training split of so many batches."""
    steps = train.steps if train.steps is not None else (train.epochs or 0) * per_epoch
    evaluate_every = train.evaluate_every_steps or per_epoch
    if probe.every_steps is not None:
        return Timetable(steps, per_epoch, evaluate_every, probe.every_steps, steps)
    epochs_between = -(-STEPS_BETWEEN_PROBES // per_epoch)
    return Timetable(steps, per_epoch, evaluate_every, epochs_between * per_epoch, steps - STEPS_BETWEEN_PROBES)


@dataclass
class Stopwatch:
    """Seconds by part; what is measured within another part is taken off that part."""

    seconds: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.perf_counter
    _inner: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time spent within to `name`."""
        start, outer, self._inner = self.clock(), self._inner, 0.0
        try:
            yield
        finally:
            spent = self.clock() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner
            self._inner = outer + spent


def objective_of(task: Task, targets: Any, count: int) -> Tensor | probes.Loss:
    """What gradients are measured of: the labels of a classification, whose loss is known; else the loss summed over the examples."""
    if task.name == USUAL_TASK and isinstance(targets, Tensor):
        return targets
    return lambda outputs: task.summed_loss(outputs.float() if isinstance(outputs, Tensor) else outputs, targets, count)


@contextmanager
def drawing_apart(seed: int, purpose: str, device: torch.device) -> Iterator[None]:
    """Within, torch's generators begin with a seed and a purpose; afterwards they are as they were."""
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(derived_seed(seed, purpose))
        yield


class RunUnderWay:
    """One run: its model, and what it has given so far. It has diverged once `first_bad_step` is there."""

    def __init__(self, ready: Ready) -> None:
        self.model, self.layers, self.data, self.job = ready.model, ready.layers, ready.data, ready.job
        per_epoch = self.data.steps_per_epoch(self.job.train.rows)
        self.timetable = make_timetable(self.job.train, self.job.probe, per_epoch or self.job.train.steps or 1)
        self.layout = memory_format(self.model, self.data.device)
        self.fast = fast_layers(self.model, self.data.device, self.job.train.precision)
        self.probe_inputs: Inputs
        self.probe_inputs, targets = self.data.probe_batch(self.job.probe.images, self.layout)
        self.probe_labels = objective_of(self.data.task, targets, count_of(self.probe_inputs, targets))
        self.tape = Tape() if is_plain(self.model) else None
        self.finite_losses = 0
        self.evaluations: list[Evaluation] = []
        self.records: list[probes.ProbeAtStep] = []
        self.first_bad_step: int | None = None
        self.reason: str | None = None

    def precision(self) -> AbstractContextManager[object]:
        """The autocast that the job asks for."""
        if self.job.train.precision == "bfloat16":
            return torch.autocast(self.data.device.type, torch.bfloat16, cache_enabled=False)
        return nullcontext()

    def evaluation(self) -> Tensor:
        """Test loss, accuracy and score as the model is now, (3,), still on the device; what it draws for them is the same each time."""
        with self.precision(), self.fast, drawing_apart(self.job.seed, "evaluation", self.data.device):
            return evaluate(self.model, self.data, self.layout)

    def probe(self, step: int) -> None:
        """Measures every layer after `step` updates."""
        with self.precision():
            values = probes.measure(self.model, self.layers, self.probe_inputs, self.probe_labels, self.tape)
        self.records.append(probes.ProbeAtStep(step, values))

    def add_update_ratios(self, before: list[Tensor]) -> None:
        """Completes the last record with the size of the update that followed it."""
        last = self.records[-1]
        self.records[-1] = probes.ProbeAtStep(last.step, last.values, probes.update_ratios(self.layers, before))


class Unit(ABC):
    """What is driven: one run, or many of one timetable whose steps are taken as one. A run that has diverged is left alone.

    `losses` (steps, runs) stay on the device; whether they are finite is looked at only where the host waits anyway.
    """

    optimizer: Optimizer[Any]

    def __init__(self, ready: Sequence[Ready]) -> None:
        self.runs = [RunUnderWay(member) for member in ready]
        self.first = self.runs[0]
        self.timetable, self.device = self.first.timetable, self.first.data.device
        self.losses = torch.zeros(self.timetable.steps, len(ready), dtype=torch.float32, device=self.device)
        self.looked_at = 0
        for run in self.runs:
            run.model.train()

    @abstractmethod
    def advance(self, step: int) -> None:
        """Takes the step after `step` updates and writes its losses into their row."""

    def still_going(self) -> list[RunUnderWay]:
        """The runs that have not diverged, as far as has been looked at."""
        return [run for run in self.runs if run.first_bad_step is None]

    def look(self, step: int) -> None:
        """Ends the runs that have a loss which is not finite among those of the first `step` steps; waits for the device."""
        finite = self.losses[self.looked_at : step].isfinite().cpu().int().cumprod(0).sum(0).tolist()
        for run, count in zip(self.runs, finite, strict=True):
            if run.first_bad_step is not None:
                continue
            run.finite_losses = self.looked_at + count
            if run.finite_losses < step:
                run.first_bad_step = run.finite_losses + 1
                run.reason = f"the training loss of step {run.first_bad_step} is not finite"
        self.looked_at = step

    def evaluate(self, step: int) -> None:
        """Evaluates after `step` updates, and ends the runs whose test loss is not finite."""
        going = self.still_going()
        results = torch.stack([run.evaluation() for run in going]).tolist()
        for run, (loss, accuracy, score) in zip(going, results, strict=True):
            finite = math.isfinite(loss)
            epoch = step / self.timetable.steps_per_epoch
            if finite and run.data.task.score is not None and not math.isfinite(score):
                raise DataError(
                    f"The metric '{run.data.task.score.name}' is {score:g} after step {step}, where the test loss is {loss:.4g}."
                )
            figures = {"test_accuracy": accuracy if finite else None, "test_score": score if finite else None}
            run.evaluations.append(Evaluation(step=step, epoch=epoch, test_loss=loss, **figures))
            if not finite:
                run.first_bad_step = min(step + 1, max(1, self.timetable.steps))
                split = "held-out" if run.job.train.holdout else "test"
                run.reason = f"the {split} loss after step {step} is not finite"

    @abstractmethod
    def go_to(self, step: int) -> None:
        """Makes ready to take the step after `step` updates, as if those before it had been taken."""

    def state(self, step: int) -> dict[str, Any]:
        """Everything that `step` updates have changed, as plain data and tensors."""
        return {
            "step": step,
            "numbers": [numbers_of(run.model) for run in self.runs],
            "kept": [[part.weights, part.gradients, *part.state] for part in self.optimizer.parts],
            "losses": self.losses[:step],
            "looked_at": self.looked_at,
            "random": random_states(),
            "runs": [
                {
                    "finite_losses": run.finite_losses,
                    "evaluations": [each.model_dump() for each in run.evaluations],
                    "records": [[each.step, each.values, each.update_ratios] for each in run.records],
                    "first_bad_step": run.first_bad_step,
                    "reason": run.reason,
                }
                for run in self.runs
            ],
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> int:
        """Puts back what `state` gave, on the unit's device; gives the number of updates so far."""
        step: int = state["step"]
        for part, kept in zip(self.optimizer.parts, state["kept"], strict=True):
            for tensor, saved in zip((part.weights, part.gradients, *part.state), kept, strict=True):
                tensor.copy_(saved)
        self.losses[:step] = state["losses"].to(self.device)
        self.looked_at = state["looked_at"]
        for run, numbers, saved in zip(self.runs, state["numbers"], state["runs"], strict=True):
            copy_into(numbers_of(run.model), numbers)
            run.finite_losses, run.first_bad_step, run.reason = saved["finite_losses"], saved["first_bad_step"], saved["reason"]
            run.evaluations = [Evaluation(**each) for each in saved["evaluations"]]
            run.records = [
                probes.ProbeAtStep(at, values.to(self.device), None if ratios is None else ratios.to(self.device))
                for at, values, ratios in saved["records"]
            ]
        self.go_to(step)
        set_random_states(state["random"])
        return step

    def results(self) -> tuple[Trained, ...]:
        """Of each run everything up to the first step that is not finite."""
        return tuple(
            Trained(
                losses=tuple(losses[: run.finite_losses].tolist()),
                evaluations=tuple(run.evaluations),
                stats=probes.to_stats(run.layers, run.records),
                first_bad_step=run.first_bad_step,
                reason=run.reason,
            )
            for run, losses in zip(self.runs, self.losses.unbind(1), strict=True)
        )


class Alone(Unit):
    """One run."""

    def __init__(self, ready: Ready) -> None:
        super().__init__([ready])
        train = ready.job.train
        self.optimizer = optimizer_of(ready.model, ready.layers, train, ready.init.lr_multipliers, self.timetable.steps)
        self.ready = ready
        self.seen = 0 if isinstance(ready.data, LoadedData) else None
        self.named = batch_named if isinstance(ready.data, LoadedData) else nullcontext
        self.go_to(0)

    def go_to(self, step: int) -> None:
        """The batches from there on."""
        train, ready = self.ready.job.train, self.ready
        self.seen = self.seen if step == 0 else None
        self.feed = ready.data.batches(
            seed=ready.job.seed, batch_size=train.rows, layout=self.first.layout, augment=train.augment, first=step
        )

    def results(self) -> tuple[Trained, ...]:
        """With a checksum of its batches, where these are somebody's own."""
        return tuple(replace(trained, seen=self.seen) for trained in super().results())

    def advance(self, step: int) -> None:
        """One step."""
        inputs, targets = next(self.feed)
        if self.seen is not None:
            self.seen = checksum((inputs, targets), self.seen)
        self.optimizer.before_backward(step)
        with self.first.fast:
            with self.first.precision(), self.named(f"Training batch {step + 1} cannot be trained on"):
                loss = self.first.data.task.mean_loss(called(self.first.model, inputs), targets)
            self.losses[step] = loss.detach()
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.update()


def train(ready: Ready, *, watch: Stopwatch, stepped: Stepped | None = None, keeper: Keeper | None = None) -> Trained:
    """Trains a model in place as its job says; the caller's random state stays as it is.

    From the first loss that is not finite everything is cut off. A `keeper` saves a long run now and then.
    """
    (trained,) = train_unit(lambda: Alone(ready), ready, watch, stepped, keeper)
    return trained


def train_unit(
    make: Callable[[], Unit], ready: Ready, watch: Stopwatch, stepped: Stepped | None, keeper: Keeper | None = None
) -> tuple[Trained, ...]:
    """Makes a unit and drives it, on the device and in the arithmetic of `ready`, one of its runs."""
    precision = products("tf32" if ready.job.train.precision == "tf32" else "ieee")
    with drawing_apart(ready.job.seed, "training", ready.data.device), precision:
        with watch.part("train"):
            unit = make()
            drive(unit, watch, stepped or (lambda _done, _total: None), keeper or Keeper(None, (), ""))
        return unit.results()


def drive(unit: Unit, watch: Stopwatch, stepped: Stepped, keeper: Keeper) -> None:
    """Takes all steps, with what is due between them, until the last one or until every run has diverged.

    What was saved of these very runs is gone on with.
    """
    timetable, looks = unit.timetable, unit.device.type == "cpu"
    keeper.begin([run.model for run in unit.runs], [part.rule for part in unit.optimizer.parts])
    saved = keeper.found()
    begin = 0 if saved is None else unit.restore(saved)
    if begin:
        stepped(begin, timetable.steps)
    reported = time.perf_counter()
    for step in range(begin, timetable.steps + 1):
        evaluates, probes_now = timetable.evaluates(step), timetable.probes(step)
        if evaluates or probes_now or (looks and step % LOOK_EVERY_STEPS == 0):
            unit.look(step)
        runs = unit.still_going()
        if not runs:
            return
        if evaluates:
            with watch.part("evaluate"):
                unit.evaluate(step)
        if probes_now:
            with watch.part("probe"):
                for run in runs:
                    run.probe(step)
        runs = unit.still_going()
        if not runs or step == timetable.steps:
            return
        if probes_now:
            with watch.part("probe"):
                before = [probes.copy_weights(run.layers) for run in runs]
        unit.advance(step)
        end_if_copy()
        if probes_now:
            with watch.part("probe"):
                for run, weights in zip(runs, before, strict=True):
                    run.add_update_ratios(weights)
        now = time.perf_counter()
        if now - reported >= REPORT_SECONDS:
            reported = now
            stepped(step + 1, timetable.steps)
            if now >= keeper.due:
                keeper.keep(unit.state(step + 1))

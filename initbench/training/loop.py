"""The training loop: tensors in, losses, evaluations and layer statistics out."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.fast.layers import fast_layers
from initbench.fast.tape import Tape, is_plain
from initbench.measure import probes
from initbench.nn.layers import WeightLayer
from initbench.nn.seeds import derived_seed
from initbench.question.config import Job, ProbeConfig, TrainConfig
from initbench.results.record import Evaluation, InitReport, LayerStats
from initbench.training.batches import DeviceData, batches, memory_format, probe_batch
from initbench.training.devices import products
from initbench.training.evaluate import evaluate
from initbench.training.optimizers import Optimizer, learning_rate

LOOK_EVERY_STEPS = 25
"""On the CPU, where looking costs nothing, losses are checked this often, so that a diverged run ends soon."""
STEPS_BETWEEN_PROBES = 100
"""Where nobody says when to probe, it is done at ends of epochs that are at least so far apart: it then costs some 3 %."""
REPORT_SECONDS = 0.1
"""Progress is reported at most this often."""

Stepped = Callable[[int, int], None]
"""Called now and then with (steps done, steps in all)."""


@dataclass(frozen=True)
class Trained:
    """What training gave. `first_bad_step` is None unless the run diverged; `reason` then says in words what was not finite."""

    losses: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    stats: tuple[LayerStats, ...]
    first_bad_step: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Schedule:
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


def make_schedule(train: TrainConfig, probe: ProbeConfig, images: int) -> Schedule:
    """The schedule for a training split of so many images."""
    per_epoch = max(1, images // train.batch_size)
    steps = train.steps if train.steps is not None else (train.epochs or 0) * per_epoch
    evaluate_every = train.evaluate_every_steps or per_epoch
    if probe.every_steps is not None:
        return Schedule(steps, per_epoch, evaluate_every, probe.every_steps, steps)
    epochs_between = -(-STEPS_BETWEEN_PROBES // per_epoch)
    return Schedule(steps, per_epoch, evaluate_every, epochs_between * per_epoch, steps - STEPS_BETWEEN_PROBES)


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


class Run:
    """One run under way: its loss buffer on the device and what has been looked at so far."""

    def __init__(self, model: nn.Module, layers: tuple[WeightLayer, ...], data: DeviceData, job: Job) -> None:
        self.model, self.layers, self.data, self.job = model, layers, data, job
        self.schedule = make_schedule(job.train, job.probe, len(data.x_train))
        self.layout = memory_format(model, data.device)
        self.fast = fast_layers(model, data.device, job.train.precision)
        self.losses = torch.zeros(self.schedule.steps, device=data.device)
        self.probe_inputs, self.probe_labels = probe_batch(data, job.probe.images, self.layout)
        self.tape = Tape() if is_plain(model) else None
        self.evaluations: list[Evaluation] = []
        self.records: list[probes.ProbeRecord] = []
        self.checked = 0
        self.bad: tuple[int, str] | None = None

    def precision(self) -> AbstractContextManager[object]:
        """The autocast that the job asks for."""
        if self.job.train.precision == "bfloat16":
            return torch.autocast(self.data.device.type, torch.bfloat16, cache_enabled=False)
        return nullcontext()

    def look(self, step: int) -> bool:
        """Whether all losses of the first `step` steps are finite; waits for the device."""
        fresh = self.losses[self.checked : step].isfinite()
        if not bool(fresh.all()):
            self.checked += int(fresh.int().argmin())
            self.bad = (self.checked + 1, f"the training loss of step {self.checked + 1} is not finite")
            return False
        self.checked = step
        return True

    def evaluate(self, step: int) -> bool:
        """Evaluates after `step` updates; False when the test loss is not finite."""
        loss, accuracy = self.evaluation().tolist()
        return self.evaluated(step, loss, accuracy)

    def evaluation(self) -> Tensor:
        """Test loss and accuracy as the model is now, (2,), still on the device."""
        with self.precision(), self.fast:
            return evaluate(self.model, self.data, self.layout)

    def evaluated(self, step: int, loss: float, accuracy: float) -> bool:
        """Keeps an evaluation after `step` updates; False when its loss is not finite."""
        finite = math.isfinite(loss)
        epoch = step / self.schedule.steps_per_epoch
        self.evaluations.append(Evaluation(step=step, epoch=epoch, test_loss=loss, test_accuracy=accuracy if finite else None))
        if not finite:
            self.bad = (min(step + 1, max(1, self.schedule.steps)), f"the test loss after step {step} is not finite")
        return finite

    def probe(self, step: int) -> None:
        """Measures every layer after `step` updates."""
        with self.precision():
            values = probes.measure(self.model, self.layers, self.probe_inputs, self.probe_labels, self.tape)
        self.records.append(probes.ProbeRecord(step, values))

    def ratios(self, before: list[Tensor]) -> None:
        """Completes the last record with the size of the update that followed it."""
        last = self.records[-1]
        self.records[-1] = probes.ProbeRecord(last.step, last.values, probes.update_ratios(self.layers, before))

    def result(self) -> Trained:
        """Everything up to the first step that is not finite."""
        losses = tuple(self.losses[: self.checked].tolist())
        stats = probes.to_stats(self.layers, self.records)
        if self.bad is None:
            return Trained(losses, tuple(self.evaluations), stats)
        return Trained(losses, tuple(self.evaluations), stats, *self.bad)


def train(
    model: nn.Module,
    layers: tuple[WeightLayer, ...],
    data: DeviceData,
    job: Job,
    *,
    init: InitReport,
    watch: Stopwatch,
    stepped: Stepped | None = None,
) -> Trained:
    """Trains `model` in place as the job says; the caller's random state stays as it is.

    Losses stay on the device; whether they are finite is looked at only where the host waits anyway (and now and then on
    the CPU). From the first loss that is not finite everything is cut off.
    """
    devices = [data.device.index or 0] if data.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), products("tf32" if job.train.precision == "tf32" else "ieee"):
        torch.manual_seed(derived_seed(job.seed, "training"))
        with watch.part("train"):
            run = Run(model, layers, data, job)
            model.train()
            _steps(run, Optimizer(model, job.train, init.lr_multipliers), watch, stepped or (lambda _done, _total: None))
        return run.result()


def _steps(run: Run, optimizer: Optimizer, watch: Stopwatch, stepped: Stepped) -> None:
    config, schedule, model, losses = run.job.train, run.schedule, run.model, run.losses
    feed = batches(run.data, seed=run.job.seed, batch_size=config.batch_size, layout=run.layout, augment=config.augment)
    looks = run.data.device.type == "cpu"
    reported = time.perf_counter()
    for step in range(schedule.steps + 1):
        evaluates, probes_now = schedule.evaluates(step), schedule.probes(step)
        if (evaluates or probes_now or (looks and step % LOOK_EVERY_STEPS == 0)) and not run.look(step):
            return
        if evaluates:
            with watch.part("evaluate"):
                finite = run.evaluate(step)
        if probes_now:
            with watch.part("probe"):
                run.probe(step)
        if (evaluates and not finite) or step == schedule.steps:
            return
        if probes_now:
            with watch.part("probe"):
                before = probes.copy_weights(run.layers)
        inputs, labels = next(feed)
        optimizer.before_backward()
        with run.fast:
            with run.precision():
                loss = functional.cross_entropy(model(inputs), labels)
            losses[step] = loss.detach()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.update(learning_rate(config, step, schedule.steps))
        if probes_now:
            with watch.part("probe"):
                run.ratios(before)
        now = time.perf_counter()
        if now - reported >= REPORT_SECONDS:
            reported = now
            stepped(step + 1, schedule.steps)

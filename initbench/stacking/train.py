"""Trains many runs as one: the same losses, evaluations and statistics as one at a time, within rounding."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from initbench.measure import probes
from initbench.nn.seeds import derived_seed
from initbench.stacking.feed import StackedFeed
from initbench.stacking.layers import Convolution, RandomStates, Together, default_convolution
from initbench.stacking.stack import Stack, refuse_different
from initbench.stacking.update import StackedOptimizer
from initbench.training.batches import memory_format, probe_batch
from initbench.training.devices import products
from initbench.training.job import Ready
from initbench.training.loop import LOOK_EVERY_STEPS, REPORT_SECONDS, Run, Stepped, Stopwatch, Trained

CHECK_IMAGES = 4
"""Images on which the models of a stack are compared with the first one."""
EAGER_STEPS = 3
"""Steps before a CUDA graph is recorded, so that libraries have chosen their kernels and buffers are there."""


def train_stacked(
    ready: Sequence[Ready],
    *,
    watch: Stopwatch,
    stepped: Stepped | None = None,
    convolution: Convolution | None = None,
) -> tuple[Trained, ...]:
    """Trains all models in place, as their jobs say; these may differ in scheme, seed and the numbers of the optimizer.

    On the CPU each run draws the dropout that it draws alone; on other devices dropout depends on the runs beside it.
    Raises: CannotStack when the models cannot be one.
    """
    data = ready[0].data
    devices = [data.device.index or 0] if data.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), products("tf32" if ready[0].job.train.precision == "tf32" else "ieee"):
        with watch.part("train"):
            layout = memory_format(ready[0].model, data.device)
            refuse_different([run.model for run in ready], probe_batch(data, CHECK_IMAGES, layout)[0])
            training = _Training(ready, convolution or default_convolution(data.device))
            training.go(watch, stepped or (lambda _done, _total: None))
        return tuple(run.result() for run in training.runs)


def trial_step(ready: Sequence[Ready]) -> None:
    """One step of a stack of these models, to see what it takes; what they are trained to is of no use."""
    training = _Training(ready, default_convolution(ready[0].data.device))
    for run in training.runs:
        run.model.train()
    training.feed.start_epoch(0)
    training.advance(0)


class _Training:
    """A stack under way. One step is the same work whatever its number, so that a CUDA graph can replay it."""

    def __init__(self, ready: Sequence[Ready], convolution: Convolution) -> None:
        data = ready[0].data
        self.runs = [Run(member.model, member.layers, data, member.job) for member in ready]
        first = self.runs[0]
        self.config, self.schedule, self.device = first.job.train, first.schedule, data.device
        self.precision = first.precision
        self.stack = Stack([member.model for member in ready])
        self.losses = torch.zeros(self.schedule.steps, len(ready), device=data.device)
        for number, run in enumerate(self.runs):
            run.losses = self.losses[:, number]
        configs = [member.job.train for member in ready]
        self.optimizer = StackedOptimizer(self.stack, configs, [member.init.lr_multipliers for member in ready], self.schedule.steps)
        seeds = [member.job.seed for member in ready]
        self.feed = StackedFeed(data, seeds, self.config.batch_size, first.layout, augment=self.config.augment)
        self.step = torch.zeros(1, dtype=torch.int64, device=data.device)
        self.together = Together(convolution, RandomStates(_own_states(seeds)) if data.device.type == "cpu" else None)
        self.graph: torch.cuda.CUDAGraph | None = None

    def go(self, watch: Stopwatch, stepped: Stepped) -> None:
        """All steps, with what is due between them."""
        looks = self.device.type == "cpu"
        for run in self.runs:
            run.model.train()
        reported = time.perf_counter()
        for step in range(self.schedule.steps + 1):
            evaluates, probes_now = self.schedule.evaluates(step), self.schedule.probes(step)
            if evaluates or probes_now or (looks and step % LOOK_EVERY_STEPS == 0):
                self._look(step)
            if evaluates:
                with watch.part("evaluate"):
                    self._evaluate(step)
            alive = [run for run in self.runs if run.bad is None]
            if probes_now:
                with watch.part("probe"):
                    for run in alive:
                        run.probe(step)
            if not alive or step == self.schedule.steps:
                return
            if step % self.schedule.steps_per_epoch == 0:
                self.feed.start_epoch(step // self.schedule.steps_per_epoch)
            if probes_now:
                with watch.part("probe"):
                    before = [probes.copy_weights(run.layers) for run in alive]
            self.advance(step)
            if probes_now:
                with watch.part("probe"):
                    for run, weights in zip(alive, before, strict=True):
                        run.ratios(weights)
            now = time.perf_counter()
            if now - reported >= REPORT_SECONDS:
                reported = now
                stepped(step + 1, self.schedule.steps)

    def advance(self, step: int) -> None:
        """One step of every run; on CUDA by replaying the recorded one."""
        if self.graph is not None:
            self.graph.replay()
            return
        if self.device.type != "cuda":
            self._work()
            return
        if step == EAGER_STEPS:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._work()
            self.graph.replay()
            return
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._work()
        torch.cuda.current_stream().wait_stream(side)

    def _work(self) -> None:
        inputs, labels = self.feed.load()
        self.optimizer.before_backward()
        runs, count = labels.shape
        with self.precision(), self.together:
            logits = self.stack.call(inputs)
            each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses = each.view(runs, count).mean(1)
        names = list(self.stack.parameters)
        found = torch.autograd.grad(losses.sum(), [self.stack.parameters[name] for name in names], allow_unused=True)
        with torch.no_grad():
            self.losses.index_copy_(0, self.step, losses.detach().float().unsqueeze(0))
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    self.stack.gradient_views[name].add_(gradient)
        self.optimizer.update(self.step)
        self.step.add_(1)

    def _look(self, step: int) -> None:
        """Notes the runs that have a loss which is not finite; waits for the device."""
        start = min((run.checked for run in self.runs if run.bad is None), default=step)
        fresh = self.losses[start:step].isfinite()
        bad: Tensor = ~fresh.all(0)
        for run, is_bad in zip(self.runs, bad.tolist(), strict=True):
            if run.bad is None and is_bad:
                run.look(step)
            elif run.bad is None:
                run.checked = step

    def _evaluate(self, step: int) -> None:
        alive = [run for run in self.runs if run.bad is None]
        if not alive:
            return
        found = torch.stack([run.evaluation() for run in alive]).tolist()
        for run, (loss, accuracy) in zip(alive, found, strict=True):
            run.evaluated(step, loss, accuracy)


def _own_states(seeds: Sequence[int]) -> list[Tensor]:
    """The state of the CPU's generator that each run has at its beginning when it is alone."""
    states = []
    for seed in seeds:
        torch.manual_seed(derived_seed(seed, "training"))
        states.append(torch.get_rng_state())
    return states

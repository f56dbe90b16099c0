"""Trains many runs as one: the same losses, evaluations and statistics as one at a time, within rounding."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from initbench.nn.seeds import derived_seed
from initbench.optimizers import build_rule
from initbench.question.given import is_given
from initbench.stacking.feed import StackedFeed
from initbench.stacking.layers import Convolution, RandomStates, StackedLayers, default_convolution
from initbench.stacking.optimizer import stacked_optimizer
from initbench.stacking.stack import CannotStack, Stack, refuse_different, refuse_draws
from initbench.tasks import Figure
from initbench.training.batches import DeviceData
from initbench.training.keeper import Keeper
from initbench.training.loop import Ready, Stepped, Stopwatch, Trained, Unit, train_unit
from initbench.training.optimizer import hidden_matrices

CHECK_IMAGES = 4
"""Images on which the models of a stack are compared with the first one."""
EAGER_STEPS = 3
"""Steps in which it is seen whether the models draw random numbers; on CUDA those before a graph is recorded, so that libraries have
chosen their kernels and buffers are there."""


def train_stacked(
    ready: Sequence[Ready],
    *,
    watch: Stopwatch,
    stepped: Stepped | None = None,
    keeper: Keeper | None = None,
    convolution: Convolution | None = None,
) -> tuple[Trained, ...]:
    """Trains all models in place, as their jobs say; these may differ in scheme, seed and the numbers of the optimizer.

    On the CPU each run draws the dropout that it draws alone; on other devices dropout depends on the runs beside it.
    Raises: CannotStack when the models cannot be one.
    """
    return train_unit(lambda: StackedRuns(ready, convolution), ready[0], watch, stepped, keeper)


def trial_step(ready: Sequence[Ready]) -> None:
    """One step of a stack of these models, to see what it takes; what they are trained to is of no use."""
    StackedRuns(ready).advance(0)


def data_of(ready: Ready) -> tuple[DeviceData, Figure]:
    """The data of a run, and the losses of examples.

    Raises: CannotStack for what comes from a loop of somebody's own: batches of a loader, a loss of whole batches, an optimizer.
    """
    if not isinstance(ready.data, DeviceData):
        raise CannotStack("its batches come from a loader")
    if ready.data.task.losses is None:
        raise CannotStack("its loss is one number for a batch, not one for each example")
    if is_given(ready.job.train.optimizer.name):
        raise CannotStack("its optimizer is not one of initbench's")
    return ready.data, ready.data.task.losses


class StackedRuns(Unit):
    """A stack under way. One step is the same work whatever its number, so that a CUDA graph can replay it."""

    def __init__(self, ready: Sequence[Ready], convolution: Convolution | None = None) -> None:
        """Raises: CannotStack when the models cannot be one."""
        data, self.losses_of = data_of(ready[0])
        super().__init__(ready)
        train, layout = self.first.job.train, self.first.layout
        models = [member.model for member in ready]
        refuse_different(models, data.probe_batch(CHECK_IMAGES, layout)[0])
        configs, multipliers = [member.job.train for member in ready], [member.init.lr_multipliers for member in ready]
        rules = [build_rule(config) for config in configs]
        self.stack = Stack(models, first=hidden_matrices(ready[0].layers) if rules[0].others else ())
        self.optimizer = stacked_optimizer(self.stack, rules, configs, multipliers, self.timetable.steps)
        seeds = [member.job.seed for member in ready]
        self.feed = StackedFeed(data, seeds, train.rows, layout, augment=train.augment)
        self.updates = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.random = RandomStates(_own_states(seeds)) if self.device.type == "cpu" else None
        self.stacked_layers = StackedLayers(convolution or default_convolution(self.device), self.random)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager_steps = 0

    def go_to(self, step: int) -> None:
        """The order of the epoch, the place in it, and the number of the step on the device."""
        epoch, done = divmod(step, self.timetable.steps_per_epoch)
        if done:
            self.feed.start_epoch(epoch)
            self.feed.position.fill_(done * self.first.job.train.rows)
        self.updates.fill_(step)

    def state(self, step: int) -> dict[str, Any]:
        """With the runs' own random states."""
        return {**super().state(step), "own_random": [] if self.random is None else self.random.states}

    def restore(self, state: dict[str, Any]) -> int:
        """With the runs' own random states."""
        if self.random is not None:
            self.random.states[:] = state["own_random"]
        return super().restore(state)

    def advance(self, step: int) -> None:
        """One step of every run; on CUDA by replaying the recorded one."""
        if step % self.timetable.steps_per_epoch == 0:
            self.feed.start_epoch(step // self.timetable.steps_per_epoch)
        if self.graph is not None:
            self.graph.replay()
            return
        watching = self.eager_steps < EAGER_STEPS
        self.eager_steps += watching
        with refuse_draws() if watching else nullcontext():
            self._take(record=not watching)

    def _take(self, *, record: bool) -> None:
        if self.device.type != "cuda":
            self._work()
            return
        if record:
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
        inputs, targets = self.feed.load()
        self.optimizer.before_backward(self.updates)
        runs, count = targets.shape[:2]
        with self.first.precision(), self.stacked_layers:
            outputs = self.stack.call(inputs)
            each = self.losses_of(outputs.flatten(0, 1), targets.flatten(0, 1))
        losses = each.view(runs, count).mean(1)
        names = list(self.stack.parameters)
        gradients = torch.autograd.grad(losses.sum(), [self.stack.parameters[name] for name in names], allow_unused=True)
        with torch.no_grad():
            self.losses.index_copy_(0, self.updates, losses.detach().float().unsqueeze(0))
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    self.stack.gradient_views[name].add_(gradient)
        self.optimizer.update()
        self.updates.add_(1)


def _own_states(seeds: Sequence[int]) -> list[Tensor]:
    """The state of the CPU's generator that each run has at its beginning when it is alone."""
    states = []
    for seed in seeds:
        torch.manual_seed(derived_seed(seed, "training"))
        states.append(torch.get_rng_state())
    return states

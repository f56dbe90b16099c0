"""Batches for many runs at once, each in its own order, loaded without waiting for the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from initbench.training.batches import DeviceData, augmented, epoch_moves, epoch_order, normalize


class StackedFeed:
    """Each `load` gives the next batch of every run; `start_epoch` before the first of each epoch."""

    def __init__(self, data: DeviceData, seeds: Sequence[int], batch_size: int, layout: torch.memory_format, *, augment: bool) -> None:
        self.data, self.seeds, self.layout, self.augment = data, seeds, layout, augment
        runs, count = len(seeds), len(data.x_train)
        device = data.device
        self.order = torch.zeros(runs, count, dtype=torch.int64, device=device)
        self.moves = torch.zeros(runs, count, 3, dtype=torch.int64, device=device) if augment else None
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        self.places = torch.arange(batch_size, device=device)
        total = runs * batch_size
        self.raw = torch.empty((total, *data.x_train.shape[1:]), dtype=data.x_train.dtype, device=device)
        self.inputs = torch.empty((total, *data.shape), dtype=torch.float32, device=device, memory_format=layout) if data.pixels else None

    def start_epoch(self, epoch: int) -> None:
        """Sets every run's order; runs with the same seed share it."""
        count = len(self.data.x_train)
        orders = {seed: epoch_order(seed, epoch, count) for seed in dict.fromkeys(self.seeds)}
        self.order.copy_(torch.stack([orders[seed] for seed in self.seeds]))
        if self.moves is not None:
            moves = {seed: epoch_moves(seed, epoch, count) for seed in dict.fromkeys(self.seeds)}
            self.moves.copy_(torch.stack([moves[seed] for seed in self.seeds]))
        self.position.zero_()

    def load(self) -> tuple[Tensor, Tensor]:
        """Inputs (runs, N, ...), overwritten by the next call, and targets (runs, N, ...)."""
        places = self.places + self.position
        chosen = self.order.index_select(1, places)
        torch.index_select(self.data.x_train, 0, chosen.flatten(), out=self.raw)
        stored = self.raw
        if self.moves is not None:
            stored = augmented(stored, self.moves.index_select(1, places).flatten(0, 1))
        values = normalize(stored, self.data.pixels, self.layout, self.inputs) if self.data.pixels else stored
        inputs, targets = self.data.task.pair(values, self.data.y_train[chosen.flatten()])
        self.position.add_(len(self.places))
        return inputs.view(*chosen.shape, *inputs.shape[1:]), targets.view(*chosen.shape, *targets.shape[1:])

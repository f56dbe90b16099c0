"""Training data on a device, gathered a batch at a time, images normalized; order and augmentation by seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.data.splits import DataSplits
from initbench.errors import ConfigError, DataError
from initbench.nn.seeds import generator
from initbench.tasks import Task

PADDING = 4
"""Pixels of black around an image before it is cropped."""
SMALLEST_STD = 1e-6
"""A channel that never changes is divided by this instead of by zero."""


@dataclass(frozen=True)
class DeviceData:
    """The examples of a task on a device: inputs as they are stored, and labels; the task makes inputs and targets of them.

    Images are uint8 (N, H, W, C), normalized by `pixels`: x * scale + shift, both (1, C, H, W); None for anything else.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    pixels: tuple[Tensor, Tensor] | None
    digest: str
    task: Task
    chance: float | None = None
    """The loss of the best guess that does not look at the input; None where accuracy says whether a run has trained."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (C, H, W) of images."""
        if self.pixels is None:
            return tuple(self.task.pair(self.x_train[:1], self.y_train[:1])[0].shape[1:])
        height, width, channels = self.x_train.shape[1:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.x_train.device

    def steps_per_epoch(self, batch_size: int) -> int:
        """How many batches an epoch has, at least one; the last incomplete one is dropped."""
        return max(1, len(self.x_train) // batch_size)

    def batches(
        self, *, seed: int, batch_size: int, layout: torch.memory_format, augment: bool = False, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches (inputs, targets) from number `first` on, epoch after epoch; the last incomplete batch of each is dropped.

        Images are the same tensor each time, overwritten by the next batch.
        """
        count = len(self.x_train)
        raw = torch.empty((batch_size, *self.x_train.shape[1:]), dtype=self.x_train.dtype, device=self.device)
        shape = (batch_size, *self.shape)
        inputs = torch.empty(shape, dtype=torch.float32, device=self.device, memory_format=layout) if self.pixels else None
        epoch, skipped = divmod(first, self.steps_per_epoch(batch_size))
        while True:
            order = epoch_order(seed, epoch, count).to(self.device)
            labels = self.y_train[order]
            moves = epoch_moves(seed, epoch, count).to(self.device) if augment else None
            for start in range(skipped * batch_size, count - batch_size + 1, batch_size):
                torch.index_select(self.x_train, 0, order[start : start + batch_size], out=raw)
                stored = raw if moves is None else augmented(raw, moves[start : start + batch_size])
                values = normalize(stored, self.pixels, layout, inputs) if self.pixels else stored
                yield self.task.pair(values, labels[start : start + batch_size])
            epoch, skipped = epoch + 1, 0

    def test_batches(self, size: int, layout: torch.memory_format) -> Iterator[tuple[Tensor, Tensor]]:
        """The test split once, in its order."""
        for start in range(0, len(self.x_test), size):
            yield self._taken(self.x_test[start : start + size], self.y_test[start : start + size], layout)

    def probe_batch(self, size: int, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
        """The fixed batch that probes measure on: the same images for every seed and scheme, all of them where there are fewer."""
        chosen = torch.randperm(len(self.x_train), generator=generator(0, "probe"), device="cpu")[:size].to(self.device)
        return self._taken(self.x_train[chosen], self.y_train[chosen], layout)

    def scheme_batches(self, seed: int, layout: torch.memory_format) -> Callable[[int, int], tuple[Tensor, Tensor]]:
        """Training batches for schemes that need data: `batch(size, index)`, the same for every scheme of a seed."""
        order = torch.randperm(len(self.x_train), generator=generator(seed, "init-data"), device="cpu").to(self.device)

        def batch(size: int, index: int) -> tuple[Tensor, Tensor]:
            places = torch.arange(index * size, (index + 1) * size, device=self.device) % len(order)
            chosen = order[places]
            return self._taken(self.x_train[chosen], self.y_train[chosen], layout)

        return batch

    def held_out(self, share: float) -> "DeviceData":
        """The data with a share of the training examples in place of the test split, for choices that must not see it.

        The same images for every seed and scheme. The normalization stays that of the whole training split.
        Raises: ConfigError when one of the parts would be empty.
        """
        out, kept = (places.to(self.device) for places in held_out_places(len(self.x_train), share, self.name))
        return replace(self, x_train=self.x_train[kept], y_train=self.y_train[kept], x_test=self.x_train[out], y_test=self.y_train[out])

    def check_batch_size(self, batch_size: int | None) -> None:
        """Raises: ConfigError when the training split has fewer examples than a batch, or nobody says how large one is."""
        refuse_large_batch(batch_size, len(self.x_train), self.name)

    def _taken(self, stored: Tensor, labels: Tensor, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
        """Inputs and targets of some examples as they are stored."""
        return self.task.pair(stored if self.pixels is None else normalize(stored, self.pixels, layout), labels)


def to_device(data: DataSplits, task: Task, device: torch.device) -> DeviceData:
    """The examples of a task on the device; on the CPU, images that are stored channels last are not copied.

    Raises: ConfigError for data that are not what the task takes; DataError for images that are not uint8 (N, C, H, W).
    """
    if not data.std:
        return _as_stored(data, task, device)
    _check_images(data)
    _check_fit(data, task)
    chance = None if task.chance is None else task.chance(data)
    std = torch.tensor(data.std, dtype=torch.float64, device="cpu").clamp_(min=SMALLEST_STD)
    mean = torch.tensor(data.mean, dtype=torch.float64, device="cpu")

    def everywhere(values: Tensor) -> Tensor:
        """One number a channel, written out for each pixel: a product of equal layouts is several times as fast."""
        return values.float()[:, None, None].expand(data.shape).contiguous().to(device)[None]

    return DeviceData(
        name=data.name,
        x_train=data.x_train.to(device).permute(0, 2, 3, 1).contiguous(),
        y_train=data.y_train.to(device),
        x_test=data.x_test.to(device).permute(0, 2, 3, 1).contiguous(),
        y_test=data.y_test.to(device),
        classes=data.classes,
        pixels=(everywhere(1 / (255 * std)), everywhere(-mean / std)),
        digest=data.digest,
        task=task,
        chance=chance,
    )


def _as_stored(data: DataSplits, task: Task, device: torch.device) -> DeviceData:
    """Anything that is not images."""
    _check_fit(data, task)
    data = task.examples(data)
    x_train, y_train, x_test, y_test = (each.to(device) for each in (data.x_train, data.y_train, data.x_test, data.y_test))
    chance = None if task.chance is None else task.chance(data)
    return DeviceData(data.name, x_train, y_train, x_test, y_test, data.classes, None, data.digest, task, chance)


def _check_fit(data: DataSplits, task: Task) -> None:
    if not task.fits(data):
        raise ConfigError(f"The task '{task.name}' takes {task.takes}, and the dataset '{data.name}' is none. See: initbench list datasets")


def held_out_places(count: int, share: float, name: str) -> tuple[Tensor, Tensor]:
    """The places of the training examples that are held out, and of those that are kept, in order; they depend on nothing else.

    Raises: ConfigError when one of the parts would be empty.
    """
    order = torch.randperm(count, generator=generator(0, "holdout"), device="cpu")
    size = round(share * count)
    if not 0 < size < count:
        raise ConfigError(f"A holdout of {share:g} of the {count} training examples of {name} leaves one part empty. Choose another.")
    return order[:size].sort().values, order[size:].sort().values


def refuse_large_batch(batch_size: int | None, count: int, name: str) -> None:
    """Raises: ConfigError when a training split has fewer examples than a batch, or nobody says how large one is."""
    if batch_size is None:
        raise ConfigError(f"train.batch_size is null, which is for loaders, and {name} has rows. Say how many are a batch, such as 128.")
    if batch_size > count:
        raise ConfigError(f"train.batch_size is {batch_size}, but {name} has {count} training examples. Choose a smaller one.")


def _check_images(data: DataSplits) -> None:
    for split, images, labels in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        if images.dtype != torch.uint8 or images.dim() != 4:
            given = f"{images.dtype} {tuple(images.shape)}"
            raise DataError(f"The dataset '{data.name}' gives x_{split} as {given}. Images are uint8 (N, channels, height, width).")
        if labels.dtype != torch.int64 or labels.shape not in (images.shape[:1], (len(images), *images.shape[2:])):
            given = f"{labels.dtype} {tuple(labels.shape)}"
            raise DataError(f"The dataset '{data.name}' gives y_{split} as {given}. Labels are int64 (N,), here {len(images)} of them.")


def memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last for networks with 2-D convolutions on the CPU, where it is 1.5 to 2 times as fast; else torch's own."""
    last = device.type == "cpu" and any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if last else torch.contiguous_format


def normalize(images: Tensor, pixels: tuple[Tensor, Tensor], layout: torch.memory_format, out: Tensor | None = None) -> Tensor:
    """Float32 images (N, C, H, W) from uint8 ones (N, H, W, C), in `out` where it is given."""
    count, height, width, channels = images.shape
    if out is None:
        out = torch.empty((count, channels, height, width), dtype=torch.float32, device=images.device, memory_format=layout)
    scale, shift = pixels
    out.copy_(images.permute(0, 3, 1, 2))
    return out.mul_(scale.contiguous(memory_format=layout)).add_(shift.contiguous(memory_format=layout))


def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the training examples in an epoch, on the CPU; it depends on nothing else."""
    return torch.randperm(count, generator=generator(seed, "order", str(epoch)), device="cpu")


def epoch_moves(seed: int, epoch: int, count: int) -> Tensor:
    """For each place in an epoch: rows and columns to move by (0 to 2 * PADDING) and whether to flip; int64 (count, 3)."""
    source = generator(seed, "augment", str(epoch))
    shifts = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=source, device="cpu")
    flips = torch.randint(0, 2, (count, 1), generator=source, device="cpu")
    return torch.cat([shifts, flips], 1)


def augmented(images: Tensor, moves: Tensor) -> Tensor:
    """Each uint8 image (N, H, W, C) flipped or not, padded with black and cropped at its own place."""
    count, height, width, channels = images.shape
    mirrored = moves[:, 2:, None, None].bool()
    padded = functional.pad(torch.where(mirrored, images.flip(2), images), (0, 0, PADDING, PADDING, PADDING, PADDING))
    line, rows = (width + 2 * PADDING) * channels, height + 2 * PADDING
    first = torch.arange(count, device=images.device) * rows + moves[:, 0]
    starts = (first[:, None] + torch.arange(height, device=images.device)) * line + moves[:, 1:2] * channels
    runs = padded.view(-1).unfold(0, width * channels, 1)
    return runs.index_select(0, starts.view(-1)).view_as(images)

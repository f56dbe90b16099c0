"""Data that come in batches of their own making: what `DeviceData` is for tensors that are held in memory."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from initbench.errors import ConfigError, DataError, InitbenchError, UserCode, a_or_an
from initbench.nn.inputs import Inputs, ModelInputs, as_inputs, changed, first_tensor
from initbench.nn.operations import tensors_in
from initbench.tasks import Task, supervised
from initbench.training.batches import held_out_places, refuse_large_batch
from initbench.training.fingerprint import digest_of
from initbench.training.sources import Source, first_of, pair_of, refuse_unseeded, source_of

LABELS = ("labels", "label", "targets", "target", "y")
"""Entries of a batch with names that are what the output is held against."""
ROWS_AT_ONCE = 256
"""Rows that are looked through for the highest label at a time."""


@dataclass(frozen=True)
class LoadedData:
    """The batches of two sources on a device, each a pair of what the model is given and what its output is held against.

    A batch that is a mapping has its targets under a name of `LABELS`; of a tuple or list the last is them, and the others are the
    model's arguments; of one tensor it is both. A task with `inputs` says itself what the model is given, and the loss gets the batch.
    """

    name: str
    train: Source
    test: Source
    device: torch.device
    task: Task
    digest: str
    chance: float | None = None
    pixels: None = None

    @cached_property
    def _opening(self) -> tuple[Inputs, Any]:
        """The first batch of a fixed pass over what has no rows."""
        return self._parted(first_of(self.train, 1), self.train)

    def _first(self, size: int) -> tuple[Inputs, Any]:
        """A fixed batch of the training data, of so many rows where it has rows."""
        if self.train.rows is None:
            return self._opening
        return self._parted(first_of(self.train, max(1, min(size, self.train.rows))), self.train)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, of several the first."""
        return tuple(first_tensor(self._first(1)[0]).shape[1:])

    @cached_property
    def classes(self) -> int:
        """For models that ask how many outputs they have: one more than the highest label of a pass, or the numbers of a target."""
        highest, found = 0, self._first(1)[1]
        if isinstance(found, Tensor) and found.is_floating_point():
            return int(found[0].numel())
        for source in (self.train, self.test):
            for batch in source.one_pass(0, 0, ROWS_AT_ONCE, shuffled=False):
                _, targets = self._parted(batch, source)
                if not isinstance(targets, Tensor):
                    raise ConfigError(
                        f"The targets of {self.name} are {a_or_an(type(targets).__name__)}, which does not say how many outputs a model "
                        "needs. Give a model that has them."
                    )
                highest = max(highest, int(targets.max()))
        return highest + 1

    @property
    def labels(self) -> tuple[Tensor, ...]:
        """All targets of splits that are rows of tensors, as far as they are one tensor; nothing is copied."""
        found = [_parts(source.given, self.task)[1] for source in (self.train, self.test) if source.holds_tensors]
        return tuple(each for each in found if isinstance(each, Tensor))

    def guessing(self) -> float | None:
        """The loss of the best guess that does not look at the input, of rows and the usual losses; None where nobody knows."""
        if not self.train.holds_tensors or not supervised.is_loss_of(self.task) or not (labels := self.labels):
            return None
        targets = labels[0]
        if targets.is_floating_point():
            spread: Tensor = targets.double().var(0, correction=0).mean()
            return spread.item()
        counts = torch.unique(targets[targets != supervised.IGNORED], return_counts=True)[1].double()
        shares = counts / counts.sum()
        return float(-(shares * shares.log()).sum())

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """How many batches a pass has; None where nobody knows."""
        return self.train.count(batch_size)

    def batches(
        self,
        *,
        seed: int,
        batch_size: int,
        layout: torch.memory_format,
        augment: bool = False,  # noqa: ARG002 - of images alone
        first: int = 0,
    ) -> Iterator[tuple[Inputs, Any]]:
        """Endless batches (inputs, targets) from number `first` on, pass after pass.

        Raises: DataError for a pass that gives no batch, or ends before as many as its length says; for batches of another form.
        """
        known, form, number, seen = self.steps_per_epoch(batch_size), None, 0, 0
        while True:
            got = 0
            for batch in self.train.one_pass(seed, number, batch_size, shuffled=True):
                got, seen = got + 1, seen + 1
                if seen <= first:
                    continue
                inputs, targets = self._parted(batch, self.train)
                form = form or _form(inputs)
                if _form(inputs) != form:
                    raise DataError(f"Training batch {seen} is {_form(inputs)}, and those before were {form}. All must be alike.")
                yield self._laid_out(inputs, layout), targets
            if not got or (known is not None and got < known):
                what = "no batch" if not got else f"{got} of the {known} batches that its length says"
                raise DataError(f"The training data gave {what} in pass {number + 1}. Each pass must give all of them.")
            number += 1

    def test_batches(self, size: int, layout: torch.memory_format) -> Iterator[tuple[Inputs, Any]]:
        """The test split once, the same each time."""
        got = 0
        for batch in self.test.one_pass(0, 0, size, shuffled=False):
            got += 1
            inputs, targets = self._parted(batch, self.test)
            yield self._laid_out(inputs, layout), targets
        if not got:
            raise DataError("The test data give no batch.")

    def probe_batch(self, size: int, layout: torch.memory_format) -> tuple[Inputs, Any]:
        """The fixed batch that probes measure on: so many of the first training batch, or all of it where there are fewer."""
        inputs, targets = self._first(size)
        return _cut(self._laid_out(inputs, layout), targets, size)

    def scheme_batches(self, seed: int, layout: torch.memory_format) -> Callable[[int, int], tuple[Inputs, Any]]:
        """Training batches for schemes that need data: `batch(size, index)`, those of a pass of the seed, the same for every scheme.

        What has no rows gives its own batches, cut where they are longer.
        """
        feeds: dict[int, tuple[int, Iterator[tuple[Inputs, Any]]]] = {}

        def batch(size: int, index: int) -> tuple[Inputs, Any]:
            size = size if self.train.rows is None else min(size, self.train.rows)
            place, feed = feeds.get(size, (0, iter(())))
            if place == 0 or place > index:
                place, feed = 0, self.batches(seed=seed, batch_size=size, layout=layout)
            for _ in range(index - place):
                next(feed)
            feeds[size] = index + 1, feed
            return _cut(*next(feed), size)

        return batch

    def held_out(self, share: float) -> "LoadedData":
        """The data with a share of the training rows in place of the test split. Raises: ConfigError where they are no rows."""
        none = torch.empty(0, dtype=torch.int64, device="cpu")
        out, kept = held_out_places(self.train.rows, share, self.name) if self.train.rows is not None else (none, none)
        return replace(self, train=self.train.part(kept), test=replace(self.train.part(out), name=self.test.name))

    def check_batch_size(self, batch_size: int | None) -> None:
        """Raises: ConfigError when there are fewer training rows than a batch; where a pass gives none, or others for the same seed."""
        if self.train.rows is not None:
            refuse_large_batch(batch_size, self.train.rows, self.name)
        for source in (self.train, self.test):
            refuse_unseeded(source, batch_size or 1)

    def _laid_out(self, inputs: Inputs, layout: torch.memory_format) -> Inputs:
        if layout is not torch.channels_last:
            return inputs
        laid: Inputs = changed(inputs, lambda each: each.contiguous(memory_format=layout) if each.dim() == 4 else each)
        return laid

    def _parted(self, batch: Any, source: Source) -> tuple[Inputs, Any]:
        try:
            inputs, targets = _parts(batch, self.task)
            given = as_inputs(inputs)
        except InitbenchError as error:
            raise DataError(f"A batch of the {source.name} data cannot be used: {error}") from error
        return given.to(self.device), changed(targets, lambda each: each.to(self.device))


def loaded(given: object, name: str, task: Task, device: torch.device) -> LoadedData:
    """The data of a pair (training, test), each whatever `source_of` takes. Raises: ConfigError for anything else."""
    train, test = (source_of(each, split) for each, split in zip(pair_of(given, f" of {name}"), ("training", "test"), strict=True))
    firsts = [next(source.one_pass(0, 0, 1, shuffled=False), None) for source in (train, test)]
    found = LoadedData(name, train, test, device, task, digest_of(firsts))
    return replace(found, chance=found.guessing())


@contextmanager
def batch_named(doing: str) -> Iterator[None]:
    """Around a model and a loss that may not take a batch of somebody's own. Raises: DataError that begins with `doing`, which names it."""
    try:
        with UserCode(doing):
            yield
    except ConfigError as error:
        raise DataError(str(error) if str(error).startswith(doing) else f"{doing}: {error}") from error


def count_of(inputs: Inputs, targets: Any) -> int:
    """The examples of a batch: the length of its targets where they are one tensor, else of its inputs.

    Inputs may have another dimension first, as sequences that begin with time do.
    """
    return len(targets) if isinstance(targets, Tensor) and targets.dim() else len(inputs)


def checksum(batch: Any, before: int) -> int:
    """A checksum of the numbers of a batch, and of those before it."""
    found = before
    for tensor in tensors_in([part.given if isinstance(part, ModelInputs) else part for part in batch]):
        dense = tensor.detach().cpu()
        if dense.layout is torch.strided and not dense.is_nested:
            found = zlib.crc32(dense.contiguous().flatten().view(torch.uint8).numpy().tobytes() if dense.numel() else b"", found)
    return found


def _cut(inputs: Inputs, targets: Any, size: int) -> tuple[Inputs, Any]:
    """The first so many examples of a batch; all of one that cannot be divided, as tensors of it have other lengths: graphs, time first."""
    count = len(inputs)
    parts = [inputs] if isinstance(inputs, Tensor) else list(tensors_in(inputs.given))
    lengths = {len(each) for each in (*parts, *tensors_in(targets)) if each.dim()}
    if size >= count or len(lengths) > 1 or (isinstance(inputs, ModelInputs) and inputs.whole):
        return inputs, targets
    return inputs[:size], changed(targets, lambda each: each[:size] if each.dim() and len(each) == count else each)


def _parts(batch: Any, task: Task) -> tuple[Any, Any]:
    if task.inputs is not None:
        return task.inputs(batch), batch
    if isinstance(batch, Mapping):
        named = [name for name in LABELS if name in batch]
        others = {name: value for name, value in batch.items() if name not in named}
        if not named or not others:
            return batch, batch
        only = next(iter(others.values()))
        return only if len(others) == 1 and isinstance(only, Tensor) else others, batch[named[0]] if len(named) == 1 else batch
    if isinstance(batch, tuple | list) and len(batch) > 1:
        *inputs, targets = batch
        return inputs[0] if len(inputs) == 1 else tuple(inputs), targets
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return batch[0], batch[0]
    return batch, batch


def _form(inputs: Inputs) -> str:
    """What must be the same for each batch, in words: how many tensors, of how many dimensions and which types."""
    tensors = tensors_in(inputs.given) if isinstance(inputs, ModelInputs) else [inputs]
    return " and ".join(f"{each.dim()}-dimensional {str(each.dtype).removeprefix('torch.')}" for each in tensors)

"""An entry of the zoo: how a model is built, what it is given, what is known of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    `build()` makes it, `batch()` what it is given (a tensor; a tuple is positional, a dict by keywords); both are seeded by
    `model` and `inputs`. It gives logits (N, classes) unless `logits` is False. `healthy`: with the start that its authors gave
    it, a signal passes. `needs`: a package. `quick`: large, so that schemes that decompose matrices or
    look at data are not tried. `least`: layers that hooks must see. `faults`: what is still wrong, by
    the name of the property.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], object]
    logits: bool = True
    healthy: bool = False
    broken: bool = False
    needs: str | None = None
    quick: bool = False
    least: int = 2
    faults: dict[str, str] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """The same weights each time; the global random state is put back."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build()

    def inputs(self) -> object:
        """The same batch each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return self.batch()

    def labels(self, classes: int, count: int) -> Tensor:
        """Labels for so many inputs."""
        return torch.arange(count) * 7 % classes

    def param(self, prop: str) -> object:
        """The entry as a parameter of a test of one property."""
        marks = []
        if self.needs and importlib.util.find_spec(self.needs) is None:
            marks.append(pytest.mark.skip(reason=f"{self.needs} is not installed: pip install --group zoo"))
        if prop in self.faults:
            marks.append(pytest.mark.xfail(strict=True, reason=self.faults[prop]))
        return pytest.param(self, id=self.name, marks=marks)


class Adapted(nn.Module):
    """A model whose output is made (N, classes) by a function."""

    def __init__(self, inner: nn.Module, pick: Callable[[object], Tensor]) -> None:
        super().__init__()
        self.inner, self.pick = inner, pick

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """What is picked of the output."""
        return self.pick(self.inner(*args, **kwargs))


def images(size: int, count: int = 4, channels: int = 3) -> Callable[[], Tensor]:
    """A batch of square images of normal numbers."""
    return lambda: torch.randn(count, channels, size, size)


def normal(*shape: int) -> Callable[[], Tensor]:
    """A batch of normal numbers."""
    return lambda: torch.randn(shape)


def tokens(vocabulary: int, length: int, count: int = 4) -> Callable[[], Tensor]:
    """A batch of whole numbers."""
    return lambda: torch.randint(0, vocabulary, (count, length))

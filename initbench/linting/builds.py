"""Builds a model several times: while torch marks what it allocates, again with the same seed, and with another one."""

import contextlib
import hashlib
import math
import random
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from initbench.errors import ConfigError, InitbenchError, UserCode, a_or_an
from initbench.linting.finding import CannotTell
from initbench.nn.naming import parameters_of, refuse_without_storage, without_wrappers
from initbench.nn.seeds import derived_seed, random_states, set_random_states


class Build(Protocol):
    """Builds the model for a seed, with all the random numbers that construction draws."""

    def __call__(self, seed: int, device: str = "cpu") -> nn.Module:
        """The model on a device, which may be `meta`."""


OTHER_SEED = 1
ALLOCATES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted"}
MOST_SEEN = 100_000
"""Numbers of a tensor that say whether they look random."""
FEW_SEEN = 1000
"""Numbers that mostly show that a tensor is not constant."""
DIFFERENT = 64
"""So many different numbers are enough, however many there are."""
TOGETHER = 4.0
"""Standard errors of the correlation of each number with the next one."""
AGAIN = "it needs a class or a function that builds the model anew"


@dataclass(frozen=True)
class Builds:
    """What building a model several times has shown, by the name of a parameter or buffer.

    `unset` is the share of its numbers that construction never wrote; `digests` are those of the first build, `again` those of
    a second with the same seed, `other` of one with another seed. `failed` says why a build could not be looked at.
    """

    unset: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    failed: str | None = None


def built(build: Build) -> tuple[nn.Module, Builds | None]:
    """The model for seed 0, and what builds have shown; None where the function gives one and the same object.

    Only one model is there at a time. Raises: ConfigError where it cannot be built.
    """
    with _Zeroed():  # type: ignore[no-untyped-call]
        first = build(0)
    refuse_without_storage(parameters_of(first).first)
    again, wrong = digests_of(first), {name for name, tensor in tensors_of(first).items() if unset_share(tensor)}
    former = weakref.ref(first)
    del first
    second = build(OTHER_SEED)
    if former() is second:
        return second, None
    other = digests_of(second)
    del second
    try:
        with unset_marked():
            model = build(0)
    except InitbenchError as error:
        return build(0), Builds(again=again, other=other, failed=str(error).rstrip("."))
    tensors = tensors_of(model)
    unset = {name: share for name, tensor in tensors.items() if name not in wrong and (share := unset_share(tensor))}
    for name in unset:  # as in memory that is fresh from the system, so that the rest of the model can be looked at
        tensors[name].masked_fill_(_marked(tensors[name]), 0)
    return model, Builds(unset, digests_of(model), again, other)


def from_function(make: Callable[[], object]) -> Build:
    """Builds by a function without arguments, or a class."""

    def build(seed: int, device: str = "cpu") -> nn.Module:  # noqa: ARG001
        with UserCode("The model cannot be built"), torch.device(device) if device != "cpu" else contextlib.nullcontext():
            model = make()
        if not isinstance(model, nn.Module):
            raise ConfigError(f"The function that builds the model gives {a_or_an(type(model).__name__)}. It must give a torch.nn.Module.")
        return without_wrappers(model)[0]

    return seeded(build)


def seeded(build: Build) -> Build:
    """The same build with every usual generator at the seed: torch's, numpy's and Python's; afterwards they are as before."""

    def with_seed(seed: int, device: str = "cpu") -> nn.Module:
        with generators(derived_seed(seed, "model")):
            return build(seed, device)

    return with_seed


@contextmanager
def generators(seed: int) -> Iterator[None]:
    """Within, torch's, numpy's and Python's own generators begin at the seed; afterwards they are as before."""
    before = random_states()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        set_random_states(before)


class _Zeroed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Memory that torch allocates without writing it holds zeros, so that a NaN that is there was computed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Called for every operation."""
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ALLOCATES and isinstance(made, Tensor) and not made.is_meta:
            made.zero_()
        return made


@contextmanager
def unset_marked() -> Iterator[None]:
    """Within, memory that torch allocates without writing it holds NaN, or the largest whole number."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    filling = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    settings.fill_uninitialized_memory = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.fill_uninitialized_memory = filling
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer once, by its first name."""
    found: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) not in known and not tensor.is_meta:
            known.add(id(tensor))
            found[name] = tensor.detach()
    return found


def unset_share(tensor: Tensor) -> float:
    """The share of a tensor's numbers that bear the mark of memory that nobody wrote."""
    return int(_marked(tensor).count_nonzero()) / tensor.numel() if tensor.numel() and tensor.dtype != torch.bool else 0.0


def _marked(tensor: Tensor) -> Tensor:
    return tensor.isnan() if tensor.is_floating_point() or tensor.is_complex() else tensor == torch.iinfo(tensor.dtype).max


def is_constant(tensor: Tensor) -> bool:
    """Whether its numbers are one value, or two, as those of a mask, an identity and a bias with one gate set are."""
    flat = tensor.flatten()
    return not any(_has_three(part) for part in (flat[:FEW_SEEN], flat) if len(part))


def _has_three(flat: Tensor) -> bool:
    others = flat[flat != flat[0]]
    return bool(len(others)) and bool((others != others[0]).any())


def looks_random(tensor: Tensor) -> bool:
    """Whether the numbers look drawn: many different ones, and none is near its neighbour as in a table, a ramp or an identity."""
    values = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).flatten()[:MOST_SEEN].double()
    count = len(values)
    if count < 2 or not values.isfinite().all() or len(torch.unique(values)) <= min(count / 2, DIFFERENT):
        return False
    return is_unordered(values)


def is_unordered(tensor: Tensor) -> bool:
    """Whether numbers have nothing to do with the next one in their row, nor with the one below: no table, ramp or band."""
    rows = tensor.detach().flatten(1) if tensor.dim() > 1 else tensor.detach()
    values = rows[: max(1, MOST_SEEN // rows[0].numel())].double()
    values = values - values.mean()
    squares = values.square().sum()
    allowed = max(0.1, TOGETHER / math.sqrt(values.numel()))
    beside = [values[..., :-1] * values[..., 1:], *([values[:-1] * values[1:]] if values.dim() > 1 else [])]
    return all(bool(pairs.sum().abs() < allowed * squares) for pairs in beside)


def digests_of(model: nn.Module) -> dict[str, str]:
    """A digest of the numbers of every parameter and buffer; one that cannot be read has none."""
    digests = {}
    for name, tensor in tensors_of(model).items():
        with contextlib.suppress(RuntimeError, TypeError, NotImplementedError):  # of sharded, fake or quantized tensors
            digests[name] = _digest(tensor)
    return digests


def _digest(tensor: Tensor) -> str:
    plain = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(plain.numpy().data, digest_size=16).hexdigest()


def needs_builds(builds: Builds | None) -> Builds:
    """The builds. Raises: CannotTell where the model could not be built again."""
    if builds is None:
        raise CannotTell(AGAIN)
    if builds.failed:
        raise CannotTell(f"the model could not be built while torch marks unset memory: {builds.failed}")
    return builds

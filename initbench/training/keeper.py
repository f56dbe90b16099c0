"""A run under way, in a file: so that a long one that is killed goes on where it was, to the same last bit.

The file holds what training has changed: weights, buffers, what the optimizer keeps, random states, and what the run has given so far.
The order of the data follows from the seed and the step. What else a user's model keeps (attributes that are no buffers) cannot be
restored, so such a run is not saved once that has changed.
"""

import contextlib
import hashlib
import io
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from initbench import __version__
from initbench.errors import StorageError
from initbench.results import files, unfinished

FIRST_SECONDS = 60.0
"""After so long a run is first saved."""
SHARE = 0.01
"""Of the time, what saving may take: the next time comes no sooner than the last one's cost over this."""
NOT_OURS = frozenset(vars(nn.Module()))
"""The attributes of a module that are torch's own: parameters, buffers, submodules, hooks."""


@dataclass
class Keeper:
    """Saves the runs of one unit now and then, and finds what an earlier process has saved of exactly these.

    `folder` None: nothing is saved. `jobs` are the ids of the runs; `where` is the device in words.
    """

    folder: Path | None
    jobs: tuple[str, ...]
    where: str
    due: float = 0.0
    before: str | None = None
    models: Sequence[nn.Module] = ()
    others: Sequence[object] = ()

    def begin(self, models: Sequence[nn.Module], others: Sequence[object]) -> None:
        """A unit begins to train: what could not be restored (attributes of its models, and `others`) is looked at, to see it change."""
        self.models, self.others = models, others
        self.before = _other_state(models, others) if self.folder is not None else None
        self.due = time.perf_counter() + FIRST_SECONDS

    @property
    def path(self) -> Path | None:
        """The file of these runs."""
        return None if self.folder is None else unfinished.path_of(self.folder, self.jobs)

    @property
    def conditions(self) -> dict[str, Any]:
        """What must be the same for a run to go on to the same last bit."""
        versions = {"initbench": __version__, "torch": str(torch.__version__)}
        return {**versions, "jobs": list(self.jobs), "where": self.where, "threads": torch.get_num_threads()}

    def found(self) -> dict[str, Any] | None:
        """What was saved of these runs under the same conditions; None where there is nothing that can be used."""
        if self.path is None or self.before is None:
            return None
        saved = read(self.path)
        return saved["state"] if saved is not None and saved["conditions"] == self.conditions else None

    def keep(self, state: dict[str, Any]) -> None:
        """Writes the file; where that is not possible, or would not hold everything, these runs are no longer saved."""
        if self.path is None:
            return
        begun = time.perf_counter()
        if self.before is None or _other_state(self.models, self.others) != self.before or not _write(self.path, self.conditions, state):
            self.folder = None
            return
        self.due = time.perf_counter() + max(FIRST_SECONDS, (time.perf_counter() - begun) / SHARE)


def read(path: Path) -> dict[str, Any] | None:
    """What is in a file, as `_write` wrote it; None for one that is not there, or is not as it was written. Runs no code."""
    with contextlib.suppress(OSError, files.UnusableFile, StorageError), contextlib.suppress(Exception):  # made to fit its digest
        saved: dict[str, Any] = torch.load(io.BytesIO(unfinished.read(path)), map_location="cpu", weights_only=True)
        return saved
    return None


def _write(path: Path, conditions: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether the file could be written."""
    content = io.BytesIO()
    torch.save({"conditions": conditions, "state": state}, content)
    try:
        unfinished.write(path, content.getbuffer())
    except StorageError:
        return False
    return True


def _other_state(models: Sequence[nn.Module], others: Sequence[object]) -> str | None:
    """A digest of all attributes of the modules that are neither parameters nor buffers, and of others; None where that cannot be had."""
    digest = hashlib.sha256()
    with contextlib.suppress(Exception):  # pickling runs users' code
        digest.update(pickle.dumps(tuple(others)))
        for name, module in (each for model in models for each in model.named_modules()):
            digest.update(pickle.dumps((name, {key: value for key, value in vars(module).items() if key not in NOT_OURS})))
        return digest.hexdigest()
    return None


def numbers_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of a model, those that no state dict holds, too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def copy_into(tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Writes saved numbers into tensors of the same names, wherever these lie. Raises: KeyError, RuntimeError where they do not fit."""
    for name, tensor in tensors.items():
        tensor.copy_(saved[name])

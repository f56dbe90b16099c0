"""Reads the weights of a checkpoint into a model: safetensors files, or what `torch.save` wrote, without running any code in it."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from initbench.errors import ConfigError, DataError, ForeignFile, NotThereError
from initbench.question.user_files import own_path

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys under which training scripts keep the weights among other things."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put before each name."""
FEW = 5
"""Names that a message lists."""


def load_checkpoint(model: nn.Module, path: str) -> None:
    """Copies the weights of a checkpoint into the model.

    Raises: NotThereError for a file that is not there, DataError for one that cannot be read, ConfigError where its names or
    shapes are not the model's.
    """
    own = model.state_dict()
    saved = _without_prefix(read_checkpoint(own_path(path)), set(own))
    missing = [name for name in own if name not in saved]
    unknown = [name for name in saved if name not in own]
    wrong = [
        f"{name} has shape {tuple(saved[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own
        if name in saved and saved[name].shape != own[name].shape
    ]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:FEW])}{', ...' if len(names) > FEW else ''}"
        for names, what in ((missing, "are missing"), (unknown, "are not the model's"), (wrong, "have another shape"))
        if names
    ]
    if parts:
        raise ConfigError(f"The weights in '{path}' do not fit the model; {'; '.join(parts)}. Give the model that they were saved from.")
    model.load_state_dict(saved)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, on the CPU. Raises: NotThereError, DataError."""
    if not path.is_file():
        raise NotThereError(f"There is no checkpoint '{path}'. Give a .safetensors file or a state dict saved by torch.save.")
    with ForeignFile(f"Cannot read the checkpoint '{path}'", "Save torch.save(model.state_dict(), path), or a safetensors file."):
        try:
            content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise DataError(
                f"'{path}' holds more than weights, and running what is in it is not safe. "
                "Save torch.save(model.state_dict(), path) instead."
            ) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise DataError(f"'{path}' holds no weights. Save torch.save(model.state_dict(), path), or a safetensors file.")
    return tensors


def _without_prefix(tensors: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """Names without what a wrapper put before all of them, where that makes them the model's."""
    for prefix in PREFIXES:
        if not own & set(tensors) and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors

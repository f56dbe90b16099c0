"""Reads the weights of a checkpoint into a model: safetensors files, or what `torch.save` wrote, without running any code in it."""

import json
import pickle
import struct
from pathlib import Path

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError, DataError, NotThereError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""The types of a safetensors file."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys under which training scripts keep the weights among other things."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put before each name."""
LARGEST_HEADER = 100_000_000
"""Bytes; the limit that the format sets."""
FEW = 5
"""Names that a message lists."""


def load_checkpoint(model: nn.Module, path: str) -> None:
    """Copies the weights of a checkpoint into the model.

    Raises: NotThereError for a file that is not there, DataError for one that cannot be read, ConfigError where its names or
    shapes are not the model's.
    """
    found = _without_prefix(read_checkpoint(Path(path).expanduser()), set(model.state_dict()))
    own = model.state_dict()
    missing = [name for name in own if name not in found]
    unknown = [name for name in found if name not in own]
    wrong = [
        f"{name} has shape {tuple(found[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:FEW])}{', ...' if len(names) > FEW else ''}"
        for names, what in ((missing, "are missing"), (unknown, "are not the model's"), (wrong, "have another shape"))
        if names
    ]
    if parts:
        raise ConfigError(f"The weights in '{path}' do not fit the model; {'; '.join(parts)}. Give the model that they were saved from.")
    model.load_state_dict(found)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, on the CPU. Raises: NotThereError, DataError."""
    if not path.is_file():
        raise NotThereError(f"There is no checkpoint '{path}'. Give a .safetensors file or a state dict saved by torch.save.")
    try:
        found = _safetensors(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"'{path}' holds more than weights, and running what is in it is not safe. Save torch.save(model.state_dict(), path) instead."
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, struct.error) as error:
        raise DataError(f"Cannot read the checkpoint '{path}': {str(error).splitlines()[0] if str(error) else 'it is damaged'}.") from error
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise DataError(f"'{path}' holds no weights. Save torch.save(model.state_dict(), path), or a safetensors file.")
    return tensors


def _safetensors(path: Path) -> dict[str, Tensor]:
    """Eight bytes with the header's length, a header in JSON, then the numbers."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    if length > min(LARGEST_HEADER, len(content)):
        raise ValueError("its header is longer than the file")
    header = json.loads(content[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            numbers = content[8 + length + start : 8 + length + end]
            values = (
                torch.frombuffer(bytearray(numbers), dtype=DTYPES[entry["dtype"]])
                if numbers
                else torch.empty(0, dtype=DTYPES[entry["dtype"]])
            )
            found[name] = values.reshape(entry["shape"])
    return found


def _without_prefix(tensors: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """Names without what a wrapper put before all of them, where that makes them the model's."""
    for prefix in PREFIXES:
        if not own & set(tensors) and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors

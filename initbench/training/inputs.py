"""What a probe gives to a model: images of a data set, random numbers of a shape, or a batch from a file."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import log, prod, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.errors import ConfigError, DataError
from initbench.nn.seeds import generator
from initbench.question.data_folder import data_folder
from initbench.results.probe_run import Question
from initbench.training.batches import memory_format, probe_batch, scheme_batches
from initbench.training.job import load_data

Batch = Callable[[int, int], tuple[Tensor, Tensor]]

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
"""Files that a batch is read from."""
BUDGET = 2**21
"""Numbers in a batch when nobody says how many inputs it has."""


@dataclass(frozen=True)
class Given:
    """What the model is given: `labels` are None where the task is not known yet; `shape` is one input's."""

    inputs: Tensor
    labels: Tensor | None
    classes: int
    data: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.inputs.shape[1:])

    def to(self, device: torch.device) -> "Given":
        """The same on a device."""
        return Given(self.inputs.to(device), None if self.labels is None else self.labels.to(device), self.classes, self.data)

    def for_model(self, model: nn.Module) -> "Given":
        """The same in the layout that the model is fastest with."""
        if self.data is None:
            return self
        inputs, labels = probe_batch(self.data, len(self.inputs), memory_format(model, self.inputs.device))
        return Given(inputs, labels, self.classes, self.data)

    def batches(self, model: nn.Module, seed: int, objective: "Objective") -> Batch:
        """Training batches for schemes that need data: those of the data set, else parts of the batch, again and again."""
        if self.data is not None:
            return scheme_batches(self.data, seed, memory_format(model, self.inputs.device))

        def batch(size: int, index: int) -> tuple[Tensor, Tensor]:
            places = torch.arange(index * size, (index + 1) * size, device=self.inputs.device) % len(self.inputs)
            labels = torch.zeros(len(self.inputs), dtype=torch.int64, device="cpu") if objective.labels is None else objective.labels
            return self.inputs[places], labels.to(self.inputs.device)[places]

        return batch


class Objective:
    """What gradients are of: the cross entropy with the labels, or with random ones, or a random projection of the outputs.

    `words` says which one it is; `chance` is the loss of equal logits, `loss` and `output_std` are those of the last call.
    """

    def __init__(self, labels: Tensor | None, classes: int | None, count: int) -> None:
        """`classes` are the model's, None where it gives no logits; `count` inputs get random labels where there are none."""
        self.words = "cross entropy with the labels" if labels is not None else "cross entropy with random labels"
        if labels is None and classes is not None:
            labels = torch.randint(0, classes, (count,), generator=generator(0, "probe labels"), device="cpu")
        if classes is None:
            labels, self.words = None, "a random projection of the outputs"
        self.labels = labels
        self.chance = None if classes is None else log(classes)
        self.loss: Tensor | None = None
        self.output_std: Tensor | None = None

    def __call__(self, outputs: Tensor) -> Tensor:
        """The loss summed over the batch, of outputs (N, ...)."""
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        self.output_std = outputs.detach().std(correction=0)
        if self.labels is not None:
            loss = functional.cross_entropy(outputs, self.labels.to(outputs.device), reduction="sum")
            self.loss = loss.detach() / len(outputs)
            return loss
        flat = outputs.reshape(len(outputs), -1)
        direction = torch.randn(flat.shape[1], generator=generator(0, "probe projection"), dtype=torch.float32, device="cpu").to(flat)
        return (flat @ direction / sqrt(flat.shape[1])).sum()


def given(question: Question, *, device: torch.device, data_dir: str | None) -> Given:
    """What the question's model is given, on the device.

    Raises: ConfigError for an input that cannot be understood; DataError for data or a file that are not there.
    """
    if question.dataset is not None:
        data = load_data(question.dataset, data_folder(data_dir), device)
        return Given(*probe_batch(data, question.batch_size, torch.contiguous_format), data.classes, data)
    inputs, labels = read_input(question.input or "", question.batch_size)
    classes = question.classes if labels is None else max(question.classes, int(labels.max()) + 1)
    return Given(inputs.to(device), None if labels is None else labels.to(device), classes)


def read_input(text: str, batch_size: int) -> tuple[Tensor, Tensor | None]:
    """A batch from `3x224x224`, `int:1000:128` or a file, and its labels where the file has some."""
    if text.endswith(SUFFIXES) or "/" in text:
        return _from_file(Path(text).expanduser(), batch_size)
    whole = re.fullmatch(r"int:(\d+):(\d+(?:x\d+)*)", text)
    if whole:
        shape = tuple(map(int, whole[2].split("x")))
        return torch.randint(0, max(1, int(whole[1])), (batch_size, *shape), generator=generator(0, "probe input"), device="cpu"), None
    if not re.fullmatch(r"\d+(x\d+)*", text) or "0" in text.split("x"):
        raise ConfigError(
            f"Cannot read the input '{text}'. Write a shape such as 3x224x224 (random normal numbers), int:1000:128 (128 random "
            "whole numbers below 1000, for embeddings), or the name of an .npy, .npz or .pt file with a batch."
        )
    shape = tuple(map(int, text.split("x")))
    return torch.randn(batch_size, *shape, generator=generator(0, "probe input"), dtype=torch.float32, device="cpu"), None


def default_batch_size(text: str) -> int:
    """How many inputs a batch has when nobody says: 256, fewer of large ones, at least 4."""
    sizes = [int(number) for number in re.findall(r"\d+", text.rpartition(":")[2])]
    return 256 if text.endswith(SUFFIXES) or "/" in text else max(4, min(256, BUDGET // max(1, prod(sizes))))


def _from_file(path: Path, batch_size: int) -> tuple[Tensor, Tensor | None]:
    if not path.is_file():
        raise DataError(f"There is no file '{path}' to take a batch from. Give --input a file that is there, or a shape such as 3x224x224.")
    values, labels = _torch_file(path) if path.suffix in {".pt", ".pth"} else _numpy_file(path)
    if values.dim() < 2 or len(values) < 2:
        raise DataError(f"'{path}' holds an array of shape {tuple(values.shape)}. A batch has shape (N, ...) with at least 2 inputs.")
    if labels is not None and (labels.dim() != 1 or len(labels) != len(values)):
        labels = None
    values, labels = values[:batch_size], None if labels is None else labels[:batch_size].long()
    if values.dtype == torch.uint8 and values.dim() > 2:
        return values.float() / 255, labels
    if values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"'{path}' holds {values.dtype} numbers. A batch holds floats, or whole numbers for embeddings.")
    return values.float() if values.is_floating_point() else values.long(), labels


def _numpy_file(path: Path) -> tuple[Tensor, Tensor | None]:
    import numpy as np

    try:
        content = np.load(path, allow_pickle=False)
        arrays = {"x": content} if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"Cannot read '{path}': {error}. Save one array with numpy.save.") from error
    names = [name for name in ("x", "inputs", "images", "x_test", "x_train") if name in arrays] or list(arrays)
    label = next((name for name in ("y", "labels", f"y_{names[0].removeprefix('x_')}") if name in arrays), None)
    try:
        return torch.from_numpy(arrays[names[0]]), None if label is None else torch.from_numpy(arrays[label])
    except (TypeError, IndexError) as error:
        raise DataError(f"'{path}' holds no array of numbers. Save one array with numpy.save.") from error


def _torch_file(path: Path) -> tuple[Tensor, Tensor | None]:
    import pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"Cannot read '{path}' as a tensor: {str(error).splitlines()[0]}. Save one with torch.save(batch, path)."
        ) from error
    parts = list(content.values()) if isinstance(content, dict) else list(content) if isinstance(content, list | tuple) else [content]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if not tensors:
        raise DataError(f"'{path}' holds no tensor. Save one with torch.save(batch, path).")
    return tensors[0], tensors[1] if len(tensors) > 1 else None

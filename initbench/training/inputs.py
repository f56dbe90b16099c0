"""What a probe gives to a model: images of a data set, random numbers of a shape, or a batch from a file."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import log, prod, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.errors import ConfigError, DataError, ForeignFile, a_or_an, enumerated
from initbench.nn.inputs import Inputs, ModelInputs, as_inputs, first_tensor, usual
from initbench.nn.operations import tensors_in
from initbench.nn.outputs import heads, main_output, outputs_in
from initbench.nn.seeds import generator
from initbench.question import catalog
from initbench.question.config import USUAL_TASK, Ref
from initbench.question.data_folder import data_folder
from initbench.question.user_files import own_path
from initbench.results.probe_run import Question
from initbench.training.batches import DeviceData, memory_format
from initbench.training.job import load_data
from initbench.training.loaded import LoadedData

Batch = Callable[[int, int], tuple[Inputs, Tensor]]

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
"""Files that a batch is read from."""
IMAGES = ("x_test", "x_train")
"""Arrays of a dataset's file; their labels are `y_test` and `y_train`."""
LABELS = ("y", "labels", "label", "targets", "target")
"""Arrays of a file that are labels, and no argument of the model."""
MOST, MOST_ROWS, DIGITS = 2**30, 2**31, 60
"""Numbers of a random batch at most, all together; rows of an embedding; digits of a shape that is multiplied out."""
BUDGET = 2**21
"""Numbers in a batch when nobody says how many inputs it has."""


@dataclass(frozen=True)
class Given:
    """What the model is given: `labels` are None where the task is not known yet; `shape` is one input's."""

    inputs: Inputs
    labels: Tensor | None
    classes: int
    data: DeviceData | LoadedData | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input; of several arguments that of the first tensor of floats, else of the first."""
        return tuple(first_tensor(self.inputs).shape[1:])

    def to(self, device: torch.device) -> "Given":
        """The same on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=None if self.labels is None else self.labels.to(device))

    def for_model(self, model: nn.Module) -> "Given":
        """The same in the layout that the model is fastest with."""
        if self.data is None:
            return self
        inputs, labels = self.data.probe_batch(len(self.inputs), memory_format(model, first_tensor(self.inputs).device))
        return Given(inputs, None if self.labels is None else labels, self.classes, self.data)

    def as_whole(self) -> "Given":
        """The same for a model that takes this batch only, and no part of it."""
        inputs = self.inputs
        return replace(self, inputs=replace(inputs, whole=True) if isinstance(inputs, ModelInputs) else ModelInputs(inputs, whole=True))

    def batches(self, model: nn.Module, seed: int, objective: "Objective") -> Batch:
        """Training batches for schemes that need data: those of the data set, else parts of the batch, again and again."""
        device = first_tensor(self.inputs).device
        if self.data is not None:
            return self.data.scheme_batches(seed, memory_format(model, device))
        whole = isinstance(self.inputs, ModelInputs) and self.inputs.whole

        def batch(size: int, index: int) -> tuple[Inputs, Tensor]:
            labels = torch.zeros(len(self.inputs), dtype=torch.int64, device="cpu") if objective.labels is None else objective.labels
            if whole:
                return self.inputs, labels.to(device)
            places = torch.arange(index * size, (index + 1) * size, device=device) % len(self.inputs)
            return self.inputs[places], labels.to(device)[places]

        return batch


class Objective:
    """What gradients are of: the cross entropy with the labels, or with random ones, or a random projection of the outputs.

    Of several outputs the first counts (with labels the first logits (N, classes)), and a random projection of each other one
    that layers lie before which no output before it comes from. A model that gives one number gives its own loss. `words` says
    which one it is; `chance` is the loss of equal logits, `loss` and `output_std` are those of the last call.
    """

    def __init__(self, labels: Tensor | None, classes: int | None, count: int) -> None:
        """`classes` are the model's, None where it gives no logits; `count` inputs get random labels where there are none."""
        self.words = "cross entropy with the labels" if labels is not None else "cross entropy with random labels"
        self._labelled, self._count = labels is not None, count
        if labels is None and classes is not None:
            labels = torch.randint(0, classes, (count,), generator=generator(0, "probe labels"), device="cpu")
        if classes is None:
            labels, self.words = None, "a random projection of the outputs"
        self.labels = labels
        self.chance = None if classes is None else log(classes)
        self.loss: Tensor | None = None
        self.output_std: Tensor | None = None
        self._first = self.words

    def __call__(self, result: object) -> Tensor:
        """The loss summed over the batch, of what the model gives: outputs (N, ...) in any structure."""
        outputs = outputs_in(result)
        main = main_output(outputs, labelled=self._labelled)
        others = [place for place in heads(outputs, main) if place != main]
        loss, self.words = self._of_main(outputs[main]), self._first
        for place in others:
            loss = loss + (_projected(outputs[place], place) if outputs[place].dim() else outputs[place].real * self._count)
        if others and outputs[main].dim():
            self.words += f", and a random projection of {_places(others, len(outputs))}"
        elif others:
            self.words = f"sum of {len(others) + 1} losses that the model gives"
        return loss

    def _of_main(self, outputs: Tensor) -> Tensor:
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        if not outputs.dim():
            self._first, self.loss = "loss that the model gives", outputs.detach()
            return outputs.real * self._count
        self.output_std = outputs.detach().std(correction=0)
        if self.labels is None:
            return _projected(outputs)
        loss = functional.cross_entropy(outputs, self.labels.to(outputs.device), reduction="sum")
        self.loss = loss.detach() / len(outputs)
        return loss


def _projected(outputs: Tensor, head: int | None = None) -> Tensor:
    """A random direction of the outputs, summed over the batch: the same for all inputs, of a further `head` another for each.

    A head of one unit would else get the same gradient from every input, which has no variance.
    """
    outputs = torch.view_as_real(outputs) if outputs.is_complex() else outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    flat = outputs.reshape(len(outputs), -1)
    source = generator(0, "probe projection", *([] if head is None else [str(head)]))
    direction = torch.randn(flat.shape[1:] if head is None else flat.shape, generator=source, dtype=torch.float32, device="cpu").to(flat)
    if head is not None:
        return (flat * direction).sum() / sqrt(flat.shape[1])
    return (flat @ direction / sqrt(flat.shape[1])).sum()


def _places(places: list[int], count: int) -> str:
    """`output 2 of 3`, `outputs 2 and 3 of 3`."""
    numbers = [str(place + 1) for place in places]
    return f"output {numbers[0]} of {count}" if len(numbers) == 1 else f"outputs {enumerated(numbers, 'and')} of {count}"


def given(question: Question, *, device: torch.device, data_dir: str | None) -> Given:
    """What the question's model is given, on the device.

    Raises: ConfigError for an input that cannot be understood; DataError for data or a file that are not there.
    """
    if question.dataset is not None:
        task = catalog.find("dataset", question.dataset.name)[0].tasks[0]
        data = load_data(question.dataset, data_folder(data_dir), device, task=Ref(name=task))
        examples, targets = data.probe_batch(question.batch_size, torch.contiguous_format)
        return Given(examples, targets if task == USUAL_TASK else None, data.classes, data)
    inputs, labels = read_input(question.input or "", question.batch_size)
    if (tokens := tokens_of(question.model, question.input or "")) is not None:
        return Given(inputs.to(device), None, tokens)
    classes = question.classes if labels is None else max(question.classes, int(labels.max()) + 1)
    return Given(inputs.to(device), None if labels is None else labels.to(device), classes)


def as_labels(given: object, count: int) -> Tensor:
    """Labels (N,) for a batch of so many inputs, from a tensor, an array or a list. Raises: ConfigError for anything else."""
    try:
        labels = (given if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu")).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"The labels are {a_or_an(type(given).__name__)}. They are whole numbers, one for each of the {count} inputs."
        ) from error
    whole = not (labels.is_floating_point() or labels.is_complex())
    if labels.shape != (count,) or not whole or (count and int(labels.min()) < 0):
        kind = str(labels.dtype).removeprefix("torch.")
        raise ConfigError(
            f"The labels have shape {tuple(labels.shape)} ({kind}). They are whole numbers from 0, one for each of the {count} inputs."
        )
    return labels.long()


def refuse_not_finite(inputs: Inputs) -> None:
    """Raises: ConfigError where the batch holds NaN or infinity, which no layer of any scheme could mend."""
    bad = sum(
        int((~tensor.isfinite()).sum())
        for tensor in tensors_in(inputs)
        if tensor.is_floating_point() and tensor.shape[:1] == (len(inputs),)
    )
    if bad:
        raise ConfigError(
            f"The batch of inputs holds {bad} {'number that is' if bad == 1 else 'numbers that are'} NaN or infinite. Clean it first."
        )


def read_input(text: str, batch_size: int) -> tuple[Inputs, Tensor | None]:
    """A batch from `3x224x224`, `int:1000:128` or a file, and its labels where the file has some.

    Raises: ConfigError for what is no shape, or one that no memory holds; DataError for a file that holds no batch.
    """
    if text.endswith(SUFFIXES) or "/" in text:
        return _from_file(own_path(text), batch_size)
    whole = re.fullmatch(r"int:(\d+):(\d+(?:x\d+)*)", text)
    if not whole and (not re.fullmatch(r"\d+(x\d+)*", text) or "0" in text.split("x")):
        raise ConfigError(
            f"Cannot read the input '{text}'. Write a shape such as 3x224x224 (random normal numbers), int:1000:128 (128 random "
            "whole numbers below 1000, for embeddings), or the name of an .npy, .npz or .pt file with a batch."
        )
    if whole and not all(part.strip("0") for part in (whole[1], *whole[2].split("x"))):
        wrong = "has no numbers" if whole[1].strip("0") else "asks for whole numbers below 0, from 0 on: there are none"
        raise ConfigError(f"The input '{text}' {wrong}. Write 1 or more for each, as in int:1000:128: 128 whole numbers below 1000.")
    lengths = whole[2] if whole else text
    if len(lengths) > DIGITS or batch_size * prod(map(int, lengths.split("x"))) > MOST:
        raise ConfigError(
            f"The input '{text}' is too large: a batch, here of {batch_size} inputs, holds at most {MOST} numbers. Take a smaller shape "
            "or fewer inputs (--batch)."
        )
    shape = tuple(map(int, lengths.split("x")))
    if not whole:
        return torch.randn(batch_size, *shape, generator=generator(0, "probe input"), dtype=torch.float32, device="cpu"), None
    if len(whole[1]) > DIGITS or int(whole[1]) > MOST_ROWS:
        raise ConfigError(f"The input '{text}' asks for numbers above {MOST_ROWS}, and no embedding has so many rows.")
    return torch.randint(0, int(whole[1]), (batch_size, *shape), generator=generator(0, "probe input"), device="cpu"), None


def tokens_of(model: Ref, text: str) -> int | None:
    """How many tokens a language model of ours has that is given `int:75:32`; None for other models and inputs."""
    whole = re.match(r"int:(\d{1,9}):", text)
    with suppress(ConfigError):
        return int(whole[1]) if whole and "language" in catalog.find("model", model.name)[0].tasks else None
    return None


def default_batch_size(text: str) -> int:
    """How many inputs a batch has when nobody says: 256, fewer of large ones, at least 4."""
    lengths = text.rpartition(":")[2]
    if text.endswith(SUFFIXES) or "/" in text:
        return 256
    return 4 if len(lengths) > DIGITS else max(4, min(256, BUDGET // max(1, prod(map(int, re.findall(r"\d+", lengths))))))


def _from_file(path: Path, batch_size: int) -> tuple[Inputs, Tensor | None]:
    if not path.is_file():
        raise DataError(f"There is no file '{path}' to take a batch from. Give --input a file that is there, or a shape such as 3x224x224.")
    content = _torch_file(path) if path.suffix in {".pt", ".pth"} else _numpy_file(path)
    inputs, labels = parted(content)
    if isinstance(inputs, dict | tuple):
        several = as_inputs(inputs)
        several = several if isinstance(several, Tensor) else several.usual()
    else:
        several = _single(inputs, path)
    if len(several) < 2 or first_tensor(several).dim() < (2 if isinstance(several, Tensor) else 1):
        shape = tuple(first_tensor(several).shape)
        raise DataError(f"'{path}' holds an array of shape {shape}. A batch has shape (N, ...) with at least 2 inputs.")
    if labels is not None and (labels.dim() != 1 or len(labels) != len(several)):
        labels = None
    refuse_not_finite(several)
    return several[:batch_size], None if labels is None else labels[:batch_size].long()


def _single(values: Tensor, path: Path) -> Tensor:
    if values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"'{path}' holds {values.dtype} numbers. A batch holds floats, or whole numbers for embeddings.")
    return usual(values)


def parted(content: Any) -> tuple[Any, Tensor | None]:
    """The inputs and the labels in what a file holds.

    Of a mapping the arrays named as `LABELS` are labels and the others keyword arguments; one alone, whatever its name, is the
    one argument, and so are the images of a dataset's file (`IMAGES`). Of a pair the second is labels where it is whole numbers (N,).
    """
    if isinstance(content, dict):
        images = next((name for name in IMAGES if name in content), None)
        wanted = f"y_{images.removeprefix('x_')}" if images else next((name for name in LABELS if name in content), None)
        labels = content.get(wanted) if wanted else None
        named = {name: value for name, value in content.items() if name not in LABELS}
        large = [value for value in named.values() if not isinstance(value, Tensor) or value.dim()]
        single = content[images] if images else large[0] if len(large) == 1 and isinstance(large[0], Tensor) else None
        return named if single is None else single, labels if isinstance(labels, Tensor) else None
    if not isinstance(content, tuple | list):
        return content, None
    if len(content) == 1:
        return content[0], None
    if len(content) == 2 and all(isinstance(part, Tensor) for part in content) and _are_labels(content[1], content[0]):
        return content[0], content[1]
    return tuple(content), None


def _are_labels(values: Tensor, inputs: Tensor) -> bool:
    return (
        values.dim() == 1 and values.shape[:1] == inputs.shape[:1] and values.dtype in {torch.int64, torch.int32, torch.int16, torch.uint8}
    )


def _numpy_file(path: Path) -> Any:
    import numpy as np

    with ForeignFile(f"Cannot read '{path}'", "Save one array with numpy.save."):
        _refuse_claims(path)
        content = np.load(path, allow_pickle=False)
        arrays = {"x": content} if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    try:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"'{path}' holds no array of numbers. Save one array with numpy.save.") from error
    if not tensors.keys() - set(LABELS):
        raise DataError(f"'{path}' holds no array of numbers. Save one array with numpy.save.")
    return tensors


def _refuse_claims(path: Path) -> None:
    """Raises: ValueError for an .npy file whose header claims more than there is: numpy would take that much memory first."""
    import numpy as np

    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            return
        file.seek(0)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        claimed, there = prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
    if claimed > there:
        raise ValueError(f"it says that it has {claimed} bytes, and has {there}")


def _torch_file(path: Path) -> Any:
    with ForeignFile(f"Cannot read '{path}' as a tensor", "Save one with torch.save(batch, path)."):
        content = torch.load(path, map_location="cpu", weights_only=True)
    unlabelled = {name: value for name, value in content.items() if name not in LABELS} if isinstance(content, dict) else content
    if not any(tensor.dim() for tensor in tensors_in(unlabelled)):
        raise DataError(f"'{path}' holds no tensor. Save one with torch.save(batch, path).")
    return content

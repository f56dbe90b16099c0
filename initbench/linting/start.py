"""Loss and logits before the first step, of outputs with any number of positions."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.nn.inputs import called, first_tensor
from initbench.nn.outputs import main_output, outputs_in
from initbench.nn.seeds import generator
from initbench.nn.watch import untouched
from initbench.training.inputs import Given

FEWEST_CLASSES = 2
NO_HEAD = "# draw what gives the logits smaller, with a std of 0.02"
"""What to do about large logits where no layer is known to give them."""


@dataclass(frozen=True)
class Start:
    """The cross entropy (`words`: with which labels), that of guessing, how many classes, and how large logits and probabilities are."""

    loss: float
    chance: float
    classes: int
    std: float
    largest: float
    words: str


def start_of(model: nn.Module, given: Given) -> Start | None:
    """How a model starts on a batch; None where its output has no dimension of classes that is known."""
    with torch.no_grad(), untouched(model, "batch"):
        outputs = outputs_in(called(model, given.inputs))
    if not outputs:
        return None
    logits = outputs[main_output(outputs, labelled=given.labels is not None)]
    flat = _by_class(model, logits.float(), given)
    if flat is None or flat.shape[1] < FEWEST_CLASSES:
        return None
    classes = flat.shape[1]
    own = given.labels is not None and given.labels.shape == (len(flat),) and int(given.labels.max()) < classes
    drawn = torch.randint(0, classes, (len(flat),), generator=generator(0, "probe labels"), device="cpu").to(flat.device)
    labels = given.labels.to(flat.device) if own and given.labels is not None else drawn
    loss = functional.cross_entropy(flat, labels).item()
    largest = flat.softmax(1).max(1).values.mean().item()
    words = "the labels" if own else "random labels"
    return Start(loss, log(classes), classes, flat.std(correction=0).item(), largest, words)


def _by_class(model: nn.Module, logits: Tensor, given: Given) -> Tensor | None:
    """The logits as (positions, classes); None where no dimension is known to be that of classes."""
    if logits.dim() == 2:
        return logits
    rows = {module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)}
    if logits.dim() == 3 and not first_tensor(given.inputs).is_floating_point() and logits.shape[-1] in rows:
        return logits.flatten(0, 1)
    if logits.dim() == 4 and given.labels is not None and logits.shape[1] > int(given.labels.max()):
        return logits.movedim(1, -1).flatten(0, -2)
    return None

"""The rule `tied_embedding`."""

import math
from collections.abc import Iterator

from torch import nn

from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.subject import Subject
from initbench.nn.naming import modules_of

FAMILY = "law"
CODE = "IB204"
LARGE = 3.0
"""A standard deviation of the logits from which on the softmax begins one-hot."""


def check(subject: Subject) -> Iterator[Finding]:
    """An embedding that is the head as well, with a standard deviation made for an embedding alone: the logits start far too large.

    Measured: the std of the shared weight, and of the logits: with an input those of the model, else std x sqrt(width), which is what a
    normalized stream gives.
    Expected: logits of a std near 1 or below, and a first loss near ln(vocabulary).
    Remedy:
        nn.init.normal_(embedding.weight, std=0.02)

    Source: torch.nn.Embedding draws N(0, 1), which a tied head multiplies by the root of the width; Press & Wolf 2017 on tying;
    Vaswani et al. 2017, section 3.4, who scale the embedding by sqrt(width) instead.
    """
    for name, module in modules_of(subject.model):
        if not isinstance(module, nn.Embedding) or module.weight.is_meta or not _is_head(subject, module, f"{name}.weight".lstrip(".")):
            continue
        std, width = module.weight.detach().double().std(correction=0).item(), module.embedding_dim
        logits, measured = _logits(subject, std * math.sqrt(width))
        if logits <= LARGE:
            continue
        loss = math.log(module.num_embeddings) + logits**2 / 2
        how = "measured" if measured else "std x sqrt(width)"
        yield Finding(
            severity=Severity.WARNING if measured else Severity.INFO,
            parameters=(subject.parameters.names[id(module.weight)][0],),
            message="the embedding is the head too, and its std is made for an embedding alone",
            measured=f"std {std:.3g} of {module.num_embeddings} x {width}; logits of std {logits:.3g} ({how})",
            effect=f"for normal logits the first loss is some {min(loss, logits * math.sqrt(2 * math.log(module.num_embeddings))):.3g}, "
            f"where guessing has {math.log(module.num_embeddings):.3g}",
        )


def _is_head(subject: Subject, module: nn.Embedding, name: str) -> bool:
    """Whether the weight is also multiplied with: tied to another module, or used so in the pass."""
    names = subject.parameters.names.get(id(module.weight), [name])
    return len(names) > 1 or any(layer.weight is module.weight and layer.surroundings.uses for layer in subject.layers)


def _logits(subject: Subject, guessed: float) -> tuple[float, bool]:
    try:
        measured = subject.probe.output_std
    except CannotTell:
        measured = None
    return (guessed, False) if measured is None else (measured, True)

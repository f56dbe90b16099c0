"""The rule `first_loss`."""

import math
from collections.abc import Iterator

from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.subject import Subject

FAMILY = "signal"
CODE = "IB304"
NEEDS = ("inputs",)
FAR, VERY_FAR = 2.5, 10.0
"""So many times the loss of guessing is a warning's, or an error's, worth."""


def check(subject: Subject) -> Iterator[Finding]:
    """The first loss is far from that of guessing: the network begins sure of what it does not know.

    Measured: the cross entropy with the labels, or with random ones; of outputs (N, T, V) or (N, C, H, W) at every position, where an
    embedding has V rows, or labels say how many classes there are.
    Expected: about ln(classes).
    Remedy:
        nn.init.normal_(model.head.weight, std=0.02)

    Source: Karpathy 2019, A recipe for training neural networks: verify loss at init.
    """
    start = subject.start
    if start is None:
        raise CannotTell("the model gives no logits whose classes are known")
    if not math.isfinite(start.loss):
        severity = Severity.ERROR
    elif start.loss > FAR * start.chance and start.loss - start.chance > 1:
        severity = Severity.ERROR if start.loss > VERY_FAR * start.chance else Severity.WARNING
    else:
        return
    head = subject.head
    yield Finding(
        severity=severity,
        parameters=(head.parameter,) if head is not None else (),
        message=f"the first loss is {start.loss:.3g}, where guessing has {start.chance:.3g}",
        measured=f"cross entropy {start.loss:.4g} over {start.classes} classes with {start.words}; ln({start.classes}) = "
        f"{start.chance:.4g}; logits of std {start.std:.3g}",
        effect="the first steps only shrink the logits, with gradients that are far larger than later ones",
        fix=f"model.{head.parameter}.data.mul_({min(1.0, 1 / max(start.std, 1e-9)):.2g})" if head is not None else "",
    )

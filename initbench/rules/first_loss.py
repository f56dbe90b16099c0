"""The rule `first_loss`."""

import math
from collections.abc import Iterator

from initbench.linting.finding import CannotTell, Finding, Link, Severity
from initbench.linting.start import NO_HEAD
from initbench.linting.subject import Subject
from initbench.linting.symptoms import Kind, is_far

FAMILY = "signal"
CODE = "IB304"
NEEDS = ("inputs",)
VERY_FAR = 10.0
"""So many times the loss of guessing is an error's worth."""


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
    if not is_far(start):
        return
    far = not math.isfinite(start.loss) or start.loss > VERY_FAR * start.chance
    head, causes = subject.head, subject.causes.of(Kind.LOSS)
    yield Finding(
        severity=Severity.ERROR if far else Severity.WARNING,
        parameters=causes or (() if head is None else (head.parameter,)),
        message=f"the first loss is {start.loss:.3g}, where guessing has {start.chance:.3g}",
        measured=f"cross entropy {start.loss:.4g} over {start.classes} classes with {start.words}; ln({start.classes}) = "
        f"{start.chance:.4g}; logits of std {start.std:.3g}" + subject.causes.without(causes, "it is near"),
        effect="the first steps only shrink the logits, with gradients that are far larger than later ones",
        fix=NO_HEAD,
        link=Link.EFFECT if causes else None,
    )

"""The rule `logit_scale`."""

import math
from collections.abc import Iterator

from initbench.linting.finding import CannotTell, Finding, Link, Severity
from initbench.linting.start import NO_HEAD
from initbench.linting.subject import Subject
from initbench.linting.symptoms import Kind, is_far

FAMILY = "signal"
CODE = "IB305"
NEEDS = ("inputs",)
LARGE = 3.0
"""Logits of a larger std give a softmax that is near to one-hot."""


def check(subject: Subject) -> Iterator[Finding]:
    """The logits are so large that their softmax begins one-hot.

    Measured: the standard deviation of the logits over the batch.
    Expected: about 1 or below. Where the first loss shows it (IB304), this only names the cause.
    Remedy:
        nn.init.normal_(model.head.weight, std=1 / math.sqrt(model.head.in_features))

    Source: Glorot & Bengio 2010 on saturation; Karpathy 2019, A recipe for training neural networks.
    """
    start = subject.start
    if start is None:
        raise CannotTell("the model gives no logits whose classes are known")
    if start.std <= LARGE or not math.isfinite(start.std):
        return
    head, causes = subject.head, subject.causes.of(Kind.LOSS) if is_far(start) else ()
    yield Finding(
        severity=Severity.INFO if start.loss > 2 * start.chance else Severity.WARNING,
        parameters=causes or (() if head is None else (head.parameter,)),
        message=f"logits of std {start.std:.3g}",
        measured=f"std {start.std:.4g} over {start.classes} classes and the batch, expected about 1"
        + (subject.causes.without(causes, "the first loss is near that of guessing") if causes else ""),
        effect=f"the largest probability is {start.largest:.2g} on average, {1 / start.classes:.2g} would be guessing",
        fix=NO_HEAD,
        link=Link.EFFECT if causes else None,
    )

"""The rule `head_prior`."""

import math
from collections.abc import Iterator

import torch

from initbench.linting.finding import CannotTell, Finding, Severity
from initbench.linting.subject import Subject
from initbench.nn.layers import Role

FAMILY = "law"
CODE = "IB205"
NEEDS = ("labels",)
WORTH = 0.2
"""Nats of the first loss from which on a prior is worth a word."""
FEWEST = 30
"""Labels that a frequency is taken from."""


def check(subject: Subject) -> Iterator[Finding]:
    """The classes are far from equally frequent, and the head's bias does not say so: the first steps only learn the frequencies.

    Measured: the frequencies of the labels in the batch, the head's bias, ln(classes) beside the entropy of the frequencies.
    Expected: nothing; it is a hint. A bias of the logarithms of the frequencies starts the loss at the entropy.
    Remedy:
        head.bias.data.copy_(torch.log(frequencies))

    Source: Karpathy 2019, A recipe for training neural networks, "init well"; Lin et al. 2017 (focal
    loss), section 4.1, the prior of rare classes.
    """
    given = subject.given
    labels = None if given is None else given.labels
    heads = [layer for layer in subject.layers if layer.role is Role.HEAD and layer.bias]
    if labels is None or len(labels) < FEWEST or not heads:
        raise CannotTell(f"it takes {FEWEST} labels and a head with a bias")
    head = heads[-1]
    bias = subject.parameters.by_name[head.bias or ""].detach().double().cpu()
    classes = len(bias)
    if int(labels.max()) >= classes:
        raise CannotTell("the labels are not those of the last layer")
    counts = torch.bincount(labels.cpu(), minlength=classes).double() + 0.5
    frequencies = counts / counts.sum()
    entropy = float(-(frequencies * frequencies.log()).sum())
    now = float(-(frequencies * torch.log_softmax(bias, 0)).sum())
    if now - entropy > WORTH:
        yield Finding(
            severity=Severity.INFO,
            parameters=(head.bias or "",),
            message="the head's bias does not carry the frequencies of the classes",
            measured=f"the most frequent class has {100 * float(frequencies.max()):.0f} % of {len(labels)} labels; the bias alone gives a "
            f"loss of {now:.3g}",
            effect=f"the loss starts {now - entropy:.2g} above {entropy:.3g}, which the frequencies alone give (ln {classes} = "
            f"{math.log(classes):.3g})",
            fix=f"model.{head.bias}.data.copy_(torch.log(frequencies))",
        )

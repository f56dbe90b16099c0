"""The rule `fixed_seed`."""

from collections.abc import Iterator

from initbench.linting.builds import looks_random, tensors_of
from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB107"
NEEDS = ("factory",)


def check(subject: Subject) -> Iterator[Finding]:
    """The same random numbers whatever the seed: something in the constructor fixes a seed, so that repeated runs are one run.

    Measured: the model is built with two seeds of torch, numpy and Python; which parameters hold the same
    numbers, of those whose numbers look drawn: constants, identities, tables and what a given checkpoint holds are left out.
    Expected: other numbers for another seed.
    Remedy:
        # take torch.manual_seed(...) out of __init__ and of module level; pass a torch.Generator where numbers must be the same

    Source: the PyTorch notes on reproducibility.
    """
    builds = subject.builds
    drawn = [
        name
        for name, tensor in tensors_of(subject.model).items()
        if name in subject.parameters.first and name not in builds.unset and name in builds.digests and looks_random(tensor)
    ]
    loaded = subject.checkpoint or {}
    fixed = [name for name in drawn if builds.other.get(name) == builds.digests[name] and name not in loaded]
    if not fixed:
        return
    most = 2 * len(fixed) > len(drawn)
    yield Finding(
        severity=Severity.WARNING if most else Severity.INFO,
        parameters=tuple(fixed),
        message="the same numbers for every seed",
        measured=f"{len(fixed)} of {len(drawn)} parameters of random numbers are equal when built with two seeds",
        effect="runs with several seeds start from one and the same network: their spread is too small"
        if most
        else "they do not vary with the seed: they have a generator of their own",
        fix="# take torch.manual_seed(...) and fixed generators out of what builds the model",
    )

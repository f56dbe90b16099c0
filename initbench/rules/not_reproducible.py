"""The rule `not_reproducible`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Severity, alike
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB108"
NEEDS = ("factory",)


def check(subject: Subject) -> Iterator[Finding]:
    """Other numbers for the same seed: something draws from a generator that nobody can seed, or from memory.

    Measured: the model is built twice with the same seed of torch, numpy and Python; which parameters differ. Those that were
    never written are left to rule IB101.
    Expected: the same numbers.
    Remedy:
        values = torch.randn(shape, generator=generator)      # not torch.Generator().seed(), os.urandom or default_rng()

    Source: the PyTorch notes on reproducibility.
    """
    builds = subject.builds
    differ = [name for name, digest in builds.digests.items() if builds.again.get(name) != digest and name not in builds.unset]
    for names in alike(differ):
        yield Finding(
            severity=Severity.WARNING,
            parameters=names,
            message="other numbers for the same seed",
            measured="built twice with the same seed of torch, numpy and Python, they differ",
            effect="a run cannot be repeated, and schemes cannot be compared seed by seed",
            fix="# draw from torch's generator, or from one that is seeded from it",
        )

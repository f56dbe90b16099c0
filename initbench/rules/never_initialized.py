"""The rule `never_initialized`."""

from collections.abc import Iterator

from initbench.linting.finding import Finding, Link, Severity, alike
from initbench.linting.subject import Subject

FAMILY = "state"
CODE = "IB101"
NEEDS = ("factory",)


def check(subject: Subject) -> Iterator[Finding]:
    """A parameter or buffer whose numbers nobody ever wrote: it holds what was in memory before.

    Measured: the model is built while torch fills what it allocates with NaN (whole numbers: with the largest); what is
    left of that in a parameter or a buffer was never written.
    Expected: nothing is left. Memory that is fresh from the system is zero, so that the fault hides until the second model of a
    process, where it holds the numbers of another one, NaN and 1e38 among them.
    Remedy:
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    Source: torch.utils.deterministic.fill_uninitialized_memory of the PyTorch documentation.
    """
    builds = subject.builds
    for names in alike(builds.unset):
        shares = {builds.unset[name] for name in names}
        part = "" if shares == {1.0} else f" in part: {min(shares):.0%} of the numbers and more were never written"
        yield Finding(
            severity=Severity.ERROR,
            parameters=names,
            message=f"initialized only{part}" if part else "never initialized",
            measured="built while torch fills the memory that it allocates with NaN, which is still there afterwards",
            effect="what it holds depends on what was in memory before: zero in a fresh process, anything in a used one",
            fix="" if names[0] in subject.parameters.first else f"# write all numbers of the buffer model.{names[0]} where it is made",
            link=Link.CAUSE,
        )

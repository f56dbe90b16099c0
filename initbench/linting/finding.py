"""What a rule finds, and what it cannot tell."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

from pydantic import Field

from initbench.errors import InitbenchError
from initbench.question.config import Frozen

NAMED = 2
"""Patterns of parameters that a line names; of more it gives the number."""
NUMBERS = 6
"""Numbers that a pattern lists; of more it gives the first, the second and the last."""


class Severity(StrEnum):
    """How bad it is: it cannot train or is certainly not what was meant; a known weakness, with its size; worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


class Link(StrEnum):
    """What a finding tells of one fault: what is wrong with numbers, what that does where it happens, or what it does to the rest."""

    CAUSE = "cause"
    SYMPTOM = "symptom"
    EFFECT = "effect"


class CannotTell(InitbenchError):
    """A rule cannot say anything about this model; the message is the reason, without a full stop."""


class Finding(Frozen):
    """One thing that a rule has found. The rule gives what was found; `code`, `rule` and the place are filled in for it."""

    code: str = Field(default="", description="IB and three digits")
    rule: str = Field(default="", description="the rule's name, that of its file")
    severity: Severity
    parameters: tuple[str, ...] = Field(description="the parameters or modules that it is about; empty: the model as a whole")
    message: str = Field(description="what is wrong, without a full stop")
    measured: str = Field(default="", description="the numbers that were found, beside those that were expected")
    effect: str = Field(default="", description="what it does to the signal or the training, measured where it can be")
    fix: str = Field(default="", description="the remedy as code")
    module: str = Field(default="", description="the class whose code makes the first of the parameters")
    file: str = Field(default="", description="the file of that class")
    line: int | None = Field(default=None, description="where in that file the parameter, or the layer that holds it, is made")
    among: tuple[str, ...] = Field(default=(), exclude=True, repr=False, description="all names of the model: no pattern takes in others")
    link: Link | None = Field(default=None, exclude=True, description="what it tells of a fault that others may tell of, too: see `joined`")

    @property
    def about(self) -> str:
        """The parameters in one line: `blocks.*.mlp.w3.weight (12 parameters)`."""
        patterns = folded(self.parameters, self.among)
        if not patterns:
            return "the model"
        count = f" ({len(self.parameters)} parameters)" if len(self.parameters) > len(patterns) or len(patterns) > NAMED else ""
        more = f" and {len(patterns) - NAMED} more" if len(patterns) > NAMED else ""
        return f"{', '.join(patterns[:NAMED])}{more}{count}"

    @property
    def place(self) -> str:
        """`net.py:41`, as far as it is known."""
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def fingerprint(self) -> str:
        """What stays the same when numbers change: the code, and what it is about."""
        return f"{self.code} {' '.join(folded(self.parameters))}".strip()


class NotTold(Frozen):
    """A rule that was not looked at, or could not tell, and why."""

    code: str
    rule: str
    reason: str


def joined(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """One finding a fault: what parameters do to the signal is a part of the effect of the finding that tells what is wrong with them.

    A finding with a link goes to those of an earlier link, or of the same one and worse or of a lower code, that name all of its
    parameters. The worst severity holds.
    """
    linked = [(link, each) for link in Link for each in findings if each.link is link]
    order = [each for _, each in sorted(linked, key=lambda pair: (list(Link).index(pair[0]), pair[1].severity.rank, pair[1].code))]
    kept: list[Finding] = []
    for each in order:
        hosts = [place for place, other in enumerate(kept) if set(other.parameters) & set(each.parameters)]
        named = {name for place in hosts for name in kept[place].parameters}
        if each.link is Link.CAUSE or not hosts or not set(each.parameters) <= named:
            kept.append(each)
            continue
        for place in hosts:
            kept[place] = _with(kept[place], each)
    return (*(each for each in findings if not each.link), *kept)


def _with(host: Finding, other: Finding) -> Finding:
    effect = host.effect if other.message in host.effect else "; ".join(filter(None, (host.effect, other.message)))
    return host.model_copy(update={"effect": effect, "severity": min(host.severity, other.severity, key=lambda each: each.rank)})


def folded(names: Sequence[str], among: Sequence[str] = ()) -> tuple[str, ...]:
    """Names that differ in numbers alone as one pattern, `blocks.*.fc.weight`, in the order of the first of each.

    Where that would take in others `among` all: `blocks.{1,3}.fc.weight`, or each name where they differ in several numbers.
    """
    patterns: list[str] = []
    for group in alike(names):
        columns = [list(dict.fromkeys(column)) for column in zip(*(name.split(".") for name in group), strict=True)]
        pattern = ".".join(column[0] if len(column) == 1 else "*" for column in columns)
        if len(group) == 1 or {name for name in among if fnmatchcase(name, pattern)} <= set(group):
            patterns.append(pattern)
        elif sum(len(column) > 1 for column in columns) == 1:
            patterns.append(".".join(column[0] if len(column) == 1 else _listed(column) for column in columns))
        else:
            patterns += group
    return tuple(patterns)


def _listed(numbers: Sequence[str]) -> str:
    shown = numbers if len(numbers) <= NUMBERS else (*numbers[:2], "...", numbers[-1])
    return f"{{{','.join(shown)}}}"


def alike(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Names that differ in numbers alone together, in the order of the first of each."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(kind_of(name), []).append(name)
    return tuple(map(tuple, groups.values()))


def kind_of(name: str) -> str:
    """The name with its numbers taken out: `blocks.*.fc.weight`."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))

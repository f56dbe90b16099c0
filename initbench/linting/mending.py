"""Writes `initialize(model)` that clears findings, applies it to the model built anew, and looks at the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import escape
from textwrap import indent
from typing import TYPE_CHECKING, Any

from torch import nn

from initbench.errors import ConfigError, unknown_name
from initbench.linting.finding import Finding, Severity, folded
from initbench.linting.looked_at import looked_at
from initbench.linting.remedies import BY_SIGNAL, NO_PARAMETER, NOT_AGAIN, OUT_OF_REACH, STILL, Plan, Remedies, Remedy
from initbench.linting.subject import Subject

if TYPE_CHECKING:
    from initbench.linting.run import LintReport

ROUNDS = 6
"""So often what is found only once something else is mended is mended, too."""
STAGES = (("IB101", "IB102"), ("IB1",), ("IB2",), ("IB3",))
"""Beginnings of codes, causes before effects: a number that is not finite is seen everywhere behind it."""
EXCLUDED = "embedding"
"""What init_network leaves alone unless it is told otherwise."""
HEAD = '''"""Initializes {model}: written by `initbench lint --fix {kind}`."""

{imports}

def initialize(model: nn.Module) -> None:
    """Clears {codes}; for the model when it is built, before a checkpoint is loaded."""
'''


@dataclass(frozen=True)
class Fix:
    """Code with `initialize(model)`, what was found before, and what is found when it has been applied to the model.

    `after` has findings of `NOT_AGAIN` from before: a call does not change what is found where it is not made.
    """

    code: str
    before: LintReport
    after: LintReport

    @property
    def cleared(self) -> tuple[Finding, ...]:
        """What was found before and is no more."""
        return tuple(each for each in self.before.findings if not self._again(each))

    @property
    def remains(self) -> tuple[tuple[Finding, str], ...]:
        """What is still there, with why."""
        return tuple((each, _why(each)) for each in self.before.findings if self._again(each))

    @property
    def new(self) -> tuple[Finding, ...]:
        """What is found only now."""
        return tuple(each for each in self.after.findings if not any(_same(each, old) for old in self.before.findings))

    def _again(self, finding: Finding) -> bool:
        return any(_same(finding, other) for other in self.after.findings)

    def told(self) -> str:
        """What was cleared and what remains, a line each."""
        lines = [f"cleared: {_line(each)}" for each in self.cleared]
        lines += [f"remains: {_line(each)}: {why}" for each, why in self.remains]
        lines += [f"new: {_line(each)}" for each in self.new]
        return "\n".join(lines)

    def __str__(self) -> str:
        """The code."""
        return self.code


def fix(report: LintReport, kind: str, told: Callable[[LintReport], LintReport] | None = None) -> Fix:
    """See `LintReport.fix`; `told` takes what is meant out of a report, so that it is left as it is."""
    from initbench.linting.run import FIXES, look

    if kind not in FIXES:
        raise unknown_name("kind of fix", kind, FIXES, f"Allowed: {', '.join(FIXES)}.")
    asked = report.asked
    if asked is None:
        raise ConfigError("The report does not know its model any more. Call lint again and fix what it gives.")
    again = replace(asked, wanted=tuple(rule for rule in asked.wanted if rule.code not in NOT_AGAIN))
    kept = tuple(each for each in report.findings if each.code in NOT_AGAIN)
    plan, code, after = Plan(), "", report
    findings = report.findings
    for _ in range(ROUNDS):
        with looked_at(**asked.given(), then=initializer(code) if code else None) as (name, subject):
            if not _add(plan, findings, Remedies(subject, plan)):
                break
            code = _written(plan, kind, name, subject)
        after = look(again, initializer(code))
        after = after if told is None else told(after)
        after = replace(after, findings=tuple(sorted((*kept, *after.findings), key=lambda each: (each.severity.rank, each.code))))
        findings = tuple(each for each in after.findings if each.severity is not Severity.INFO or any(_same(each, one) for one in findings))
    return Fix(code, report, after)


def _add(plan: Plan, findings: Iterable[Finding], remedies: Remedies) -> bool:
    """Adds the remedies for the findings of the first stage that has any; whether there are new ones."""
    for stage in STAGES:
        new = [plan.add(finding, remedies.of(finding)) for finding in findings if finding.code.startswith(stage)]
        if any(new):
            return True
    return False


def initializer(code: str) -> Callable[[nn.Module], object]:
    """The function of the code; a model without storage is left as it is."""
    names: dict[str, Any] = {"__name__": "initialize"}
    exec(compile(code, "<initbench lint --fix>", "exec"), names)

    def apply(model: nn.Module) -> None:
        if not any(parameter.is_meta for parameter in model.parameters()):
            names["initialize"](model)

    return apply


def _written(plan: Plan, kind: str, name: str, subject: Subject) -> str:
    along = {layer.length for each in plan.remedies if (layer := subject.layer_of.get(each)) is not None}
    names = [each for each in plan.remedies if each not in along]
    others = [each for each in names if kind == "torch" or not _by_network(each, plan.remedies[each], subject)]
    body = _network(plan, [each for each in names if each not in others], subject) + _loop(plan, others, subject)
    return _whole_code(plan, kind, name, body)


def _whole_code(plan: Plan, kind: str, name: str, body: str) -> str:
    codes = ", ".join(sorted({each.partition(" ")[0] for codes in plan.codes.values() for each in codes}))
    standard = [f"import {module}" for module in ("math",) if f"{module}." in body]
    standard += ["from fnmatch import fnmatchcase"] if "fnmatchcase" in body else []
    others = ["import torch", "from torch import nn", *(["", "import initbench"] if kind == "initbench" else [])]
    imports = "\n".join([*standard, *([""] if standard else []), *others]) + "\n"
    return HEAD.format(model=name, kind=kind, imports=imports, codes=codes) + indent(body, "    ")


def _network(plan: Plan, names: list[str], subject: Subject) -> str:
    """A call of init_network for some parameters, which leaves all others alone."""
    if not names:
        return ""
    own: dict[tuple[str, str], list[str]] = {}
    for name in names:
        own.setdefault((plan.remedies[name].scheme or "", _reasons(plan, [name])), []).append(name)
    lines = ["layers = {"]
    for (scheme, reasons), named in own.items():
        lines.append(f"    # {reasons}")
        lines += [f'    "{pattern}": "{scheme}",' for pattern in _patterns(named, subject) or map(escape, named)]
    lines.append("}")
    lengths = [layer.length for name in names if (layer := subject.layer_of.get(name)) is not None and layer.length]
    only = "layers"
    if lengths:
        only = f"[*layers, {', '.join(_quoted(each) for each in _patterns(lengths, subject) or map(escape, lengths))}]"
        lines.append("# of a weight norm the length is that of what is drawn")
    words = ["model", "layers=layers", f"only={only if lengths else 'list(layers)'}"]
    words += ["exclude=()"] if any(EXCLUDED in known for name in names for known in _known(name, subject)) else []
    lines += [f"initbench.init_network({', '.join(words)}, seed=int(torch.randint(2**31, ())))"]
    return "\n".join(lines) + "\n"


def _by_network(name: str, remedy: Remedy, subject: Subject) -> bool:
    """Whether init_network sets a parameter as its remedy says."""
    return remedy.scheme is not None and subject.parameters.first[name].requires_grad


def _known(name: str, subject: Subject) -> list[str]:
    """All names of a parameter."""
    return subject.parameters.names[id(subject.parameters.first[name])]


def _loop(plan: Plan, names: Iterable[str], subject: Subject) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        groups.setdefault((plan.remedies[name].in_loop(), _reasons(plan, [name])), []).append(name)
    blocks = []
    for place, ((code, reasons), named) in enumerate(groups.items()):
        word = "elif" if place else "if"
        blocks.append(f"{word} {_condition(named, subject)}:  # {reasons}\n{indent(code, '    ')}\n")
    if not blocks:
        return ""
    return "with torch.no_grad():\n    for name, weight in model.named_parameters():\n" + indent("".join(blocks), "        ")


def _condition(names: list[str], subject: Subject) -> str:
    patterns = _patterns(names, subject)
    if patterns is None:
        return f"name in {{{', '.join(map(_quoted, names))}}}"
    tests = [f'fnmatchcase(name, "{each}")' if "*" in each else f'name == "{each}"' for each in patterns]
    if len(tests) < 3:
        return " or ".join(tests)
    listed = ", ".join(f'"{each}"' for each in patterns)
    if not any("*" in each for each in patterns):
        return f"name in {{{listed}}}"
    return f"any(fnmatchcase(name, pattern) for pattern in ({listed}))"


def _patterns(names: list[str], subject: Subject) -> list[str] | None:
    """As few globs as match these parameters and no others; None where names hold what a glob takes for its own."""
    every = [(known, name) for name in subject.parameters.first for known in _known(name, subject)]
    every += [(layer.name, layer.parameter) for layer in subject.layers]

    def exact(pattern: str) -> bool:
        return {name for known, name in every if fnmatchcase(known, pattern)} <= set(names)

    patterns: list[str] = []
    for pattern in folded(names):
        if not exact(pattern):
            return None
        merged = next(((place, both) for place, old in enumerate(patterns) if (both := _merged(old, pattern)) and exact(both)), None)
        if merged is None:
            patterns.append(pattern)
        else:
            patterns[merged[0]] = merged[1]
    patterns = list(dict.fromkeys(patterns))
    matched = {name for name in subject.parameters.first if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return patterns if matched == set(names) else None


def _merged(one: str, other: str) -> str | None:
    """One glob for two that differ in one part."""
    left, right = one.split("."), other.split(".")
    if len(left) != len(right) or sum(a != b for a, b in zip(left, right, strict=True)) != 1 or left[-1] != right[-1]:
        return None
    return ".".join(a if a == b else "*" for a, b in zip(left, right, strict=True))


def _reasons(plan: Plan, names: Iterable[str]) -> str:
    return ", ".join(sorted({code for name in names for code in plan.codes[name]}))


def _quoted(name: str) -> str:
    return f'"{name}"'


def _same(one: Finding, other: Finding) -> bool:
    """Whether two findings are about the same: the rule, and a parameter of both or none at all."""
    return one.code == other.code and (bool(set(one.parameters) & set(other.parameters)) or not (one.parameters or other.parameters))


def _why(finding: Finding) -> str:
    """Why a finding remains."""
    if not finding.parameters:
        return OUT_OF_REACH.get(finding.code, NO_PARAMETER)
    return OUT_OF_REACH.get(finding.code, BY_SIGNAL if finding.code.startswith("IB3") else STILL)


def _line(finding: Finding) -> str:
    return f"{finding.severity} {finding.code} {finding.message} ({finding.about})"

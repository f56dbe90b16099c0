"""Writes `initialize(model)` that clears findings, applies it to the model built anew, and looks at the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from textwrap import indent
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from initbench.errors import ConfigError, InitbenchError, unknown_name
from initbench.linting.finding import Finding, Severity, folded
from initbench.linting.looked_at import looked_at
from initbench.linting.remedies import BY_SIGNAL, NO_PARAMETER, OUT_OF_REACH, STILL, Plan, Remedies, Remedy
from initbench.linting.subject import Subject
from initbench.nn.inputs import ModelInputs
from initbench.nn.layers import EMBEDDINGS
from initbench.nn.restore import restored

if TYPE_CHECKING:
    from initbench.linting.run import LintReport

ROUNDS = 3
"""So often what is found only once something else is mended is mended, too."""
EXCLUDED = "embedding"
"""What init_network leaves alone unless it is told otherwise."""
OTHERWISE = ("kaiming:nonlinearity=auto", "kaiming", "xavier")
"""Schemes for the whole network where it has no usual standard deviation, the first that applies."""
HEAD = '''"""Initializes {model}: written by `initbench lint --fix {kind}`."""

{imports}

def initialize(model: nn.Module) -> None:
    """Clears {codes}; for the model when it is built, before a checkpoint is loaded."""
'''


@dataclass(frozen=True)
class Fix:
    """Code with `initialize(model)`, what was found before, and what is found when it has been applied to the model."""

    code: str
    before: LintReport
    after: LintReport

    @property
    def cleared(self) -> tuple[Finding, ...]:
        """What was found before and is no more."""
        return tuple(each for each in self.before.findings if each.code not in OUT_OF_REACH and not self._again(each))

    @property
    def remains(self) -> tuple[tuple[Finding, str], ...]:
        """What is still there, with why."""
        reasons = []
        for each in self.before.findings:
            if each.code in OUT_OF_REACH:
                reasons.append((each, OUT_OF_REACH[each.code]))
            elif self._again(each):
                reasons.append((each, NO_PARAMETER if not each.parameters else BY_SIGNAL if each.code.startswith("IB3") else STILL))
        return tuple(reasons)

    @property
    def new(self) -> tuple[Finding, ...]:
        """What is found only now."""
        return tuple(each for each in self.after.findings if not any(_same(each, old) for old in self.before.findings))

    @property
    def left(self) -> LintReport:
        """What is found afterwards, with what was found before and is out of reach."""
        kept = [each for each in self.before.findings if each.code in OUT_OF_REACH]
        found = [*kept, *(each for each in self.after.findings if each.code not in OUT_OF_REACH)]
        return replace(self.after, findings=tuple(sorted(found, key=lambda each: (each.severity.rank, each.code))))

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


def fix(report: LintReport, kind: str) -> Fix:
    """See `LintReport.fix`."""
    from initbench.linting.run import FIXES, look

    if kind not in FIXES:
        raise unknown_name("kind of fix", kind, FIXES, f"Allowed: {', '.join(FIXES)}.")
    asked = report.asked
    if asked is None:
        raise ConfigError("The report does not know its model any more. Call lint again and fix what it gives.")
    wanted = tuple(rule for rule in asked.wanted if rule.code not in OUT_OF_REACH)
    plan, code, after = Plan(), "", report
    findings: tuple[Finding, ...] = report.findings
    for _ in range(ROUNDS):
        step = initializer(code) if code else None
        with looked_at(**asked.given(), then=step) as (name, subject):
            remedies = Remedies(subject)
            for finding in findings:
                plan.add(finding, remedies.of(finding))
            written = _written(plan, kind, name, subject, remedies)
        if not plan.remedies:
            return Fix("", report, report)
        before, code, after = code, written, look(replace(asked, wanted=wanted), initializer(written))
        left = tuple(each for each in after.findings if each.severity is not Severity.INFO or any(_same(each, one) for one in findings))
        if not left or (written == before and all(set(each.parameters) <= set(plan.remedies) for each in left)):
            break
        findings = left
    return Fix(code, report, after)


def initializer(code: str) -> Callable[[nn.Module], object]:
    """The function of the code; a model without storage is left as it is."""
    names: dict[str, Any] = {"__name__": "initialize"}
    exec(compile(code, "<initbench lint --fix>", "exec"), names)

    def apply(model: nn.Module) -> None:
        if not any(parameter.is_meta for parameter in model.parameters()):
            names["initialize"](model)

    return apply


def _written(plan: Plan, kind: str, name: str, subject: Subject, remedies: Remedies) -> str:
    if kind == "torch":
        body = _loop(plan, tuple(plan.remedies), subject)
        return _whole_code(plan, kind, name, body)
    rest = tuple(each for each, remedy in plan.remedies.items() if not _by_network(each, remedy, subject))
    error: InitbenchError | None = None
    std = remedies.usual
    first = ((f"gpt2:std={std:.3g}",) if remedies.branches else (f"normal:std={std:.3g}",)) if std is not None else ()
    for method in (*first, *OTHERWISE):
        body = _network(plan, method, subject, rest)
        code = _whole_code(plan, kind, name, body)
        try:
            with restored(subject.model):
                initializer(code)(subject.model)
            return code
        except InitbenchError as failed:
            error = failed
    raise ConfigError(f"init_network cannot initialize this model: {error} Take --fix torch.")


def _whole_code(plan: Plan, kind: str, name: str, body: str) -> str:
    codes = ", ".join(sorted({each.partition(" ")[0] for codes in plan.codes.values() for each in codes}))
    standard = [f"import {module}" for module in ("math",) if f"{module}." in body]
    standard += ["from fnmatch import fnmatchcase"] if "fnmatchcase" in body else []
    others = ["import torch", "from torch import nn", *(["", "import initbench"] if kind == "initbench" else [])]
    imports = "\n".join([*standard, *([""] if standard else []), *others]) + "\n"
    return HEAD.format(model=name, kind=kind, imports=imports, codes=codes) + indent(body, "    ")


def _network(plan: Plan, method: str, subject: Subject, rest: tuple[str, ...]) -> str:
    """A call of init_network: the scheme for all weights, others for some, and what it does not set."""
    own: dict[Remedy, list[str]] = {}
    for name, remedy in plan.remedies.items():
        if name not in rest and remedy.scheme and not remedy.as_whole:
            own.setdefault(remedy, []).append(name)
    covered = [name for name in plan.remedies if name not in rest and not any(name in names for names in own.values())]
    reasons = _reasons(plan, covered)
    lines = []
    if subject.given is not None:
        given = subject.given.for_model(subject.model).inputs
        example = _code_of(given.given if isinstance(given, ModelInputs) else given)
        lines.append(f"inputs = {example}  # as the model takes them: one pass shows its layers")
    if own:
        lines.append("layers = {")
        for remedy, names in own.items():
            lines.append(f"    # {_reasons(plan, names)}")
            lines += [f'    "{pattern}": "{remedy.scheme}",' for pattern in _patterns(names, subject) or names]
        lines.append("}")
    lines += [f"# {reasons}"] if reasons else []
    words = ["model", f'"{method}"', "seed=int(torch.randint(2**31, ()))"]
    words += ["layers=layers"] if own else []
    words += ["inputs=inputs"] if subject.given is not None else []
    lines.append(f"initbench.init_network({', '.join(words)})")
    return "\n".join(lines) + "\n" + (_loop(plan, rest, subject) if rest else "")


def _by_network(name: str, remedy: Remedy, subject: Subject) -> bool:
    """Whether init_network sets a parameter as its remedy says."""
    value = subject.parameters.first[name]
    owner = subject.parameters.owner[id(value)]
    if EXCLUDED in name or not value.requires_grad or isinstance(owner, EMBEDDINGS):
        return False
    return remedy.as_whole or (remedy.scheme is not None and name in subject.layer_of)


def _loop(plan: Plan, names: Iterable[str], subject: Subject) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        groups.setdefault((plan.remedies[name].torch, _reasons(plan, [name])), []).append(name)
    blocks = []
    for place, ((code, reasons), named) in enumerate(groups.items()):
        word = "elif" if place else "if"
        blocks.append(f"{word} {_condition(named, subject)}:  # {reasons}\n{indent(code, '    ')}\n")
    return "with torch.no_grad():\n    for name, weight in model.named_parameters():\n" + indent("".join(blocks), "        ")


def _condition(names: list[str], subject: Subject) -> str:
    patterns = _patterns(names, subject)
    if patterns is None:
        return f"name in {{{', '.join(map(repr, names))}}}".replace("'", '"')
    tests = [f'fnmatchcase(name, "{each}")' if "*" in each else f'name == "{each}"' for each in patterns]
    if len(tests) < 3:
        return " or ".join(tests)
    listed = ", ".join(f'"{each}"' for each in patterns)
    if not any("*" in each for each in patterns):
        return f"name in {{{listed}}}"
    return f"any(fnmatchcase(name, pattern) for pattern in ({listed}))"


def _patterns(names: list[str], subject: Subject) -> list[str] | None:
    """As few globs as match these parameters and no others; None where names hold what a glob takes for its own."""
    every = tuple(subject.parameters.first)

    def exact(pattern: str) -> bool:
        return {name for name in every if fnmatchcase(name, pattern)} <= set(names)

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
    matched = {name for name in every if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return patterns if matched == set(names) else None


def _merged(one: str, other: str) -> str | None:
    """One glob for two that differ in one part."""
    left, right = one.split("."), other.split(".")
    if len(left) != len(right) or sum(a != b for a, b in zip(left, right, strict=True)) != 1 or left[-1] != right[-1]:
        return None
    return ".".join(a if a == b else "*" for a, b in zip(left, right, strict=True))


def _reasons(plan: Plan, names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(code for name in names for code in plan.codes[name]))


def _code_of(value: object) -> str:
    if isinstance(value, Tensor):
        shape = (min(2, len(value)), *value.shape[1:]) if value.dim() else ()
        if value.is_floating_point():
            return f"torch.randn({', '.join(map(str, shape))})" if shape else "torch.tensor(1.0)"
        if value.numel() and bool((value == value.flatten()[0]).all()):
            return f"torch.full({shape}, {value.flatten()[0].item()})"
        return f"torch.randint({int(value.max()) + 1 if value.numel() else 1}, {shape})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{key}": {_code_of(each)}' for key, each in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_code_of, value))},)"
    return repr(value)


def _same(one: Finding, other: Finding) -> bool:
    """Whether two findings are about the same: the rule, and a parameter of both or none at all."""
    return one.code == other.code and (bool(set(one.parameters) & set(other.parameters)) or not (one.parameters or other.parameters))


def _line(finding: Finding) -> str:
    return f"{finding.severity} {finding.code} {finding.message} ({finding.about})"

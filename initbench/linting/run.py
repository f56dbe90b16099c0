"""Looks at a model by rules; the public function `lint` is here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initbench.errors import ConfigError, GateFailed, InitbenchError, is_out_of_memory, reason_of, unknown_name
from initbench.linting.finding import Finding, NotTold, Severity, joined
from initbench.question import catalog
from initbench.question.config import Ref, parse_ref

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from initbench.linting.mending import Fix
    from initbench.linting.remedies import Remedies
    from initbench.linting.subject import Subject

WANTED = {
    "inputs": "needs an input: --input 3x224x224, or inputs=batch",
    "factory": "needs a class or a function that builds the model anew",
    "checkpoint": "needs a checkpoint: --checkpoint FILE, or checkpoint=path",
    "labels": "needs a batch with labels",
}
"""What rules may need, with what is said where it is not there."""
FIXES = ("torch", "initbench")
"""What code that clears findings is made of."""


@dataclass(frozen=True)
class Asked:
    """What was looked at, and by which rules."""

    model: nn.Module | Callable[[], nn.Module] | str
    inputs: Any
    labels: Any
    checkpoint: str | Path | Mapping[str, Tensor] | None
    batch: int | None
    classes: int | None
    wanted: tuple[Rule, ...]

    def given(self) -> dict[str, Any]:
        """All but the rules, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "wanted"}


@dataclass(frozen=True, repr=False)
class LintReport:
    """What the rules have found, the worst first; `not_told` are rules that were not looked at or could not tell, with why."""

    model: str
    findings: tuple[Finding, ...]
    not_told: tuple[NotTold, ...]
    checked: tuple[str, ...]
    """Codes of the rules that were looked at."""
    parameters: int
    """How many parameters (tensors) the model has."""
    seconds: float = 0.0
    known: int = 0
    """Findings that a baseline knows, and which are not among these."""
    asked: Asked | None = field(default=None, compare=False)

    def of(self, severity: Severity | str) -> tuple[Finding, ...]:
        """The findings of a severity, or worse."""
        return tuple(finding for finding in self.findings if finding.severity.rank <= Severity(severity).rank)

    def raise_for(self, severity: Severity | str = Severity.ERROR) -> None:
        """In a test: `lint(Net, inputs=x).raise_for("error")`. Raises: GateFailed with the findings of a severity, or worse."""
        if severity not in list(Severity):
            raise unknown_name("severity", str(severity), list(Severity), f"Allowed: {', '.join(Severity)}.")
        found = self.of(severity)
        if found:
            from initbench.linting.formats import as_text

            raise GateFailed(f"{self.model} has {len(found)} finding{'s' * (len(found) != 1)}.\n{as_text(found)}")

    def fix(self, kind: str = "torch") -> Fix:
        """Code with `initialize(model)` that clears these findings, and what is found when it has been applied: `print(report.fix())`.

        `kind`: "torch" sets the parameters that the findings are about with torch.nn.init, "initbench" with init_network.
        Raises: ConfigError for another kind.
        """
        from initbench.linting.mending import fix

        return fix(self, kind)

    def __str__(self) -> str:
        """The findings as text, and what is said of all of them."""
        from initbench.linting.formats import whole_text

        return whole_text(self).rstrip()

    def __repr__(self) -> str:
        """Gives the conclusion."""
        from initbench.linting.formats import conclusion

        return f"<Lint of {conclusion(self)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row a finding."""
        from initbench.linting.formats import conclusion

        cells = [(each.severity.value, each.code, each.about, each.message, each.measured, each.effect) for each in self.findings]
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        head = "".join(f"<th>{name}</th>" for name in ("severity", "rule", "parameters", "finding", "measured", "effect"))
        return f"<p>{escape(conclusion(self))}</p><table><tr>{head}</tr>{rows}</table>"

    def to_pandas(self) -> pd.DataFrame:
        """A row a finding."""
        import pandas as pd

        return pd.DataFrame([{**each.model_dump(mode="json"), "about": each.about} for each in self.findings])


@dataclass(frozen=True)
class Rule:
    """A rule by its file."""

    code: str
    name: str
    summary: str
    needs: tuple[str, ...]


def rules() -> tuple[Rule, ...]:
    """All rules, in the order of their codes; nothing of them is imported."""
    found = [Rule(next(iter(entry.aliases), entry.name), entry.name, entry.summary, entry.needs) for entry in catalog.entries("rule")]
    return tuple(sorted(found, key=lambda rule: rule.code))


def chosen(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules whose code or name begins like one of those selected (all, unless any is), but for those to ignore.

    Raises: ConfigError for what is the beginning of none.
    """
    every = rules()
    for given in (*select, *ignore):
        if not any(_means(given, rule) for rule in every):
            named = [*(rule.code for rule in every), *(rule.name for rule in every)]
            raise unknown_name("rule", given, named, "See: initbench list rules")
    return tuple(
        rule
        for rule in every
        if (not select or any(_means(given, rule) for given in select)) and not any(_means(given, rule) for given in ignore)
    )


def _means(given: str, rule: Rule) -> bool:
    return rule.code.startswith(given.upper()) or rule.name == given


def lint(
    model: nn.Module | Callable[[], nn.Module] | str,
    *,
    inputs: Any = None,
    labels: Any = None,
    checkpoint: str | Path | Mapping[str, Tensor] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    batch: int | None = None,
    classes: int | None = None,
) -> LintReport:
    """Says what is wrong with how a model is initialized; nothing is trained, and a module is afterwards as it was.

    `model`: best a class or a function that builds it, which is called several times; or a module, or a name such as "./net.py:Net".
    `inputs`: a batch as the model takes it, or a text such as "3x224x224" or "int:1000:128"; without any, the rules on the signal are
    not looked at. `labels`: whole numbers (N,). `checkpoint`: what the model should hold, a file or a state dict.
    `select`, `ignore`: codes, their beginnings or names of rules, such as "IB302", "IB3" or "first_loss".
    Raises: InitbenchError where the model cannot be built or run on the inputs; what one rule fails on is in `not_told`.
    """
    return look(Asked(model, inputs, labels, checkpoint, batch, classes, chosen(select, ignore)))


def look(asked: Asked, then: Callable[[nn.Module], object] | None = None) -> LintReport:
    """Looks at what is asked; `then` is called with each model that is built, or with a module that was given, which is put back."""
    from initbench.linting.looked_at import looked_at

    begun = time.perf_counter()
    with looked_at(**asked.given(), then=then) as (name, subject):
        subject.refuse_misfit()
        findings, not_told = examine(subject, asked.wanted)
        count = len(subject.parameters.first)
    quiet = {each.code for each in not_told}
    checked = tuple(rule.code for rule in asked.wanted if rule.code not in quiet)
    return LintReport(name, findings, not_told, checked, count, round(time.perf_counter() - begun, 3), asked=asked)


def examine(subject: Subject, wanted: Sequence[Rule]) -> tuple[tuple[Finding, ...], tuple[NotTold, ...]]:
    """What the rules find, one finding a fault, the worst first, and what they cannot tell; a rule that fails is one that cannot tell."""
    from initbench.linting.builds import tensors_of
    from initbench.linting.places import place_of, runnable
    from initbench.linting.remedies import Remedies

    findings: list[Finding] = []
    not_told: list[NotTold] = []
    among, remedies = tuple(tensors_of(subject.model)), Remedies(subject)
    for rule in wanted:
        lacking = next((need for need in rule.needs if not subject.has(need)), None)
        if lacking is not None:
            not_told.append(NotTold(code=rule.code, rule=rule.name, reason=WANTED.get(lacking, f"needs {lacking}")))
            continue
        try:
            for found in _found(rule, subject):
                place = place_of(subject.model, found.parameters[0]) if found.parameters else place_of(subject.model, "")
                update = {"code": rule.code, "rule": rule.name, "module": place.module, "file": place.file, "line": place.line}
                told = found.model_copy(update=update | {"among": among})
                fix = runnable(_remedy(remedies, told) or found.fix, subject.parameters.by_name)
                findings.append(told.model_copy(update={"fix": fix}))
        except InitbenchError as error:
            not_told.append(NotTold(code=rule.code, rule=rule.name, reason=str(error).rstrip(".")))
        except Exception as error:  # a strange model must not end the run
            if is_out_of_memory(error):
                raise
            not_told.append(NotTold(code=rule.code, rule=rule.name, reason=f"the rule failed: {reason_of(error)}"))
    return tuple(sorted(joined(findings), key=lambda found: (found.severity.rank, found.code))), tuple(not_told)


def _remedy(remedies: Remedies, finding: Finding) -> str:
    try:
        return remedies.text(finding)
    except Exception as error:  # what is found on a strange model is told without a remedy
        if is_out_of_memory(error):
            raise
        return ""


def _found(rule: Rule, subject: Subject) -> Iterator[Finding]:
    check = catalog.load("rule", rule.name)
    for found in check(subject):
        if not isinstance(found, Finding):
            raise ConfigError(f"The rule '{rule.name}' gives {type(found).__name__}. It must give findings.")
        yield found


def explained(code: str) -> str:
    """All that is said of a rule. Raises: ConfigError for one that there is not."""
    (rule,) = chosen([code])[:1]
    entry, _ = catalog.find("rule", rule.name)
    return f"{rule.code} {rule.name}\n\n{entry.doc}"


def model_ref(text: str) -> Ref:
    """A model by its name: of the catalogue, or of a file such as ./net.py:Net. Raises: ConfigError for none."""
    return catalog.resolve("model", parse_ref(text))

"""Findings as text, JSON, annotations of GitHub, SARIF and JUnit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from initbench.linting.finding import Finding, Severity

if TYPE_CHECKING:
    from initbench.linting.run import LintReport

INDENT = "   "


def as_text(findings: Sequence[Finding]) -> str:
    """Each finding in a few lines: where, which, what; what was measured, what it does, and the remedy."""
    return "\n".join(_block(finding) for finding in findings)


def _block(finding: Finding) -> str:
    place = f"{finding.place}  " if finding.place else ""
    lines = [f"{place}{finding.about}  {finding.severity} {finding.code} {finding.message}"]
    lines += [f"{INDENT}{label}: {text}" for label, text in (("measured", finding.measured), ("effect", finding.effect)) if text]
    if finding.fix:
        first, *more = finding.fix.splitlines()
        lines += [f"{INDENT}fix: {first}", *(f"{INDENT}     {line}" for line in more)]
    return "\n".join(lines)


def conclusion(report: LintReport) -> str:
    """One sentence on all that was found."""
    counts = {severity: sum(finding.severity is severity for finding in report.findings) for severity in Severity}
    found = ", ".join(
        f"{number} {severity}" + "s" * (number != 1 and severity is not Severity.INFO) for severity, number in counts.items() if number
    )
    rules = f"{len(report.checked)} rule{'s' * (len(report.checked) != 1)}"
    return f"{report.model}: {found or 'nothing found'} by {rules} in {report.parameters} parameters"

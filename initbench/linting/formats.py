"""Findings as text, JSON, annotations of GitHub, SARIF and JUnit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

from initbench import __version__
from initbench.errors import printable
from initbench.linting.finding import Finding, Severity

if TYPE_CHECKING:
    from initbench.linting.run import LintReport

INDENT = "   "
GITHUB = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
SARIF = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


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
    named = [
        f"{number} {severity}" + "s" * (number != 1 and severity is not Severity.INFO) for severity, number in counts.items() if number
    ]
    rules = f"{len(report.checked)} rule{'s' * (len(report.checked) != 1)}"
    known = f", {report.known} more in the baseline" if report.known else ""
    return f"{report.model}: {', '.join(named) or 'nothing found'}{known}; {rules}, {report.parameters} parameters, {report.seconds:.1f} s"


def whole_text(report: LintReport) -> str:
    """The findings and what is said of all of them."""
    found = f"{as_text(report.findings)}\n\n" if report.findings else ""
    by_reason: dict[str, list[str]] = {}
    for each in report.not_told:
        by_reason.setdefault(each.reason, []).append(each.code)
    told = "".join(f"\nNot told by {', '.join(codes)}: {reason}." for reason, codes in by_reason.items())
    return f"{found}{conclusion(report)}{told}\n"


def as_json(report: LintReport) -> str:
    """One document: the model, the findings with all their fields, what could not be told, the rules that were looked at."""
    document = {
        "model": report.model,
        "findings": [{**finding.model_dump(mode="json"), "fingerprint": finding.fingerprint} for finding in report.findings],
        "not_told": [each.model_dump(mode="json") for each in report.not_told],
        "checked": list(report.checked),
        "in_baseline": report.known,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_github(report: LintReport) -> str:
    """A line a finding that GitHub shows at its place in a pull request."""
    return "".join(f"{_annotation(finding)}\n" for finding in report.findings)


def _annotation(finding: Finding) -> str:
    where = [f"file={_escaped(finding.file, inside=True)}"] if finding.file else []
    where += [f"line={finding.line}"] if finding.line else []
    title = f"title={_escaped(f'{finding.code} {finding.message}', inside=True)}"
    body = _escaped("\n".join(filter(None, (finding.about, finding.measured, finding.effect, finding.fix))))
    return f"::{GITHUB[finding.severity]} {','.join([*where, title])}::{body}"


def _escaped(text: str, *, inside: bool = False) -> str:
    """Text of a workflow command; `inside` a property commas and colons have a meaning as well."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if inside else text


def as_sarif(report: LintReport) -> str:
    """SARIF 2.1.0, as code scanning reads it."""
    from initbench.linting.run import rules

    known = [{"id": rule.code, "name": rule.name, "shortDescription": {"text": rule.summary}} for rule in rules()]
    run = {
        "tool": {"driver": {"name": "initbench", "version": __version__, "rules": known}},
        "results": [_result(finding, {rule.code: place for place, rule in enumerate(rules())}) for finding in report.findings],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _result(finding: Finding, places: dict[str, int]) -> dict[str, Any]:
    text = "\n".join(filter(None, (f"{finding.about}: {finding.message}", finding.measured, finding.effect, finding.fix)))
    place: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": name} for name in finding.parameters]}
    if finding.file:
        region = {"region": {"startLine": finding.line}} if finding.line else {}
        place["physicalLocation"] = {"artifactLocation": {"uri": _uri(finding.file)}, **region}
    return {
        "ruleId": finding.code,
        "ruleIndex": places[finding.code],
        "level": SARIF[finding.severity],
        "message": {"text": text},
        "locations": [place],
        "partialFingerprints": {"initbench/v1": finding.fingerprint},
    }


def _uri(file: str) -> str:
    """A file as SARIF names it: relative with forward slashes where it is below the folder of the run, else with its scheme."""
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def as_junit(report: LintReport) -> str:
    """JUnit's XML: a test case a rule, which fails on errors and warnings; infos are its output."""
    suite = ElementTree.Element("testsuite", name=f"initbench lint {printable(report.model)}")
    bad = 0
    for code in report.checked:
        case = ElementTree.SubElement(suite, "testcase", classname="initbench.lint", name=code)
        found = [finding for finding in report.findings if finding.code == code]
        failing = [finding for finding in found if finding.severity is not Severity.INFO]
        bad += bool(failing)
        if failing:
            failure = ElementTree.SubElement(case, "failure", message=_plain(failing[0].message), type=failing[0].severity.value)
            failure.text = _plain(as_text(failing))
        elif found:
            ElementTree.SubElement(case, "system-out").text = _plain(as_text(found))
    for each in report.not_told:
        case = ElementTree.SubElement(suite, "testcase", classname="initbench.lint", name=each.code)
        ElementTree.SubElement(case, "skipped", message=_plain(each.reason))
    suite.set("tests", str(len(report.checked) + len(report.not_told)))
    suite.set("failures", str(bad))
    suite.set("skipped", str(len(report.not_told)))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


FORMATS: dict[str, Callable[[LintReport], str]] = {
    "text": whole_text, "json": as_json, "github": as_github, "sarif": as_sarif, "junit": as_junit,
}  # fmt: skip

"""The checks of a gate for those who read them: Markdown, JUnit XML, annotations of GitHub."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

from initbench.errors import printable
from initbench.reporting.tables import Table, harmless, markdown
from initbench.statistics.gate import Check, Verdict

ESCAPES = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
"""What a message of an annotation is spelled with; in a property also colon and comma."""


def table(found: Sequence[Check]) -> Table:
    """A row a check, the failed ones marked."""
    marked = frozenset(index for index, check in enumerate(found) if check.verdict is not Verdict.PASS)
    rows = tuple((check.scheme, check.rule, check.verdict.value, check.found) for check in found)
    return Table("The gate", ("scheme", "rule", "verdict", "found"), rows, marked=marked)


def summary(found: Sequence[Check], verdict: Verdict, title: str) -> str:
    """The checks in Markdown, for a job's summary."""
    return f"## initbench: {verdict.value}\n\n{harmless(printable(title))}\n\n{markdown(table(found))}"


def junit(found: Sequence[Check], title: str) -> bytes:
    """The checks as JUnit XML: a test case each; what is inconclusive counts as skipped."""
    counts = {verdict: sum(check.verdict is verdict for check in found) for verdict in Verdict}
    numbers = {"tests": str(len(found)), "failures": str(counts[Verdict.FAIL]), "skipped": str(counts[Verdict.INCONCLUSIVE]), "errors": "0"}
    suites = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"initbench {printable(title)}", **numbers})
    for check in found:
        names = {"classname": f"initbench.{printable(check.scheme)}", "name": check.rule, "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", names)
        if check.verdict is Verdict.FAIL:
            ElementTree.SubElement(case, "failure", {"message": printable(check.found)}).text = printable(check.found)
        elif check.verdict is Verdict.INCONCLUSIVE:
            ElementTree.SubElement(case, "skipped", {"message": printable(check.found)})
    ElementTree.indent(suites)
    content: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def annotations(found: Sequence[Check]) -> Iterator[str]:
    """A line that GitHub shows beside the change, for each check that did not pass."""
    for check in found:
        if check.verdict is not Verdict.PASS:
            level = "error" if check.verdict is Verdict.FAIL else "warning"
            yield f"::{level} title={_property(f'initbench {check.scheme}: {check.rule}')}::{_message(check.found)}"


def _message(text: str) -> str:
    for letter, spelled in ESCAPES:
        text = text.replace(letter, spelled)
    return text


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")

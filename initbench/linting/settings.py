"""What a project says of its own lint: `[tool.initbench.lint]` in pyproject.toml, and a baseline of what is known already."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, ValidationError

from initbench.errors import ConfigError, DataError, StorageError
from initbench.linting.finding import Finding, Severity
from initbench.question.config import Frozen
from initbench.results.store import write_text

if TYPE_CHECKING:
    from initbench.linting.run import LintReport

PROJECT = "pyproject.toml"


class Meant(Frozen):
    """Findings that are meant: a rule, at parameters or modules, with the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(min_length=1)
    at: str = Field(default="*", min_length=1, description="a glob of parameters")
    reason: str = Field(min_length=1)


class LintSettings(Frozen):
    """What a project asks of the linter; options of the command line come before it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exceptions: tuple[Meant, ...] = ()
    fail_on: Severity = Field(default=Severity.ERROR, alias="fail-on")
    baseline: str | None = None


def project_settings(start: Path | None = None) -> LintSettings:
    """The settings of the nearest pyproject.toml above a folder that has any. Raises: ConfigError for one that cannot be used."""
    for folder in ((start or Path.cwd()), *(start or Path.cwd()).parents):
        path = folder / PROJECT
        if not path.is_file():
            continue
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("initbench", {}).get("lint")
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"Cannot read {path}: {error}.") from error
        if table is not None:
            return _checked(path, table)
    return LintSettings()


def _checked(path: Path, table: Any) -> LintSettings:
    from initbench.linting.run import chosen

    try:
        found = LintSettings.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        allowed = "select, ignore, fail-on, baseline, and exceptions with rule, at and reason"
        raise ConfigError(f"[tool.initbench.lint] in {path} cannot be used: {problems}. It takes {allowed}.") from error
    named = {"select": found.select, "ignore": found.ignore, "exceptions": [each.rule for each in found.exceptions]}
    for key, codes in named.items():
        try:
            chosen(codes)
        except ConfigError as error:
            raise ConfigError(f"[tool.initbench.lint] in {path}, {key}: {error}") from error
    return found


def without_exceptions(report: LintReport, exceptions: Sequence[Meant]) -> LintReport:
    """The report without what is meant; a finding of which only some parameters are meant keeps the others."""
    kept = []
    for finding in report.findings:
        meant = [each for each in exceptions if finding.code.startswith(each.rule.upper()) or finding.rule == each.rule]
        left = tuple(name for name in finding.parameters if not any(fnmatchcase(name, each.at) for each in meant))
        if left or not (finding.parameters or any(each.at == "*" for each in meant)):
            kept.append(finding.model_copy(update={"parameters": left}))
    return replace(report, findings=tuple(kept))


def write_baseline(report: LintReport, path: Path) -> None:
    """Writes down what is found now, so that only what is new is told later. Raises: StorageError where it cannot be written."""
    text = json.dumps({"initbench-lint-baseline": 1, "known": sorted({each.fingerprint for each in report.findings})}, indent=2) + "\n"
    write_text(path, text)


def beyond_baseline(report: LintReport, path: Path) -> LintReport:
    """The report without what the baseline knows. Raises: StorageError where there is none, DataError for one that is damaged."""
    if not path.is_file():
        raise StorageError(f"There is no baseline {path}. Write one with: initbench lint MODEL --write-baseline {path}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = {str(each) for each in document["known"]}
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no baseline of initbench lint. Write it anew with --write-baseline {path}.") from error

    def is_new(finding: Finding) -> bool:
        return finding.fingerprint not in known

    new = tuple(filter(is_new, report.findings))
    return replace(report, findings=new, known=len(report.findings) - len(new))

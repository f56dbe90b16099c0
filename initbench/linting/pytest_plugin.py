"""The pytest plugin: a fixture that looks at a model. Nothing heavy is imported before a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from initbench.linting.run import LintReport


@pytest.fixture
def lint_init() -> Callable[..., LintReport]:
    """Fails the test where a model starts wrongly: `lint_init(Net, inputs=x)`, `lint_init(Net, inputs=x, fail_on="warning")`.

    It takes what `initbench.lint` takes, and gives the report.
    """

    def look(model: Any, *, fail_on: str = "error", **given: Any) -> LintReport:
        from initbench.linting.run import lint

        report = lint(model, **given)
        report.raise_for(fail_on)
        return report

    return look


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:  # noqa: ARG001
    """What `report.raise_for` raises is told as the findings alone, without the lines of the code that raises it."""
    told = yield
    if call.excinfo is not None and told.failed:
        kind = type(call.excinfo.value)
        if (kind.__module__, kind.__name__) == ("initbench.errors", "GateFailed"):
            told.longrepr = str(call.excinfo.value)
    return told

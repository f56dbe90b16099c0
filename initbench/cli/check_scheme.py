"""The command `check-scheme`: what every scheme owes, for one that a user wrote."""

from typing import Annotated

from initbench import api
from initbench.cli import output
from initbench.cli.options import Json, Model, argument
from initbench.errors import GateFailed

EXAMPLE = "Example: initbench check-scheme ./mine.py"


def check_scheme(
    scheme: Annotated[str, argument("SCHEME", "A file such as ./mine.py:scale=2, or the name of a scheme.")],
    *,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Examine a scheme of your own: law, report, seeds, precision, refusal; exit code 4 when something is missing."""
    checks = api.check_scheme(scheme, model)
    if as_json:
        output.document([{"what": check.what, "passed": check.passed, "found": check.found} for check in checks])
    else:
        output.scheme_checks(checks)
    failed = [check.what for check in checks if not check.passed]
    if failed:
        raise GateFailed(f"'{scheme}' does not pass: {', '.join(failed)}.")

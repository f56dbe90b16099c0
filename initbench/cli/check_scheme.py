"""The command `check-scheme`: what every scheme owes, for one that a user wrote."""

from typing import Annotated

import typer

from initbench import api
from initbench.cli import output as console
from initbench.cli.options import Json, Model
from initbench.errors import GateFailed


def check_scheme(
    scheme: Annotated[str, typer.Argument(metavar="SCHEME", help="A file such as ./mine.py:scale=2, or the name of a scheme.")],
    *,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Examine a scheme of your own: law, report, seeds, precision, refusal; exit code 4 when it owes something."""
    found = api.check_scheme(scheme, model)
    if as_json:
        console.document([{"what": check.what, "passed": check.passed, "found": check.found} for check in found])
    else:
        console.scheme_checks(found)
    failed = [check.what for check in found if not check.passed]
    if failed:
        raise GateFailed(f"'{scheme}' does not pass: {', '.join(failed)}.")

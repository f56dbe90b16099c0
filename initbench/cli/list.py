"""The command `list`: every name there is."""

from initbench.cli import guide, output
from initbench.cli.options import Json, ListedKind
from initbench.errors import enumerated, unknown_name

HELP = f"List {enumerated(guide.LISTED, 'and')}, a line each."
EXAMPLE = "Example: initbench list schemes"


def list_(*, kind: ListedKind = None, as_json: Json = False) -> None:
    """Prints a line for each name of a kind, or of every kind."""
    if kind is not None and kind not in guide.LISTED:
        raise unknown_name("kind", kind, guide.LISTED, f"Allowed: {', '.join(guide.LISTED)}.")
    listed = {name: guide.listed(name) for name in ([kind] if kind else guide.LISTED)}
    if as_json:
        output.document({name: [line._asdict() for line in lines] for name, lines in listed.items()})
        return
    for name, lines in listed.items():
        output.listing(name, lines)

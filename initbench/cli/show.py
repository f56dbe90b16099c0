"""The command `show`: all that is known of a name."""

from initbench.cli import guide, output
from initbench.cli.options import Name
from initbench.errors import enumerated
from initbench.question.catalog import KINDS, Entry

HELP = f"Show a {enumerated([*KINDS, 'config'], 'or')}: formula, parameters, source, how to use it."
EXAMPLE = "Example: initbench show kaiming"


def show(name: Name) -> None:
    """Prints the page of each thing of a name."""
    for shown in guide.shown(name):
        if isinstance(shown, Entry):
            output.entry_page(shown, guide.page(shown), guide.command(shown), guide.example(shown))
        else:
            output.text(shown.read_text(encoding="utf-8"))

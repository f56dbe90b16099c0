"""Pages from templates, set up in one place."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

LONGEST = 40
"""Letters of a name in a table of a page; a longer one is cut in its middle, and whole where it is pointed at, saved or printed."""


def cut(text: str, most: int = LONGEST) -> str:
    """A name in so many letters, without some in its middle: of a layer's the end says most. Sentences are left as they are."""
    if len(text) <= most or " " in text:
        return text
    front = (most - 1) // 3
    return f"{text[:front]}…{text[len(text) - (most - 1 - front) :]}"


def unbroken(text: str) -> str:
    """A cell of which neither an interval nor a number with its unit breaks over lines."""
    return re.sub(r"[\[(][^\])]*[\])]|\d %", lambda match: match[0].replace(" ", "\u00a0"), text)


def template(path: Path) -> "jinja2.Template":
    """A template file; it may include those of this folder. What it shows is escaped, and a name that it is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cut": cut, "unbroken": unbroken}
    return environment.get_template(path.name)

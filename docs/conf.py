"""The site of these pages: `make docs` builds it into docs/_build; reading it takes no network either."""

import re
from functools import partial
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

ROOT = Path(__file__).parent.parent

project = "initbench"
author = "the initbench authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "initbench"
html_math_renderer = "mathml"
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
suppress_warnings = ["misc.highlighting_failure"]


def leading_out(app: Any, page: str, source: list[str]) -> None:
    """Has links lead somewhere that leave docs: CONTRIBUTING is a page of the site, and other Markdown is a file that goes with it."""
    if page == "contributing":
        app.env.note_dependency(str(ROOT / "CONTRIBUTING.md"))
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")
        source[0] = re.sub(r"\]\(([A-Z_]+\.md)\)", r"](path:../\1)", text)
    else:
        source[0] = source[0].replace("](../CONTRIBUTING.md", "](contributing.md")


def formula(writer: Any, node: Any, display: str) -> None:
    """Writes a formula as MathML, which browsers set by themselves. Raises: SkipNode, since all of it is written then."""
    writer.body.append(convert(node.astext(), display=display))
    raise SkipNode


def setup(app: Any) -> None:
    """What Sphinx asks of a configuration that adds to it."""
    inline, block = (partial(formula, display=display) for display in ("inline", "block"))
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("source-read", leading_out)

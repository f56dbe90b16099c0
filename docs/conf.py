"""The site of these pages: `make docs` builds it into docs/_build, without a network."""

project = "initbench"
author = "the initbench authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "initbench"
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]
"""Links to files outside of docs lead to the repository where these pages are read there; tests/test_pages.py follows every one."""

"""Golden files: what was once looked at and found right. Only `make golden` writes them anew."""

import os
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden")


def assert_golden(name: str, text: str) -> None:
    """That the text is that of a golden file; with INITBENCH_GOLDEN=1 the file is written instead."""
    path = GOLDEN / name
    if os.environ.get("INITBENCH_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} has changed; look at it, then: make golden"

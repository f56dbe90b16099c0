"""Makes the pictures of reading.md anew, by the very commands that stand above them: `python docs/pictures.py`, or `make docs`."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "reading.md"


def commands() -> list[list[str]]:
    """The words of each command of the page."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docs").symlink_to(DOCS)
        for words in commands():
            environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
            subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)

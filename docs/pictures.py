"""Makes the pictures of pages anew, by the very commands that stand above them.

python docs/pictures.py              # those of reading.md (`make docs`)
python docs/pictures.py sweep.md     # the gallery of sweeps, ten minutes on two cores (`make gallery`)
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent


def commands(page: str) -> list[list[str]]:
    """The words of each command in those blocks of a page that end with a picture."""
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks if "docs/images" in block for line in block.splitlines()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docs").symlink_to(DOCS)
        for words in [words for page in sys.argv[1:] or ["reading.md"] for words in commands(page)]:
            environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
            subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)

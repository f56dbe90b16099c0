"""Where data files are."""

import os
import sys
from pathlib import Path

from initbench.question.user_files import own_path


def data_folder(data_dir: str | Path | None) -> Path:
    """The data folder: the one given, else `INITBENCH_DATA`, else the user's own."""
    chosen = data_dir or os.environ.get("INITBENCH_DATA")
    if chosen:
        return own_path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "initbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "initbench"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "initbench"

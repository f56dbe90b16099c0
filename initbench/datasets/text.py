"""A text file as it is: `text:file=./notes.txt`, short `--dataset ./notes.txt`."""

from pathlib import Path
from typing import Literal

from initbench.data.splits import DataSplits
from initbench.data.text import text_splits
from initbench.errors import DataError
from initbench.question.user_files import own_path

TASKS = ("language",)


def load(root: Path, *, file: str, tokens: Literal["characters", "bytes"] = "characters", test: float = 0.1) -> DataSplits:  # noqa: ARG001
    """A text file as it is: `text:file=./notes.txt`, short `--dataset ./notes.txt`.

    Its beginning is for training, the last `test` of it for the test split. Tokens are characters of UTF-8, or bytes.
    """
    path = own_path(file)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Name a text file, such as text:file=./notes.txt.") from error
    return text_splits(text, path.name, tokens=tokens, test=test)

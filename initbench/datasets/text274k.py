"""Two English books, 273,640 characters, inside the package: needs no download."""

from pathlib import Path
from typing import Literal

from initbench.data.splits import DataSplits
from initbench.data.text import text_splits

TASKS = ("language",)


def load(root: Path, *, tokens: Literal["characters", "bytes"] = "characters") -> DataSplits:  # noqa: ARG001 - it lies beside this file
    """Two English books, 273,640 characters, inside the package: needs no download.

    Lewis Carroll, Alice's Adventures in Wonderland (1865), and William Shakespeare, As You Like It (1623); the last tenth is for the test.
    Source: the Canterbury corpus (Arnold & Bell 1997); both works are in the public domain; see text274k.LICENSE.md.
    """
    return text_splits(Path(__file__).with_suffix(".txt").read_bytes(), "text274k", tokens=tokens)

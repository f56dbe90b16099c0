"""The kind of a file that a command writes: as asked for, else as its name ends."""

from collections.abc import Mapping
from pathlib import Path

from initbench.errors import ConfigError


def kind_of(out: Path | None, given: str | None, endings: Mapping[str, str], usual: str) -> str:
    """`given`, or what the ending of `out` says by `endings`, or `usual`. Raises: ConfigError where the first two are not the same."""
    named = endings.get(out.suffix.lower()) if out is not None else None
    if named and given and named != given:
        raise ConfigError(f"--out is {out}, and --format is {given}. Leave out --format, or give the file another ending.")
    return given or named or usual

"""What data that are made by a seed are asked for."""

import math
from collections.abc import Mapping
from typing import Any

from initbench.errors import ConfigError


def refuse_sizes(what: str, sizes: Mapping[str, tuple[Any, int]]) -> None:
    """Raises: ConfigError for a size that is no whole number, or smaller than its smallest; `sizes` are (given, smallest) by name."""
    for name, (value, least) in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{what} cannot be made with {name}={value}; it must be a whole number from {least}.")


def refuse_number(what: str, name: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises: ConfigError for what is no number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{what} cannot be made with {name}={value}; it must be from {low:g} to {high:g}.")

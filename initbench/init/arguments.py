"""Checks of the parameters that users give to schemes; each raises one clear sentence."""

import math
from typing import Any, get_args

from initbench.errors import ConfigError, suggestion


def choose(what: str, given: str, allowed: object) -> None:
    """Raises: ConfigError unless `given` is one of the values of the Literal type `allowed`."""
    names = get_args(allowed)
    if given not in names:
        raise ConfigError(f"{what} is '{given}'.{suggestion(str(given), names)} Allowed: {', '.join(names)}.")


def number(what: str, given: Any, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf) -> float:
    """The number as a float.

    Raises: ConfigError unless it is a finite number (not a bool) with `least` <= number <= `most` and number > `above`.
    """
    wanted = _bounds(least, above, most)
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ConfigError(f"{what} is '{given}'. Give a number{wanted}.")
    if not (least <= given <= most and given > above):
        raise ConfigError(f"{what} is {given:g}. Give a number{wanted}.")
    return float(given)


def whole(what: str, given: Any, *, least: int) -> int:
    """The number as an int. Raises: ConfigError unless it is a whole number of at least `least`."""
    if isinstance(given, bool) or not isinstance(given, int | float) or given != int(given) or given < least:
        raise ConfigError(f"{what} is '{given}'. Give a whole number of at least {least}.")
    return int(given)


def switch(what: str, given: Any) -> bool:
    """The truth value. Raises: ConfigError unless it is true or false."""
    if not isinstance(given, bool):
        raise ConfigError(f"{what} is '{given}'. Give true or false.")
    return given


def _bounds(least: float, above: float, most: float) -> str:
    parts = []
    if least > -math.inf:
        parts.append(f"of at least {least:g}")
    if above > -math.inf:
        parts.append(f"above {above:g}")
    if most < math.inf:
        parts.append(f"of at most {most:g}")
    return " " + " and ".join(parts) if parts else ""

"""User errors, each with its remedy.

The console prints the message of an `InitbenchError` as one sentence and leaves with its exit code; every other
exception is a bug of ours.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class InitbenchError(Exception):
    """Something the user can mend: the message says what was given, what is allowed and what to do."""

    exit_code = 2


class ConfigError(InitbenchError):
    """A name, an option or a configuration that cannot be used."""


class GateFailed(InitbenchError):
    """A check with a threshold, such as `initbench smoke`, did not pass."""

    exit_code = 4


class NotThereError(InitbenchError):
    """Data, a device or a folder that is not there or cannot be used."""

    exit_code = 5


class DataError(NotThereError):
    """A dataset that is missing, damaged or does not fit."""


class DeviceError(NotThereError):
    """A device that is not there."""


class StorageError(NotThereError):
    """A folder that cannot be read or written."""


class DoesNotApply(InitbenchError):
    """A scheme refuses a model, with the reason; its run ends with the status `skipped`."""


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """` Did you mean 'xavier'?` for a near miss, otherwise an empty string."""
    close = get_close_matches(given.lower(), list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_name(kind: str, given: str, allowed: Iterable[str], remedy: str) -> ConfigError:
    """The error for a name that is not in a list: `Unknown scheme 'xavir'. Did you mean 'xavier'? See: ...`."""
    return ConfigError(f"Unknown {kind} '{given}'.{suggestion(given, allowed)} {remedy}")

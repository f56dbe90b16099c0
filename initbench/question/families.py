"""Many schemes by one word: `all`, or `family:residual`."""

from typing import Any

from pydantic import ValidationError

from initbench.errors import ConfigError, suggestion
from initbench.question import catalog
from initbench.question.config import Ref, as_ref

ALL = "all"
"""The word for every scheme of the catalogue that needs no parameter."""
PREFIX = "family:"
"""What stands before the name of a family."""


def families() -> dict[str, tuple[str, ...]]:
    """The schemes of each family, as far as they need no parameter; families and schemes are sorted by name."""
    members: dict[str, list[str]] = {}
    for entry in catalog.entries("scheme"):
        if not entry.needs_parameters:
            members.setdefault(entry.family, []).append(entry.name)
    return {family: tuple(members[family]) for family in sorted(members)}


def refuse_unknown(scheme: Any) -> None:
    """Raises: ConfigError for `family:NAME` with a family that does not exist."""
    if _is_group(scheme) and not _members(scheme):
        family = scheme.removeprefix(PREFIX)
        near, allowed = suggestion(family, families()), ", ".join(families())
        raise ConfigError(f"Unknown family '{family}'.{near} Allowed: {allowed}.")


def expanded(schemes: Any) -> Any:
    """A list of schemes with `all` and `family:NAME` written out; one text counts as a list, unknown families stay.

    In names of families a hyphen or an underscore stands for a blank. A scheme that the list has is not named again.
    """
    if isinstance(schemes, str):
        schemes = [schemes]
    if not isinstance(schemes, list):
        return schemes
    named = {_canonical(scheme) for scheme in schemes}
    result: list[Any] = []
    for scheme in schemes:
        names = _members(scheme) if _is_group(scheme) else ()
        result += [name for name in names if name not in named] if names else [scheme]
        named |= set(names)
    return result


def _is_group(scheme: Any) -> bool:
    return isinstance(scheme, str) and (scheme == ALL or scheme.startswith(PREFIX))


def _canonical(scheme: Any) -> str:
    try:
        return str(catalog.resolve("scheme", as_ref(scheme)))
    except (ConfigError, ValidationError):
        return str(scheme)


def _members(group: str) -> tuple[str, ...]:
    if group == ALL:
        return tuple(name for names in families().values() for name in names)
    return {_plain(family): names for family, names in families().items()}.get(_plain(group.removeprefix(PREFIX)), ())


def _plain(family: str) -> str:
    return family.strip().lower().replace("-", " ").replace("_", " ")


def all_schemes() -> tuple[Ref, ...]:
    """Every scheme of the catalogue that needs no parameters."""
    return tuple(Ref(name=entry.name) for entry in catalog.entries("scheme") if not entry.needs_parameters)

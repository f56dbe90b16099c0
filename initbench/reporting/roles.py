"""What the layers of a network of repeated blocks have in common: their part in a block."""

from collections import Counter
from collections.abc import Iterable

OTHERS = "the others"
"""The role of layers that are no part of a block."""
MOST_ROLES = 9
"""Kinds of layers that have a panel of their own; the others share one."""


def layer_roles(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The layers of a network of repeated blocks by their part in a block, such as `blocks.*.attn.q`; empty where there are no such.

    A number within a name counts blocks where another number there leads to a layer of the same name: that of `blocks.0.0.query` and
    `blocks.1.0.query`, not that of `blocks.0.0.query` and `blocks.0.1.up`, and never the last. A part is one that at least three
    layers have; the layers of none stand under `the others`.
    """
    every = {name: tuple(name.split(".")) for name in dict.fromkeys(names)}
    seen = Counter((before, after) for words in every.values() for _, before, after in _numbered(words))
    counting = {before for (before, _), times in seen.items() if times > 1}
    by_role: dict[str, list[str]] = {}
    for name, words in every.items():
        starred = list(words)
        for place, before, _ in _numbered(words):
            if before in counting:
                starred[place] = f"{before[-1]}*"
        by_role.setdefault(".".join(starred), []).append(name)
    repeated = sorted((role for role, own in by_role.items() if len(own) >= 3), key=lambda role: -len(by_role[role]))
    parts = [role for role in by_role if role in repeated[: MOST_ROLES - 1]]
    if len(parts) < 2:
        return {}
    rest = tuple(name for role, own in by_role.items() if role not in parts for name in own)
    return {role: tuple(by_role[role]) for role in parts} | ({OTHERS: rest} if rest else {})


def _numbered(words: tuple[str, ...]) -> Iterable[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """The places of words that end in a number (`3`, `layer3`) with something behind them: what is before the number, and after it."""
    for place, word in enumerate(words[:-1]):
        if word[-1:].isdigit():
            yield place, (*words[:place], word.rstrip("0123456789")), words[place + 1 :]

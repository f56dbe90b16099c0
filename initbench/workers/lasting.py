"""What an engine leaves for the next time that it is called in one command, as rounds of a few runs are: workers that are warm."""

from types import TracebackType
from typing import Any, Protocol


class Closable(Protocol):
    """Something that has to be ended."""

    def close(self) -> None:
        """Ends it."""


class Lasting:
    """At most one thing at a time, by what it was made for; what is still there when the block is left is closed."""

    def __init__(self) -> None:
        self.checked: set[str] = set()
        """The kinds of jobs that were checked, see `progress.to_check`."""
        self._left: tuple[Any, Any] | None = None

    def __enter__(self) -> "Lasting":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is there."""
        if self._left is not None:
            self._left[1].close()
        self._left = None

    def leave(self, purpose: object, thing: Closable) -> None:
        """Keeps a thing for the next one with this purpose."""
        self.close()
        self._left = purpose, thing

    def taken(self, purpose: object) -> Any:
        """What was left for this purpose, which is its taker's from here on; None where there is none."""
        if self._left is None or self._left[0] != purpose:
            self.close()
            return None
        (_, thing), self._left = self._left, None
        return thing

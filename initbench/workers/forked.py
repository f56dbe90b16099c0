"""A function over many items in forked processes, which end with this one, whatever ends it: of the plots and of the probe."""

import os
import signal
from collections.abc import Callable, Generator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from initbench.workers.ending import end_with_parent

T = TypeVar("T")
R = TypeVar("R")

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Signals that the user stops a command with."""
SECONDS_TO_END = 5.0
"""How long is waited for a killed process to end."""


class LostProcess(Exception):
    """A process was killed before it gave what it was at."""


def mapped(function: Callable[[T], R], items: Sequence[T], processes: int) -> Generator[R]:
    """`function` of each item, in their order, computed by so many forked processes; Linux only.

    What was given is never pickled, only results are. The processes ignore Ctrl-C, which this one hears, and are killed when the
    iterator ends or is closed.
    Raises: LostProcess when one of them is killed; what the function raises.
    """
    team = []
    try:
        for _ in range(min(processes, len(items))):
            team.append(_Helper(function, items))
        waiting = iter(range(len(items)))
        for helper in team:
            helper.ask(next(waiting, None))
        results: dict[int, tuple[bool, Any]] = {}
        for place in range(len(items)):
            while place not in results:
                for ready in wait([helper.connection for helper in team if helper.at is not None]):
                    helper = next(each for each in team if each.connection is ready)
                    results[helper.at or 0] = helper.answer()
                    helper.ask(next(waiting, None))
            worked, result = results.pop(place)
            if not worked:
                raise result
            yield result
    finally:
        for helper in team:
            helper.end()


class _Helper:
    """A forked process, and the place of the item that it is at."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.at: int | None = None
        self.connection, theirs = Pipe()
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            self.process = get_context("fork").Process(target=_serve, args=(function, items, theirs, parent), daemon=True)
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def ask(self, place: int | None) -> None:
        """Has it compute the item of a place, if there is one left."""
        self.at = place
        if place is not None:
            try:
                self.connection.send(place)
            except OSError:
                return  # found out when its answer is read

    def answer(self) -> tuple[bool, Any]:
        """Whether that worked, and the result or the error. Raises: LostProcess."""
        try:
            answer: tuple[bool, Any] = self.connection.recv()
        except (EOFError, OSError):
            raise LostProcess from None
        return answer

    def end(self) -> None:
        """Ends it, whatever it is at."""
        self.process.kill()
        self.process.join(SECONDS_TO_END)
        self.connection.close()


def _serve(function: Callable[[Any], Any], items: Sequence[Any], connection: "Connection[Any, Any]", parent: int) -> None:
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    while True:
        try:
            place = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, function(items[place])
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            answer = False, error
        connection.send(answer)

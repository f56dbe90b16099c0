"""User errors, each with its remedy.

The console prints the message of an `InitbenchError` as one sentence and leaves with its exit code; every other
exception is a bug of ours.
"""

import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, Literal


class InitbenchError(Exception):
    """Something the user can mend: the message says what was given, what is allowed and what to do."""

    exit_code = 2
    job: Any = None
    """The job that it was found in, where it was in one."""


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


def plain(error: InitbenchError) -> InitbenchError:
    """The error as one of ours, which every process can read: a user's own kind becomes the nearest of its ancestors here."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    if kind is type(error):
        return error
    own: InitbenchError = kind(str(error))
    own.job = error.job
    return own


OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory")
"""What torch's allocators call themselves where they raise a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory: Python's error, torch's of that name, or a plain one of an allocator of torch's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in said_by(error) for sign in OUT_OF_MEMORY)


def no_memory(device: str) -> str:
    """Why a run has failed that found no memory on this device."""
    return f"out of memory on {device}: choose a smaller model or train.batch_size"


class UserCode:
    """Around a call of the user's own code: what it raises becomes a ConfigError, `doing: reason.`; user errors pass as they are.

    A lack of memory passes too: it is no mistake in that code.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        """Nothing is done before the call."""

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> Literal[False]:
        """Raises: ConfigError for an error of the user's code, and where that code leaves Python with `sys.exit`."""
        if error is None or isinstance(error, (InitbenchError, KeyboardInterrupt, GeneratorExit)) or is_out_of_memory(error):
            return False
        raise ConfigError(f"{self.doing}: {reason_of(error).removesuffix('.')}.") from error


class ForeignFile:
    """Around the reading of somebody's file by a library: whatever it raises becomes a DataError, `sentence (why). remedy`.

    Readers of numpy, zipfile and torch raise errors of any kind for bytes that they were not written for.
    """

    def __init__(self, sentence: str, remedy: str) -> None:
        self.sentence, self.remedy = sentence, remedy

    def __enter__(self) -> None:
        """Nothing is done before."""

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> Literal[False]:
        """Raises: DataError; the package's own errors and Ctrl-C pass as they are."""
        if error is None or isinstance(error, InitbenchError) or not isinstance(error, Exception):
            return False
        first = printable(said_by(error).partition("\n")[0].partition("For safety")[0].partition("To allow loading")[0], 200)
        raise DataError(f"{self.sentence} ({first.rstrip('. ') or type(error).__name__}). {self.remedy}") from error


LONGEST = 2000
"""Letters of an error's message that are kept."""


def printable(text: str, most: int = LONGEST) -> str:
    """The text in one line of at most so many letters; what no terminal or file should get (escapes, half letters) is spelled out."""
    line = " ".join(_spelled_out(text[: 4 * most]).split())
    return line if len(line) <= most else f"{line[:most]}..."


def printable_lines(text: str) -> str:
    """The same for text of many lines, which keeps its length and its spaces."""
    return "\n".join(map(_spelled_out, text.split("\n")))


def _spelled_out(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in " \t\n" else ascii(letter)[1:-1] for letter in text)


def said_by(error: BaseException) -> str:
    """The message of an error in one line, of one that cannot say it, too."""
    try:
        return printable(str(error))
    except Exception as failed:  # noqa: BLE001 - the error is of a user's own class
        return f"its message cannot be read, {type(failed).__name__}"


def reason_of(error: BaseException) -> str:
    """An error in one line: its type, its message, and the last line of the user's own code that it came through."""
    text = said_by(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _is_users(filename: str) -> bool:
    return "site-packages" not in filename and not filename.startswith("<") and Path(__file__).parent not in Path(filename).parents


def too_long(seconds: float | None) -> str:
    """Why a run was ended that took longer than the user allows."""
    return f"it took longer than --run-timeout {seconds:g}"


def a_or_an(noun: str) -> str:
    """The noun with its article: `an int`, `a tuple`."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def enumerated(words: Sequence[str], conjunction: str) -> str:
    """The words in a row: `schemes, models or configs`; of one word itself."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """` Did you mean 'xavier'?` for a near miss, otherwise an empty string."""
    close = get_close_matches(given.lower(), list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_name(kind: str, given: str, allowed: Iterable[str], remedy: str) -> ConfigError:
    """The error for a name that is not in a list: `Unknown scheme 'xavir'. Did you mean 'xavier'? See: ...`."""
    return ConfigError(f"Unknown {kind} '{given}'.{suggestion(given, allowed)} {remedy}")

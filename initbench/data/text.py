"""Texts as data: a stream of tokens (characters or bytes), the last part of it for the test split."""

import hashlib

import numpy as np
import torch

from initbench.data.splits import DataSplits
from initbench.errors import ConfigError, DataError

MOST_CHARACTERS = 2**15
"""Different characters of a text at most: more have no room in the 16 bits that a token has."""


def text_splits(text: bytes, name: str, *, tokens: str = "characters", test: float = 0.1) -> DataSplits:
    """A text as two streams of tokens, uint8 or int16 (T,): its beginning for training, the last share of it for the test.

    Characters are numbered in the order of Unicode, those of the test split too. `classes` is how many different tokens there are.
    Raises: ConfigError for another kind of tokens or a share that leaves a split empty; DataError for what is no text in UTF-8.
    """
    if tokens not in ("characters", "bytes"):
        raise ConfigError(f"The tokens are '{tokens}'; they must be: characters or bytes.")
    if isinstance(test, bool) or not isinstance(test, int | float) or not 0 < test < 1:
        raise ConfigError(f"The share of the text for the test is {test}; it must be between 0 and 1, such as 0.1.")
    if tokens == "bytes":
        stream, count = torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy()), 256
    else:
        try:
            characters = text.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is no text in UTF-8 (byte {error.start}). Convert it, or take it as bytes: tokens=bytes.") from error
        known, numbers = np.unique(np.frombuffer(characters.encode("utf-32-le"), dtype=np.uint32), return_inverse=True)
        count = len(known)
        if count > MOST_CHARACTERS:
            raise DataError(f"{name} has {count} different characters, more than {MOST_CHARACTERS}. Take it as bytes: tokens=bytes.")
        stream = torch.from_numpy(numbers.astype(np.uint8 if count <= 256 else np.int16))
    cut = len(stream) - round(test * len(stream))
    if not 0 < cut < len(stream):
        raise DataError(f"{name} has {len(stream)} {tokens}, too few for a training and a test split.")
    nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
    digest = hashlib.sha256(f"{tokens} {test}\n".encode() + text).hexdigest()
    return DataSplits(name, stream[:cut], nothing, stream[cut:], nothing, count, (), (), digest)

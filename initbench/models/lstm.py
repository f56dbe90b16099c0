"""A recurrent language model: embedding, LSTM or GRU layers, head."""

from typing import Literal

from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.nn.blocks import one_of, whole_numbers

TASKS = ("language",)
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


def build(shape: tuple[int, ...], classes: int, *, cell: Literal["lstm", "gru"] = "lstm", layers: int = 1, width: int = 128) -> nn.Module:
    """Recurrent language model: an embedding, `layers` of LSTM or GRU of `width` units, a linear head.

    Takes token ids (N, T) and gives logits (N, T, tokens). Raises: ConfigError for sizes below 1 and other cells.

    Source: Hochreiter & Schmidhuber 1997 (LSTM), Cho et al. 2014 (GRU).
    """
    if len(shape) != 1:
        raise ConfigError(f"An lstm takes token ids (context,), not {shape}. It is for texts: --dataset text274k.")
    whole_numbers("lstm layers", layers, smallest=1, largest=100)
    whole_numbers("lstm width", width, smallest=1)
    return Recurrent(classes, CELLS[one_of("lstm cell", cell, tuple(CELLS))], layers, width)


class Recurrent(nn.Module):
    """Embedding, recurrent layers, head."""

    def __init__(self, tokens: int, cell: type[nn.LSTM] | type[nn.GRU], layers: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(tokens, width)
        self.recurrent = cell(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (N, T) -> logits of the next one at each place (N, T, tokens)."""
        return self.head(self.recurrent(self.token_embedding(tokens))[0])  # type: ignore[no-any-return]

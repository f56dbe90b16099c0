"""What counts as a lack of memory, and what is the user's own mistake."""

import pytest
import torch

from initbench.errors import ConfigError, UserCode, is_out_of_memory


def test_what_torch_raises_without_memory_is_a_lack_of_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**52)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_a_lack_of_memory_is_not_blamed_on_the_users_code(error):
    with pytest.raises(type(error)), UserCode("The model cannot be built"):
        raise error


@pytest.mark.parametrize("text", ["the memory bank needs 8 slots", "out of memory slots"])
def test_an_error_that_speaks_of_memory_is_the_users_own(text):
    with pytest.raises(ConfigError, match=text), UserCode("The model cannot be built"):
        raise ValueError(text)

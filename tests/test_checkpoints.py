"""Checkpoints are read into a model, and one that cannot be is a sentence."""

import struct

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from initbench.errors import ConfigError, DataError, NotThereError
from initbench.training.checkpoints import load_checkpoint, read_checkpoint


def net(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, outputs))


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_checkpoint_is_read_into_the_model(tmp_path, ending):
    saved, fresh, path = net(), net(), tmp_path / f"w.{ending}"
    nn.init.normal_(saved[0].weight)
    state = {f"module.{name}": value for name, value in saved.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 3}, path) if ending == "pt" else save_file(state, path)
    load_checkpoint(fresh, str(path))
    assert torch.equal(saved[0].weight, fresh[0].weight)


def test_every_type_of_a_safetensors_file_is_read(tmp_path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    written = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    save_file(written, tmp_path / "all.safetensors")
    found = read_checkpoint(tmp_path / "all.safetensors")
    assert all(torch.equal(found[name], values) and found[name].dtype == values.dtype for name, values in written.items())


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_checkpoint_that_cannot_be_used_is_one_sentence(tmp_path):
    with pytest.raises(NotThereError, match="There is no checkpoint"):
        load_checkpoint(net(), str(tmp_path / "none.pt"))
    torch.save(Evil(), tmp_path / "evil.pt")
    with pytest.raises(DataError, match="not safe"):
        load_checkpoint(net(), str(tmp_path / "evil.pt"))
    torch.save(net(outputs=4).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"have another shape: 4\.weight"):
        load_checkpoint(net(), str(tmp_path / "other.pt"))


WHOLE = save({"0.weight": torch.ones(7, 5)})
DAMAGED = {
    "nothing": b"",
    "a header longer than the file": struct.pack("<Q", 10**9) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 5) + b"hello",
    "a header without types": struct.pack("<Q", 10) + b'{"a":{}}  ',
    "cut": WHOLE[:-9],
    "no tensors": save({}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_safetensors_file_is_one_sentence(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    path.write_bytes(DAMAGED[damage])
    begin = f"'{path}' holds no weights" if damage == "no tensors" else f"Cannot read the checkpoint '{path}' ("
    with pytest.raises(DataError) as found:
        load_checkpoint(net(), str(path))
    message = str(found.value)
    assert message.startswith(begin)
    assert message.endswith(".")
    assert "\n" not in message

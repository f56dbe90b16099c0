"""Numbers that go wrong, wherever they do: strict JSON, the right status, and finished tables, plots and page."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from initbench.cli.app import app

pytestmark = pytest.mark.heavy

MODEL = """
import torch
from torch import nn

class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("{bad}")

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.flat, self.first, self.act, self.head = nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(), nn.Linear(8, classes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        bad = float("{bad}")
        if self.training:
            self.calls += 1
        hidden = self.first(self.flat(x))
        {hidden}
        out = self.head(self.act(hidden))
        {out}
        return out
"""
WRONG = {
    "from the first step": ("", "out = out + bad"),
    "from a later step": ("", "out = out + bad if self.calls > 3 else out"),
    "in one layer": ("hidden = hidden + bad", ""),
    "in a gradient alone": ("hidden = Bad.apply(hidden) if self.training else hidden", ""),
    "in the evaluation alone": ("", "out = out if self.training else out + bad"),
    "nowhere, but all is zero": ("hidden = hidden * 0", "out = out * 0"),
    "nowhere, and the loss is exactly 0": ("", "out = torch.cat([out[:, :1] * 0 + 1e4, out[:, 1:] * 0 - 1e4], 1)"),
}


def strict(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no number of JSON"))


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("where", WRONG)
def test_every_file_is_finished_and_strict(where, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hidden, out = WRONG[where]
    (tmp_path / "own.py").write_text(MODEL.format(bad=bad, hidden=hidden, out=out))
    images, labels = np.arange(40 * 16, dtype=np.uint64).reshape(40, 4, 4).astype(np.uint8), np.zeros(40, np.int64)
    labels[0] = 1  # of the other class there is one training image, and none in the test split: an empty class
    np.savez("one.npz", x_train=images, y_train=labels, x_test=images, y_test=np.zeros(40, np.int64))
    words = [
        "compare",
        "kaiming",
        "zeros",
        "--model",
        "./own.py:Net",
        "--dataset",
        "./one.npz",
        "--steps",
        "6",
        "--seeds",
        "2",
        "--out",
        "made",
    ]
    words += ["--engine", "serial", "--device", "cpu", "--set", "train.batch_size=8", "--set", "probe.batch_size=8", "--json"]
    ran = CliRunner().invoke(app, [word.replace("./one.npz", "npz:file=./one.npz") for word in words])
    assert ran.exit_code in {0, 3}, ran.output
    strict(ran.stdout)
    statuses = set()
    for path in (tmp_path / "made").rglob("*.json"):
        document = strict(path.read_text())
        statuses |= {document["status"]} if path.parent.name == "jobs" else set()
    assert statuses <= {"completed", "diverged"}
    assert ("completed" in statuses) == where.startswith("nowhere"), statuses
    for path in (tmp_path / "made" / "tables").glob("*.csv"):
        with path.open() as file:
            assert not {"nan", "inf", "-inf"} & {cell.lower() for row in csv.reader(file) for cell in row}, path
    assert (tmp_path / "made" / "report.html").read_text().rstrip().endswith("</html>")
    begun = where.startswith(("nowhere", "from a later step", "in a gradient"))
    assert (tmp_path / "made" / "plots" / "loss.svg").exists() == begun

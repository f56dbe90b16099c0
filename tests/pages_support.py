"""The pages of the docs as text: what of them can be typed and pasted, and the folder of a reader who does so."""

import re
import shlex
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "README.md"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
FOLLOWED = {f"docs/{page}.md" for page in (
    "quickstart", "comparing", "own", "reading", "course", "figures", "recommend", "sweep", "probe", "integrations", "gate",
)}  # fmt: skip
"""Pages whose commands are carried out one after another, by tests/test_followed.py."""
MINE = '''
import math

import torch
from torch import nn


class Net(nn.Sequential):
    """A small network of images."""

    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.ReLU(), nn.Linear(8, classes))


class Words(nn.Module):
    """A small network of words."""

    def __init__(self, shape, classes):
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(1000, 16), nn.Linear(16, 16), nn.Linear(16, classes)

    def forward(self, ids):
        return self.head(torch.relu(self.hidden(self.words(ids))).mean(1))
'''
"""Models of a reader, below README's scheme in one file."""


def blocks(text, *kinds):
    """The code blocks of these kinds on a page, without what a list indents them by."""
    found = re.findall(r"^( *)```([^`\n]*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, kind, code in found if kind in kinds]


def commands(text):
    """The arguments of every `initbench ...` line in code blocks, indented ones too, and of every command that is a cell of a table."""
    lines = [line for block in blocks(text, "", "sh") for line in block.splitlines()]
    lines += re.findall(r"^ {4,}(initbench .*)$", text, re.MULTILINE)
    lines += re.findall(r"^\|.*\| `(initbench [^`]*)` \|$", text, re.MULTILINE)
    typed = [line.partition(" > ")[0].removeprefix("initbench ") for line in map(str.strip, lines) if line.startswith("initbench ")]
    return [shlex.split(line, comments=True) for line in typed if "..." not in line.partition("#")[0]]


def readers_folder(folder):
    """Puts into a folder what a reader has: a mine.py with README's scheme and models, and data files of the full datasets."""
    (scheme,) = (code for code in blocks(TEXTS["README.md"], "python") if code.startswith("# mine.py"))
    (folder / "mine.py").write_text(scheme + MINE, encoding="utf-8")
    (folder / "data").mkdir()
    labels = np.arange(640) % 10
    for name, shape in {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}.items():
        images = np.zeros((640, *shape), dtype=np.uint8) + labels.reshape(-1, *[1] * len(shape)).astype(np.uint8)
        np.savez(folder / "data" / f"{name}.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])

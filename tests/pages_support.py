"""The pages of the docs as text: what of them can be typed and pasted, and the folder of a reader who does so."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "README.md"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
FOLLOWED = {f"docs/{page}.md" for page in (
    "quickstart", "comparing", "diagnose", "tasks", "own", "reading", "course", "figures", "recommend", "sweep", "probe", "integrations",
    "gate",
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


@dataclass
class Shown:
    """What a page shows of what commands print: the commands that stand above it, and the text, with `...` for what is left out."""

    commands: list[list[str]] = field(default_factory=list)
    text: str = ""


OUTPUT = re.compile(
    r"^ *```(?P<kind>\S*)[^\n]*\n(?P<code>(?:[^\n]*\n)*?) *```$|(?P<typed>(?:^ {4,}initbench .*\n)+)|(?P<quote>(?:^ *> .*\n)+)",
    re.MULTILINE,
)
"""A code block, indented commands, or a quote."""


def shown(text):
    """What a page shows as printed, in its order: blocks of the kind `text`, and quotes; each belongs to the commands above it."""
    found, above = [], []
    for each in OUTPUT.finditer(text):
        printed = each["code"] if each["kind"] == "text" else re.sub(r"^ *> ", "", each["quote"] or "", flags=re.MULTILINE)
        if printed:
            found.append(Shown(above, printed))
        elif each["typed"] or each["kind"] in {"", "sh"}:
            above = commands(each[0])
    return found


NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")


def last_digit(number):
    """What one more in the last digit of a number is: of 0.7 it is 0.1, of 107,000 it is 1,000, of 4.1e-05 it is 1e-06."""
    digits, _, power = number.replace(",", "").partition("e")
    whole, _, decimals = digits.partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if "," in number and not decimals else 0
    return 10.0 ** (int(power or 0) + (zeros - len(decimals)))


def stands_in(piece, printed):
    """Whether a text is printed word by word; another processor rounds differently, so a number may be one off in its last digit."""
    words, numbers = " ".join(piece.split()), " ".join(printed.split())
    asked = NUMBER.findall(words)
    pattern = rf"(?<![\d.,])({NUMBER.pattern})(?!\d)".join(map(re.escape, NUMBER.split(words)))
    return any(
        all(abs(value(one) - value(other)) <= 1.001 * last_digit(one) for one, other in zip(asked, match.groups(), strict=True))
        for match in re.finditer(pattern, numbers)
    )


def value(number):
    """A number as it is printed, without the commas between thousands."""
    return float(number.replace(",", ""))


TABLE = re.compile(r"^ *(\|.+\|)\n *\|[-:|]+\|\n((?: *\|.*\|\n)+)", re.MULTILINE)


def cells(row):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip()[1:-1])]


def tables(text):
    """The headings and the rows of each table."""
    return [(cells(heads), [cells(row) for row in rows.splitlines()]) for heads, rows in TABLE.findall(f"{text}\n")]


def readers_folder(folder):
    """Puts into a folder what a reader has: a mine.py with README's scheme and models, and data files of the full datasets."""
    (scheme,) = (code for code in blocks(TEXTS["README.md"], "python") if code.startswith("# mine.py"))
    (folder / "mine.py").write_text(scheme + MINE, encoding="utf-8")
    (folder / "data").mkdir()
    labels = np.arange(640) % 10
    for name, shape in {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}.items():
        images = np.zeros((640, *shape), dtype=np.uint8) + labels.reshape(-1, *[1] * len(shape)).astype(np.uint8)
        np.savez(folder / "data" / f"{name}.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])

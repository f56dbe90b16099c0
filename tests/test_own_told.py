"""What is said of objects of a Python program: names, sizes of batches, what fails and of which batch."""

import functools
import re
import subprocess
import sys

import pytest
import torch
from own_support import TASK, TEST, TRAIN, Net, X, Y, compared
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import initbench
from initbench.errors import ConfigError
from initbench.question.given import word_of

pytestmark = pytest.mark.heavy


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def built(width=16):
    return Net()


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (Net, "Net"),
        (lambda: Net(3).eval(), "Net"),
        (lambda: nn.Sequential(nn.Linear(6, 3)), "Sequential"),
        (lambda: built(width=8), "built"),
        (built, "built"),
        (functools.partial(built, width=8), "built"),
        (lambda outputs, targets: functional.cross_entropy(outputs, targets), "cross_entropy"),
        (lambda parameters: torch.optim.AdamW(parameters), "AdamW"),
        (lambda output, batch: output.loss, "otherwise"),
    ],
)
def test_an_object_goes_by_its_name_and_a_lambda_by_what_it_builds(value, word):
    assert word_of(value, "otherwise") == word


@pytest.mark.usefixtures("here")
def test_titles_and_sentences_have_the_words_of_objects_and_files_their_digests():
    kept = Net
    results = compared(model=lambda: kept(), data=(TRAIN, TEST))
    title = (results.folder / "summary.md").read_text().partition("\n")[0]
    assert title == "# Which initialization for Net on own_data: kaiming or xavier?"
    assert results.folder.name.startswith("compare-Net-own_data-")
    assert re.fullmatch(r"python:Net-[0-9a-f]{8}", str(results.config.model))
    assert str(results.config.model) in (results.folder / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="The model 'Net' does not take a batch of shape 8 x 5"):
        compared(model=lambda: kept(), data=((X[:, :5], Y), (X[:, :5], Y)))


@pytest.mark.usefixtures("here")
def test_a_metric_beside_the_usual_loss_changes_neither_what_guessing_gives_nor_what_is_refused():
    metric = ("hits", lambda outputs, labels: (outputs.argmax(1) == labels).float(), "max", (0, 1))
    chances = [compared(data=(TRAIN, TEST), metric=each).results[0].chance_loss for each in (None, metric)]
    assert chances[0] == chances[1] is not None
    labels = TRAIN[1].clone()
    labels[-1] = 7
    with pytest.raises(ConfigError, match="labels are from 0 to 7"):
        compared(data=((TRAIN[0], labels), TEST), metric=metric)


class Buckets(torch.utils.data.Sampler):
    """Batches of two sizes."""

    def __iter__(self):
        yield from ([*range(start, start + size)] for start, size in ((0, 20), (40, 12), (80, 20)))

    def __len__(self):
        return 3


ROWS = TensorDataset(*TRAIN)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("training", "size"),
    [
        (DataLoader(ROWS, batch_size=20), 20),
        (DataLoader(ROWS, batch_sampler=torch.utils.data.BatchSampler(range(240), 30, drop_last=False)), 30),
        (DataLoader(ROWS, batch_sampler=Buckets()), None),
        ([TRAIN], None),
        (lambda: DataLoader(ROWS, batch_size=20), None),
        (ROWS, 128),
    ],
    ids=["loader", "batch sampler", "batches of two sizes", "list", "function", "rows"],
)
def test_reports_have_the_size_of_the_batches_that_were_trained_on(training, size):
    found = compared(data=(training, [TEST]), steps=2)
    assert found.config.train.batch_size == size
    assert f"  batch_size: {'null' if size is None else size}\n" in (found.folder / "config.yaml").read_text()
    assert initbench.load_results(found.folder).config == found.config
    said = "128" if training is ROWS else "of the loader"
    assert all(f"batch size {said}," in run.provenance["batches"] for run in found.results)


@pytest.mark.usefixtures("here")
def test_a_size_of_batches_that_is_not_theirs_or_of_no_rows_is_refused():
    with pytest.raises(ConfigError, match=r"train.batch_size is 9, and what is trained on has batches of its own"):
        compared(data=([TRAIN], [TEST]), settings=["train.batch_size=9"])
    with pytest.raises(ConfigError, match=r"train.batch_size is null, which is for loaders"):
        compared(data=(TRAIN, TEST), settings=["train.batch_size=null"])


LATE = {
    "a label outside": (
        lambda x, y: (x, y.index_fill(0, torch.tensor([3]), 7)),
        "The labels are from 0 to 7, and the model gives",
    ),
    "fewer numbers": (lambda x, y: (x[:, :5], y), "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    "other targets": (lambda x, y: (x, y.float()), "They must be alike"),
}


def late(change):
    batches = list(zip(X.split(12), Y.split(12), strict=True))
    batches[19] = change(*batches[19])
    return batches


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", LATE)
def test_a_batch_that_goes_wrong_late_is_named_in_what_is_shown_of_the_results(case):
    change, words = LATE[case]
    results = compared(data=(late(change), [TEST]), steps=22)
    assert results.failed == repr(results).partition("all 4 runs failed. ")[2].removesuffix(".>")
    assert results.failed.startswith("4 of 4 runs failed: Training batch 20 cannot be trained on: ")
    assert words in results.failed
    assert "Nothing is known of any scheme: all 4 runs failed" in repr(results)
    assert "Training batch 20" in (results.folder / "summary.md").read_text()
    assert compared(data=(late(change), [TEST]), steps=19).failed is None


def test_a_command_ends_with_the_reason_of_what_failed(here):
    (here / "mine.py").write_text(TASK.replace("    loader = ", "    y[40] = 9\n    loader = "))
    asked = ["compare", "kaiming", "xavier", "--model", "./mine.py:Net", "--task", "./mine.py:task", "--steps", "6", "--seeds", "1"]
    run = subprocess.run([sys.executable, "-m", "initbench", *asked], capture_output=True, text=True, check=False)
    assert run.returncode == 3
    last = " ".join(run.stderr.split()).rpartition("Warning: ")[2]
    assert re.match(r"2 of 2 runs failed: Test batch 1 cannot be evaluated: IndexError: Target 9 is out of bounds", last)

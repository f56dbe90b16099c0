"""Models, batches, losses, metrics and optimizers as objects of a Python program; tasks of a file with data of their own."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from own_support import TASK, TEST, TRAIN, Net, Noisy, X, Y, compared
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import initbench
from initbench.errors import ConfigError, DataError
from initbench.init.initialize import initialize
from initbench.nn.seeds import random_states, same_random_states
from initbench.question.config import parse_ref
from initbench.results.outcome import Outcome, outcome
from initbench.results.record import RunStatus
from initbench.training.fingerprint import digest_of
from initbench.training.sources import source_of


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, left, right):
        return {"logits": self.head(torch.relu(self.left(left) + self.right(right)))}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = {
    "tensors": (TRAIN, TEST),
    "arrays": (tuple(each.numpy() for each in TRAIN), tuple(each.numpy() for each in TEST)),
    "by name": ({"x": TRAIN[0], "labels": TRAIN[1]}, {"x": TEST[0], "labels": TEST[1]}),
    "dataset": (TensorDataset(*TRAIN), TensorDataset(*TEST)),
}


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_the_same_rows_in_any_form_give_the_same_run():
    found = {form: compared(data=data, fresh=True).results[0] for form, data in FORMS.items()}
    losses = {form: result.train_losses for form, result in found.items()}
    assert len(set(losses.values())) == 1, losses
    assert len(losses["tensors"]) == 8
    assert outcome(found["tensors"]) in {Outcome.TRAINED, Outcome.STUCK}


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("optimizer", [None, lambda parameters: torch.optim.AdamW(parameters, lr=0.01)])
def test_the_losses_are_those_of_a_plain_loop_over_the_loader(optimizer):
    """The loader is given the same seeds as in the run, and everything else is written out."""
    loader = DataLoader(TensorDataset(*TRAIN), batch_size=20, shuffle=True)
    found = initbench.run(
        "kaiming", model=Net, data=(loader, [TEST]), loss=functional.cross_entropy, optimizer=optimizer, steps=30, engine="serial"
    )
    model = Net()
    initialize(model, parse_ref("kaiming"), seed=0, inputs=TRAIN[0][:8])
    made = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9) if optimizer is None else optimizer(model.parameters())
    source, losses = source_of(loader, "training"), []
    for number in range(3):
        for inputs, labels in source.one_pass(0, number, 20, shuffled=True):
            made.zero_grad()
            loss = functional.cross_entropy(model(inputs), labels)
            loss.backward()
            made.step()
            losses.append(loss.item())
    assert found.results[0].train_losses == pytest.approx(losses[:30], rel=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        DataLoader(Noisy(), batch_size=16, shuffle=True),
        DataLoader(Noisy(), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(7)),
        Noisy(),
        lambda seed: DataLoader(TensorDataset(*TRAIN), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(seed)),
    ],
    ids=["loader", "generator of its own", "dataset", "function"],
)
def test_a_pass_depends_on_seed_and_number_alone_and_leaves_the_callers_states(given):
    source = source_of(given, "training")

    def batches(seed, number):
        found = []
        for batch in source.one_pass(seed, number, 16, shuffled=True):
            torch.rand(3), random.random()  # what a model draws in between
            found.append(batch[0])
        return torch.cat(found)

    before = random_states()
    first = list(source.one_pass(0, 0, 16, shuffled=True))
    assert same_random_states(before, random_states())
    again, other, later = batches(0, 0), batches(1, 0), batches(0, 1)
    assert torch.equal(torch.cat([batch[0] for batch in first]), again)
    assert not torch.equal(again, other)
    assert not torch.equal(again, later)


def test_a_pass_that_is_given_up_does_not_turn_the_callers_states_back():
    batches = source_of(Noisy(), "training").one_pass(0, 0, 16, shuffled=True)
    next(batches)
    drawn = torch.rand(2)
    batches.close()
    assert not torch.equal(torch.rand(2), drawn)


def test_a_loaders_own_generator_is_as_it_was_afterwards():
    own = torch.Generator().manual_seed(7)
    before = own.get_state()
    list(
        source_of(DataLoader(TensorDataset(*TRAIN), batch_size=16, shuffle=True, generator=own), "training").one_pass(
            0, 0, 16, shuffled=True
        )
    )
    assert torch.equal(own.get_state(), before)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_every_scheme_of_a_seed_sees_the_same_batches():
    seen = []

    def loss(outputs, targets):
        if outputs.requires_grad and len(targets) == 16:
            seen.append(targets.tolist())
        return functional.cross_entropy(outputs, targets)

    initbench.compare(
        ["kaiming", "xavier"],
        model=Net,
        data=(DataLoader(Noisy(), batch_size=16, shuffle=True), [TEST]),
        loss=loss,
        steps=6,
        seeds=1,
        engine="serial",
        settings=["probe.batch_size=8"],
    )
    assert seen[-12:-6] == seen[-6:]


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_a_score_with_a_name_is_what_the_verdicts_are_about():
    results = compared(data=(TRAIN, TEST), metric=("hits", lambda outputs, labels: (outputs.argmax(1) == labels).float(), "max", (0, 1)))
    assert results.summary.metric == "hits"
    assert results.summary.primary.higher_is_better
    for run in results.results:
        last = run.evaluations[-1]
        assert last.test_score == pytest.approx(last.test_accuracy)
    table = (results.folder / "tables" / "summary.csv").read_text()
    assert "\nkaiming," in table
    assert ",hits," in table
    assert "test_hits" in (results.folder / "tables" / "curves.csv").read_text()
    assert initbench.load_results(results.folder).summary.metric == "hits"
    assert "test hits" in initbench.report(results.folder).summary.headline
    by_loss = initbench.report(results.folder, metric="final_test_loss")
    assert by_loss.summary.metric == "final_test_loss"


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_several_inputs_dictionaries_and_a_loss_of_the_whole_batch():
    halves = [{"left": part[:, :3], "right": part[:, 3:]} for part in (TRAIN[0], TEST[0])]
    data = ({**halves[0], "y": TRAIN[1]}, {**halves[1], "y": TEST[1]})
    by_targets = compared(model=TwoInputs, data=data, loss=lambda outputs, targets: functional.cross_entropy(outputs["logits"], targets))
    whole = compared(
        model=TwoInputs,
        data=data,
        loss=lambda outputs, batch: functional.cross_entropy(outputs["logits"], batch["y"]),
        inputs=lambda batch: {"left": batch["left"], "right": batch["right"]},
    )
    usual = compared(model=TwoInputs, data=data)
    losses = {result.results[0].train_losses for result in (by_targets, whole)}
    assert len(losses) == 1
    assert usual.results[0].train_losses == pytest.approx(by_targets.results[0].train_losses, rel=1e-5)
    assert all(run.layers[0].gradient_variance is not None for run in usual.results)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_a_module_is_copied_and_a_function_builds_anew():
    module = Net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    results = compared(model=module, data=(TRAIN, TEST))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert "copy of the module Net" in results.notes[0]
    assert compared(model=lambda: Net(), data=(TRAIN, TEST)).results[0].train_losses == results.results[0].train_losses


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_finished_runs_are_kept_and_another_model_is_another_question():
    first = compared(data=(TRAIN, TEST))
    again = compared(data=(TRAIN, TEST))
    assert again.folder == first.folder
    stamps = {path: path.stat().st_mtime_ns for path in (first.folder / "jobs").rglob("*") if path.is_file()}
    compared(data=(TRAIN, TEST))
    assert {path: path.stat().st_mtime_ns for path in (first.folder / "jobs").rglob("*") if path.is_file()} == stamps
    other = compared(model=lambda: Net(), data=((TRAIN[0] * 2, TRAIN[1]), TEST))
    assert other.folder != first.folder


SCALE = [1.0]


def test_a_digest_follows_what_is_named_within_a_function_too(monkeypatch):
    def build():
        class Scaled(nn.Linear):
            def forward(self, x):
                return super().forward(x) * SCALE[0]

        return Scaled(6, 3)

    before = digest_of(build)
    assert digest_of(build) == before
    monkeypatch.setitem(globals(), "SCALE", [2.0])
    assert digest_of(build) != before
    before = digest_of(Net)
    monkeypatch.setattr(Net, "width", 7, raising=False)
    assert digest_of(Net) != before


def test_a_digest_follows_code_closures_and_numbers():
    def scaled(factor):
        return lambda x: x * factor

    assert digest_of(scaled(2)) == digest_of(scaled(2))
    assert digest_of(scaled(2)) != digest_of(scaled(3))
    assert digest_of(lambda x: x + 1) != digest_of(lambda x: x - 1)
    assert digest_of(X) != digest_of(X + 1)
    assert digest_of(DataLoader(TensorDataset(*TRAIN), batch_size=4)) == digest_of(DataLoader(TensorDataset(*TRAIN), batch_size=4))
    assert digest_of(DataLoader(TensorDataset(*TRAIN), batch_size=4)) != digest_of(DataLoader(TensorDataset(*TRAIN), batch_size=5))
    assert digest_of(Net) != digest_of(TwoInputs)


@pytest.mark.heavy
def test_a_folder_of_objects_is_reported_but_not_gone_on_with_elsewhere(here):
    results = compared(data=(TRAIN, TEST))
    run = subprocess.run([sys.executable, "-m", "initbench", "report", str(results.folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    shown = subprocess.run([sys.executable, "-m", "initbench", "resume", str(results.folder)], capture_output=True, text=True, check=False)
    assert "Traceback" not in shown.stderr
    with pytest.raises(ConfigError, match="was an object of a Python program"):
        initbench.run("kaiming", model=str(results.config.model), output=str(here / "new"))


BAD = {
    "a generator": ({"data": (iter([TRAIN]), TEST)}, "ends after one pass"),
    "three splits": ({"data": (TRAIN, TEST, TEST)}, "Give a pair"),
    "nothing": ({"data": ([], [TEST])}, "give no batch"),
    "no length": ({"data": (lambda: iter([TRAIN]), [TEST]), "steps": None, "epochs": 1}, "Say how many steps"),
    "other rows": ({"data": ((X[:9], Y[:8]), TEST)}, "8 and 9 rows"),
    "no scalar": ({"data": (TRAIN, TEST), "loss": lambda outputs, targets: outputs.square()}, "must give one number"),
    "detached": ({"data": (TRAIN, TEST), "loss": lambda outputs, targets: outputs.detach().mean()}, "cannot be differentiated"),
    "nan": ({"data": (TRAIN, TEST), "loss": lambda outputs, targets: outputs.mean() / 0}, "before the first step"),
    "a float": ({"data": (TRAIN, TEST), "loss": lambda outputs, targets: 1.0}, "must give a tensor"),
    "no direction": ({"data": (TRAIN, TEST), "metric": ("hits", lambda outputs, targets: 1.0)}, "direction of the metric 'hits' is none"),
    "wrong direction": ({"data": (TRAIN, TEST), "metric": ("hits", lambda outputs, targets: 1.0, "up")}, "'up'. It is max or min"),
    "metric without a number": ({"data": (TRAIN, TEST), "metric": ("hits", lambda outputs, targets: "a", "max")}, "must give a number"),
    "labels outside": ({"data": (TRAIN, TEST), "model": lambda: Net(2)}, "labels are from 0 to 2, and the model gives logits of 2 classes"),
    "wrong shape": ({"data": ((X, X.sum(1)), (X, X.sum(1)))}, "They must be alike"),
    "no optimizer": ({"data": (TRAIN, TEST), "optimizer": lambda parameters: 3}, "must give an optimizer of torch.optim"),
    "batch size": ({"data": (DataLoader(TensorDataset(*TRAIN), batch_size=9), [TEST]), "settings": ["train.batch_size=8"]}, "batches of 9"),
    "both": ({"data": (TRAIN, TEST), "dataset": "mnist5k"}, "Leave out one"),
    "task and loss": ({"data": (TRAIN, TEST), "task": "supervised", "loss": functional.cross_entropy}, "leave out one"),
    "a number for a model": ({"data": (TRAIN, TEST), "model": 3}, "The model is an int"),
    "a wrong batch": ({"data": (TRAIN, TEST), "model": lambda: nn.Linear(5, 3)}, "does not take a batch of shape 8 x 6"),
    "on ray": ({"data": (TRAIN, TEST), "engine": "ray"}, "cannot travel"),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_gets_one_sentence(case):
    asked, words = BAD[case]
    with pytest.raises((ConfigError, DataError), match=words) as caught:
        compared(**asked)
    assert "\n" not in str(caught.value)
    assert not list(Path().rglob("*.json.gz"))


@pytest.mark.usefixtures("here")
def test_a_function_that_gives_one_model_twice_is_refused():
    shared = Net()
    with pytest.raises(ConfigError, match="gives the same parameters each time"):
        compared(model=lambda: shared, data=(TRAIN, TEST))
    with pytest.raises(ConfigError, match="gives the same parameters each time"):
        compared(model=lambda: nn.Sequential(shared.net[0], nn.ReLU(), nn.Linear(16, 3)), data=(TRAIN, TEST))


class Unseeded:
    def __iter__(self):
        source = random.SystemRandom()
        yield torch.tensor([[source.random() for _ in range(6)] for _ in range(4)]), torch.zeros(4, dtype=torch.int64)


@pytest.mark.usefixtures("here")
def test_a_loader_that_cannot_be_seeded_is_refused():
    with pytest.raises(ConfigError, match="other batches for the same seed"):
        compared(data=(Unseeded(), [TEST]))


class Short(IterableDataset):
    def __len__(self):
        return 9

    def __iter__(self):
        yield from ((TRAIN[0][:20], TRAIN[1][:20]) for _ in range(3))


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("train", "words"),
    [
        (DataLoader(Short(), batch_size=None), "3 of the 9 batches that its length says"),
        ([(X[:20], Y[:20]), (X[:20].view(20, 2, 3), Y[:20])], "Training batch 2 is 3-dimensional float32"),
    ],
)
def test_a_loader_that_ends_early_or_changes_its_batches_fails_its_runs(train, words):
    results = compared(data=(train, [TEST]), loss=lambda outputs, _: outputs.square().mean())
    assert all(run.status is RunStatus.FAILED and words in run.reason for run in results.results)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_tuning_and_adding_seeds_work_on_ones_own_rows():
    metric = ("hits", lambda outputs, labels: (outputs.argmax(1) == labels).float(), "max", (0, 1))
    until = compared(data=(TRAIN, TEST), metric=metric, until="decided", max_seeds=8, seeds=None, steps=3)
    assert until.summary.metric == "hits"
    tuned = compared(data=(TRAIN, TEST), tune="train.lr", steps=3)
    assert tuned.summary.tuned is not None
    with pytest.raises(ConfigError, match="cannot be divided"):
        compared(data=(DataLoader(TensorDataset(*TRAIN), batch_size=9), [TEST]), tune="train.lr", steps=3)


SCRIPT = """
import torch
from torch import nn
import initbench

x = torch.randn(200, 6)
y = (x.sum(1) > 0).long()
results = initbench.compare(
    ["kaiming", "xavier"], model=lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), data=((x, y), (x, y)), steps=5, seeds=2
)
print([run.status.value for run in results.results])
"""
IN_A_POOL = """
from multiprocessing import Pool

def work(seed):
    exec(SCRIPT, {})
    return 1

if __name__ == "__main__":
    with Pool(1) as pool:
        print(pool.map(work, [0]))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("script", [SCRIPT, f"SCRIPT = {SCRIPT!r}\n{IN_A_POOL}"], ids=["without a main guard", "in a pool"])
def test_objects_are_trained_in_copies_of_a_script_and_within_other_peoples_pools(here, script):
    (here / "script.py").write_text(script)
    run = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("completed") == 4


@pytest.mark.heavy
def test_a_task_of_a_file_brings_its_data_along(here):
    (here / "mine.py").write_text(TASK)
    asked = {"model": "./mine.py:Net", "steps": 6, "seeds": 2}
    results = initbench.compare(["kaiming", "xavier"], task="./mine.py:task:count=48", **asked)
    assert results.summary.metric == "hits"
    assert str(results.config.dataset) == str(results.config.task) == "./mine.py:task:count=48"
    with pytest.raises(ConfigError, match="brings no data along"):
        initbench.compare(["kaiming", "xavier"], task="./mine.py:without", **asked)

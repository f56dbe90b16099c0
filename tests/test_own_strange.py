"""Objects of a Python program that are unlike an image classifier's, and what they may be mistaken for."""

import numpy as np
import pytest
import torch
from own_support import TEST, TRAIN, Net, Noisy, X, Y, compared
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import initbench
from initbench.errors import ConfigError
from initbench.init.initialize import initialize
from initbench.question.config import parse_ref
from initbench.results.record import RunStatus
from initbench.training.fingerprint import digest_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_a_loss_below_zero_is_a_loss():
    results = compared(
        data=((X, X), (X, X)), model=lambda: Net(6), loss=lambda outputs, targets: -functional.cosine_similarity(outputs, targets).mean()
    )
    assert results.results[0].evaluations[-1].test_loss < 0
    assert results.summary.metric == "final_test_loss"
    assert (results.folder / "report.html").is_file()


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][-1])


@pytest.mark.usefixtures("here")
def test_examples_are_counted_by_their_targets_where_inputs_begin_with_time():
    def batch(start, end):
        return X[start:end].repeat(5, 1, 1), Y[start:end]

    found = initbench.run(
        "torch_default", model=TimeFirst, data=([batch(0, 32)], [batch(100, 132), batch(140, 152)]), steps=1, engine="serial"
    )
    assert found.results[0].status is RunStatus.COMPLETED
    accuracies = [evaluation.test_accuracy for evaluation in found.results[0].evaluations]
    assert all(round(accuracy * 44) == pytest.approx(accuracy * 44, abs=1e-6) for accuracy in accuracies)  # of 44 examples


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, nodes, edges):
        hidden = torch.relu(self.first(nodes))
        return self.second(hidden.index_add(0, edges[1], hidden[edges[0]]))


@pytest.mark.usefixtures("here")
def test_batches_that_cannot_be_divided_are_taken_whole():
    edges = torch.randint(0, 20, (2, 40), generator=torch.Generator().manual_seed(1))
    batches = [(X[start : start + 20], edges, Y[start : start + 20]) for start in (0, 20, 40)]
    results = compared(model=Graph, data=(batches, batches))
    assert {run.status for run in results.results} == {RunStatus.COMPLETED}


@pytest.mark.usefixtures("here")
def test_a_list_is_one_of_batches():
    parts = list(X[:64].split(32))
    found = initbench.run("kaiming", model=lambda: Net(6), data=(parts, parts), steps=1, engine="serial").results[0]
    model = Net(6)
    initialize(model, parse_ref("kaiming"), seed=0, inputs=X[:8])
    assert found.train_losses[0] == pytest.approx(functional.mse_loss(model(parts[0]), parts[0]).item(), rel=1e-5)


class OwnNoise(Dataset):
    def __init__(self):
        self.noise = np.random.default_rng(0)

    def __len__(self):
        return 240

    def __getitem__(self, place):
        late = self.noise.normal() if place % 16 == 5 else 0.0
        return X[place] + late * (place > 100), Y[place]


@pytest.mark.usefixtures("here")
def test_schemes_that_saw_other_batches_are_told():
    rows = OwnNoise()
    order = [*range(100), *range(101, 240)]
    loader = DataLoader(rows, batch_size=50, sampler=order)
    asked = {"loss": functional.cross_entropy, "steps": 4}
    noted = compared(data=(loader, [TEST]), **asked)
    assert any("did not see the same batches" in doubt for doubt in noted.doubts)
    assert not any("same batches" in doubt for doubt in compared(data=(DataLoader(Noisy(), batch_size=50), [TEST]), **asked).doubts)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "asked", [{"tune": "train.lr"}, {"settings": ["train.lr=0.1"]}, {"settings": ["train.momentum=0.5"]}], ids=["tune", "lr", "momentum"]
)
def test_numbers_of_our_optimizers_are_refused_beside_ones_own(asked):
    with pytest.raises(ConfigError, match="sets its own"):
        compared(data=(TRAIN, TEST), optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3), **asked)
    with pytest.raises(ConfigError, match="sets its own"):
        initbench.recommend(model=Net, data=(TRAIN, TEST), optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3))


@pytest.mark.usefixtures("here")
def test_a_function_that_takes_shape_and_classes_and_gives_one_model_is_refused():
    shared = Net()
    with pytest.raises(ConfigError, match="gives the same parameters each time"):
        compared(model=lambda shape, classes: shared, data=(TRAIN, TEST))


@pytest.mark.usefixtures("here")
def test_a_metric_that_is_no_number_fails_the_run_and_is_no_divergence():
    values = iter([*[torch.tensor(0.5)] * 2, *[torch.tensor(float("nan"))] * 9])
    results = initbench.run(
        "kaiming", model=Net, data=(TRAIN, TEST), metric=("odd", lambda *_: next(values), "max"), steps=2, engine="serial"
    )
    assert results.results[0].status is RunStatus.FAILED
    assert "The metric 'odd' is nan" in results.results[0].reason


@pytest.mark.usefixtures("here")
def test_a_metric_may_not_be_called_as_one_of_ours_and_all_labels_are_looked_at():
    with pytest.raises(ConfigError, match="as one of initbench's is"):
        compared(data=(TRAIN, TEST), metric=("final_test_loss", lambda *_: 1.0, "max"))
    labels = TRAIN[1].clone()
    labels[-1] = 7
    with pytest.raises(ConfigError, match="labels are from 0 to 7"):
        compared(data=((TRAIN[0], labels), TEST))


@pytest.mark.usefixtures("here")
def test_the_loss_of_guessing_is_known_of_rows():
    shares = torch.bincount(TRAIN[1]).double() / len(TRAIN[1])
    found = compared(data=(TRAIN, TEST)).results[0]
    assert found.chance_loss == pytest.approx(-(shares * shares.log()).sum().item())
    assert compared(data=([TRAIN], [TEST])).results[0].chance_loss is None


def test_digests_of_many_kinds_of_things_follow_what_they_are():
    class Slotted:
        __slots__ = ("number",)

        def __init__(self, number):
            self.number = number

    class Hidden(nn.Module):
        def __init__(self, beta):
            super().__init__()
            self._beta = beta

    kinds = [np.float32, lambda number: range(number), lambda number: bytearray([number]), Slotted, Hidden]
    kinds += [
        lambda number: {"a": {number}},
        lambda number: torch.eye(3).mul(number).to_sparse(),
        lambda number: torch.empty(number, device="meta"),
    ]
    for kind in kinds:
        assert digest_of(kind(1)) == digest_of(kind(1)), kind
        assert digest_of(kind(1)) != digest_of(kind(2)), kind
    assert digest_of(nn.LazyLinear(3)) == digest_of(nn.LazyLinear(3))

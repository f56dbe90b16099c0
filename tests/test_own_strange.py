"""Objects of a Python program that are unlike an image classifier's, and what they may be mistaken for."""

import numpy as np
import pytest
import torch
from own_support import TEST, TRAIN, Net, Noisy, X, Y, compared
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

import initbench
from initbench.errors import ConfigError
from initbench.init.initialize import initialize
from initbench.nn.seeds import derived_seed
from initbench.question.config import parse_ref
from initbench.results.record import RunStatus
from initbench.training.fingerprint import digest_of
from initbench.training.sources import source_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.heavy
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


@pytest.mark.heavy
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


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_batches_that_cannot_be_divided_are_taken_whole():
    edges = torch.randint(0, 20, (2, 40), generator=torch.Generator().manual_seed(1))
    batches = [(X[start : start + 20], edges, Y[start : start + 20]) for start in (0, 20, 40)]
    results = compared(model=Graph, data=(batches, batches))
    assert {run.status for run in results.results} == {RunStatus.COMPLETED}


@pytest.mark.heavy
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


@pytest.mark.heavy
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


@pytest.mark.heavy
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


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


def tagged(count):
    source = torch.Generator().manual_seed(count)
    lengths = torch.randint(1, 9, (count,), generator=source)
    tags = torch.randint(0, 5, (count, 8), generator=source)
    return torch.randn(count, 8, 6, generator=source), tags.where(torch.arange(8) < lengths[:, None], torch.tensor(-100))


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_padding_counts_neither_in_the_usual_loss_nor_in_accuracy_nor_as_a_label():
    train, test = tagged(60), tagged(20)
    loader = DataLoader(list(zip(*train, strict=True)), batch_size=20)
    by_usual = initbench.run("kaiming", model=Tagger, data=(loader, test), steps=12, engine="serial").results[0]
    by_torch = initbench.run(
        "kaiming",
        model=Tagger,
        data=(loader, test),
        loss=lambda outputs, targets: functional.cross_entropy(outputs.flatten(0, 1), targets.flatten()),
        steps=12,
        engine="serial",
    ).results[0]
    assert by_usual.train_losses == pytest.approx(by_torch.train_losses, rel=1e-6)
    model, (inputs, targets) = Tagger(), test
    initialize(model, parse_ref("kaiming"), seed=0, inputs=inputs[:8])
    kept = targets != -100
    right = ((model(inputs).argmax(-1) == targets) & kept).sum(1) / kept.sum(1)
    assert by_usual.evaluations[0].test_accuracy == pytest.approx(right.mean().item(), abs=1e-6)
    rows = compared(model=Tagger, data=(train, test), settings=["train.batch_size=20"]).results[0]
    shares = torch.bincount(train[1][train[1] != -100]).double() / (train[1] != -100).sum()
    assert rows.chance_loss == pytest.approx(-(shares * shares.log()).sum().item())


class Variational(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.mean, self.spread = nn.Linear(6, 16), nn.Linear(16, 2), nn.Linear(16, 2)
        self.decoder = nn.Linear(2, 6)

    def forward(self, x):
        hidden = torch.relu(self.encoder(x))
        mean, spread = self.mean(hidden), self.spread(hidden)
        return self.decoder(mean + spread.exp() * torch.randn_like(mean)), mean, spread


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, left, right):
        return self.net(left), self.net(right)


class OwnLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net().to(torch.bfloat16)

    def forward(self, x):
        return self.net(x.to(torch.bfloat16)).float()


def bound(outputs, target):
    made, mean, spread = outputs
    return functional.mse_loss(made, target) - 0.5 * (1 + 2 * spread - mean.square() - (2 * spread).exp()).mean()


def contrast(outputs, _):
    left, right = (functional.normalize(each, dim=1) for each in outputs)
    return functional.cross_entropy(left @ right.T / 0.1, torch.arange(len(left)))


def loader_of(*tensors):
    return DataLoader(TensorDataset(*tensors), batch_size=24, shuffle=True)


NAMED = [{"x": inputs, "labels": labels} for inputs, labels in zip(X.split(30), Y.split(30), strict=True)]
STRANGE = {
    "two terms, of a model that draws": (Variational, loader_of(X), bound, None, lambda batch: (batch[0],), lambda batch: batch[0]),
    "pairs": (Pairs, loader_of(X, X + 0.1), contrast, tuple, tuple, lambda batch: batch),
    "a model with its own loss": (OwnLoss, NAMED, lambda outputs, _: outputs["loss"], dict, dict, lambda batch: batch),
    "half precision": (Half, loader_of(X, Y), functional.cross_entropy, None, lambda batch: (batch[0],), lambda batch: batch[1]),
}


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", STRANGE)
def test_the_first_losses_are_those_of_a_plain_loop(case):
    build, batches, loss, inputs, arguments, targets = STRANGE[case]
    found = initbench.run(
        "kaiming",
        model=build,
        data=(batches, batches),
        loss=loss,
        inputs=inputs,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        steps=20,
        engine="serial",
        settings=["train.evaluate_every_steps=100", "probe.every_steps=100"],
    ).results[0]
    torch.manual_seed(derived_seed(0, "model"))
    model = build()
    given = arguments(next(iter(batches)))
    initbench.init_network(model, "kaiming", seed=0, inputs=given)
    optimizer, expected, number = torch.optim.Adam(model.parameters(), lr=1e-3), [], 0
    torch.manual_seed(derived_seed(0, "training"))
    while len(expected) < 20:
        for batch in source_of(batches, "training").one_pass(0, number, 24, shuffled=True):
            optimizer.zero_grad()
            given = arguments(batch)
            value = loss(model(**given) if isinstance(given, dict) else model(*given), targets(batch))
            value.backward()
            optimizer.step()
            expected.append(value.item())
        number += 1
    assert len(found.train_losses) == 20
    assert found.train_losses == pytest.approx(expected[:20], rel=1e-4)

"""What a model is called with: arguments by position and by name, nested, arrays, batches that are one whole; what is refused."""

import json
import math
import os
import subprocess
import sys
from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn

import initbench
from initbench.errors import ConfigError, DataError, InitbenchError
from initbench.measure.jacobians import correlations, singular_values
from initbench.nn import hooks
from initbench.nn.inputs import ModelInputs, as_inputs, called, described, joined, shape_words
from initbench.nn.layers import weight_layers
from initbench.training.inputs import read_input


class Pair(nn.Module):
    """Two inputs, a mask that may be missing, and a number."""

    def __init__(self, width=32):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(20, width), nn.Linear(10, width), nn.Linear(width, 3)

    def forward(self, left, right, mask=None, scale=1.0):
        h = torch.relu(self.left(left) + scale * self.right(right))
        return self.head(h if mask is None else h * mask[:, None])


class Batched(nn.Module):
    """One argument that holds the others."""

    def __init__(self, pair, read):
        super().__init__()
        self.pair, self.read = pair, read

    def forward(self, batch):
        return self.pair(*self.read(batch))


class Words(nn.Module):
    """Token ids, masked, as language models take them."""

    def __init__(self, rows=50):
        super().__init__()
        self.table, self.first, self.head = nn.Embedding(rows, 16), nn.Linear(16, 24), nn.Linear(24, 5)

    def forward(self, input_ids, attention_mask=None, *, use_cache=False):
        assert use_cache is False
        x = self.table(input_ids)
        x = x if attention_mask is None else x * attention_mask[..., None]
        return self.head(torch.relu(self.first(x)).mean(1))


class Static(nn.Module):
    """Made for a batch of one size, as exported models are."""

    def __init__(self, count):
        super().__init__()
        self.count, self.first, self.head = count, nn.Linear(20, 32), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(torch.relu(self.first(x).view(self.count, 32)))


@pytest.fixture
def two():
    source = torch.Generator().manual_seed(0)
    return torch.randn(64, 20, generator=source), torch.randn(64, 10, generator=source)


def seeded(make):
    torch.manual_seed(1)
    return make()


def naive(model, *args, labels=None, **kwargs):
    """Variance of each layer's output and of the gradient of the summed cross entropy by it, by hooks of its own."""
    outputs, handles = {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def keep(_module, _args, output, name=name):
                output.retain_grad()
                outputs[name] = output

            handles.append(module.register_forward_hook(keep))
    logits = model(*args, **kwargs)
    if labels is not None:
        nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    return {
        name: (output.detach().double().var(correction=0).item(), None if labels is None else output.grad.double().var(correction=0).item())
        for name, output in outputs.items()
    }


def test_arguments_come_by_position_by_name_and_in_one(two):
    a, b = two
    labels, mask = torch.arange(64) % 3, torch.arange(64) % 4 > 0
    expected = naive(seeded(Pair), a, b, mask, 2.0, labels=labels)
    given = {
        "tuple": (seeded(Pair), (a, b, mask, 2.0)),
        "list": (seeded(Pair), [a, b, mask, 2.0]),
        "names": (seeded(Pair), {"scale": 2.0, "mask": mask, "right": b, "left": a}),
        "arrays": (seeded(Pair), (a.double().numpy(), b.numpy(), mask.numpy(), 2.0)),
        "one dict": (Batched(seeded(Pair), lambda batch: (batch["a"], *batch["rest"])), {"a": a, "rest": [b, mask, 2.0]}),
        "one tuple": (Batched(seeded(Pair), lambda batch: batch), (a, b, mask, 2.0)),
        "any mapping": (seeded(Pair), UserDict(left=a, right=b, mask=mask, scale=2.0)),
    }
    for name, (model, inputs) in given.items():
        found = initbench.probe(model, as_is=True, inputs=inputs, labels=labels)
        layers = found.runs[0].layers
        assert [layer.layer.removeprefix("pair.") for layer in layers] == ["left", "right", "head"], name
        for layer in layers:
            pre, gradient = expected[layer.layer.removeprefix("pair.")]
            assert layer.pre_activation_variance == pytest.approx(pre, rel=1e-5), name
            assert layer.gradient_variance == pytest.approx(gradient, rel=1e-5), name
        assert found.question.batch_size == 64


def test_ids_masks_and_flags_are_passed_on():
    ids, mask = torch.randint(0, 50, (16, 12)), torch.ones(16, 12, dtype=torch.long)
    mask[:, 8:] = 0
    model = seeded(Words)
    expected = naive(model, ids, mask)
    given = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    found = initbench.probe(model, as_is=True, inputs=UserDict(given)).runs[0].layers
    assert {layer.layer: layer.pre_activation_variance for layer in found} == {
        name: pytest.approx(pre, rel=1e-5) for name, (pre, _) in expected.items()
    }
    report = initbench.init_network(model, "kaiming", inputs=given)
    assert not report.notes
    assert [layer.name for layer in weight_layers(model, as_inputs(given))] == ["first", "head"]


def test_what_only_a_pass_shows_is_right_for_several_inputs(two):
    a, b = two
    model = seeded(Pair)
    inputs = as_inputs((a, b))
    layers = weight_layers(model, inputs)
    with torch.no_grad():
        left = model.left(a)
    cosines = nn.functional.cosine_similarity(left[0::2], left[1::2]).mean().item()
    assert correlations(model, layers, inputs)[0] == pytest.approx(cosines, rel=1e-5)

    def after(left, index):
        return model.head(torch.relu(left + model.right(b[index])))

    each = []
    for index in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda left, index=index: after(left, index), left[index])
        each.append(torch.linalg.svdvals(jacobian))
    found = singular_values(model, layers, inputs)[0]
    assert found.jacobian_max == pytest.approx(torch.stack(each).amax(1).mean().item(), rel=1e-4)
    assert found.jacobian_min == pytest.approx(torch.stack(each).amin(1).mean().item(), rel=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["lsuv", "krahenbuhl:balance=false", "autoinit_jacobian", "gradinit:iterations=2"])
def test_schemes_that_run_the_model_take_several_inputs(scheme, two):
    a, b = two
    found = initbench.probe(Pair(), [scheme], inputs={"left": a, "right": b})
    assert found.runs[0].reason is None
    if scheme == "lsuv":
        assert [layer.pre_activation_variance for layer in found.runs[0].layers] == pytest.approx([1, 1, 1], abs=0.1)


def test_batches_of_several_inputs_are_given_to_a_scheme(two):
    a, b = two
    model = Pair()
    initbench.init_network(model, "lsuv", inputs=(a, b), batch=lambda _size, _index: ({"left": a, "right": b}, np.zeros(64)))
    assert naive(model, a, b)["head"][0] == pytest.approx(1, abs=0.1)
    with pytest.raises(ConfigError, match="must give a pair"):
        initbench.init_network(model, "lsuv", inputs=(a, b), batch=lambda _size, _index: a)
    with pytest.raises(ConfigError, match="must be a function"):
        initbench.init_network(model, "lsuv", inputs=(a, b), batch=a)


def test_a_model_for_one_size_of_batch_is_given_the_whole_batch(two):
    a, _ = two
    model = seeded(lambda: Static(64))
    found = initbench.probe(model, as_is=True, inputs=a)
    expected = naive(model, a)
    assert {layer.layer: layer.pre_activation_variance for layer in found.runs[0].layers} == {
        name: pytest.approx(pre, rel=1e-5) for name, (pre, _) in expected.items()
    }
    free = nn.Sequential(model.first, nn.ReLU(), model.head)
    twin = initbench.probe(free, as_is=True, inputs=a)
    for name in ("gradient_variance", "correlation", "jacobian_max", "predicted_gradient_variance"):
        ours, theirs = ([getattr(layer, name) for layer in each.runs[0].layers] for each in (found, twin))
        assert ours == pytest.approx(theirs, rel=1e-5), name
    schemes = initbench.probe(model, ["lsuv", "gradinit:iterations=2"], inputs=a)
    assert not [run.reason for run in schemes.runs if run.reason]
    with pytest.raises(ConfigError, match="batch of shape 8 x 20"):
        initbench.probe(model, as_is=True, inputs=a[:32])


def test_a_graph_is_one_whole_with_its_edges(two):
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(20, 16), nn.Linear(16, 4)

        def forward(self, x, edges):
            def spread(h):
                return torch.zeros_like(h).index_add(0, edges[1], h[edges[0]])

            return self.head(spread(torch.relu(self.first(spread(x)))))

    a, _ = two
    edges = torch.stack([torch.arange(64), (torch.arange(64) + 5) % 64])
    model = Graph()
    found = initbench.probe(model, as_is=True, inputs=(a, edges)).runs[0].layers
    assert [layer.pre_activation_variance for layer in found] == [
        pytest.approx(pre, rel=1e-5) for pre, _ in naive(model, a, edges).values()
    ]


def test_parts_of_a_batch_are_parts_of_every_tensor_that_counts_inputs():
    inputs = as_inputs({"x": torch.arange(12).view(6, 2), "mask": torch.ones(6), "table": torch.ones(4, 4), "scale": torch.tensor(2.0)})
    assert len(inputs) == 6
    part = inputs[:2].given
    assert {name: tuple(value.shape) for name, value in part.items()} == {"x": (2, 2), "mask": (2,), "table": (4, 4), "scale": ()}
    assert joined(inputs[:2], inputs[4:]).given["x"].tolist() == [[0, 1], [2, 3], [8, 9], [10, 11]]
    whole = ModelInputs(inputs.given, whole=True)
    assert whole[:2] is whole
    assert shape_words(inputs) == "x 2, mask 1, table 4, scale 1"
    assert as_inputs([torch.ones(3, 2)]).shape == (3, 2)
    assert as_inputs(np.full((3, 4, 4, 1), 255, np.uint8)).max() == 1
    assert as_inputs(np.arange(6, dtype=np.uint16).reshape(3, 2)).dtype == torch.int64


def test_shapes_are_named_as_forward_names_them(two):
    a, b = two
    assert described(Pair(), as_inputs((a, b, None))) == "a batch of left 64 x 20 (float32) and right 64 x 10 (float32)"
    with pytest.raises(
        ConfigError, match=r"left 64 x 10 \(float32\) and right 64 x 20 \(float32\): .*forward takes \(left, right, mask, scale\)"
    ):
        initbench.init_network(Pair(), inputs=(b, a))
    with pytest.raises(ConfigError, match=r"x 64 x 20 \(float32\) and y 64 x 10"):
        initbench.init_network(Pair(), inputs={"x": a, "y": b})
    with pytest.raises(ConfigError, match=r"list of 64 tensors.*torch.stack"):
        initbench.probe(nn.Linear(20, 3), as_is=True, inputs=list(a))


def test_numbers_without_a_row_are_said():
    ids = torch.randint(0, 50, (16, 12))
    ids[3, 4] = 72
    for call in (
        lambda: initbench.probe(Words(), as_is=True, inputs=ids),
        lambda: initbench.init_network(Words(), inputs={"input_ids": ids}),
    ):
        with pytest.raises(ConfigError, match=r"looks up the numbers \d+ to 72 in an embedding of 50 rows.*from 0 to 49"):
            call()
    with pytest.raises(ConfigError, match="numbers -1 to"):
        initbench.init_network(Words(), inputs=torch.full((4, 3), -1))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (3, "is an int"),
        ([], "is a list without a tensor"),
        ({"x": None}, "is a dict without a tensor"),
        (torch.tensor(1.0), "is a Tensor"),
        (np.array(["a", "b"]), "must hold numbers"),
        (torch.full((8, 20), math.nan), "160 numbers that are NaN or infinite"),
        (torch.ones(1, 20), "has 1 input"),
        ("10" * 40, "is too large"),
        (str(10**12), "is too large"),
        (f"int:{10**30}:3", "no embedding has so many rows"),
    ],
)
def test_what_is_no_batch_is_refused_in_a_sentence(inputs, said):
    with pytest.raises(ConfigError, match=said) as caught:
        initbench.probe(nn.Linear(20, 3), as_is=True, inputs=inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [torch.arange(64), torch.arange(64) - 5, torch.randn(64), torch.arange(5), "abc", [[0]] * 64])
def test_labels_that_do_not_fit_are_refused(labels, two):
    with pytest.raises(ConfigError, match="label"):
        initbench.probe(nn.Linear(20, 10), as_is=True, inputs=two[0], labels=labels)


def test_labels_may_be_a_list_or_an_array(two):
    model = nn.Linear(20, 10)
    labels = [index % 10 for index in range(64)]
    runs = [
        initbench.probe(model, as_is=True, inputs=two[0], labels=kind).runs[0] for kind in (labels, np.array(labels), torch.tensor(labels))
    ]
    assert len({run.first_loss for run in runs}) == 1
    with pytest.raises(ConfigError, match="no batch that they belong to"):
        initbench.probe("mlp", as_is=True, labels=labels)


def test_a_class_or_a_module_in_place_of_a_name_is_refused(two):
    for call, said in {
        lambda: initbench.probe(Pair, inputs=two): "the class Pair. Give a module that is built",
        lambda: initbench.init_network(Pair): "the class Pair. Give a module that is built",
        lambda: initbench.probe([Pair()], inputs=two): "is a list. It must be a torch.nn.Module, or a name",
        lambda: initbench.recommend(Pair): "The model is the class Pair",
        lambda: initbench.recommend(Pair()): "The model is a Pair",
        lambda: initbench.compare(["kaiming", "xavier"], model=[Pair()]): "The model is a list. Give a name, a module, its class",
        lambda: initbench.compare(["kaiming", "xavier"], model=Pair(), steps=1): "does not take the images of mnist5k",
        lambda: initbench.compare(["kaiming", "xavier"], dataset=two[0]): "The dataset is a Tensor",
        lambda: initbench.compare(Pair()): "The schemes are a Pair",
        lambda: initbench.compare([Pair, "kaiming"]): "The scheme is the class Pair",
        lambda: initbench.run(Pair): "The scheme is the class Pair",
        lambda: initbench.init_network(Pair(), Pair): "The scheme is the class Pair",
        lambda: initbench.build_model(Pair): "The model is the class Pair",
        lambda: initbench.check_scheme(Pair): "The scheme is the class Pair",
        lambda: initbench.compare(["kaiming", "xavier"], jobs="many"): "jobs is 'many'",
    }.items():
        with pytest.raises(ConfigError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_an_unknown_keyword_is_a_type_error_as_in_python():
    for call in (
        lambda: initbench.compare(["xavier", "kaiming"], outputs="there"),
        lambda: initbench.run("xavier", outputs="there"),
        lambda: initbench.recommend(outputs="there"),
        lambda: initbench.resume(outputs="there"),
    ):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'outputs'. Did you mean 'output'"):
            call()
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'metrc'. Did you mean 'metric'"):
        initbench.report(metrc="final_test_loss")


def test_a_sparse_parameter_is_refused():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.spread, self.head = nn.Parameter(torch.eye(20).to_sparse()), nn.Linear(20, 3)

        def forward(self, x):
            return self.head(torch.sparse.mm(self.spread, x.T).T)

    for call in (lambda: initbench.init_network(Sparse()), lambda: initbench.probe(Sparse(), as_is=True, inputs=torch.ones(4, 20))):
        with pytest.raises(ConfigError, match="'spread' is stored as sparse_coo"):
            call()


def test_trying_a_users_module_on_other_numbers_changes_nothing():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.shapes, self.plain = 0, [], torch.zeros(2)
            self.register_buffer("total", torch.zeros(()))

        def forward(self, x):
            self.calls, self.last = self.calls + 1, x
            self.shapes.append(tuple(x.shape))
            self.plain += 1
            self.total += 1
            return torch.from_numpy(1.5 * np.tanh(x.detach().numpy()))

    class Failing(nn.Module):
        def forward(self, x):
            if len(x) != 8:
                raise SystemError("made for eight")
            return torch.from_numpy(np.tanh(x.detach().numpy()))

    act = Counting()
    layers = weight_layers(nn.Sequential(nn.Linear(20, 32), act, nn.Linear(32, 5)), torch.randn(8, 20))
    assert layers[0].activation == "counting"
    assert (act.calls, act.shapes, act.plain.tolist(), act.total.item()) == (1, [(8, 32)], [1, 1], 0)
    assert tuple(act.last.shape) == (8, 32)
    assert layers[0].activation_fn(torch.ones(3)).tolist() == pytest.approx([1.5 * math.tanh(1)] * 3)
    assert (act.calls, act.shapes) == (1, [(8, 32)])
    assert len(weight_layers(nn.Sequential(nn.Linear(20, 32), Failing(), nn.Linear(32, 5)), torch.randn(8, 20))) == 2


def test_recurrent_modules_and_normalized_inputs_may_be_called_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.lstm(input=x)[0][:, -1])

    layers = weight_layers(Named(), torch.randn(4, 5, 6))
    assert [layer.name for layer in layers] == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "head"]
    model, x = nn.Linear(6, 3), 5 * torch.randn(4, 6)
    hooks.normalize_input(model)
    hooks.set_constant(model, hooks.Slot.INPUT_SCALE, 2.0)
    torch.testing.assert_close(model(input=x), model(x))
    expected = nn.functional.linear(2 * x / x.square().mean(1, keepdim=True).sqrt(), model.weight, model.bias)
    torch.testing.assert_close(model(input=x), expected)
    hooks.clear(model)
    assert not model._forward_pre_hooks
    assert not model._forward_pre_hooks_with_kwargs


def test_a_file_may_hold_several_arguments(tmp_path, monkeypatch, two):
    a, b = (each.double().numpy() for each in two)
    keep, y = np.arange(64) % 4 > 0, np.arange(64) % 3
    np.savez(tmp_path / "named.npz", right=b, left=a, mask=keep, y=y)
    torch.save({"left": two[0], "right": two[1], "mask": None, "labels": torch.from_numpy(y)}, tmp_path / "named.pt")
    torch.save((two[0], two[1]), tmp_path / "in_order.pt")
    torch.save((two[0], torch.from_numpy(y)), tmp_path / "labelled.pt")
    inputs, labels = read_input(str(tmp_path / "named.npz"), 48)
    assert len(inputs) == 48
    assert inputs.given["left"].dtype == torch.float32
    assert labels.tolist() == y[:48].tolist()
    model = seeded(Pair)
    torch.testing.assert_close(called(model, inputs), model(two[0][:48], two[1][:48], torch.from_numpy(keep[:48])))
    inputs, labels = read_input(str(tmp_path / "named.pt"), 64)
    torch.testing.assert_close(called(model, inputs), model(*two))
    assert len(labels) == 64
    inputs, labels = read_input(str(tmp_path / "in_order.pt"), 64)
    torch.testing.assert_close(called(model, inputs), model(*two))
    assert labels is None
    inputs, labels = read_input(str(tmp_path / "labelled.pt"), 64)
    assert inputs.shape == (64, 20)
    assert labels.tolist() == y.tolist()
    np.savez(tmp_path / "images.npz", x_train=a, y_train=y, x_test=b, y_test=y)
    inputs, labels = read_input(str(tmp_path / "images.npz"), 8)
    assert inputs.shape == (8, 10)
    np.savez(tmp_path / "labels.npz", y=y)
    with pytest.raises(DataError, match="no array of numbers"):
        read_input(str(tmp_path / "labels.npz"), 8)
    np.savez(tmp_path / "nan.npz", left=a * np.nan, right=b)
    with pytest.raises(InitbenchError, match="NaN"):
        read_input(str(tmp_path / "nan.npz"), 8)


LAZY = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.LazyLinear(16), nn.LazyLinear(16), nn.Linear(16, 3)
    def forward(self, left, right):
        return self.head(torch.relu(self.left(left) + self.right(right)))
"""


@pytest.mark.heavy
def test_the_command_probes_a_model_of_several_arguments(tmp_path, two):
    (tmp_path / "mine.py").write_text(LAZY)
    np.savez(tmp_path / "both.npz", right=two[1].numpy(), left=two[0].numpy())
    words = [sys.executable, "-m", "initbench", "probe", "lsuv", "--model", "./mine.py:Net", "--input", "both.npz", "--json"]
    environment = {**os.environ, "MPLBACKEND": "module://no_such_notebook.backend_inline"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    layers = json.loads(done.stdout)["runs"][0]["layers"]
    assert [layer["pre_activation_variance"] for layer in layers] == pytest.approx([1, 1, 1], abs=0.1)

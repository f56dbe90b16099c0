"""A probe runs on the model itself and leaves it as it was; wrappers and caches change nothing."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import initbench
from initbench import init_network, probe
from initbench.errors import ConfigError
from initbench.nn.build import build_model
from initbench.nn.naming import unwrapped
from initbench.nn.restore import restored
from initbench.question.config import parse_ref

X = torch.randn(128, 20, generator=torch.Generator().manual_seed(1))


class Closed(nn.Module):
    """A forward pass by a closure over submodules, as in minGPT."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict({"up": nn.Linear(32, 64), "down": nn.Linear(64, 32)})
        mlp = self.mlp
        self.mlpf = lambda x: mlp.down(torch.relu(mlp.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlpf(x)


class Keeping(nn.Module):
    """It keeps its last activation, counts its calls in a tensor, and notes shapes in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.last: Tensor | None = None
        self.calls = torch.zeros((), dtype=torch.int64)
        self.seen: list[Any] = ["first"]
        self.table: dict[str, Any] = {"a": 1}

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.inner(x)
        self.calls += 1
        self.seen.append(tuple(x.shape))
        self.table["b"] = 2
        random.random()
        np.random.rand()
        return torch.relu(self.last) + 0.0 * torch.rand(())


def net(block: Callable[[], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), block(), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))


def old_norm(kind: str) -> nn.Module:
    with pytest.warns() if kind == "weight_norm" else pytest.MonkeyPatch.context():
        return getattr(nn.utils, kind)(nn.Linear(32, 32))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "closure": Closed,
    "keeping": Keeping,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(32, 32)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(32, 32)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(32, 32)),
    "trivialized": lambda: parametrizations.orthogonal(nn.Linear(32, 32), use_trivialization=True),
    "older weight norm": lambda: old_norm("weight_norm"),
    "older spectral norm": lambda: old_norm("spectral_norm"),
}


def state(model: nn.Module) -> dict[str, Any]:
    """All that must be the same afterwards, copied."""
    kept: dict[str, Any] = {}
    for name, module in model.named_modules():
        kept[name, "training"] = module.training
        kept[name, "hooks"] = [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)]
        kept[name, "names"] = [*vars(module), *module._parameters, *module._buffers, *module._modules]
        for short, value in vars(module).items():
            if isinstance(value, list | dict | Tensor) and not short.startswith("_"):
                kept[name, short] = value.clone() if isinstance(value, Tensor) else value.copy()
    for name, parameter in model.named_parameters():
        kept[name, "parameter"] = (id(parameter), parameter.data_ptr(), parameter.requires_grad)
        kept[name, "value"] = parameter.detach().clone()
        kept[name, "grad"] = None if parameter.grad is None else parameter.grad.clone()
    for name, buffer in model.named_buffers():
        kept[name, "buffer"] = (id(buffer), buffer.clone())
    kept["random"] = (random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist())  # type: ignore[index]
    return kept


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def unchanged(model: nn.Module, before: dict[str, Any]) -> list[Any]:
    """What differs."""
    after = state(model)
    assert before.keys() == after.keys()
    return [key for key in before if not same(before[key], after[key])]


def variances(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Of each linear layer's output, by hooks, dropout off and norms on the batch's statistics."""
    found: dict[str, float] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out.double().var(correction=0).item()))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    model.eval()
    for module in model.modules():
        module.training = isinstance(module, nn.BatchNorm1d)
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("block", BLOCKS)
def test_a_probe_measures_what_init_network_makes_and_leaves_the_model(block: str) -> None:
    model = net(BLOCKS[block]).train()
    model(X).sum().backward()  # gradients, kept activations, vectors of spectral norms: the model was in use
    model[6].bias.requires_grad_(False)
    before = state(model)
    found = probe(model, ["kaiming", "xavier"], seeds=[0], inputs=X)
    assert unchanged(model, before) == []
    init_network(model, "xavier", seed=0, inputs=X)
    right = variances(model, X)
    said = {layer.layer: layer.pre_activation_variance for layer in found.runs[1].layers}
    assert said.keys() == right.keys()
    for name, value in right.items():
        assert said[name] == pytest.approx(value, rel=1e-5), name


def test_a_probe_that_is_interrupted_leaves_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from initbench.training import untrained

    model = net(Keeping)
    before = state(model)

    def interrupt(*_: object) -> None:
        assert not torch.equal(model[0].weight, before["0.weight", "value"])  # the scheme was applied
        raise KeyboardInterrupt

    monkeypatch.setattr(untrained, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        probe(model, ["kaiming"], inputs=X)
    assert unchanged(model, before) == []


def test_a_scheme_that_changes_the_modules_is_undone() -> None:
    model = build_model(parse_ref("mlp:depth=3,width=16,activation=tanh"), (20,), 10)
    before, modules = state(model), [id(module) for module in model.modules()]
    found = probe(model, ["dks", "rezero", "kaiming"], inputs=X)
    assert found.runs[0].status == "completed"
    assert unchanged(model, before) == []
    assert [id(module) for module in model.modules()] == modules


def test_what_is_lent_is_put_back_to_the_bit() -> None:
    model = net(Keeping)
    model[3].register_buffer("mask", torch.ones(1, 4).expand(3, 4))  # elements that share memory cannot be written
    model[3].register_parameter("spare", None)
    before = state(model)
    handle = model[0].register_forward_hook(lambda *_: None)
    hooked = state(model)
    with restored(model):
        for parameter in model.parameters():
            parameter.data = torch.zeros(2)
            parameter.grad = torch.ones(2)
            parameter.requires_grad_(False)
        model.double().eval()
        model[3].seen.clear()
        model[3].seen = None
        model[3].new = 3
        del model[4]
        handle.remove()
    assert unchanged(model, hooked) == []
    handle.remove()
    assert unchanged(model, before) == []


def test_a_model_is_moved_where_it_is_asked_for_and_back() -> None:
    model = net(Keeping)
    before = state(model)
    with restored(model, torch.device("meta")):
        assert all(parameter.is_meta for parameter in model.parameters())
    assert unchanged(model, before) == []


class Group:
    """A process group of one."""

    def __enter__(self) -> None:
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)

    def __exit__(self, *_: object) -> None:
        torch.distributed.destroy_process_group()


def drawn(model: nn.Module, **more: Any) -> tuple[list[Tensor], list[str]]:
    report = init_network(model, "kaiming", seed=5, **more)
    return [parameter.detach().cpu().clone() for parameter in model.parameters()], [entry.parameter for entry in report.parameters]


@pytest.mark.heavy
def test_a_wrapper_changes_neither_names_nor_draws() -> None:
    plain, names = drawn(net(Closed), layers={"6": "normal:std=0.5"}, inputs=X)
    inner_compiled, parts = net(Closed), net(Closed)
    inner_compiled[3] = torch.compile(inner_compiled[3])
    parts[3].mlp["up"] = nn.DataParallel(parts[3].mlp["up"])
    in_place = net(Closed)
    in_place.compile()
    wrapped = [torch.compile(net(Closed)), nn.DataParallel(net(Closed)), inner_compiled, parts, torch.compile(nn.DataParallel(net(Closed)))]
    with Group():
        for model in (*wrapped, in_place, nn.parallel.DistributedDataParallel(net(Closed))):
            kinds = [type(module) for module in model.modules()]
            weights, said = drawn(model, layers={"6": "normal:std=0.5"}, inputs=X)
            assert said == names
            assert all(map(torch.equal, weights, plain))
            found = probe(model, ["kaiming"], seeds=[5], inputs=X)
            assert [layer.layer for layer in found.runs[0].layers] == ["0", "3.mlp.up", "3.mlp.down", "6"]
            assert [type(module) for module in model.modules()] == kinds


@pytest.mark.heavy
def test_wrappers_come_back_after_an_error() -> None:
    model = net(Closed)
    model[3] = compiled = torch.compile(model[3])
    with pytest.raises(RuntimeError, match="shape"), unwrapped(model) as inside:
        inside[3](torch.zeros(1, 1))
    assert model[3] is compiled


def test_autocast_keeps_no_old_weights() -> None:
    def measured() -> list[float | None]:
        found = probe(net(Closed), ["kaiming", "normal"], inputs=X)
        return [layer.pre_activation_variance for run in found.runs for layer in run.layers]

    outside, lsuv = measured(), net(Closed)
    with torch.autocast("cpu", torch.bfloat16):
        lsuv(X)
        inside = measured()
        init_network(lsuv, "lsuv", inputs=X, batch=lambda *_: (X, torch.zeros(len(X), dtype=torch.long)))
        again = lsuv(X)  # with the weights as they are now
        assert torch.is_autocast_cache_enabled()
    assert inside == pytest.approx(outside, rel=0.03)
    assert variances(lsuv, X) == pytest.approx(dict.fromkeys(("0", "3.mlp.up", "3.mlp.down", "6"), 1.0), rel=0.15)
    assert again.isfinite().all()


def test_autocast_uses_the_weights_that_were_just_set() -> None:
    model = nn.Linear(20, 30, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        model(X)
        init_network(model, "constant:value=2")
        out = model(X)
    torch.testing.assert_close(out.float(), 2 * X.sum(1, keepdim=True).expand(-1, 30), atol=0.5, rtol=0.02)


def test_cached_parametrizations_keep_no_old_weights() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(20, 30)), nn.ReLU(), nn.Linear(30, 10))
    with parametrize.cached():
        model(X)
        init_network(model, "kaiming", seed=1)
        inside = model(X)
    assert torch.equal(inside, model(X))


def test_shards_are_refused() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, distribute_tensor

    with Group():
        model = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4))
        model[0].weight = nn.Parameter(distribute_tensor(model[0].weight.detach(), init_device_mesh("cpu", (1,))))
        assert isinstance(model[0].weight, DTensor)
        for ask in (lambda: init_network(model, "kaiming"), lambda: probe(model, ["kaiming"], inputs=X)):
            with pytest.raises(ConfigError, match=r"'0\.weight' is sharded.*Initialize before sharding"):
                ask()


def test_a_model_on_the_meta_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="meta device"):
        probe(nn.Linear(20, 3, device="meta"), ["kaiming"], inputs=X)


@pytest.mark.heavy
def test_the_law_and_the_report_of_a_weight_of_more_than_2_to_the_24_numbers() -> None:
    model = nn.Sequential(nn.Linear(4096, 4097, bias=False), nn.ReLU(), nn.Linear(4097, 10))
    report = init_network(model, "normal:std=0.02")
    right = model[0].weight.detach().double().std(correction=0).item()
    assert report.parameters[0].std == pytest.approx(right, rel=1e-5)
    law = initbench.probe(model, as_is=True, inputs=torch.randn(4, 4096)).runs[0].laws[0]
    assert law.law == "normal"
    assert law.std == pytest.approx(right, rel=1e-9)


def test_a_checkpoint_is_looked_at_in_a_model_of_ones_own(tmp_path: Path) -> None:
    model, other = net(Closed), net(Closed)
    init_network(other, "normal:std=0.3", seed=4)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    before = state(model)
    found = probe(model, checkpoint=str(tmp_path / "other.pt"), inputs=X)
    assert unchanged(model, before) == []
    said = {layer.layer: layer.pre_activation_variance for layer in found.runs[0].layers}
    assert said == pytest.approx(variances(other, X), rel=1e-5)


def test_a_backward_pass_that_waits_is_not_disturbed() -> None:
    model = net(Closed).eval()
    loss = model(X).square().sum()
    right = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    probe(model, ["normal:std=1"], inputs=X)
    loss.backward()
    assert all(torch.equal(parameter.grad, gradient) for parameter, gradient in zip(model.parameters(), right, strict=True))


SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape=(20,), classes=10):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(20, 32), nn.Linear(32, classes)])
        layers = self.layers
        self.run = lambda x: layers[1](torch.relu(layers[0](x)))

    def forward(self, x):
        return self.run(x)

def compiled(shape=(20,), classes=10):
    return torch.compile(Net(shape, classes))
"""


def test_a_builder_may_give_closures_and_wrappers(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    plain = build_model(parse_ref(f"{file}:Net"), (20,), 10)
    init_network(plain, "kaiming", seed=2)
    right = variances(plain, X)
    for name in ("Net", "compiled"):
        assert next(build_model(parse_ref(f"{file}:{name}"), (20,), 10).named_parameters())[0] == "layers.0.weight"
        found = probe(f"{file}:{name}", ["kaiming", "normal"], seeds=[2], inputs=X)
        assert {layer.layer: layer.pre_activation_variance for layer in found.runs[0].layers} == pytest.approx(right, rel=1e-5)


SEEN: dict[str, float] = {}


class Keeper:
    """A user's object that keeps what its method sees."""

    def __init__(self) -> None:
        self.variances: list[float] = []
        self.last: dict[str, Tensor] = {}

    def __call__(self, _: nn.Module, __: object, output: Tensor) -> None:
        self.last["output"] = output

    def note(self, _: nn.Module, __: object, output: Tensor) -> None:
        self.variances.append(output.var().item())


def test_what_hooks_keep_is_what_the_user_saw() -> None:
    count, kept, keeper = 0, [0.0], Keeper()

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    def by_default(_: nn.Module, __: object, output: Tensor, kept: list[float] = kept) -> None:
        kept[0] = output.var().item()

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    for hook in (lambda _, __, out: SEEN.update(variance=out.var().item()), counted, by_default, keeper, keeper.note):
        model[0].register_forward_hook(hook)
    model[0].register_forward_pre_hook(partial(lambda kept, _, inputs: kept.__setitem__(0, inputs), kept_inputs := [None]))
    x = torch.randn(64, 8)
    model(x)
    before = dict(SEEN), count, list(kept), list(keeper.variances), keeper.last["output"], kept_inputs[0]
    initbench.probe(model, ["normal", "kaiming"], inputs=x)
    after = dict(SEEN), count, list(kept), list(keeper.variances), keeper.last["output"], kept_inputs[0]
    assert all(was is now or was == now for was, now in zip(before, after, strict=True))

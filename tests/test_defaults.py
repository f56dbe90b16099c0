"""torch's default device and type change nothing: what is made inside names its own."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import initbench
from initbench import init_network, probe
from initbench.errors import DoesNotApply
from initbench.nn.build import build_model
from initbench.question import catalog
from initbench.question.config import parse_ref

pytestmark = pytest.mark.heavy

FACTORIES = {
    "arange", "as_tensor", "asarray", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "normal", "ones", "rand", "randint",
    "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
}  # fmt: skip
"""Functions of torch that make a tensor where the default device says."""
WHOLE = {"arange", "randint", "randperm", "as_tensor", "asarray", "tril_indices", "triu_indices"}
"""Of these, those that make whole numbers or take the type of what they are given."""
ROOMS = ("nn", "init", "schemes", "measure", "training", "stacking", "fast", "quantities", "optimizers", "datasets")
FEATURES, CLASSES, COUNT = 12, 5, 32


@contextmanager
def defaults(device: str | None = None, dtype: torch.dtype | None = None) -> Iterator[None]:
    kind = torch.get_default_dtype()
    if device:
        torch.set_default_device(device)
    if dtype:
        torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(kind)


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, CLASSES))


IMAGES = torch.randn(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
MODELS = (
    "resnet:depth=8,norm=none", "resnet:depth=8", "residual_mlp:norm=none", "vit:depth=2,width=32", "mlp:depth=3,width=32",
    "mlp:depth=3,width=32,activation=tanh", "mlp:depth=3,width=32,activation=sin", "vit:depth=2,width=32,norm=none",
    "vit:depth=2,width=32,norm=post",
)  # fmt: skip
WRITTEN = {"gradinit": "gradinit:iterations=2", "metainit": "metainit:steps=2", "constant": "constant:value=0.1"}


def batch(size: int, index: int) -> tuple[Tensor, Tensor]:
    places = (torch.arange(size, device="cpu") + 7 * index) % COUNT
    return IMAGES[places], places % CLASSES


def first_model(scheme: str) -> str:
    """A shipped model that the scheme applies to."""
    for ref in MODELS:
        try:
            init_network(build_model(parse_ref(ref), (1, 8, 8), CLASSES), scheme, inputs=IMAGES[:2], batch=batch)
        except DoesNotApply:
            continue
        return ref
    pytest.fail(f"{scheme} applies to none of {MODELS}")


def weights(scheme: str, ref: str, **switched: object) -> dict[str, Tensor]:
    model = build_model(parse_ref(ref), (1, 8, 8), CLASSES)
    with defaults(**switched):  # type: ignore[arg-type]
        report = init_network(model, scheme, inputs=IMAGES[:2], batch=batch)
    assert report.parameters
    return dict(model.state_dict())


@pytest.mark.parametrize("scheme", [entry.name for entry in catalog.entries("scheme")])
def test_a_scheme_draws_the_same_under_any_default(scheme: str) -> None:
    scheme = WRITTEN.get(scheme, scheme)
    ref = first_model(scheme)
    plain = weights(scheme, ref)
    for switched in ({"device": "meta"}, {"dtype": torch.bfloat16}, {"dtype": torch.float64}):
        other = weights(scheme, ref, **switched)
        assert plain.keys() == other.keys()
        for name, value in plain.items():
            assert other[name].dtype == value.dtype, f"{name} under {switched}"
            assert torch.equal(other[name], value), f"{name} under {switched}"


@pytest.mark.parametrize("switched", [{"device": "meta"}, {"dtype": torch.bfloat16}, {"dtype": torch.float64}], ids=str)
def test_a_probe_measures_the_same_under_any_default(switched: dict[str, object]) -> None:
    x, model = torch.randn(64, FEATURES, generator=torch.Generator().manual_seed(1)), net()
    plain = probe(model, ["kaiming", "orthogonal"], inputs=x)
    with defaults(**switched):  # type: ignore[arg-type]
        other = probe(model, ["kaiming", "orthogonal"], inputs=x)
    assert [run.model_copy(update={"seconds": 0}) for run in other.runs] == [run.model_copy(update={"seconds": 0}) for run in plain.runs]


@pytest.mark.parametrize("room", ROOMS)
def test_every_tensor_names_its_device_and_type(room: str) -> None:
    wrong = []
    for path in sorted((Path(initbench.__file__).parent / room).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "torch"):
                continue
            name, given = call.func.attr, {keyword.arg for keyword in call.keywords}
            whole = name in WHOLE and not any(isinstance(at, ast.Constant) and isinstance(at.value, float) for at in call.args)
            if name in FACTORIES and not ({"device"} if whole else {"device", "dtype"}) <= given and None not in given:
                wrong.append(f"{path.name}:{call.lineno}: {ast.unparse(call)}")
    assert not wrong


@pytest.mark.parametrize("switched", [{"device": "meta"}, {"dtype": torch.float64}], ids=str)
def test_a_model_of_a_name_is_built_on_the_cpu_in_float32(switched: dict[str, object]) -> None:
    plain = build_model(parse_ref("cnn"), (1, 8, 8), CLASSES)
    with defaults(**switched):  # type: ignore[arg-type]
        other = build_model(parse_ref("cnn"), (1, 8, 8), CLASSES)
        found = probe("mlp:depth=2,width=8", ["kaiming"], inputs="20")
        assert torch.empty(()).device.type == switched.get("device", "cpu")
        assert torch.empty(()).dtype == switched.get("dtype", torch.float32)
    assert found.runs[0].status == "completed"
    assert all(map(torch.equal, other.parameters(), plain.parameters()))

"""Nothing mixes devices: schemes, probes, training and stacks on a pretended device, and on a GPU where there is one, compute there alone,
and what the CPU computes."""

from typing import NamedTuple

import pytest
import torch
from pretended_device import THERE, DevicesMet, There, pretended
from torch import nn
from training_support import jobs_of

import initbench
from initbench.errors import DoesNotApply
from initbench.question import catalog
from initbench.stacking.jobs import StackSetting, run_group
from initbench.training import devices, job, untrained
from initbench.training.job import forget_data, run_job

pytestmark = pytest.mark.heavy

STACKING = ("stacked_runs", "not_stacked")
NEED_SLOW_SEARCHES = {"gradinit", "metainit"}
"""Schemes that take hundreds of passes; they have the same few steps of their own."""

SCHEMES = [
    entry.name + ":value=0.1" * (entry.name == "constant") for entry in catalog.entries("scheme") if entry.name not in NEED_SLOW_SEARCHES
]


PLACES = ["there", *([pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else [])]


class Place(NamedTuple):
    """A device, and what it is called where a device is asked for."""

    name: str
    device: torch.device


@pytest.fixture(params=PLACES)
def there(request, monkeypatch):
    """A device that is there as long as the test."""
    if request.param == "cuda":
        yield Place("cuda", torch.device("cuda", 0))
        return
    for module in (devices, job, untrained):
        chosen = module.choose_device
        monkeypatch.setattr(module, "choose_device", lambda text, chosen=chosen: THERE if text == "there" else chosen(text))
    autocast = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cpu": kind != THERE.type and autocast(kind))
    with pretended():
        yield Place("there", THERE)
    forget_data()


def small(kind):
    torch.manual_seed(0)
    if kind == "convolutions":
        block = [nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.LeakyReLU(0.1, inplace=True)]
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *block, nn.Flatten(), nn.Linear(8 * 36, 3))
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))


def batch():
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3


@pytest.mark.parametrize("there", ["there"], indirect=True)
def test_the_pretended_device_refuses_what_a_gpu_refuses(there):
    x = torch.randn(3).to(THERE)
    assert (x + 1).device == THERE
    assert isinstance(torch.zeros(2, device=THERE), There)
    with pytest.raises(DevicesMet):
        x + torch.randn(3)
    with pytest.raises(DevicesMet):
        x.normal_(generator=torch.Generator())
    with pytest.raises(RuntimeError):
        x.numpy()


@pytest.mark.parametrize("kind", ["vectors", "convolutions"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_give_the_same_weights_there(scheme, kind, there):
    x, y = batch()

    def initialized(device):
        model, inputs, labels = small(kind).to(device), x.to(device), y.to(device)
        report = initbench.init_network(model, scheme, inputs=inputs, batch=lambda size, index: (inputs, labels))
        return report, {name: value.detach().cpu() for name, value in model.state_dict().items()}

    try:
        _, here = initialized("cpu")
    except DoesNotApply:
        with pytest.raises(DoesNotApply):
            initialized(there.device)
        return
    _, moved = initialized(there.device)
    for name, value in here.items():
        torch.testing.assert_close(moved[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", ["vectors", "convolutions"])
def test_a_probe_measures_the_same_there(kind, there):
    x, y = batch()
    here = initbench.probe(small(kind), ["kaiming", "lsuv"], inputs=x, labels=y)
    x, y = x.to(there.device), y.to(there.device)
    moved = initbench.probe(small(kind).to(there.device), ["kaiming", "lsuv"], inputs=x, labels=y, device=there.name)
    assert moved.verdicts == here.verdicts
    as_is = initbench.probe(small(kind).to(there.device), as_is=True, inputs=x, labels=y, device=there.name)
    assert all(layer.gradient_variance is not None for layer in as_is.runs[0].layers)
    assert as_is.runs[0].laws


@pytest.mark.parametrize("optimizer", [entry.name for entry in catalog.entries("optimizer")])
def test_training_gives_the_same_losses_there(optimizer, there):
    asked = jobs_of("kaiming", train={"epochs": 1, "batch_size": 32, "optimizer": optimizer, "lr": 0.01})
    ((job_id, one),) = asked
    here, moved = (run_job(one, job_id, device=device, data_dir=None) for device in ("cpu", there.name))
    assert moved.status == here.status, moved.reason
    assert moved.train_losses == pytest.approx(here.train_losses, rel=1e-4)
    assert moved.evaluations[-1].test_loss == pytest.approx(here.evaluations[-1].test_loss, rel=1e-4)


@pytest.mark.parametrize("model", ["mlp:depth=2,width=16", "cnn:channels=[8,8]"])
def test_a_stack_gives_the_same_losses_there(model, there):
    asked = jobs_of("kaiming", "xavier", seeds=(0, 1), model=model, train={"epochs": 1, "batch_size": 32})
    settings = [StackSetting(device, None, lambda *progress: None) for device in ("cpu", there.name)]
    here, moved = ({each.job_id: each for each in run_group(asked, setting)} for setting in settings)
    assert here.keys() == moved.keys()
    for job_id, each in moved.items():
        assert each.status == here[job_id].status, each.reason
        assert [each.provenance.get(key) for key in STACKING] == [here[job_id].provenance.get(key) for key in STACKING]
        assert each.train_losses == pytest.approx(here[job_id].train_losses, rel=1e-4)

"""Linear layers by oneDNN: the same values and gradients as torch's own, and torch's own where something else is asked for."""

import pytest
import torch
from onednn_support import needs_onednn, random
from torch.nn import functional

from initbench.fast import onednn


@needs_onednn
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (2, 1, 4, 7)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_linear_layer_by_onednn_has_the_values_and_gradients_of_torchs_own(by_onednn, shape, biased):
    found = []
    for linear in (functional.linear, onednn.linear):
        x, weight, bias = (random(*size, seed=number).requires_grad_() for number, size in enumerate((shape, (4, 7), (4,))))
        out = linear(x, weight, bias if biased else None)
        given = [x, weight, bias] if biased else [x, weight]
        found.append([out, *torch.autograd.grad(out, given, random(*out.shape, seed=9))])
    assert by_onednn() == 3
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


@needs_onednn
def test_only_what_needs_a_gradient_gets_one(by_onednn):
    x, weight = random(3, 5), random(4, 5, seed=1).requires_grad_()
    onednn.linear(x, weight).sum().backward()
    assert by_onednn() == 2
    torch.testing.assert_close(weight.grad, x.sum(0).expand(4, 5))


@needs_onednn
def test_a_linear_layer_by_onednn_can_be_differentiated_twice(by_onednn):
    found = []
    for linear in (functional.linear, onednn.linear):
        x, weight = random(3, 5).requires_grad_(), random(4, 5, seed=1).requires_grad_()
        (slope,) = torch.autograd.grad(linear(x, weight).tanh().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [x, weight]))
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


@needs_onednn
def test_other_types_and_torchs_transformations_keep_to_torchs_own(by_onednn):
    x, weight = random(3, 5), random(4, 5, seed=1)
    assert onednn.linear(x.double(), weight.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert onednn.linear(x, weight).dtype == torch.bfloat16
    assert torch.vmap(lambda one: onednn.linear(one, weight))(random(2, 3, 5)).shape == (2, 3, 4)
    assert torch.func.grad(lambda one: onednn.linear(one, weight).sum())(x).shape == (3, 5)
    assert onednn.linear(x[0], weight).shape == (4,)
    assert by_onednn() == 0


def test_few_products_keep_to_torchs_own(monkeypatch):
    monkeypatch.setattr(onednn, "multiplies_faster", lambda: True)
    monkeypatch.setattr(onednn, "linear_product", lambda *_: pytest.fail("it is not worth it"))
    onednn.linear(random(10, 20), random(30, 20))


@pytest.mark.parametrize(
    ("capability", "processor", "faster"),
    [("AVX512", "AuthenticAMD", True), ("AVX2", "AuthenticAMD", False), ("AVX512", "GenuineIntel", False)],
)
def test_whose_processor_multiplies_faster_is_a_rule(monkeypatch, tmp_path, capability, processor, faster):
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {processor}\n")
    monkeypatch.setattr(onednn, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    here = torch.backends.mkldnn.is_available()
    assert onednn.multiplies_faster.__wrapped__() == (faster and here)

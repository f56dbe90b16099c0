"""One thread a test process: the suite runs one process a core. Which tests are its core, and on which default device they run."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

CORE = frozenset([
    "test_api", "test_assign", "test_batches", "test_capture", "test_checkpoints", "test_config", "test_engines", "test_fast_layers",
    "test_hooks", "test_initialize", "test_layers", "test_loop", "test_models", "test_models_residual", "test_onednn",
    "test_optimizers", "test_predict", "test_probes", "test_schemes_data", "test_schemes_law", "test_schemes_orthogonal",
    "test_schemes_structural", "test_seeds", "test_signal", "test_stacked", "test_store", "test_tape", "test_theory_activations",
    "test_torch_private", "test_trace", "test_worker",
])  # fmt: skip
"""Files that `-m core` runs: what touches torch, numpy and pydantic most closely. They also run on the oldest of each that is allowed."""

OWN_WAYS = frozenset([
    "test_fast_layers", "test_onednn", "test_torch_private",
    "test_layers_large_enough_for_other_products_give_the_losses_of_a_run_alone",
])  # fmt: skip
"""Files and tests of the core on the fast ways, which are not taken where a default device watches every call."""


def pytest_addoption(parser):
    parser.addoption("--default-device", help="the device of what the package makes without naming one, such as meta")


@pytest.fixture(autouse=True)
def default_device(request):
    """Another default device, where one is asked for."""
    device = request.config.getoption("--default-device")
    if device is None:
        yield
        return
    from default_device import DefaultDevice

    with DefaultDevice(device):
        yield


def pytest_collection_modifyitems(config, items):
    for item in items:
        if {item.path.stem, item.name} & OWN_WAYS and config.getoption("--default-device"):
            item.add_marker(pytest.mark.skip(reason="the fast ways are not taken where a default device watches every call"))
        if item.path.stem in CORE:
            item.add_marker(pytest.mark.core)


@pytest.fixture
def by_onednn(monkeypatch):
    """Every linear layer goes by oneDNN; gives how many products that took so far."""
    from initbench.fast import onednn

    monkeypatch.setattr(onednn, "LEAST_PRODUCTS", 0)
    monkeypatch.setattr(onednn, "multiplies_faster", lambda: True)
    taken, product = [], onednn.linear_product
    monkeypatch.setattr(onednn, "linear_product", lambda *tensors: taken.append(1) or product(*tensors))
    return lambda: len(taken)

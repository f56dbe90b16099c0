"""One thread a test process: the suite runs one process a core."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def by_onednn(monkeypatch):
    """Every linear layer goes by oneDNN; gives how many products that took so far."""
    from initbench.fast import onednn

    monkeypatch.setattr(onednn, "LEAST_PRODUCTS", 0)
    monkeypatch.setattr(onednn, "multiplies_faster", lambda: True)
    taken, product = [], onednn.linear_product
    monkeypatch.setattr(onednn, "linear_product", lambda *tensors: taken.append(1) or product(*tensors))
    return lambda: len(taken)

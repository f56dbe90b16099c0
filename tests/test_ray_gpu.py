"""The engine `ray` where there is a CUDA device: runs train there, alone on it or sharing it, and find what the other engines find."""

import pytest
import torch

import initbench
from initbench.results.provenance import STACKED_RUNS

pytestmark = [pytest.mark.gpu, pytest.mark.ray, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
ray = pytest.importorskip("ray", reason="needs the package ray, which `make test-ray` installs")

SCHEMES = ["kaiming", "xavier", "normal:std=30"]
ASKED = {
    "model": "mlp:depth=6,width=64",
    "dataset": "synthetic:n=512,test=128,classes=4,shape=[3,16,16],noise=0.5",
    "steps": 8,
    "seeds": 4,
    "device": "cuda",
}


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1, "include_dashboard": False})
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def losses(results):
    return {run.job_id: (run.status, run.train_losses) for run in results.results}


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for name, (status, numbers) in found.items():
        assert (status, numbers) == (expected[name][0], pytest.approx(expected[name][1], rel=1e-4, abs=1e-4, nan_ok=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs, one after the other, on the device."""
    return losses(initbench.compare(SCHEMES, engine="serial", output=tmp_path_factory.mktemp("serial"), **ASKED))


def test_one_runner_trains_runs_of_a_shape_as_one(cluster, alone):
    found = initbench.compare(SCHEMES, ray_address=cluster.address, jobs=1, output="ray", **ASKED)
    assert {run.provenance["device"] for run in found.results} == {torch.cuda.get_device_name(0)}
    assert max(int(run.provenance.get(STACKED_RUNS, 1)) for run in found.results) > 1
    assert_alike(losses(found), alone)


def test_runners_that_share_the_device_find_the_same(cluster, alone):
    found = initbench.compare(SCHEMES, ray_address=cluster.address, jobs=3, output="ray", **ASKED)
    assert {run.provenance["device"] for run in found.results} == {torch.cuda.get_device_name(0)}
    assert_alike(losses(found), alone)

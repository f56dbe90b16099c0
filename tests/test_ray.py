"""The engine `ray` on real clusters of this machine: the same results as `serial`, and what happens when nodes and drivers die."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import initbench
from initbench.engines import ray as engine
from initbench.errors import ConfigError, NotThereError
from initbench.results.record import RunStatus
from initbench.workers import runner

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray", reason="needs the package ray, which `make test-ray` installs")

TINY = "synthetic:n=256,test=128,classes=3,shape=[1,6,6],noise=0.5"
SMALL = {"model": "mlp:width=8,depth=2", "dataset": TINY, "steps": 4}
MINE = """
import helper
from initbench.schemes.normal import build as normal


def build():
    return normal(std=helper.STD)
"""

HUNGRY = """
import os, resource, signal
from pathlib import Path

import torch

from initbench.init.assign import Law
from initbench.init.contract import Layerwise
from initbench.nn.seeds import derived_seed

ENOUGH = Path({enough!r})


def none_left():
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    try:
        torch.empty(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def build():
    def fill(weight, layer, generator):
        for seed in (2, 4, 6, 8):
            mark = ENOUGH / str(seed)
            if generator.initial_seed() == derived_seed(seed, "init", layer.parameter) and not mark.exists():
                if seed < 5:
                    mark.touch()
                none_left() if seed in (2, 6) else os.kill(os.getpid(), signal.SIGKILL)
        weight.normal_(0.0, 0.1, generator=generator)
        return Law("normal", 0.1)

    return Layerwise("hungry", fill)
"""
"""A scheme: with seeds 2 and 6 there is no more memory for its process, with 4 and 8 the system ends that; with 2 and 4 only once."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three nodes of two slots each, on loopback; what travels to them is kept in a folder of the tests."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("INITBENCH_DATA")
    os.environ["INITBENCH_DATA"] = str(tmp_path_factory.mktemp("data"))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
    made.others = [made.add_node(num_cpus=2, num_gpus=0) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.pop("INITBENCH_DATA")
    os.environ |= {} if before is None else {"INITBENCH_DATA": before}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(results):
    """What runs found, without what another machine or another time changes."""
    apart = {"seconds", "provenance"}
    return {run.job_id: run.model_dump(mode="json", exclude=apart) for run in results.results}


def test_results_are_those_of_the_serial_engine(cluster, tmp_path):
    options = {"seeds": 6, **SMALL}
    on_cluster = initbench.compare(
        ["kaiming", "xavier", "normal:std=30"], engine="ray", ray_address=cluster.address, output="ray", **options
    )
    alone = initbench.compare(["kaiming", "xavier", "normal:std=30"], engine="serial", output="serial", **options)
    assert told(on_cluster) == told(alone)
    tables = [path.name for path in (tmp_path / "serial/tables").iterdir()]
    assert len(tables) > 4
    for name in tables:
        assert (tmp_path / "ray/tables" / name).read_bytes() == (tmp_path / "serial/tables" / name).read_bytes()


def test_the_address_alone_chooses_the_engine(cluster):
    assert len(initbench.run("kaiming", ray_address=cluster.address, **SMALL).results) == 1
    with pytest.raises(ConfigError, match="has no cluster"):
        initbench.run("xavier", engine="serial", ray_address=cluster.address, **SMALL)


def test_users_files_and_what_they_import_travel(cluster, tmp_path):
    (tmp_path / "helper.py").write_text("STD = 0.25\n")
    (tmp_path / "mine.py").write_text(MINE)
    found = initbench.run("./mine.py", ray_address=cluster.address, **SMALL)
    assert found.results[0].status is RunStatus.COMPLETED
    first = next(entry for entry in found.results[0].init.parameters if entry.parameter == "linear1.weight")
    assert first.std == pytest.approx(0.25, rel=0.2)


def test_runs_that_a_worker_refuses_fail_and_say_why(cluster, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from initbench.schemes.normal import build as normal\n\n\ndef build():\n    return normal(std=0.1)\n"
    )
    monkeypatch.setattr(engine, "_files", lambda jobs: {"mine.py": (tmp_path / "mine.py").read_bytes() + b"# another\n"})
    found = initbench.run("./mine.py", seeds=3, ray_address=cluster.address, **SMALL)
    assert [run.status for run in found.results] == [RunStatus.FAILED] * 3
    assert all("has other files by the names of the question's own" in run.reason for run in found.results)


def test_data_files_travel(cluster, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (640, 6, 6), dtype=np.uint8), np.arange(640) % 3
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/mine.npz", x_train=images, y_train=labels, x_test=images[:64], y_test=labels[:64])
    options = {**SMALL, "dataset": "mine", "data_dir": str(tmp_path / "data"), "seeds": 2}
    there = initbench.compare(["kaiming", "xavier"], ray_address=cluster.address, output="ray", **options)
    assert told(there) == told(initbench.compare(["kaiming", "xavier"], engine="serial", output="serial", **options))


def test_a_sentence_for_what_makes_a_job_impossible(cluster):
    with pytest.raises(ConfigError, match="depth"):
        initbench.run("kaiming", ray_address=cluster.address, **SMALL | {"model": "mlp:depth=-1"})


def test_a_killed_worker_costs_no_run(cluster, tmp_path):
    killed = []

    class Watch:
        def planned(self, plan): ...
        def progress(self, sign): ...
        def finished(self, result):
            if not killed:
                victims = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and b"ray::Runner" in _command(p)]
                killed.append(victims[0])
                os.kill(victims[0], signal.SIGKILL)

    options = {"seeds": 30, **SMALL | {"steps": 60}}
    found = initbench.compare(["kaiming", "xavier"], ray_address=cluster.address, output="ray", watch=Watch(), **options)
    assert killed
    assert [run.status for run in found.results] == [RunStatus.COMPLETED] * 60
    assert told(found) == told(initbench.compare(["kaiming", "xavier"], engine="serial", output="serial", **options))


def _command(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_node_that_is_lost_costs_no_run(cluster, tmp_path):
    lost = []

    class Watch:
        def planned(self, plan): ...
        def progress(self, sign): ...
        def finished(self, result):
            if not lost:
                lost.append(cluster.others.pop())
                cluster.remove_node(lost[0], allow_graceful=False)

    options = {"seeds": 40, **SMALL | {"steps": 60}}
    found = initbench.compare(["kaiming", "xavier"], ray_address=cluster.address, output="ray", watch=Watch(), **options)
    assert lost
    assert [run.status for run in found.results] == [RunStatus.COMPLETED] * 80
    assert told(found) == told(initbench.compare(["kaiming", "xavier"], engine="serial", output="serial", **options))


def test_a_worker_without_memory_costs_at_most_its_own_run(cluster, tmp_path):
    enough = tmp_path / "enough"
    enough.mkdir()
    (tmp_path / "hungry.py").write_text(HUNGRY.format(enough=str(enough)))
    schemes, options = ["./hungry.py", "kaiming"], {"seeds": 12, **SMALL}
    first = initbench.compare(schemes, ray_address=cluster.address, jobs=2, output="ray", **options)
    failed = {run.job.seed: run.reason for run in first.results if run.status is not RunStatus.COMPLETED}
    assert failed.keys() == {6, 8}
    assert failed[6] == "out of memory on cpu: choose a smaller model or train.batch_size"
    assert re.fullmatch(r"its worker of Ray was lost, as in a first try \(.+\)\. If memory ran out, choose .+", failed[8])
    assert {path.name for path in enough.iterdir()} == {"2", "4"}
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ray/jobs").glob("*.json")}
    for seed in failed:
        (enough / str(seed)).touch()
    found = initbench.compare(schemes, ray_address=cluster.address, jobs=2, output="ray", **options)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ray/jobs").glob("*.json")}
    assert len(after) == 24
    assert len(after.items() - kept.items()) == 2
    assert told(found) == told(initbench.compare(schemes, engine="serial", output="serial", **options))
    for name in ("curves", "layers", "init", "summary", "comparisons"):
        assert (tmp_path / f"ray/tables/{name}.csv").read_bytes() == (tmp_path / f"serial/tables/{name}.csv").read_bytes()
    assert {run.status for run in found.results} == {RunStatus.COMPLETED}


def test_a_cluster_without_room_is_waited_for_and_says_so(cluster, monkeypatch):
    monkeypatch.setattr(engine, "ROOM_SECONDS", 1.0)
    said = []

    class Watch:
        def planned(self, plan): ...
        def finished(self, result): ...
        def progress(self, sign):
            if sign.note:
                said.append(sign.note)
                ray.util.remove_placement_group(taken)

    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    cores = ray.cluster_resources()["CPU"]
    taken = ray.util.placement_group([{"CPU": 1}] * int(cores))
    ray.get(taken.ready())
    try:
        found = initbench.run("kaiming", ray_address=cluster.address, jobs=1, watch=Watch(), **SMALL)
    finally:
        ray.shutdown()
    assert said == [
        f"Waiting for the cluster of Ray to start a worker: each asks for 1 CPU of one machine, and 0 of {cores:g} CPU are free."
    ]
    assert [run.status for run in found.results] == [RunStatus.COMPLETED]


def test_a_cluster_without_a_gpu_refuses_cuda(cluster, tmp_path):
    with pytest.raises(NotThereError, match="No machine of the cluster has a GPU, as --device cuda asks for"):
        initbench.run("kaiming", ray_address=cluster.address, device="cuda", output="out", **SMALL)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="use --device cuda instead of cuda:1"):
        initbench.run("kaiming", ray_address=cluster.address, device="cuda:1", **SMALL)


def test_runners_share_gpus_so_that_all_fit_and_each_sees_one(cluster, monkeypatch):
    class Seeing(runner.Runner):
        def sees(self):
            return os.environ["CUDA_VISIBLE_DEVICES"]

    monkeypatch.setattr(engine, "Runner", Seeing)
    node = cluster.add_node(num_cpus=0, num_gpus=2)
    seat = runner.Seat("cuda", None, 1, None, runner.versions(), str(Path.cwd()), {}, None)
    try:
        with engine._connected(ray, cluster.address), contextlib.closing(engine.Crew(ray, seat, 3)) as crew:
            assert engine._count(ray, None, 100, seat) == 2
            while crew.starting:
                crew._started(ray.wait(list(crew.starting), timeout=60)[0][0])
            assert sorted(ray.get([one.sees.remote() for one in crew.runners])) in (["0", "0", "1"], ["0", "1", "1"])
            assert ray.cluster_resources()["GPU"] - ray.available_resources()["GPU"] == pytest.approx(1.5)
    finally:
        cluster.remove_node(node)


@pytest.mark.parametrize(("runners", "gpus"), [(1, 1), (2, 2), (3, 2), (6, 1), (7, 3), (48, 7)])
def test_shares_of_gpus_fit(runners, gpus):
    class There:
        cluster_resources = staticmethod(lambda: {"GPU": float(gpus)})

    share = engine._share(There, runner.Seat("cuda", None, 1, None, {}, None, {}, None), runners)["num_gpus"]
    on_a_gpu = int(engine.GPU_PARTS // round(share * engine.GPU_PARTS))
    assert on_a_gpu * gpus >= runners
    assert (on_a_gpu - 1) * gpus < runners


def test_more_threads_than_a_machine_has_cores_still_find_room(cluster):
    with engine._connected(ray, cluster.address):
        seat = runner.Seat("cpu", None, 16, None, {}, None, {}, None)
        assert engine._share(ray, seat, 1) == {"num_cpus": 2, "num_gpus": 0}
        assert engine._count(ray, None, 100, seat) == 1


COMMAND = [sys.executable, "-m", "initbench", "compare", "kaiming", "xavier", "--seeds", "60", "--model", "mlp:width=8,depth=2",
           "--dataset", TINY, "--steps", "200", "--engine", "ray", "--out", "out"]  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_stopped_leaves_a_folder_that_goes_on(cluster, tmp_path, how):
    words = [*COMMAND, "--ray-address", cluster.address]
    driver = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    jobs = tmp_path / "out/jobs"
    limit = time.monotonic() + 120
    while not (jobs.is_dir() and len(list(jobs.iterdir())) > 3):
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.05)
    driver.send_signal(how)
    driver.wait(60)
    before = {path.name: path.stat().st_mtime_ns for path in jobs.glob("*.json")}
    assert 3 < len(before) < 120
    if how is signal.SIGINT:
        assert "runs are saved. Go on with: initbench resume out" in driver.stderr.read()
    again = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    after = {path.name: path.stat().st_mtime_ns for path in jobs.glob("*.json")}
    assert len(after) == 120
    assert before.items() <= after.items()


def test_runners_are_gone_when_a_call_has_ended(cluster):
    initbench.run("kaiming", ray_address=cluster.address, **SMALL | {"steps": 5})
    time.sleep(1)
    assert not [p for p in Path("/proc").iterdir() if p.name.isdigit() and b"ray::Runner" in _command(p)]


def test_what_has_travelled_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    files = {"mine.py": b"a = 1\n", "more/else.py": b"b = 2\n"}
    first = runner._kept(files)
    assert runner._kept(files) == first
    assert (first / "more/else.py").read_bytes() == b"b = 2\n"
    assert runner._kept({**files, "mine.py": b"a = 2\n"}) != first
    (first / "mine.py").write_bytes(b"changed")
    assert (runner._kept(files) / "mine.py").read_bytes() == b"a = 1\n"


def test_another_version_is_refused_in_a_sentence(monkeypatch):
    seat = runner.Seat("cpu", None, 1, None, {"torch": "0.1", "initbench": runner.versions()["initbench"]}, None, {}, None)
    problem = runner.Runner(seat, None).problem()
    assert "where 0.1 asks. Install the same versions on all machines." in str(problem)


def test_a_cluster_that_is_gone_is_told_at_once(tmp_path):
    """What `ray start` has left behind names a port where nobody listens any more."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(tmp_path)}
    words = [*COMMAND, "--ray-address", "auto"]
    ran = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert ran.returncode == 5
    assert "No cluster of Ray can be reached at 'auto'" in " ".join(ran.stderr.split())


@pytest.mark.parametrize("token", [True, False], ids=["token", "open"])
def test_a_cluster_of_ray_start_is_used_by_its_address(tmp_path, token):
    """Two nodes, as people start them; where they have a token, Ray guards the cluster with it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    if token:
        environment["RAY_AUTH_MODE"] = "token"
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--num-cpus=1",
        "--disable-usage-stats",
        "--include-dashboard=false",
    ]
    nodes = [_started([*start, "--head", f"--port={address.rpartition(':')[2]}", "--node-ip-address=127.0.0.1"], environment)]
    try:
        _wait_for(address, nodes[0])
        nodes.append(_started([*(word for word in start if "dashboard" not in word), f"--address={address}"], environment))
        for where, engine_words in (("serial", ["--engine", "serial"]), ("ray", ["--ray-address", address])):
            words = [sys.executable, "-m", "initbench", "compare", "xavier", "kaiming", "--model", SMALL["model"], "--dataset", TINY]
            words += ["--steps", "4", "--seeds", "2", "--fresh", "--out", f"{where}/out", *engine_words]
            ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240)
            assert ran.returncode == 0, ran.stderr
        if token:  # not shown
            hidden = {name: value for name, value in environment.items() if name != "RAY_AUTH_MODE"}
            ran = subprocess.run([*words, "--fresh"], cwd=tmp_path, env=hidden, capture_output=True, text=True, check=False, timeout=240)
            assert ran.returncode == 5
            assert "set RAY_AUTH_MODE=token" in " ".join(ran.stderr.split())
        for table in ("curves.csv", "layers.csv"):
            one, other = (pd.read_csv(tmp_path / where / "out" / "tables" / table) for where in ("serial", "ray"))
            timed = [name for name in one.columns if "seconds" in name]
            pd.testing.assert_frame_equal(one.drop(columns=timed), other.drop(columns=timed))
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGTERM)
            node.wait(60)


def _started(words, environment):
    return subprocess.Popen(words, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait_for(address, node):
    host, _, port = address.partition(":")
    limit = time.monotonic() + 120
    while True:
        assert node.poll() is None
        assert time.monotonic() < limit
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        time.sleep(0.2)


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["run", "dry-run"])
def test_a_cluster_that_is_not_there_is_a_sentence(words, tmp_path):
    ran = subprocess.run(
        [*COMMAND, "--ray-address", "127.0.0.1:1", *words], cwd=tmp_path, check=False, capture_output=True, text=True,
        env={**os.environ, "RAY_ADDRESS": ""}, timeout=180,
    )  # fmt: skip
    assert ran.returncode == (0 if words else 5), "a plan can be looked at before there is a cluster"
    assert "No cluster of Ray can be reached at '127.0.0.1:1'" in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()


def test_without_an_address_the_cores_of_this_machine_are_used(tmp_path):
    words = [*COMMAND[:7], "4", *COMMAND[8:]]
    ran = subprocess.run([*words, "--json"], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["runs"]) == 8


def test_without_ray_a_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NotThereError, match=r"pip install '\.\[ray\]'"):
        initbench.run("kaiming", engine="ray", **SMALL)

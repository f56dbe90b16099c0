"""Each export is read back by the library that it is for, number by number, and what cannot be exported is said."""

import json
import math

import pytest
from typer.testing import CliRunner

import initbench
from initbench import exports
from initbench.cli.app import app
from initbench.errors import ConfigError, NotThereError, StorageError

TINY = "synthetic:n=256,test=64,classes=3,shape=[1,6,6],noise=0.5"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Runs that train, that diverge, and of a file whose name nobody should use."""
    folder = tmp_path_factory.mktemp("exports")
    scheme = folder / "x$ &=%'é.py"
    scheme.write_text(
        "from initbench.init.assign import Law\nfrom initbench.init.contract import Layerwise\n\n"
        "def build():\n    def fill(weight, layer, generator):\n        weight.normal_(0, 0.1, generator=generator)\n"
        "        return Law('normal', 0.1)\n    return Layerwise('own', fill)\n"
    )
    return initbench.compare(
        ["kaiming", "normal:std=1e30", str(scheme)], model="mlp:depth=2,width=16", dataset=TINY, seeds=2, steps=12,
        settings=["probe.every_steps=6"], engine="serial", output=str(folder / "results"),
    )  # fmt: skip


def numbers(run):
    """Every number of a run as (name, step, value)."""
    return {(name, step): value for step, values in exports.by_step(run).items() for name, value in values.items()}


def assert_same(found, run):
    expected = numbers(run)
    assert found.keys() == expected.keys()
    assert all(math.isclose(found[key], expected[key], rel_tol=1e-6, abs_tol=1e-300) for key in expected)


def test_the_numbers_are_those_of_the_tables(results):
    curves, layers = results.to_pandas("curves"), results.to_pandas("layers")
    (run,) = (run for run in results.results if str(run.job.scheme) == "kaiming" and run.job.seed == 1)
    found = numbers(run)
    own = curves.query("scheme == 'kaiming' and seed == 1 and quantity == 'train_loss'")
    assert [found["train_loss", step] for step in own.step] == pytest.approx(list(own.value))
    row = layers.query("scheme == 'kaiming' and seed == 1 and step == 6 and layer == 'linear1'").iloc[0]
    assert found["activation_variance/linear1", 6] == pytest.approx(row.activation_variance)


def test_each_run_has_a_name_of_its_own_that_is_safe(results):
    names = [exports.run_name(run) for run in results.results]
    assert len(set(names)) == len(names) == 6
    assert all(name.replace("é", "e").isascii() and not set(name) & set(" $&%'/\\:") for name in names)


def test_what_cannot_be_exported_is_said(results, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"There is no format 'csv'\. There are: mlflow, parquet, tensorboard, wandb"):
        exports.export(results, "csv", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(StorageError, match="is not empty"):
        exports.export(results, "parquet", tmp_path / "full")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(NotThereError, match=r"needs the package pyarrow. Install it: pip install 'initbench\[parquet\]'"):
        exports.export(results, "parquet", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def exported(results, name, tmp_path):
    done = CliRunner().invoke(app, ["export", name, str(results.folder), "--out", str(tmp_path / name)])
    assert done.exit_code == 0, done.output
    return tmp_path / name


@pytest.mark.exports
def test_tensorboard_reads_it(results, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    folder = exported(results, "tensorboard", tmp_path)
    from tensorboard.util.tensor_util import make_ndarray

    for run in results.results:
        events = accumulator.EventAccumulator(str(folder / exports.run_name(run)), size_guidance={"tensors": 0}).Reload()
        tags = [tag for tag in events.Tags()["tensors"] if not tag.startswith(("status", "hparam/"))]
        found = {(tag, each.step): float(make_ndarray(each.tensor_proto)) for tag in tags for each in events.Tensors(tag)}
        assert_same(found, run)


@pytest.mark.exports
def test_pandas_reads_parquet(results, tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    folder = exported(results, "parquet", tmp_path)
    assert {path.stem for path in folder.iterdir()} == {path.stem for path in (results.folder / "tables").glob("*.csv")}
    for path in folder.iterdir():
        pd.testing.assert_frame_equal(pd.read_parquet(path), results.to_pandas(path.stem), check_dtype=False)


def records(path):
    """The records of a file of wandb, which are wandb's own messages in the log format of LevelDB: blocks of 32 KiB, parts of records."""
    data, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in {1, 4}:  # whole, or its last part
            yield b"".join(parts)
            parts = []


@pytest.mark.exports
def test_wandb_reads_it(results, tmp_path):
    pytest.importorskip("wandb", reason="needs wandb")
    from wandb.proto import wandb_internal_pb2

    folder = exported(results, "wandb", tmp_path)
    files = {path.name.removeprefix("run-").removesuffix(".wandb"): path for path in folder.rglob("*.wandb")}
    assert files.keys() == {run.job_id for run in results.results}
    for run in results.results:
        found = {}
        for data in records(files[run.job_id]):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                row = {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
                found |= {(name, row["_step"]): value for name, value in row.items() if not name.startswith("_")}
        assert_same(found, run)


@pytest.mark.exports
def test_mlflow_reads_it(results, tmp_path):
    pytest.importorskip("mlflow", reason="needs mlflow")
    from mlflow.tracking import MlflowClient

    folder = exported(results, "mlflow", tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(results.folder.name)
    made = {each.data.tags["job_id"]: each for each in client.search_runs([experiment.experiment_id])}
    for run in results.results:
        own = made[run.job_id]
        assert own.data.params["scheme"] == str(run.job.scheme)
        assert float(own.data.params["train.lr"]) == run.job.train.lr
        names = [name for name in own.data.metrics if not name.startswith("final_")]
        found = {(name, each.step): each.value for name in names for each in client.get_metric_history(own.info.run_id, name)}
        assert_same(found, run)

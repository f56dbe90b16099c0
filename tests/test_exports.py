"""Exports: each is read back by the library that it is for, and compared number by number with the tables of the results folder."""

import json
import math
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

import initbench
from initbench import exports
from initbench.cli.app import app
from initbench.errors import ConfigError, NotThereError, StorageError
from initbench.question import catalog

HOSTILE = "x$\\frac$y <b>&#%:.py"
SCHEME = """
from initbench.schemes import kaiming


def build(*, gain: float = 1.0):
    return kaiming.build()
"""
MODEL = """
from math import prod

from torch import nn

NAMES = ("a/b", "a_b", "A_b", "/up", "%s {x} ü", "é" * 200)


class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(prod(shape) if name == "a/b" else 8, 8) for name in NAMES})
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers.values():
            x = layer(x).relu()
        return self.head(x)
"""
SAFE = {
    "layers.a/b": "layers.a_b",
    "layers.a_b": "layers.a_b_2",
    "layers.A_b": "layers.A_b_3",
    "layers./up": "layers._up",
    "layers.%s {x} ü": "layers._s_x",
    f"layers.{'é' * 200}": "layers",
    "head": "head",
}
"""What the layers are called where `/`, letters of other alphabets or the size of letters are trouble."""
SHIPPED = [entry.name for entry in catalog.entries("export") if entry.path.parent.name == "exports"]
METRICS = [entry.name for entry in catalog.entries("metric")]
LIBRARY = {"tensorboard": "tensorboard", "parquet": "pyarrow", "wandb": "wandb", "mlflow": "mlflow"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Runs that completed, diverged and were skipped, of a scheme and a model with hostile names."""
    base = tmp_path_factory.mktemp("exports")
    (base / HOSTILE).write_text(SCHEME, encoding="utf-8")
    (base / "net.py").write_text(MODEL, encoding="utf-8")
    return initbench.compare(
        ["kaiming", f"{base / HOSTILE}", "normal:std=30", "fixup"],
        model=f"{base / 'net.py'}:Net",
        dataset="synthetic:n=256,test=64,classes=3,shape=[1,6,6],noise=0.5",
        seeds=2,
        steps=12,
        settings=["probe.every_steps=5", "train.batch_size=16", "train.evaluate_every_steps=6"],
        output=str(base / "out"),
        engine="serial",
        device="cpu",
    )


def call(*words):
    return CliRunner().invoke(app, ["export", *map(str, words)])


def library(name):
    return pytest.importorskip(LIBRARY[name], reason=f"{LIBRARY[name]} is not installed: make test-exports installs it")


def in_tables(folder):
    """By scheme and seed, and by the name of a series: the values by step, as the CSV tables have them."""
    curves, layers = (pd.read_csv(folder / "tables" / f"{name}.csv") for name in ("curves", "layers"))
    found = {}
    for row in curves.dropna(subset="value").itertuples():
        found.setdefault((row.scheme, row.seed), {}).setdefault(row.quantity, {})[int(row.step)] = row.value
    texts = {
        "scheme",
        "seed",
        "status",
        "outcome",
        "step",
        "layer",
        "position",
        "prediction_note",
        "size",
        "place",
        "overflowed",
        "not_measured",
    }
    numbers = [column for column in layers.columns if column not in texts]
    for row in layers.dropna(subset="step").to_dict("records"):
        for column in numbers:
            if not math.isnan(row[column]):
                series = found.setdefault((row["scheme"], row["seed"]), {}).setdefault((column, row["layer"]), {})
                series[int(row["step"])] = row[column]
    return found


def read_tensorboard(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util.tensor_util import make_ndarray

    for folder in (path for path in out.iterdir() if path.is_dir()):
        events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        events.Reload()
        series = {
            tag: {each.step: make_ndarray(each.tensor_proto).item() for each in events.Tensors(tag)} for tag in events.Tags()["tensors"]
        }
        started = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
        given = {name: getattr(value, value.WhichOneof("kind")) for name, value in started.session_start_info.hparams.items()}
        final = {tag.removeprefix("final/"): values for tag, values in series.items() if tag.startswith("final/")}
        yield folder.name, given, {tag: values for tag, values in series.items() if "final/" not in tag and "_hparams_" not in tag}, final


def read_parquet(out):
    runs, curves, layers = (pd.read_parquet(out / f"{name}.parquet") for name in ("runs", "curves", "layers"))
    for run in runs.to_dict("records"):
        series = {}
        for row in curves[curves.run == run["run"]].itertuples():
            series.setdefault(row.quantity, {})[row.step] = row.value
        for row in layers[layers.run == run["run"]].to_dict("records"):
            for column, value in row.items():
                if isinstance(value, float) and not math.isnan(value):
                    series.setdefault(f"{column}/{row['layer']}", {})[row["step"]] = value
        yield run["run"], run, series, {name: {None: run[name]} for name in runs.columns if name in METRICS}


def records_of(content):
    """The records of a file of wandb's, whose package has no reader in Python any more: LevelDB's log format after a header of 7 bytes.

    Blocks of 32 KiB hold pieces with a checksum (4 bytes), a length (2) and a kind (1): whole, first, middle, last.
    """
    assert content[:4] == b":W&B"
    at, pieces = 7, b""
    while at < len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:
            yield pieces
            pieces = b""


def read_wandb(out):
    from wandb.proto.wandb_internal_pb2 import Record

    for path in out.glob("wandb/offline-run-*/run-*.wandb"):
        series, final = {}, {}
        for data in records_of(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                name, tags = record.run.display_name, list(record.run.tags)
                given = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            step = row.get("_step", record.history.step.num)
            for key, value in row.items():
                if not key.startswith("_"):
                    series.setdefault(key, {})[step] = value
            for item in record.summary.update:
                final["/".join(item.nested_key) or item.key] = {None: json.loads(item.value_json)}
        assert given["scheme"][:64] in tags
        assert f"seed {given['seed']}" in tags
        yield name, given, series, final


def read_mlflow(out):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'out'")
    for run in client.search_runs([experiment.experiment_id]):
        series = {key: {each.step: each.value for each in client.get_metric_history(run.info.run_id, key)} for key in run.data.metrics}
        final = {key.removeprefix("final/"): values for key, values in series.items() if key.startswith("final/")}
        given = {**run.data.params, **run.data.tags}
        yield run.info.run_name, given, {key: values for key, values in series.items() if not key.startswith("final/")}, final


READERS = {"tensorboard": read_tensorboard, "parquet": read_parquet, "wandb": read_wandb, "mlflow": read_mlflow}


def test_every_export_is_read_back_by_a_library_here():
    assert sorted(SHIPPED) == sorted(READERS) == sorted(LIBRARY)


@pytest.mark.exports
@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_library_reads_is_what_the_tables_say(name, compared, tmp_path):
    library(name)
    done = call(name, compared.folder, "--out", tmp_path / "here", "--quiet")
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    expected, named = in_tables(compared.folder), {layer: layer for layer in SAFE} if name == "parquet" else SAFE
    found = {
        (given["scheme"], int(given["seed"])): (run, given, series, final) for run, given, series, final in READERS[name](tmp_path / "here")
    }
    assert len(found) == len(compared.results) == 8
    assert len({run.casefold() for run, *_ in found.values()}) == 8
    numbers = 0
    for run in compared.results:
        key = (str(run.job.scheme), run.job.seed)
        _, given, series, final = found[key]
        assert given["status"] == run.status.value
        assert float(given["train.lr"]) == run.job.train.lr
        assert int(given["train.steps"]) == 12
        wanted = {tag if isinstance(tag, str) else f"{tag[0]}/{named[tag[1]]}": values for tag, values in expected.get(key, {}).items()}
        assert {tag: pytest.approx(values, rel=1e-8, abs=0) for tag, values in wanted.items()} == series
        numbers += sum(map(len, series.values()))
        for metric in compared.summary.metrics:
            value = metric.value(run) if metric.measured(run) else None
            read = [number for number in final.get(metric.name, {}).values() if not math.isnan(number)]
            assert read == ([] if value is None or math.isinf(value) else [value])
    assert numbers > 2000


OFFLINE = """
import socket, sys
asked = []
connect = socket.socket.connect
def watched(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        asked.append(address)
    return connect(self, address)
socket.socket.connect = watched
looked_up = socket.getaddrinfo
def looking(host, *rest, **more):
    if host not in ("127.0.0.1", "::1", "localhost"):
        asked.append(host)
    return looked_up(host, *rest, **more)
socket.getaddrinfo = looking
import initbench
print(initbench.export(sys.argv[1], sys.argv[2], sys.argv[3]).runs, asked)
"""


@pytest.mark.exports
@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_is_sent_and_nothing_is_looked_up(name, compared, tmp_path):
    library(name)
    settings = {
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "0" * 40,
        "MLFLOW_DISABLE_TELEMETRY": "false",
        "MLFLOW_TRACKING_URI": "http://192.0.2.1",
    }
    words = [sys.executable, "-c", OFFLINE, name, str(compared.folder), str(tmp_path / "out")]
    alone = (
        ["unshare", "--net"] if shutil.which("unshare") and not subprocess.run(["unshare", "--net", "true"], check=False).returncode else []
    )
    done = subprocess.run([*alone, *words], env={**os.environ, **settings}, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "8 []"
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "it writes into its folder alone"
    assert not [name for name in os.environ if name.startswith(("WANDB_SILENT", "MLFLOW_DISABLE"))]


def test_names_are_made_safe_and_stay_distinct():
    hostile = ["a/b", "a_b", "A_b", "a b", "..", ".", "", "-", "ü", "é", "x" * 300, "x" * 301, "con:1", "a_b_2", "\udce9\n\0"]
    safe = exports.safe_names(hostile)
    assert len({name.casefold() for name in safe}) == len(hostile)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,90}", name) for name in safe)
    assert exports.safe_names(["layers.0", "head"]) == ("layers.0", "head")


@pytest.mark.heavy
def test_long_schemes_keep_their_seed_in_the_name(compared):
    long = compared.results[0].job.scheme.model_copy(update={"name": "./" + "n" * 300 + ".py"})
    runs = [
        run.model_copy(update={"job": run.job.model_copy(update={"scheme": long, "seed": seed})})
        for seed, run in enumerate(compared.results)
    ]
    named = [run.name for run in exports.exported_runs(compared.config, runs, runs, ())]
    assert [name[-6:] for name in named] == [f"_seed{seed}" for seed in range(8)]


@pytest.mark.heavy
def test_runs_that_only_served_to_choose_are_there_and_say_so(compared):
    shown, chosen = compared.results[:4], compared.results[4:]
    runs = exports.exported_runs(compared.config, [*shown, *chosen], shown, ())
    assert [run.tags["purpose"] for run in runs] == ["reported"] * 4 + ["search"] * 4
    assert all(run.name.endswith(f"_{run.result.job_id[:8]}") for run in runs[4:])
    assert len({run.name for run in runs}) == 8


def test_a_configuration_is_flat_and_says_all_that_was_set(compared):
    run = exports.exported_runs(compared.config, compared.results, compared.results, ())[0]
    assert run.parameters["scheme"] == "kaiming"
    assert run.parameters["train.lr"] == 0.05
    assert run.parameters["train.betas"] == "[0.9,0.999]"
    assert run.parameters["init.exclude"] == "[embedding]"
    assert "train.epochs" not in run.parameters
    assert {type(value) for value in run.parameters.values()} <= {bool, int, float, str}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_package_that_is_missing_is_said_with_the_command_that_installs_it(name, compared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARY[name], None)
    done = call(name, compared.folder, "--out", tmp_path / "out")
    assert done.exit_code == NotThereError.exit_code
    said = f"This export needs the package {LIBRARY[name]}, which is not installed."
    said += f" It is in the extra '{name}': pip install '.[{name}]' in a clone of initbench"
    assert said in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_broken_is_said_too(monkeypatch):
    def broken(_module):
        raise ImportError("libthis.so: cannot open shared object file.")

    monkeypatch.setattr(exports.importlib, "import_module", broken)
    with pytest.raises(
        NotThereError, match=r"needs wandb, which cannot be imported \(libthis.so: cannot open shared object file\). It is in the extra"
    ):
        exports.needed("wandb", "wandb")


OWN = """
def write(runs, out, title):
    \"\"\"One line a run.\"\"\"
    for run in runs:
        (out / run.name).write_text(run.tags["scheme"])
    if title == "bad":
        raise RuntimeError("no more")
    return f"less {title}"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return "./own.py"


def test_a_file_of_ones_own_is_an_export(own, compared, tmp_path):
    made = initbench.export(own, compared.folder, tmp_path / "out")
    assert made == (tmp_path / "out", 8, "less out")
    written = json.loads((tmp_path / "out" / exports.MARK).read_text())["files"]
    assert sorted(written) == sorted(path.name for path in (tmp_path / "out").iterdir() if path.name != exports.MARK)
    assert len(written) == 8


def test_it_goes_beside_the_results_unless_told_otherwise(own, compared):
    made = initbench.export(own, compared.folder)
    assert made.folder == compared.folder / "exports" / "own"
    assert initbench.load_results(compared.folder).notes == ()
    assert initbench.export(own, compared.folder, fresh=True).folder == made.folder


def test_only_an_earlier_export_is_replaced_and_only_what_it_wrote(own, compared, tmp_path):
    out = tmp_path / "out"
    initbench.export(own, compared.folder, out)
    with pytest.raises(
        StorageError, match=r"is not an empty folder. Choose another with --out, or replace the export that is there with --fresh"
    ):
        initbench.export(own, compared.folder, out)
    (out / next(iter(json.loads((out / exports.MARK).read_text())["files"]))).write_text("old")
    initbench.export(own, compared.folder, out, fresh=True)
    assert all(path.read_text() != "old" for path in out.iterdir())
    (out / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="is not an empty folder"):
        initbench.export(own, compared.folder, out, fresh=True)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    with pytest.raises(StorageError, match=r"is not an empty folder. Choose another with --out.$"):
        initbench.export(own, compared.folder, tmp_path / "own.py", fresh=True)


@pytest.mark.heavy
@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', "{"])
def test_a_damaged_mark_removes_nothing(content, own, compared, tmp_path):
    initbench.export(own, compared.folder, tmp_path / "out")
    (tmp_path / "out" / exports.MARK).write_text(content)
    before = sorted((tmp_path / "out").iterdir())
    with pytest.raises(StorageError, match=r"is damaged. Remove"):
        initbench.export(own, compared.folder, tmp_path / "out", fresh=True)
    assert sorted((tmp_path / "out").iterdir()) == before


def test_a_mark_of_somebody_else_removes_nothing_outside(own, compared, tmp_path):
    out, outside = tmp_path / "out", tmp_path / "outside.txt"
    out.mkdir()
    outside.write_text("mine")
    names = ["../outside.txt", str(outside), "..", ".", ""]
    (out / exports.MARK).write_text(json.dumps({"files": names}))
    initbench.export(own, compared.folder, out, fresh=True)
    assert outside.read_text() == "mine"


def test_of_an_export_that_fails_nothing_stays(own, compared, tmp_path):
    shutil.copytree(compared.folder, tmp_path / "bad", symlinks=True)
    with pytest.raises(ConfigError, match=r"Cannot make the export './own.py': RuntimeError: no more \(own.py:7\)"):
        initbench.export(own, tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "said", "code"), [
    (["tensorbord"], "Unknown export 'tensorbord'. Did you mean 'tensorboard'? See: initbench list exports", 2),
    (["parquet", "nowhere"], "There is no results folder nowhere", 5),
    (["parquet", "empty"], "holds no initbench results", 5),
])  # fmt: skip
def test_what_cannot_be_exported_is_said(words, said, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = call(*words)
    assert done.exit_code == code
    assert said in " ".join(done.stderr.split())


@pytest.mark.heavy
def test_a_probe_has_no_runs_to_export(tmp_path):
    initbench.probe("mlp:depth=2,width=8", ["kaiming"], inputs="1x4x4", output=str(tmp_path / "probe"))
    done = call("parquet", tmp_path / "probe")
    assert done.exit_code == 2
    assert "holds a probe" in " ".join(done.stderr.split())
    assert "tables" in done.stderr


@pytest.mark.exports
@pytest.mark.parametrize("table", ["curves", "layers", "init"])
def test_parquet_has_the_rows_and_columns_of_the_tables(table, compared, tmp_path):
    library("parquet")
    initbench.export("parquet", compared.folder, tmp_path / "out")
    read = pd.read_parquet(tmp_path / "out" / f"{table}.parquet")
    first = {"curves": "step", "layers": "step", "init": "parameter"}[table]
    said = pd.read_csv(compared.folder / "tables" / f"{table}.csv").dropna(subset=first)
    keys = [name for name in ("scheme", "seed", "step", "quantity", "layer", "parameter") if name in said]
    assert list(read.columns) == ["run", *said.columns[:4], "purpose", *(name for name in read.columns[6:])]
    assert set(said.columns) == set(read.columns) - {"run", "purpose"}
    read, said = (frame.sort_values(keys, ignore_index=True)[said.columns] for frame in (read, said))
    read = read.replace("", None).where(read.notna(), None)
    pd.testing.assert_frame_equal(read.astype(said.dtypes), said, rtol=1e-8)
    assert len(read) > 30


@pytest.mark.heavy
def test_runs_of_a_sweep_have_their_cell_in_name_and_columns(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the package pyarrow, which `make test-exports` installs")
    swept = initbench.sweep(
        ["kaiming", "sigma"],
        grid={"model.depth": [2, 3], "train.optimizer,train.lr": [["sgd", 0.1], ["adam", 0.01]]},
        dataset="synthetic:n=256,test=128,classes=3,shape=[1,6,6]", steps=2, seeds=2, engine="serial", output=tmp_path / "out",
    )  # fmt: skip
    made = initbench.export("parquet", swept.folder)
    runs = pd.read_parquet(made.folder / "runs.parquet")
    assert len(set(runs.run)) == 16
    assert "kaiming_depth_3_optimizer_adam_lr_0.01_seed1" in set(runs.run)
    counted = runs.groupby(["scheme", "model.depth", "train.optimizer", "train.lr", "seed"]).size()
    assert counted.tolist() == [1] * 16
    assert set(runs["model.depth"]) == {2, 3}
    assert len(swept.to_pandas()) == 8
    assert set(swept.to_pandas("runs").seed) == {0, 1}

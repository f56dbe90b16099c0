"""From a job to its result, whatever happens on the way; and what is found before any job starts."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_support import arrays, job_of

from initbench.errors import ConfigError, DataError, DeviceError, DoesNotApply, InitbenchError
from initbench.results.record import RunResult, RunStatus
from initbench.training import job as worker
from initbench.training.devices import choose_device, small_runs


def run(job, **options):
    return worker.run_job(job, "an-id", device="cpu", data_dir=None, **options)


def check(job, **options):
    return worker.check(job, **{"device": "cpu", "data_dir": None, **options})


@pytest.fixture
def own(tmp_path):
    """Writes the user's own file and gives its path."""

    def write(text):
        path = tmp_path / "mine.py"
        path.write_text("import torch\nfrom torch import nn\n" + textwrap.dedent(text))
        return path

    return write


def test_a_completed_run_has_everything():
    result = run(job_of())
    assert result.status is RunStatus.COMPLETED
    assert result.reason is None
    assert (len(result.train_losses), len(result.evaluations), len(result.layers)) == (16, 3, 6)
    assert result.parameters == 36 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3
    assert result.classes == 3
    assert result.init.scheme == "kaiming"
    assert [entry.parameter for entry in result.init.parameters][:2] == ["linear1.weight", "linear1.bias"]
    assert {"data", "init", "train", "probe", "evaluate", "total"} == set(result.seconds)
    assert result.seconds["total"] >= sum(spent for part, spent in result.seconds.items() if part != "total") - 0.01
    assert {"torch", "device", "threads", "data"} <= set(result.provenance)


def test_a_result_survives_json():
    result = run(job_of("normal", train={"epochs": 1, "batch_size": 32, "lr": 1e30}))
    assert result.status is RunStatus.DIVERGED
    assert RunResult.model_validate_json(result.model_dump_json()) == result
    json.loads(result.model_dump_json(), parse_constant=lambda word: pytest.fail(f"{word} in the result"))


def test_two_schemes_with_one_seed_see_the_same_data_in_the_same_order():
    zero, also_zero = (run(job_of(name)) for name in ("zeros", "constant:value=0"))
    assert zero.train_losses == also_zero.train_losses


def test_a_scheme_that_does_not_apply_is_skipped_with_its_reason(own):
    path = own(
        """
        from initbench.errors import DoesNotApply
        from initbench.schemes import Layerwise

        def build():
            def refuse(model, layers):
                raise DoesNotApply("'picky' needs convolutions, and there are none.")
            return Layerwise("picky", lambda *_: None, check=refuse)
        """
    )
    job = job_of(str(path))
    assert check(job) > 0
    result = run(job)
    assert (result.status, result.reason) == (RunStatus.SKIPPED, "'picky' needs convolutions, and there are none.")


def test_a_bug_in_a_users_model_fails_the_run_in_one_line_that_says_where(own):
    path = own(
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(36, 3)
                self.calls = 0
            def forward(self, images):
                self.calls += self.training
                if self.calls > 4:
                    raise RuntimeError("first line\\n  second line")
                return self.layer(images.flatten(1))
        """
    )
    result = run(job_of(model=f"{path}:Net"))
    assert result.status is RunStatus.FAILED
    assert result.reason == "RuntimeError: first line second line (mine.py:12)"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_running_out_of_memory_is_said_in_words(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(worker, "train", fail)
    assert run(job_of()).reason == "out of memory on cpu: choose a smaller model or train.batch_size"


def test_what_users_print_does_not_reach_stdout(own, capfd):
    path = own(
        """
        def build(shape, classes):
            print("hello from the model")
            return nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
        """
    )
    assert run(job_of(model=str(path))).status is RunStatus.COMPLETED
    out, err = capfd.readouterr()
    assert out == ""
    assert "hello from the model" in err


def test_an_interrupt_is_not_swallowed(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(job_of())


def test_the_data_are_kept_for_the_next_job_until_they_are_let_go_of():
    worker.forget_data()
    run(job_of())
    run(job_of(scheme="xavier"))
    assert worker.load_data.cache_info().hits == 1
    worker.forget_data()
    assert worker.load_data.cache_info().currsize == 0


def test_progress_is_passed_on(monkeypatch):
    monkeypatch.setattr("initbench.training.loop.REPORT_SECONDS", 0.0)
    told = []
    run(job_of(), report=lambda done, total: told.append((done, total)))
    assert told[-1] == (16, 16)


def test_a_check_gives_the_number_of_trainable_parameters():
    assert check(job_of(model="mlp:depth=0")) == 36 * 3 + 3


@pytest.mark.parametrize(
    ("parts", "kind", "says"),
    [
        ({"train": {"epochs": 1, "batch_size": 300}}, ConfigError, "train.batch_size is 300, but synthetic has 256"),
        ({"dataset": "mnist"}, DataError, "Run: initbench data get mnist"),
        ({"dataset": "npz:file=nothing"}, DataError, "'nothing' is not in"),
        ({"model": "mlp:activation=rellu"}, ConfigError, "Did you mean 'relu'"),
        ({"model": "mlp:norm=bad"}, ConfigError, "Allowed: none, batch, layer"),
        ({"dataset": "synthetic:classes=1"}, ConfigError, "classes at least 2"),
        ({"scheme": "kaiming:mode=fan"}, ConfigError, "fan"),
        ({"init": {"layers": {"nothing.*": "zeros"}}}, ConfigError, "nothing"),
    ],
    ids=str,
)
def test_what_makes_a_job_impossible_is_found_before_it_starts(parts, kind, says, tmp_path):
    with pytest.raises(kind, match=says):
        check(job_of(**parts), data_dir=str(tmp_path))


def test_a_model_that_does_not_fit_is_found_before_it_starts(own):
    path = own("Net = lambda: None\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5))")
    with pytest.raises(ConfigError, match=r"but synthetic has 3 classes"):
        check(job_of(model=f"{path}:net"))


def test_a_model_without_weights_is_refused(own):
    path = own("def net():\n    return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(3))")
    with pytest.raises(ConfigError, match=r"no weight layer"):
        check(job_of(model=f"{path}:net"))


@pytest.mark.parametrize(
    ("text", "parts", "says"),
    [
        ("def build():\n    raise KeyError('no')", {"model": "{}"}, r"model '.*' cannot be built: KeyError: 'no' \(mine.py:4\)\."),
        ("class Own(Exception): pass\nraise Own('no')", {"model": "{}"}, r"Cannot import the model .*: Own: no \(mine.py:4\)\."),
        ("raise SystemExit(3)", {"model": "{}"}, r"Cannot import the model .*: SystemExit: 3 \(mine.py:3\)\."),
        ("net = nn.Linear(36, 3)", {"model": "{}:net"}, r"is a model that is built already\. Name its class"),
        ("def build(model):\n    pass", {"scheme": "{}"}, r"scheme '.*' cannot be built: TypeError: .*'model'"),
        ("def load(root):\n    return 1 / 0", {"dataset": "{}"}, r"dataset '.*' cannot be loaded: ZeroDivisionError: .* \(mine.py:4\)"),
        (
            "from initbench.schemes import Layerwise\ndef build():\n    return Layerwise('own', lambda *_: 1 / 0)",
            {"scheme": "{}"},
            r"scheme '.*' cannot initialize the model 'mlp.*': ZeroDivisionError: .* \(mine.py:5\)",
        ),
        (
            "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).requires_grad_(False)",
            {"model": "{}"},
            "no trainable parameter",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_the_users_code_is_a_sentence_with_its_line(own, text, parts, says):
    path = own(text)
    with pytest.raises(ConfigError, match=says):
        check(job_of(**{key: value.format(path) for key, value in parts.items()}))


def test_what_the_users_code_prints_in_a_check_stays_off_stdout(own, capsys):
    path = own("def build():\n    print('loud')\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))")
    check(job_of(model=str(path)))
    assert capsys.readouterr() == ("", "loud\n")


def test_a_model_of_lazy_layers_is_trained(own):
    path = own("def build():\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))")
    assert check(job_of(model=str(path))) == 36 * 8 + 8 + 8 * 3 + 3
    assert run(job_of(model=str(path))).status is RunStatus.COMPLETED


def test_a_data_set_that_is_none_is_refused(own):
    path = own("def load(root):\n    return 3")
    with pytest.raises(DataError, match=r"gives an int. Its load\(root\) must return DataSplits"):
        check(job_of(dataset=str(path)))


def test_a_truncated_data_file_is_found_before_it_starts(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    content = (tmp_path / "mine.npz").read_bytes()
    (tmp_path / "mine.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"mine.npz is damaged"):
        check(job_of(dataset="npz:file=mine"), data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "cpu:1", "cuda:x"])
def test_a_device_that_is_not_there_is_a_sentence(name):
    with pytest.raises(DeviceError, match=name):
        choose_device(name)


def test_auto_is_always_some_device():
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}


def test_small_runs_have_one_thread_and_give_the_threads_back():
    threads = torch.get_num_threads()
    with small_runs(2):
        assert torch.get_num_threads() == 2
    with small_runs():
        assert torch.get_num_threads() == 1
        assert (torch.tensor([1e-30]) * torch.tensor([1e-12])).item() == 0.0
    assert torch.get_num_threads() == threads
    assert (torch.tensor([1e-30]) * torch.tensor([1e-12])).item() != 0.0


def test_errors_reach_a_result_where_no_check_was_made():
    result = run(job_of(train={"epochs": 1, "batch_size": 300}))
    assert result.status is RunStatus.FAILED
    assert result.reason.startswith("train.batch_size is 300")


def test_users_errors_can_cross_process_borders():
    import pickle

    for kind in (InitbenchError, ConfigError, DataError, DeviceError, DoesNotApply):
        copy = pickle.loads(pickle.dumps(kind("a sentence")))
        assert type(copy) is kind
        assert str(copy) == "a sentence"


LEAKS = """
import os, signal, torch
from torch import nn
class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.layer = nn.Linear(36, classes)
    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.autograd.set_detect_anomaly(True)
        os.chdir("/")
        os.environ["LEAKED"] = "1"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nn.Linear.extra_repr = lambda self: "patched"
        torch.relu = None
        return self.layer(x.flatten(1).float())
"""


def settings():
    return (
        torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(), Path.cwd(), "LEAKED" in os.environ, signal.getsignal(signal.SIGINT), nn.Linear.extra_repr, torch.relu,
    )  # fmt: skip


def test_what_a_users_code_changes_does_not_outlive_its_run(own):
    before = settings()
    result = run(job_of(model=f"{own(LEAKS)}:Net"))
    assert settings() == before
    assert result.status is RunStatus.COMPLETED, result.reason


def model_that(own, *lines):
    body = "\n".join(f"        {line}" for line in lines)
    return f"{own(BREAKS.format(body=body))}:Net"


BREAKS = """
import os, sys
from torch import nn
class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.layer = nn.Linear(36, classes)
    def forward(self, x):
        if self.training:
            self.end()
        return self.layer(x.flatten(1))
    def end(self):
{body}
"""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sys.exit(0)", "SystemExit: 0 (mine.py:15)"),
        (r"raise ValueError('bad \udcff \x1b[31m')", r"ValueError: bad \udcff \x1b[31m (mine.py:15)"),
        ("raise ValueError(5_000_000 * 'words ')", None),
    ],
)
def test_a_run_that_breaks_is_that_runs_own_affair(own, line, reason):
    result = run(job_of(model=model_that(own, line)))
    assert result.status is RunStatus.FAILED
    assert reason is None or result.reason == reason
    assert len(result.reason) < 2200
    assert result.reason.isprintable()
    result.model_dump_json().encode()


@pytest.mark.heavy
def test_a_child_that_comes_back_from_the_users_code_ends(own, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_worker import run, job_of
result = run(job_of(model={model_that(own, "if not hasattr(Net, 'forked'): setattr(Net, 'forked', os.fork())")!r}))
print(result.status.value, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["completed"]

"""One run harms no other: what it raises, how it leaves Python, what it changes, how long it takes; and no process is left."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from training_support import TINY, jobs_of

from initbench.engines import processes, serial, stacked
from initbench.errors import LONGEST, ConfigError, printable, printable_lines
from initbench.question.config import Execution, ExperimentConfig
from initbench.reporting import tidy
from initbench.reporting.tables import Table, markdown
from initbench.results.lock import locked
from initbench.results.provenance import NOT_RESTORED
from initbench.results.record import RunResult
from initbench.studies.execution import carry_out
from initbench.studies.plan import make_plan
from initbench.training.limit import TooLong, limited
from initbench.workers import forked

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
ENGINES = {"serial": serial, "stacked": stacked, "processes": processes}
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc, forks and signals as Linux has them")
SHORT = {"train": {"steps": 6, "batch_size": 32}}

NET = """
import os, sys, time, signal, random, threading, warnings
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, bad=False):
        super().__init__()
        self.layer = nn.Linear(36, 3)
        self.bad, self.calls = bad, 0

    def forward(self, images):
        self.calls += self.training and torch.is_grad_enabled()
        if self.bad and self.training and self.calls == 2:
            self.misbehave()
        return self.layer(images.flatten(1))

    def misbehave(self):
        {body}
"""


@pytest.fixture
def net(tmp_path):
    """Writes a model that does what `body` says in the second step of training, where its parameter `bad` is true."""

    def write(body):
        path = tmp_path / "net.py"
        path.write_text(NET.replace("{body}", textwrap.indent(textwrap.dedent(body).strip(), " " * 8).strip()))
        return f"{path}:Net"

    return write


def mixed(model, **parts):
    """The bad run between two good ones, as (id, job)."""
    (first, last), (bad,) = (
        jobs_of("kaiming", seeds=(0, 2), model=model, **SHORT | parts),
        jobs_of("kaiming", seeds=(1,), model=f"{model}:bad=true", **SHORT | parts),
    )
    return [first, bad, last]


def collect(engine, jobs, **options):
    with closing(engine.execute(jobs, **{"device": "cpu", "data_dir": None, **options})) as results:
        return {result.job_id: result for result in results}


def losses(results, jobs):
    return [results[name].train_losses for name, _ in jobs]


ENDS = {
    "surrogate": ('raise ValueError("bad \\udcff \\x1b[31m red")', r"ValueError: bad \udcff \x1b[31m red"),
    "exit": ("sys.exit(0)", "SystemExit: 0 (net.py:"),
    "exit at once": ("os._exit(0)", "os._exit(0)"),
    "exit of its own kind": ("raise type('Own', (BaseException,), {})('mine')", "Own: mine"),
    "no message": ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()", "cannot be read, ZeroDivisionError"),
}


@needs_linux
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_ends_badly_fails_alone_and_says_why(net, engine, end):
    body, says = ENDS[end]
    jobs = mixed(net(body))
    results = collect(ENGINES[engine], jobs)
    assert [results[name].status for name, _ in jobs] == ["completed", "failed", "completed"]
    assert says in results[jobs[1][0]].reason
    assert RunResult.model_validate_json(results[jobs[1][0]].model_dump_json()) == results[jobs[1][0]]


def test_a_message_of_50_megabytes_takes_no_time_and_little_room(net):
    jobs = mixed(net("raise ValueError('long ' * 10_000_000)"))
    start = time.monotonic()
    reason = collect(serial, jobs)[jobs[1][0]].reason
    assert time.monotonic() - start < 5
    assert len(reason) < LONGEST + 100
    assert "long long" in reason


def test_text_of_others_is_one_line_that_does_nothing_to_a_terminal():
    assert printable("a\n b\x1b]0;title\x07\ud800\u202e c") == r"a b\x1b]0;title\x07\ud800\u202e c"
    assert [printable("x" * size) for size in (2000, 2001)] == ["x" * 2000, "x" * 2000 + "..."]
    assert printable_lines("a\x1b[2J\n  b\u00e4") == "a\\x1b[2J\n  b\u00e4"


@needs_linux
@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_of_the_process_that_comes_back_from_a_forward_does_nothing(net, tmp_path, engine):
    mark = tmp_path / "steps"
    model = net("self.forked = os.fork() == 0")
    (tmp_path / "net.py").write_text(
        (tmp_path / "net.py").read_text()
        + "\n\nclass Counts(Net):\n    def __init__(self, bad=False):\n        super().__init__(bad)\n    def forward(self, images):\n"
        f"        if getattr(self, 'forked', False): open({str(mark)!r}, 'a').write('x')\n        return super().forward(images)\n"
    )
    jobs = mixed(model.replace(":Net", ":Counts"))
    results = collect(ENGINES[engine], jobs)
    assert [results[name].status for name, _ in jobs] == ["completed"] * 3
    assert not mark.exists()


CHANGES = {
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "threads": "torch.set_num_threads(2)",
    "grad mode": "torch._C._set_grad_enabled(False)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "denormals": "torch.set_flush_denormal(False)",
    "folder": "os.chdir('/')",
    "environment": "os.environ['OURS'] = '1'; os.environ.pop('PATH')",
    "warnings": "warnings.simplefilter('error')",
    "signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "umask": "os.umask(0o777)",
    "soft limit": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))",
    "stdout": "sys.stdout = None",
    "a layer": "nn.Linear.forward = lambda self, x: super(nn.Linear, self).forward(x)",
    "a call": "nn.Linear.__call__ = lambda self, x: 1 / 0",
    "a function": "nn.functional.cross_entropy = lambda *_, **__: 1 / 0",
    "an initializer": "nn.init.kaiming_normal_ = nn.init.normal_ = nn.init.uniform_ = lambda tensor, *_, **__: tensor.zero_()",
    "hooks": "nn.modules.module.register_module_forward_hook(lambda *_: 1 / 0)",
    "numpy": "np.seterr(all='raise')",
}


@needs_linux
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_run_changes_is_put_back_before_the_next(net, change):
    model = net(CHANGES[change])
    jobs = mixed(model)
    alone = [collect(serial, [job])[job[0]] for job in (jobs[0], jobs[2])]
    state = {name: setting() for name, setting in SEEN.items()}
    for engine in (serial, processes):
        together = collect(engine, jobs, workers=1)
        assert [together[jobs[place][0]].train_losses for place in (0, 2)] == [run.train_losses for run in alone], engine.__name__
        assert all(NOT_RESTORED not in run.provenance for run in together.values())
        assert [together[jobs[place][0]].provenance["threads"] for place in (0, 2)] == ["1", "1"]
    assert {name: setting() for name, setting in SEEN.items()} == state


def _seen():
    import numpy as np
    import torch

    return {
        "dtype": torch.get_default_dtype,
        "device": lambda: torch.zeros(1).device,
        "threads": torch.get_num_threads,
        "grad": torch.is_grad_enabled,
        "folder": Path.cwd,
        "environment": lambda: dict(os.environ),
        "signals": lambda: signal.getsignal(signal.SIGTERM),
        "numpy": np.geterr,
        "layer": lambda: (torch.nn.Linear.forward, torch.nn.Linear.__call__, torch.nn.functional.cross_entropy),
        "draws": lambda: torch.nn.init.uniform_,
    }


SEEN = _seen()


@needs_linux
@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_the_random_numbers_of_a_run_do_not_depend_on_the_runs_before_it(tmp_path, engine):
    path = tmp_path / "drawn.py"
    path.write_text(
        "import random\nimport numpy as np\nimport torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(36, 3)\n"
        "    def forward(self, images):\n"
        "        return self.layer(images.flatten(1)) * (1 + random.random() + np.random.rand())\n"
    )
    jobs = jobs_of("kaiming", "xavier", seeds=(0, 1), model=f"{path}:Net", **SHORT)
    forward, backward = (collect(ENGINES[engine], order, workers=1) for order in (jobs, jobs[::-1]))
    assert losses(forward, jobs) == losses(backward, jobs)
    assert len({*losses(forward, jobs)}) == 4


LOST = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"


@needs_linux
@pytest.mark.skipif(
    sys.platform == "linux" and os.system("bash -c 'ulimit -Hc 0; ulimit -Hc 1' 2>/dev/null") == 0, reason="may raise limits"
)
def test_a_worker_that_cannot_be_put_back_is_replaced_and_the_run_says_so(tmp_path):
    path = tmp_path / "limits.py"
    path.write_text(
        NET.replace("{body}", LOST) + "\nclass Looks(Net):\n    def forward(self, images):\n        import resource\n"
        "        assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0, 'changed by another run'\n"
        "        return super().forward(images)\n"
    )
    bad = jobs_of("kaiming", seeds=(0,), model=f"{path}:Net:bad=true", **SHORT)
    good = jobs_of("kaiming", seeds=(1, 2), model=f"{path}:Looks", **SHORT)
    results = collect(processes, [*bad, *good], workers=1)
    assert [results[name].status for name, _ in [*bad, *good]] == ["completed"] * 3
    assert results[bad[0][0]].provenance[NOT_RESTORED] == "resource limits"
    assert NOT_RESTORED not in results[good[0][0]].provenance


@needs_linux
@pytest.mark.parametrize(
    ("engine", "body"),
    [
        ("processes", "while True: pass"),
        ("processes", "os.kill(os.getpid(), signal.SIGSTOP)"),
        ("processes", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(600)"),
        ("serial", "self.calls -= 1; time.sleep(0.05)"),
        ("stacked", "self.calls -= 1; time.sleep(0.05)"),
        ("serial", "while True: pass"),
        ("stacked", "while True: pass"),
    ],
)
def test_a_run_that_takes_too_long_fails_and_the_others_do_not(net, engine, body):
    jobs = mixed(net(body), train={"steps": 200, "batch_size": 32})
    start = time.monotonic()
    results = collect(ENGINES[engine], jobs, workers=1, run_timeout=4.0)
    assert [results[name].status for name, _ in jobs] == ["completed", "failed", "completed"]
    assert results[jobs[1][0]].reason == "it took longer than --run-timeout 4"
    assert time.monotonic() - start < 20


@needs_linux
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("body", ["time.sleep(600)", "while True: pass"])
def test_a_check_that_takes_too_long_is_a_sentence(tmp_path, engine, body):
    path = tmp_path / "slow.py"
    path.write_text(f"import time\n{body}\n")
    with pytest.raises(ConfigError, match=r"could not be checked: it took longer than --run-timeout 2"):
        ENGINES[engine].execute(jobs_of("kaiming", model=f"{path}:Net"), device="cpu", data_dir=None, workers=1, run_timeout=2.0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@needs_linux
def test_a_drawing_process_that_is_killed_costs_nothing(tmp_path):
    script = tmp_path / "draws.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from initbench.reporting import draw
            from initbench.reporting.panels import Curve, Panel, Plot
            panel = Panel("", "step", "loss", (Curve("a", ((1.0, 0.1), (2.0, 1.0)), named=True),))
            plots = [Plot(f"p{place}", "A plot", ((panel,),), ("a",)) for place in range(6)]
            draw.cores = lambda: 2
            one_by_one = [draw.draw(plot) for plot in plots]
            ours, drawn = os.getpid(), draw.draw
            def killed(plot):
                if plot.name == "p3" and os.getpid() != ours:
                    os.kill(os.getpid(), signal.SIGKILL)
                return drawn(plot)
            draw.draw = killed
            assert draw.draw_all(plots) == one_by_one
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_forked_processes_give_results_in_order_and_what_they_raise():
    assert list(forked.mapped(lambda number: number * number, range(20), 3)) == [number * number for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(forked.mapped(lambda number: 1 / number, [2, 1, 0, 3], 2))


def children(process):
    """All descendants of a process that are there, the fork server's too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process and state != "Z":
                found += [int(folder.name), *children(int(folder.name))]
    return found


def alive(process):
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


SLOW_DRAWING = """
import runpy, sys, time
from initbench.reporting import draw
draw.cores = lambda: 2
drawn = draw.draw
def slow(plot):
    if plot.name != "ahead":
        print("drawing", file=sys.stderr, flush=True)
        time.sleep(600)
    return drawn(plot)
draw.draw = slow
sys.argv = ["initbench", "compare", "xavier", "kaiming", "--dataset", {dataset!r}, "--model", "mlp:depth=1,width=4",
            "--steps", "2", "--seeds", "2"]
runpy.run_module("initbench", run_name="__main__")
"""
SLOW_PROBE = """
import runpy, sys, time
from initbench.training import untrained
def slow(*_):
    print("probing", file=sys.stderr, flush=True)
    time.sleep(600)
untrained.Prober._measured = slow
sys.argv = ["initbench", "probe", "xavier", "kaiming", "--seeds", "8", "--dataset", {dataset!r}, "--model", "mlp:depth=1,width=4"]
runpy.run_module("initbench", run_name="__main__")
"""


@needs_linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("script", "sign"), [(SLOW_DRAWING, "drawing"), (SLOW_PROBE, "probing")], ids=["drawing", "probing"])
def test_no_process_is_left_whatever_stops_the_command(tmp_path, script, sign, number):
    command = subprocess.Popen(
        [sys.executable, "-c", script.format(dataset=TINY)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    said = []
    for line in command.stderr:
        said.append(line)
        if sign in line:
            break
    team = children(command.pid)
    assert team, said
    for _ in range(2):
        os.kill(command.pid, number) if number == signal.SIGKILL else os.killpg(command.pid, number)
        time.sleep(0.1)
    start = time.monotonic()
    _, rest = command.communicate(timeout=15)
    while any(map(alive, team)) and time.monotonic() - start < 5:
        time.sleep(0.05)
    assert time.monotonic() - start < 5
    assert not [process for process in team if alive(process)]
    assert command.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in rest
    if number != signal.SIGKILL:
        assert "Stopped" in rest


@needs_linux
@pytest.mark.parametrize("body", ["while True: pass", "time.sleep(600)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_ctrl_c_answers_at_once_whatever_a_run_is_at(net, tmp_path, body):
    model = net(f"os.write(2, b'reached' + bytes([10]))\n{body}")
    command = subprocess.Popen(
        [sys.executable, "-m", "initbench", "compare", "xavier", "kaiming", "--dataset", TINY, "--steps", "200000", "--jobs", "1",
         "--model", f"{model}:bad=true"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in command.stderr:
        if "reached" in line:
            break
    team = children(command.pid)
    os.killpg(command.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(command.pid, signal.SIGINT)
    _, rest = command.communicate(timeout=5)
    assert command.returncode == 130
    assert "Stopp" in rest
    time.sleep(0.3)
    assert not [process for process in team if alive(process)]


@needs_linux
def test_a_bad_run_changes_the_exit_code_and_nothing_reaches_the_terminal(net, tmp_path):
    model = net(ENDS["surrogate"][0])
    done = subprocess.run(
        [sys.executable, "-m", "initbench", "compare", "xavier", "kaiming", "--seeds", "1", "--dataset", TINY, "--steps", "6",
         "--model", f"{model}:bad=true", "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 2
    assert b"\x1b" not in done.stdout + done.stderr
    files = [file for file in (tmp_path / "results").rglob("*") if file.is_file() and file.suffix != ".png"]
    assert len(files) > 5
    assert not [file for file in files if b"\x1b" in file.read_bytes()]


def test_names_and_messages_are_text_in_markdown_and_in_a_spreadsheet():
    said = "![x](http://example.org/a.png) <script>alert(1)</script> [y](z) p < 0.01 <img onerror=1>"
    table = markdown(Table("t", ("scheme", "why"), [(said, "a|b")]))
    assert table.splitlines()[2] == (
        "| !\\[x]\\(http://example.org/a.png) &lt;script>alert(1)&lt;/script> [y]\\(z) p < 0.01 &lt;img onerror=1> | a\\|b |"
    )
    written = list(csv.reader(io.StringIO(tidy.write(("name", "number"), [("=1+1", -1.5), ("@SUM(A1)", 2), ("+cmd", None), ("he-x", -3)]))))
    assert written[1:] == [["'=1+1", "-1.5"], ["'@SUM(A1)", "2"], ["'+cmd", ""], ["he-x", "-3"]]


def test_a_limit_is_raised_again_for_code_that_catches_everything():
    caught, start = 0, time.monotonic()
    with pytest.raises(TooLong, match=r"--run-timeout 0\.2"), limited(0.2):  # noqa: PT012 - a loop is what is tested
        while caught < 1:
            try:
                while True:
                    pass
            except Exception:  # noqa: BLE001 - as careless code does
                caught += 1
        while True:
            pass
    assert caught == 1
    assert 1.1 < time.monotonic() - start < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_engine_that_knows_no_limit_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def execute(jobs, *, device, data_dir, workers=None, threads=1, report=None):
        raise AssertionError

    config = ExperimentConfig(schemes=[job.scheme for _, job in jobs_of("kaiming")], seeds=[0])
    limited_plan = make_plan("run", config, Execution(run_timeout=3.0, engine="serial"))
    monkeypatch.setattr("initbench.studies.execution.catalog.load", lambda *_: execute)
    with pytest.raises(ConfigError, match="cannot end a run that takes too long"):
        carry_out(limited_plan)


@needs_linux
@pytest.mark.parametrize("command", ["probe", "map"])
def test_a_probe_or_map_waits_for_no_folder_that_is_in_use(tmp_path, command):
    held = tmp_path / "r"
    more = ["--map", "sigma_w,sigma_b"] if command == "map" else ["--input", "8"]
    with locked(held):
        probed = [sys.executable, "-m", "initbench", "probe", "--model", "mlp:depth=2,width=8", "--out", str(held), *more]
        done = subprocess.run(
            probed, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
    assert done.returncode != 0
    assert f"in use by another initbench command (process {os.getpid()}," in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr

"""Whatever a command is at, a signal ends it in time, in words, and no process of it is left."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from initbench.cli import heartbeat

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them, and /proc says which are left")

HANG = """
import os
from pathlib import Path

def hang():
    Path(os.environ["OWN_MARK"], f"hangs.{os.getpid()}").touch()
    while True:
        pass
"""
NET = """
from torch import nn
from hanging import hang
{at_import}
class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, classes))

    def forward(self, x):
        if {when}:
            hang()
        return self.layers(x)
"""
RUN = ["run", "-m", "kaiming", "--model", "./own.py:Net", "--seeds", "2", "--steps", "5", "--out", "here", "--device", "cpu"]
PROBE = ["probe", "--model", "./own.py:Net", "--dataset", "mnist5k", "kaiming"]
PHASES = {
    "import": (RUN, "hang()", "False"),
    "check": (RUN, "", "x.shape[0] <= 8"),
    "training in processes": ([*RUN, "--engine", "processes"], "", "self.training and x.shape[0] > 64"),
    "training in this process": ([*RUN, "--engine", "serial"], "", "self.training and x.shape[0] > 64"),
    "probing": (PROBE, "", "x.shape[0] > 64"),
    "probing in processes": (
        ["probe", "kaiming", "xavier", "lecun", "--seeds", "4", "--model", "./own.py:Net", "--dataset", "mnist5k"],
        "",
        "x.shape[0] > 64",
    ),
    "drawing": (["compare", "kaiming", "xavier", "--steps", "5", "--seeds", "2", "--out", "here"], "", ""),
}
"""Of each: the words of the command, what the model's file does when it is imported, and when a forward does not end."""
DRAWING = """
import sys
sys.path.insert(0, ".")
from hanging import hang
import initbench.reporting.draw as draw
ready, draw.import_ahead = draw.draw, lambda: None
draw.draw = lambda *_given: hang()
from initbench.__main__ import main
main()
"""
SIGNALS = {"Ctrl-C": [signal.SIGINT], "Ctrl-C twice": [signal.SIGINT] * 2, "SIGTERM": [signal.SIGTERM], "SIGKILL": [signal.SIGKILL]}
WAITS = {"training in processes", "training in this process"}
"""Where the first signal lets the step end: it is answered, and the second one ends the command."""


def marked(text):
    """The command lines of the processes that were started with this text in their environment, and live."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes())
    return found


def hanging(phase, folder):
    """The command, which hangs in this phase."""
    words, at_import, when = PHASES[phase]
    (folder / "hanging.py").write_text(HANG)
    (folder / "own.py").write_text(NET.format(at_import=at_import, when=when or "False"))
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd())), "OWN_MARK": str(folder)}
    code = ["-c", textwrap.dedent(DRAWING)] if phase == "drawing" else ["-m", "initbench"]
    with (folder / "said").open("wb") as said:
        command = subprocess.Popen([sys.executable, *code, *words], cwd=folder, env=environment, stdout=said, stderr=said)
    deadline = time.monotonic() + 60
    while not list(folder.glob("hangs.*")):
        assert time.monotonic() < deadline, (folder / "said").read_text()
        assert command.poll() is None, (folder / "said").read_text()
        time.sleep(0.05)
    return command


@pytest.mark.parametrize("sent", [pytest.param(sent, marks=[pytest.mark.heavy] * (sent != "SIGKILL")) for sent in SIGNALS])
@pytest.mark.parametrize(
    "phase", [pytest.param(phase, marks=[pytest.mark.heavy] * (phase not in {"training in processes", "probing"})) for phase in PHASES]
)
def test_a_command_that_hangs_is_ended_by_a_signal_and_leaves_no_process(phase, sent, tmp_path):
    command = hanging(phase, tmp_path)
    first, *others = SIGNALS[sent]
    command.send_signal(first)
    if phase in WAITS and first != signal.SIGKILL:
        deadline = time.monotonic() + 10
        while "Stop" not in (tmp_path / "said").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "Stop" in (tmp_path / "said").read_text()
        others = others or [first]
    for number in others:
        time.sleep(0.3)
        command.send_signal(number)
    command.wait(10)
    said = (tmp_path / "said").read_text()
    if first != signal.SIGKILL:
        assert command.returncode == 128 + first, said
        assert said.strip()
    assert "Traceback" not in said
    deadline = time.monotonic() + 20
    while (left := marked(str(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.mark.heavy
def test_a_signal_to_the_whole_group_stops_in_words_though_it_ends_the_workers(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd()))}
    words = ["run", "-m", "kaiming", "--seeds", "2", "--steps", "100000", "--out", "here", "--engine", "processes", "--device", "cpu", "-v"]
    with (tmp_path / "said").open("wb") as said:
        start = [sys.executable, "-m", "initbench", *words]
        command = subprocess.Popen(start, cwd=tmp_path, env=environment, stdout=said, stderr=said, start_new_session=True)
    time.sleep(6)
    os.killpg(command.pid, signal.SIGTERM)
    command.wait(20)
    text = (tmp_path / "said").read_text()
    assert command.returncode == 128 + signal.SIGTERM, text
    assert "Stopped before a run was finished" in text
    assert "Error" not in text


@pytest.mark.heavy
def test_a_probe_that_gives_no_sign_is_named_and_one_that_does_is_not(monkeypatch):
    said = []
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 0.4)
    with heartbeat.alarm("No sign", said.append):
        time.sleep(1.5)
    assert len(said) == 2  # after 0.4 and after 0.8 seconds
    assert said[0].startswith("No sign for 0 s.")
    said.clear()
    with heartbeat.alarm("No sign", said.append) as sign:
        for _ in range(8):
            time.sleep(0.1)
            sign()
    assert not said
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)

"""Thousands of mangled configurations and command lines: a sentence and a documented exit code, never a traceback or a hang.

`make test` tries some of each kind; the heavy tests try 2,000.
"""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from initbench.cli.app import app
from initbench.errors import ConfigError
from initbench.question import config_file

NASTY = (
    *("", "~", "null", "-", "-1", "0", "1e400", ".inf", ".nan", "9" * 300, "0x10", "1_000", "true", "yes", "[]", "{}", "[1,[2,[3]]]"),
    *("{a: b}", "&a [*a]", "*a", "!!python/object:os.system", "<<: *a", "'", '"', "a: b: c", "\t", "\0", "\udcff", "é", "٣", "../.."),
    *("/dev/zero", "./mine.py", "./mine.py:Net", "os:system", "k" * 300, "$\\frac$", "<script>", "=1+1", "\x1b[31m", "%s", "{0}"),
    *("2024-13-45", "12:30:45", "kaiming", "mlp:depth=2", "all", "npz:file=x"),
)
CONFIGS = {name: path.read_text(encoding="utf-8") for name, path in config_file.shipped().items()}
LINES = (
    "compare xavier kaiming normal:std=0.1 --seeds 4 --steps 20 --model mlp:depth=2,width=16 --set train.lr=0.1 --dry-run",
    "compare -m xavier -m kaiming -c mnist5k_mlp --metric final_test_loss --margin 0.5 --target 0.9 --reference kaiming --dry-run",
    "compare --family residual -c cifar10_resnet --dataset synthetic:n=99,test=20,shape=[3,8,8] --set train.batch_size=9 --dry-run --json",
    "compare kaiming xavier --tune train.lr=0.01,0.1,1 --set train.epochs=2 --set init.layers.head=zeros --jobs 2 --device cpu --dry-run",
    "run --method orthogonal:gain=2 --model cnn:channels=[8,8] --dataset mnist5k --engine serial --run-timeout 9 --fresh -q --dry-run",
    "run --method kaiming:mode=fan_out --model vit:depth=2,width=32,heads=2,patch=7 --epochs 1 --strict -v --dry-run",
    "recommend mlp:depth=3,activation=gelu -m kaiming --dataset mnist5k --seeds 2 --dry-run",
    "probe kaiming xavier --model resnet:depth=8 --input 3x8x8 --batch 16 --classes 10 --seeds 2",
    "probe --as-is --model mlp:depth=2 --checkpoint mine.pt --dataset synthetic:n=64,test=20,shape=[1,4,4]",
    "probe --map sigma_w=1:3:4,depth=2:8:3 --model mlp:depth=2",
    "report here --metric best_test_accuracy --reference xavier --margin none --json",
    "report here there --out both --against he2015",
    "resume here --dry-run --jobs 1",
    *("list schemes", "show kaiming", "show mnist5k_mlp", "config show smoke", "config validate mine.yaml", "config schema"),
    *("data list", "data verify mnist5k", "doctor", "--version", "--help"),
)  # fmt: skip
WORDS = tuple(sorted({word for line in LINES for word in line.split(" ")} - {"--help"}))
PLANNED = {"compare", "run", "recommend", "resume", "smoke", "check-scheme"}
"""Commands that would train, of which only the plan is asked for here."""
CODES = {0, 2, 3, 4, 5}
SECONDS = 120.0


@st.composite
def mangled(draw, texts=tuple(CONFIGS.values())):
    """A configuration with some of its lines lost, doubled or moved, and some of its words replaced by others or by nasty ones."""
    lines = draw(st.sampled_from(texts)).splitlines()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        how = draw(st.sampled_from(["lose", "double", "move", "indent", "word", "value", "letters"]))
        line = lines[at] if lines else ""
        if how == "lose":
            lines[at : at + 1] = []
        elif how == "double":
            lines.insert(at, line)
        elif how == "move":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif how == "indent":
            lines[at : at + 1] = [" " * draw(st.integers(0, 8)) + line.strip()]
        elif how == "word":
            words = line.split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(NASTY))
            lines[at : at + 1] = [" ".join(words)]
        elif how == "value":
            lines[at : at + 1] = [f"{line.partition(':')[0]}: {draw(st.sampled_from(NASTY))}"]
        else:
            place = draw(st.integers(0, len(line)))
            lines[at : at + 1] = [line[:place] + draw(st.text(max_size=4)) + line[place + draw(st.integers(0, 3)) :]]
    return "\n".join(lines) + "\n"


@st.composite
def command_lines(draw):
    """A command line that works, with some of its words lost, doubled, moved or replaced by others or by nasty ones."""
    words = draw(st.sampled_from(LINES)).split(" ")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words) - 1))
        old, new = words[at], draw(st.one_of(st.sampled_from(WORDS), st.sampled_from(NASTY)))
        words[at : at + 1] = draw(st.sampled_from([[], [old, old], [new], [new, old], [old + new], [f"{old.partition('=')[0]}={new}"]]))
        words = words or [new]
    return [word.replace("\0", "").replace("\udcff", "\ufffd") for word in words]  # a system gives no such words


def checked(words):
    """Carries out a command line and says what must be true of every one."""
    begun = time.monotonic()
    ran = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
    assert ran.exception is None or isinstance(ran.exception, SystemExit), (words, ran.exception)
    assert ran.exit_code in CODES, (words, ran.output)
    assert ran.exit_code == 0 or ran.output.strip(), words
    assert "Traceback" not in ran.output, words
    assert time.monotonic() - begun < SECONDS, words


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder of its own, in which nothing is trained, probed, drawn or downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INITBENCH_DATA", raising=False)

    def no_further(*_given, **_more):
        raise ConfigError("Understood; nothing is probed here.")

    monkeypatch.setattr("initbench.probing.run.carry_out", no_further)
    monkeypatch.setattr("initbench.cli.probe._draw_map", no_further)
    return tmp_path


some = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def configs_are_read_or_refused(text, folder):
    (folder / "mine.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    checked(["config", "validate", "mine.yaml"])


@pytest.mark.heavy
@some
@given(text=mangled())
def test_mangled_configs_are_read_or_refused(text, folder):
    configs_are_read_or_refused(text, folder)


@pytest.mark.heavy
@many
@given(text=mangled())
def test_two_thousand_mangled_configs_are_read_or_refused(text, folder):
    configs_are_read_or_refused(text, folder)


def are_understood_or_refused(words):
    checked([*words, "--dry-run"] if PLANNED & set(words) else words)


@pytest.mark.heavy
@some
@given(words=command_lines())
def test_command_lines_of_any_words_are_understood_or_refused(words, folder):
    are_understood_or_refused(words)


@pytest.mark.heavy
@many
@given(words=command_lines())
def test_two_thousand_command_lines_of_any_words_are_understood_or_refused(words, folder):
    are_understood_or_refused(words)

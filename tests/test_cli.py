"""The command line: names, streams, exit codes, and one clear sentence for whatever is wrong."""

import contextlib
import html
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app

TINY = ["--dataset", "synthetic:n=64,test=20,shape=[1,4,4]", "--model", "mlp:depth=1,width=8", "--steps", "2", "--engine", "serial"]
TINY += ["--device", "cpu", "--set", "train.batch_size=16", "--set", "probe.batch_size=16"]


def but(option, value):
    """`TINY` with another value of one option."""
    place = TINY.index(option)
    return [*TINY[: place + 1], value, *TINY[place + 2 :]]


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INITBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("initbench.reporting.draw.draw", lambda _plot, *_style: {".png": b"", ".svg": b"<svg/>"})
    monkeypatch.setattr("initbench.reporting.draw.cores", lambda: 1)

    def called(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "80"})

    return called


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["compare", "xavir", "kaiming"], 2, "Unknown scheme 'xavir'. Did you mean 'xavier'? See: initbench list schemes"),
        (["run", "--method", "kaiming:moed=x"], 2, "The scheme 'kaiming' has no parameter 'moed'. Did you mean 'mode'?"),
        (["run", "kaiming:mode=fan_sideways", *TINY], 2, "The parameter 'mode' of the scheme 'kaiming' is 'fan_sideways'."),
        (["run", "kaiming", "--model", "mpl"], 2, "Unknown model 'mpl'. Did you mean 'mlp'?"),
        (["run", "kaiming", "--dataset", "mnits"], 2, "Unknown dataset 'mnits'. Did you mean 'mnist'?"),
        (["run", "kaiming", "--engine", "seriel"], 2, "Unknown engine 'seriel'. Did you mean 'serial'?"),
        (["run", "kaiming", "-c", "mnist_mpl"], 2, "Unknown config 'mnist_mpl'. Did you mean 'mnist_mlp'"),
        (["run", "kaiming", "--set", "train.lr=-1"], 2, "--set train.lr=-1: train.lr is -1; it must be greater than 0."),
        (["run", "kaiming", "--set", "train.lrr=1"], 2, "unknown key 'train.lrr'. Did you mean 'lr'?"),
        (["run", "kaiming", "--set", "train.lr=fast"], 2, "train.lr is 'fast'; it must be a number."),
        (["run", "kaiming", "--seeds", "0"], 2, "--seeds: seeds is 0; it must be at least 1"),
        (["run", "kaiming", "--seeds", "1" * 30], 2, "it must be at most 100000 (8 means 0 to 7)"),
        (["run", "kaiming", "--seeds", "many"], 2, "--seeds: seeds is 'many'; it must be a number (8 means 0 to 7)"),
        (["run", "kaiming", "--epochs", "0"], 2, "--epochs: train.epochs is 0; it must be at least 1."),
        (["run"], 2, "No scheme is named."),
        (["run", "kaiming", "xavier"], 2, "`run` takes one scheme, not 2."),
        (["compare", "kaiming"], 2, "`compare` takes two schemes or more"),
        (["compare", "kaiming", "he"], 2, "'kaiming' and 'he' are the same scheme, kaiming. Name it once."),
        (["compare", "kaiming", "xavier", "--reference", "zeros"], 2, "The reference 'zeros' is not among the schemes: kaiming, xavier."),
        (["run", "kaiming", *but("--device", "tpu")], 5, "Unknown device 'tpu'. Allowed: auto, cpu, cuda"),
        (["run", "kaiming", "--dataset", "mnist"], 5, "The dataset 'mnist' is not in"),
        (["run", "kaiming", *(word.replace("train.batch_size=16", "train.batch_size=65") for word in TINY)], 2, "65"),
        (["run", "kaiming", *but("--model", "cnn:kernel=2")], 2, "kernel is 2"),
        (["run", "kaiming", *TINY, "-o", "/proc/nowhere"], 5, "Cannot write to /proc"),
        (["show", "xavir"], 2, "Unknown name 'xavir'. Did you mean 'xavier'? See: initbench list"),
        (["list", "scheme"], 2, "Unknown kind 'scheme'. Did you mean 'schemes'?"),
        (["report", "nowhere"], 5, "There is no results folder nowhere."),
        (["resume", "nowhere"], 5, "There is no results folder nowhere."),
        (["data", "get", "mnits"], 2, "Unknown download 'mnits'. Did you mean 'mnist'?"),
        (["data", "verify", "digits"], 5, "The dataset 'digits' is not in"),
        (["data", "import", "nowhere.npz"], 5, "There is no file nowhere.npz"),
        (["compaer"], 2, "No such command 'compaer'. Did you mean 'compare'?"),
        (["run", "kaiming", "--sedes", "3"], 2, "No such option: --sedes"),
    ],
)
def test_whatever_is_wrong_is_told_in_a_sentence_and_nothing_is_written(call, tmp_path, arguments, code, sentence):
    result = call(*arguments)
    told = " ".join(result.stderr.replace("│", " ").split())
    assert sentence in told
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert [path for path in tmp_path.iterdir() if path.name != "home"] == []


def test_a_damaged_data_file_is_named(call, tmp_path):
    (tmp_path / "home" / "initbench").mkdir(parents=True)
    (tmp_path / "home" / "initbench" / "mnist.npz").write_bytes(b"PK\x03\x04 not really")
    result = call("run", "kaiming", "--dataset", "mnist", *TINY[2:])
    assert result.exit_code == 5
    assert "mnist.npz is damaged or not an npz file" in " ".join(result.stderr.split())
    assert call("data", "verify").exit_code == 5


def test_every_problem_of_a_config_file_is_told_with_its_line(call, tmp_path):
    (tmp_path / "bad.yaml").write_text("schemes: [xavir]\ntrain:\n  epoch: 3\n  lr: fast\n")
    result = call("config", "validate", "bad.yaml")
    assert result.exit_code == 2
    assert [line.split(": ")[0].strip() for line in result.stderr.splitlines()[1:] if ".yaml" in line] == [
        "bad.yaml:1",
        "bad.yaml:3",
        "bad.yaml:4",
    ]


def test_a_run_prints_its_table_and_says_where_the_results_are(call, tmp_path):
    result = call("run", "--method", "kaiming", *TINY)
    assert result.exit_code == 0, result.stderr
    assert "kaiming, before the first step\n" in result.stdout
    assert "linear1" in result.stdout
    assert "[1/1] kaiming, seed 0: " in result.stderr
    (folder,) = [path for path in (tmp_path / "results").iterdir() if not path.is_symlink()]
    assert f"Results: results/{folder.name}" in result.stderr
    assert max(len(line) for line in result.stdout.splitlines() if not line.endswith(".")) <= 80


def test_the_same_command_again_runs_nothing_and_says_the_same(call):
    first, second = (call("compare", "xavier", "kaiming", "--seeds", "2", *TINY) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.stderr
    assert first.stdout == second.stdout
    assert "4 runs: 2 schemes x 2 seeds with mlp:depth=1,width=8 on synthetic" in first.stderr
    assert "Nothing to run:" in second.stderr
    assert "4 done before" in second.stderr


@pytest.mark.heavy
def test_json_is_one_document_on_stdout(call):
    result = call("compare", "xavier", "kaiming", "--seeds", "2", *TINY, "--json")
    document = json.loads(result.stdout)
    assert [run["status"] for run in document["runs"]] == ["completed"] * 4
    assert [scheme["scheme"] for scheme in document["summary"]["schemes"]] == ["xavier", "kaiming"]
    again = call("report", document["folder"], "--json", "--reference", "kaiming")
    assert json.loads(again.stdout)["summary"]["reference"] == "kaiming"


def test_a_dry_run_lists_the_jobs_and_writes_nothing(call, tmp_path):
    result = call("compare", "xavier", "kaiming", "--seeds", "0,3", *TINY, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.count("to do\n") == 4
    assert "226 trainable parameters; 4 of 4 runs to do." in result.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.heavy
def test_runs_that_fail_are_counted_and_the_exit_code_says_so(call, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, shape, classes):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(16, classes)\n"
        "        self.calls = 0\n"
        "    def forward(self, inputs):\n"
        "        if self.training and inputs.shape[0] == 16:\n"
        "            raise RuntimeError('out of tune')\n"
        "        return self.head(inputs.flatten(1))\n"
    )
    result = call(
        "run", "kaiming", *(word.replace("probe.batch_size=16", "probe.batch_size=20") for word in but("--model", "./mine.py:Net"))
    )
    assert result.exit_code == 3, result.stderr
    assert "failed: RuntimeError: out of tune (mine.py:9)" in result.stderr
    assert "1 of 1 runs failed: RuntimeError: out of tune (mine.py:9). Try them again with: initbench" in " ".join(result.stderr.split())


@pytest.mark.heavy
@pytest.mark.parametrize("words", [
    ["run", "kaiming", *TINY],
    ["compare", "kaiming", "xavier", *TINY],
    ["probe", "kaiming", "--model", "mlp:depth=2,width=16", "--batch", "16"],
])  # fmt: skip
def test_quiet_says_nothing(words, call):
    result = call(*words, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert call("run", "nothing", *TINY, "-q").stderr.startswith("Error: ")


@pytest.mark.parametrize(("words", "option"), [
    (["run", "kaiming", "--model", "mlp", "--model", "cnn"], "--model"),
    (["probe", "kaiming", "-c", "smoke", "--config", "mnist_mlp"], "--config"),
    (["report", "--reference", "a", "--reference=a"], "--reference"),
    (["data", "get", "mnist", "--data-dir", "a", "--data-dir", "b"], "--data-dir"),
])  # fmt: skip
def test_an_option_of_one_value_is_given_once(words, option, call):
    result = call(*words)
    assert result.exit_code == 2
    assert f"{option} is given 2 times" in " ".join(result.stderr.split())


def test_options_of_several_values_may_be_repeated(call):
    assert call("run", "-m", "kaiming", *TINY, "--set", "train.lr=0.1", "--set", "train.momentum=0.5", "-q").exit_code == 0


def test_probes_and_trainings_have_their_own_latest(call):
    assert call("run", "kaiming", *TINY, "-q").exit_code == 0
    trained = Path("results/latest").resolve()
    assert call("probe", "kaiming", "--model", "mlp:depth=2,width=16", "--batch", "16", "-q").exit_code == 0
    assert Path("results/latest").resolve() == trained
    assert (Path("results/latest-probe") / "probe.json").is_file()
    assert call("plot", "results/latest-probe").stdout.startswith("pre_activations")


@pytest.mark.heavy
def test_too_few_seeds_are_said_before_the_runs(call):
    said = " ".join(call("compare", "kaiming", "xavier", "lecun", *TINY, "--seeds", "3").stderr.split())
    assert said.index("3 seeds cannot show a difference between 3 schemes, however large: for that, use --seeds 7.") < said.index("[1/9]")
    assert "cannot show" not in call("compare", "kaiming", "xavier", *TINY, "--seeds", "6").stderr


@pytest.mark.parametrize("kind", ["schemes", "models", "datasets", "engines", "metrics", "configs"])
def test_a_list_has_a_line_for_each_name(call, kind):
    text, document = call("list", kind), call("list", kind, "--json")
    names = [line["name"] for line in json.loads(document.stdout)[kind]]
    assert len(names) > 1
    assert all(name in text.stdout for name in names)


@pytest.mark.parametrize("name", ["kaiming", "he", "mlp", "mnist5k", "serial", "steps_to_target", "smoke"])
def test_everything_that_has_a_name_can_be_shown(call, name):
    result = call("show", name)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 4


def test_the_example_of_a_scheme_is_python_that_runs(call):
    lines = call("show", "constant").stdout.splitlines()
    start = lines.index("In Python") + 1
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec("\n".join(lines[start : start + 2]), {})
    assert printed.getvalue().startswith("constant:value=0.5: 8 parameters")


def test_a_config_is_shown_with_every_default(call):
    result = call("config", "show", "smoke", "--set", "train.lr=0.5")
    assert "lr: 0.5" in result.stdout
    assert "momentum: 0.9" in result.stdout


def test_the_schema_is_json(call):
    assert json.loads(call("config", "schema").stdout)["title"] == "initbench configuration"


def test_the_version_is_printed(call):
    assert call("--version").stdout == f"{initbench.__version__}\n"


@pytest.mark.parametrize("command", [[], ["run"], ["compare"], ["data"], ["config"], ["smoke"], ["resume"], ["report"], ["doctor"]])
def test_help_goes_to_stdout_and_has_an_example_or_the_commands(call, command):
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert "Example: initbench" in result.stdout or "Commands" in result.stdout or "Try: initbench" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("initbench compare xav", {"xavier", "xavier_normal", "xavier_uniform"}),
        ("initbench run --model ml", {"mlp"}),
        ("initbench run --dataset mnist", {"mnist", "mnist5k"}),
        ("initbench compare -c mnist_mlp_", {"mnist_mlp_deep"}),
        ("initbench compare --device cu", {"cuda"}),
        ("initbench compare --reference lecun_", {"lecun_normal", "lecun_uniform"}),
    ],
)
def test_the_shell_completes_names(call, words, expected):
    environment = {"_INITBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    result = CliRunner().invoke(app, prog_name="initbench", env=environment)
    assert set(result.stdout.split()) == expected


def test_a_completion_is_one_line_with_its_description():
    environment = {
        "_INITBENCH_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": "initbench compare ",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    lines = CliRunner().invoke(app, prog_name="initbench", env=environment).stdout.splitlines()
    assert len(lines) > 40
    assert all("\t" in line for line in lines)


NET = "from torch import nn\ndef build(classes=10): return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, classes))\n"


@pytest.mark.heavy
@pytest.mark.parametrize("folder", [".pyenv", "my.pytorch", "lr=0.1,depth=3"])
def test_a_file_is_found_in_a_folder_of_any_name(call, tmp_path, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "net.py").write_text(NET)
    for name in (f"./{folder}/net.py", f"{tmp_path}/{folder}/net.py:build"):
        asked = call("probe", "kaiming", "--model", name, "--input", "16", "--out", "out", "--fresh")
        assert asked.exit_code == 0, asked.stderr


@pytest.mark.parametrize(
    "source",
    [
        f"# -*- coding: latin-1 -*-\n# caf\xe9\n{NET}".encode("latin-1"),
        b"\xef\xbb\xbf" + NET.encode(),
        f"FAMILY = str(1)\nNEEDS = 3\n{NET}".encode(),
    ],
    ids=["latin-1", "byte order mark", "constants of its own"],
)
def test_a_file_says_its_encoding_and_keeps_its_constants(call, tmp_path, source):
    (tmp_path / "net.py").write_bytes(source)
    for command in (["probe", "kaiming", "--input", "16", "--model"], ["show"]):
        asked = call(*command, "./net.py")
        assert asked.exit_code == 0, asked.stderr


@pytest.mark.parametrize("source", [b"x = 1\n\0\n", "x = 1\n".encode("utf-16"), b"# -*- coding: klingon -*-\n", b"(" * 1000])
def test_a_file_that_is_no_python_is_named(call, tmp_path, source):
    (tmp_path / "net.py").write_bytes(source)
    asked = call("probe", "kaiming", "--input", "16", "--model", "./net.py")
    assert asked.exit_code == 2
    assert asked.stderr.startswith("Error: ")
    assert "net.py:1" in asked.stderr


LONG = "a" * 300


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "kaiming", "-c", LONG], 2),
        (["run", "kaiming", "-c", f"./{LONG}.yaml"], 2),
        (["run", "kaiming", "--model", f"./{LONG}.py"], 2),
        (["run", "kaiming", *TINY, "-o", LONG], 5),
        (["report", LONG], 5),
        (["resume", LONG], 5),
        (["show", f"./{LONG}.py"], 2),
        (["check-scheme", f"./{LONG}.py"], 2),
        (["data", "list", "--data-dir", LONG], 5),
    ],
)
def test_a_name_that_no_file_can_have_is_a_sentence(call, arguments, code):
    refused = call(*arguments)
    assert refused.exit_code == code
    assert refused.stderr.count("Error: ") == 1
    assert LONG in refused.stderr


def test_a_working_folder_that_is_gone_is_a_sentence(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    refused = CliRunner().invoke(app, ["list", "schemes"])
    assert refused.exit_code == 5
    assert refused.stderr == "Error: The working folder is gone. Change to one that is there.\n"


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["list", "schemes"], ["--help"], ["show", "kaiming"]])
def test_a_full_output_is_a_sentence(arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "initbench", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr == "Error: Cannot print what there is to say: No space left on device.\n"


@pytest.mark.heavy
def test_a_probe_made_anew_leaves_nothing_of_another_question(call, tmp_path):
    assert call("run", "kaiming", *TINY, "--out", "out").exit_code == 0
    (tmp_path / "out" / "plots" / "mine.png").write_bytes(b"")
    assert call("probe", "kaiming", "--model", "mlp:depth=3,width=8", "--input", "16", "--out", "out", "--fresh").exit_code == 0
    there = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there >= {"plots/mine.png", "tables/layers.csv", "probe.json"}
    assert not there & {"tables/curves.csv", "tables/comparisons.csv", "plots/accuracy.png", "config.yaml"}
    assert not [name for name in there if name.startswith("jobs/")]


@pytest.mark.heavy
def test_a_comparison_says_which_weights_no_scheme_sets(call, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes=10):\n"
        "        super().__init__()\n"
        "        self.patch_embeddings, self.body, self.head = nn.Conv2d(1, 8, 2, 2), nn.Linear(32, 16), nn.Linear(16, classes)\n"
        "        self.body.weight.requires_grad_(False)\n"
        "    def forward(self, x): return self.head(self.body(self.patch_embeddings(x).flatten(1)).relu())\n"
    )
    words = ["compare", "kaiming", "xavier", "--seeds", "1", *TINY[:2], *TINY[4:]]
    told = " ".join(call(*words, "--model", "./net.py:Net").stderr.split())
    assert "No scheme sets patch_embeddings.weight: excluded by 'embedding'." in told
    assert "No scheme sets body.weight: frozen (requires_grad is False)." in told
    told = call(*words, "--model", "./net.py:Net", "--set", "init.exclude=[]").stderr
    assert "patch_embeddings" not in told


@pytest.mark.heavy
def test_the_page_says_the_command_as_it_was_typed(call, tmp_path):
    words = ["compare", "he", "xavier", *TINY, "--seeds", "2", "--out", "my results"]
    assert call(*words).exit_code == 0
    page = tmp_path / "my results" / "report.html"
    typed = f'<pre id="typed" tabindex="0">{shlex.join(["initbench", *words])}</pre>'
    assert typed in html.unescape(page.read_text())
    for again in (["resume", "my results"], ["report", "my results", "--metric", "final_test_loss"], [*words, "--quiet"]):
        page.unlink()
        assert call(*again).exit_code == 0
        assert typed in html.unescape(page.read_text())
    assert call(*words, "--fresh").exit_code == 0
    assert "--fresh</pre>" in page.read_text()

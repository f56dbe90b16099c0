"""What is printed, where it goes, and that it fits 80 columns."""

import json
import re

import pytest
from simulated_runs import make_comparison

from initbench.cli import data, guide, live, output
from initbench.cli.doctor import HealthCheck
from initbench.question import catalog
from initbench.question.config import ExperimentConfig, View, parse_ref
from initbench.results.record import Evaluation, RunResult, RunStatus
from initbench.statistics.summary import summarize
from initbench.studies.plan import make_plan
from initbench.workers.progress import Progress


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def steps():
    return make_plan("compare", ExperimentConfig(schemes=(parse_ref("xavier"), parse_ref("normal")), seeds=(0, 1)))


def ended(steps, number, status, **more):
    name, job = steps.jobs[number]
    return RunResult(job_id=name, job=job, status=status, **more)


def test_data_goes_to_stdout_and_everything_for_people_to_stderr(capsys):
    output.text("data")
    output.document({"a": 1})
    for tell in (output.say, output.hint, output.warn, output.error):
        tell("[for] people")
    out, err = capsys.readouterr()
    assert out.startswith("data\n")
    assert json.loads(out.removeprefix("data\n")) == {"a": 1}
    assert err.splitlines() == ["[for] people", "[for] people", "Warning: [for] people", "Error: [for] people"]


def test_several_problems_are_counted_and_told_a_line_each(capsys):
    output.error("one\ntwo")
    assert capsys.readouterr().err.splitlines() == ["2 errors:", "  one", "  two"]


def test_a_long_sentence_is_not_broken(capsys):
    output.error("word " * 60)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_number_that_json_has_not_is_never_written():
    with pytest.raises(ValueError, match=r"JSON"):
        output.document({"a": float("nan")})


def test_a_table_that_fits_keeps_a_line_a_row(capsys):
    output.table("Title", ("scheme", "test accuracy"), [("[x]", "92.1 % [91.2, 92.5]")], right=frozenset({1}))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "Title",
        "scheme        test accuracy",
        "[x]     92.1 % [91.2, 92.5]",
    ]


def test_a_table_that_is_too_wide_breaks_before_intervals_and_never_inside(capsys):
    row = ("kaiming:mode=fan_out", "92.1 % [91.2, 92.5]", "0.288 [0.263, 0.322]", "7 of 8 above chance, 1 diverged", "15518", "16402")
    columns = ("scheme", "test accuracy", "test loss", "seeds", "activations, last/first layer", "gradients, first/last layer")
    output.table("", columns, [row], right=frozenset({1, 2, 4, 5}))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for whole in ("92.1 %", "[91.2, 92.5]", "[0.263, 0.322]", "15518"):
        assert whole in out


@pytest.mark.parametrize("kind", [*guide.LISTED])
def test_a_list_fits_the_width_and_has_every_name(kind, capsys):
    output.listing(kind, guide.listed(kind))
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert all(line.name in out for line in guide.listed(kind))


def test_the_page_of_a_scheme_has_formula_parameters_source_and_example(capsys):
    entry = catalog.find("scheme", "kaiming")[0]
    output.entry_page(entry, guide.page(entry), guide.command(entry), guide.example(entry))
    out = capsys.readouterr().out
    for part in (
        "gain^2",
        "He et al. 2015",
        "he_uniform = kaiming:distribution=uniform",
        "fan_in",
        "initbench run kaiming\n",
        "In Python",
        "kaiming.py",
    ):
        assert part in out


def test_the_list_of_data_files_fits_and_says_how_to_get_the_rest(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    data.data_list(data_dir=str(tmp_path))
    out, err = capsys.readouterr()
    assert [line.split()[:3] for line in out.splitlines()[1:]][1:] == [
        [name, "not", "there"] for name in ("mnist", "fashion_mnist", "cifar10")
    ]
    assert "What is not there is got with: initbench data get mnist fashion_mnist cifar10" in err


def test_a_name_too_long_for_its_table_breaks_before_its_parameters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    output.table("", ("scheme", "loss"), [("kaiming:distribution=uniform,mode=fan_out", "0.1")], right=frozenset({1}))
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["scheme", "kaiming:", "distribution=uniform,", "mode=fan_out"]


def test_on_a_terminal_sentences_break_between_words_and_paths_stay_whole(capsys, monkeypatch):
    words = "kaiming is ahead of xavier by a little, and the results are in results/" + "long-" * 20
    monkeypatch.setenv("COLUMNS", "40")
    for terminal in ("1", ""):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        output.sentence(words)
        output.hint(words)
        for told in capsys.readouterr():
            lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", told).splitlines()]
            assert " ".join(lines) == words
            assert all(len(line) <= 40 or " " not in line for line in lines) is bool(terminal)


def test_what_the_doctor_found_is_marked(capsys):
    output.checks([HealthCheck("torch", "broken", "no libtorch", "Install it."), HealthCheck("disk", "fine", "9 GiB")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["broken", "torch", "no", "libtorch", "Install", "it."]
    assert lines[1].startswith("fine")


def test_elsewhere_than_on_a_terminal_each_finished_run_is_one_plain_line(steps, capsys):
    evaluation = Evaluation(step=2, epoch=1.0, test_loss=0.25, test_accuracy=0.9)
    with live.run_screen(quiet=False, verbose=False) as screen:
        screen.planned(steps)
        screen.progress(Progress(steps.jobs[0][0], 1, 2))
        screen.finished(ended(steps, 0, RunStatus.COMPLETED, evaluations=(evaluation,), seconds={"total": 1.25}))
        screen.finished(ended(steps, 1, RunStatus.DIVERGED, first_bad_step=3))
        screen.finished(ended(steps, 2, RunStatus.FAILED, reason="out of [tune]"))
        screen.finished(ended(steps, 3, RunStatus.SKIPPED, reason="no branches"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "4 runs: 2 schemes x 2 seeds with mlp on mnist5k.",
        "2 seeds cannot show a difference between 2 schemes, however large: for that, use --seeds 6.",
        "[1/4] xavier, seed 0: 90.0 % test accuracy, loss 0.250 (1.2 s)",
        "[2/4] normal, seed 0: diverged at step 3",
        "[3/4] xavier, seed 1: failed: out of [tune]",
        "[4/4] normal, seed 1: skipped: no branches",
    ]


def test_quiet_says_only_what_failed_and_why(steps, capsys):
    with live.run_screen(quiet=True, verbose=False) as screen:
        screen.planned(steps)
        screen.finished(ended(steps, 1, RunStatus.DIVERGED, first_bad_step=3))
        assert capsys.readouterr() == ("", "")
        screen.finished(ended(steps, 2, RunStatus.FAILED, reason="out of tune"))
    assert capsys.readouterr() == ("", "[2/4] xavier, seed 1: failed: out of tune\n")


def test_on_a_terminal_a_bar_shows_all_runs_and_those_under_way(steps, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with live.run_screen(quiet=False, verbose=False) as screen:
        screen.planned(steps)
        screen.progress(Progress(steps.jobs[0][0], 1, 2))
        screen.bars.bars.refresh()
        screen.finished(ended(steps, 0, RunStatus.COMPLETED))
    err = capsys.readouterr().err
    assert "all runs" in err
    assert "xavier, seed 0" in err
    assert "[1/4]" not in err


def test_a_dry_run_says_what_is_to_do(steps, capsys):
    output.dry_run(steps, 12345)
    out = capsys.readouterr().out
    assert out.count("to do\n") == 4
    assert "12,345 trainable parameters; 4 of 4 runs to do. Results: results/compare-mlp-mnist5k-" in out


def test_a_narrow_terminal_gets_a_wide_table_rather_than_half_of_one(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    output.table(
        "", ("scheme", "accuracy"), [("xavier", "98.7 % [98.1, 99.0]"), ("a_word_of_more_than_twenty_letters", "1")], right=frozenset({1})
    )
    shown = capsys.readouterr().out
    assert "xavier" in shown
    assert "[98.1, 99.0]" in shown
    assert "a_word_of_more_than_" in shown


@pytest.mark.heavy
@pytest.mark.parametrize("width", ["40", "60", "80", "100", "130", "200"])
def test_on_a_terminal_of_any_width_the_outcome_has_its_table_and_its_curves(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")
    output.outcome(summarize(make_comparison(), order=["xavier", "kaiming"]))
    said = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, said.splitlines())) <= int(width)
    words = " ".join(said.split())
    assert all(heading in words for heading in ("scheme", "loss,", "signal,"))
    assert said.index("kaiming") < said.index("xavier") < said.index("normal")
    assert "█" in said


@pytest.mark.parametrize(
    ("schemes", "reference", "said"),
    [
        (3, None, "use --seeds 7."),
        (12, None, "use --seeds 12, or 9 and a --reference that the others are compared with."),
        (12, "normal:std=1", "use --seeds 9."),
    ],
)
def test_how_many_seeds_it_takes_depends_on_what_is_asked(schemes, reference, said):
    asked = ExperimentConfig(schemes=tuple(parse_ref(f"normal:std={place}") for place in range(1, schemes + 1)), seeds=(0, 1))
    assert output.seeds_doubt(make_plan("compare", asked, view=View(reference=reference))).endswith(said)

"""Sweeps: what is run and what is taken from elsewhere, the statistics of each cell, words, tables and pictures."""

import csv
import html
import io
import math
import re
from pathlib import Path

import pytest
from simulated_runs import make_run
from sweep_support import SMALL, TINY, asked
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.engines import serial
from initbench.question.config import Execution, ExperimentConfig
from initbench.question.config_file import load_config
from initbench.question.grid import Cell
from initbench.reporting import sweep as reporting
from initbench.reporting.why import why_of_cells
from initbench.results.record import RunStatus
from initbench.statistics.findings import Reach
from initbench.statistics.summary import summarize
from initbench.statistics.sweep import _reach_words, axis_of, false_discovery, summarize_sweep
from initbench.studies import pilot, sweep
from initbench.studies.plan import make_plan

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- what is run


@pytest.mark.heavy
def test_each_cell_is_the_comparison_that_it_would_be_alone(tmp_path):
    swept = initbench.sweep(["kaiming", "xavier"], grid={"model.depth": [1, 3]}, seeds=2, **SMALL, output=str(tmp_path / "s"))
    assert len(swept.results) == 8
    for cell, depth in zip(swept.summary.sweep.cells, (1, 3), strict=True):
        alone = initbench.compare(
            ["kaiming", "xavier"], seeds=2, output=str(tmp_path / f"c{depth}"), **SMALL | {"model": f"mlp:width=8,depth={depth}"}
        )
        assert {run.job_id for run in alone.results} <= {run.job_id for run in swept.results}
        assert cell.schemes == alone.summary.schemes
        assert cell.comparisons == tuple(each for each in alone.summary.comparisons if each.metric == alone.summary.metric)


@pytest.mark.heavy
def test_added_values_run_only_the_new_cells(tmp_path, monkeypatch):
    initbench.sweep(["kaiming", "xavier"], grid={"model.depth": [1, 3]}, seeds=2, **SMALL)
    ran = []
    execute = serial.execute

    def counted(jobs, **how):
        ran.extend(name for name, _ in jobs)
        yield from execute(jobs, **how)

    monkeypatch.setattr(serial, "execute", counted)
    more = initbench.sweep(["kaiming", "xavier"], grid={"model.depth": [1, 2, 3]}, seeds=2, **SMALL)
    assert len(ran) == 4
    assert len(more.results) == 12
    assert more.missing == 0


@pytest.mark.heavy
def test_a_damaged_or_foreign_file_elsewhere_is_run_again(tmp_path):
    first = initbench.sweep(["kaiming"], grid={"model.depth": [1]}, seeds=2, **SMALL)
    one, two = sorted((first.folder / "jobs").iterdir())
    one.write_bytes(one.read_bytes()[:-30])
    two.write_bytes(one.read_bytes())
    more = initbench.sweep(["kaiming"], grid={"model.depth": [1, 2]}, seeds=2, **SMALL)
    assert len(more.results) == 4
    assert more.missing == 0


@pytest.mark.heavy
def test_a_sweep_is_resumed_and_reported(tmp_path):
    out = str(tmp_path / "s")
    swept = initbench.sweep(["kaiming", "xavier"], grid={"model.depth": [1, 3]}, seeds=2, **SMALL, output=out)
    page = (swept.folder / "report.html").read_bytes()
    next((swept.folder / "jobs").iterdir()).unlink()
    assert initbench.resume(out, engine="serial").missing == 0
    assert (swept.folder / "report.html").read_bytes() == page
    assert initbench.report(out).summary == swept.summary
    assert initbench.load_results(out).summary == swept.summary


# ---- what it says


def test_the_false_discovery_rate_is_controlled_as_benjamini_and_hochberg_say():
    p = [0.01, None, 0.04, 0.03, 0.005, 0.5]
    known = [each for each in p if each is not None]
    by_hand = {
        value: min(min(1.0, other * len(known) / (1 + sorted(known).index(other))) for other in known if other >= value) for value in known
    }
    assert false_discovery(p) == [None if value is None else pytest.approx(by_hand[value]) for value in p]


def of_cells(accuracies, *, key="model.depth", seeds=8):
    """A sweep over one axis: {value: {scheme: accuracy or None for diverged}}, a little noise by seed."""
    found = []
    for value, schemes in accuracies.items():
        runs = [
            make_run(scheme, seed, None if accuracy is None else min(0.99, accuracy + 0.001 * seed + 0.0001 * len(scheme)))
            for scheme, accuracy in schemes.items()
            for seed in range(seeds)
        ]
        found.append((Cell(((key, value),), ExperimentConfig(schemes=("kaiming",), seeds=(0,))), runs))
    return summarize_sweep({key: tuple(accuracies)}, found, "xavier", order=["xavier", "kaiming"])


def test_the_verdict_says_how_far_each_trains_and_from_where_on_which_leads():
    summary = of_cells({4: {"xavier": 0.9, "kaiming": 0.9}, 16: {"xavier": 0.8, "kaiming": 0.9}, 64: {"xavier": 0.1, "kaiming": 0.7}})
    assert summary.headline.startswith("xavier trains up to depth 16, kaiming trains at every depth; ")
    assert "from depth" not in summary.headline or "in every cell" in summary.headline
    lead = summary.sweep.leads[0]
    assert (lead.scheme, lead.other, lead.better + lead.worse + lead.unsure) == ("kaiming", "xavier", 3)
    assert [reach.values for reach in summary.sweep.reaches] == [(4, 16), (4, 16, 64)]


def test_a_lead_from_some_value_on_is_said():
    level = {"xavier": 0.5, "kaiming": 0.5}
    summary = of_cells({4: level, 16: {"xavier": 0.5, "kaiming": 0.9}, 64: {"xavier": 0.3, "kaiming": 0.9}})
    lead = summary.sweep.leads[0]
    assert lead.better == 2 + (lead.first == 4)
    assert lead.first in {4, 16}


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        ((1, 1, 1, 1), "at every depth"),
        ((0, 0, 0, 0), "at no depth"),
        ((1, 1, 0, 0), "up to depth 4"),
        ((0, 0, 1, 1), "from depth 8 on"),
        ((0, 1, 1, 0), "from depth 4 to 8"),
        ((1, 0, 1, 0), "at depth 2 and 8"),
        ((0, 1, 0, 0), "at depth 4"),
    ],
)
def test_reach_in_words(trained, words):
    summary = of_cells({depth: {"xavier": 0.9 if well else 0.1} for depth, well in zip((2, 4, 8, 16), trained, strict=True)})
    assert words in summary.headline


def test_values_at_which_no_run_says_anything_are_not_counted_as_reached():
    axis = axis_of("model.depth", (2, 60))
    words = _reach_words(Reach(scheme="xavier", values=(2,), tried=(2,)), axis)
    assert words == "at every depth that was tried (1 of 2)"
    assert _reach_words(Reach(scheme="xavier", values=(2, 60), tried=(2, 60)), axis) == "at every depth"


def test_a_scheme_that_was_compared_in_fewer_cells_is_counted_on_its_own():
    level = {"xavier": 0.5, "kaiming": 0.5}
    summary = of_cells({2: {**level, "normal": 0.5}, 4: level, 8: level}, seeds=3)
    assert "kaiming is not shown to differ from xavier in any of 3 cells; normal is not shown to differ from xavier" in summary.headline


def test_too_few_seeds_are_said_to_show_nothing():
    summary = of_cells({2: {"xavier": 0.5, "kaiming": 0.9}, 4: {"xavier": 0.5, "kaiming": 0.9}}, seeds=3)
    assert "kaiming is not shown to differ from xavier in any of 2 cells" in summary.headline
    assert any("3 seeds cannot show a difference in any cell: use --seeds 6" in note for note in summary.notes)


def test_a_cell_that_diverges_fails_or_is_skipped_shows_as_such():
    summary = of_cells({2: {"xavier": 0.9, "kaiming": None}, 4: {"xavier": None, "kaiming": None}})
    table = reporting.table(summary)
    assert [row[2] for row in table.rows if row[:2] == ("4", "kaiming")] == ["diverged"]
    failed = [make_run("xavier", seed, 0.9) for seed in range(6)]
    failed[0] = failed[0].model_copy(update={"status": RunStatus.FAILED, "reason": "it broke"})
    with_failure = summarize_sweep(
        {"model.depth": (2,)}, [(Cell((("model.depth", 2),), ExperimentConfig(schemes=("kaiming",), seeds=(0,))), failed)], None
    )
    assert "1 of 6 runs failed; the first, xavier with seed 0: it broke." in with_failure.notes


def test_schemes_over_all_cells_are_counted():
    summary = of_cells({2: {"xavier": 0.9, "kaiming": None}, 4: {"xavier": 0.1, "kaiming": 0.8}})
    xavier, kaiming = summary.schemes
    assert (xavier.trained, xavier.stuck, kaiming.trained, kaiming.diverged) == (8, 8, 8, 8)


# ---- tables and pictures


@pytest.mark.heavy
def test_tables_hold_what_the_runs_say(tmp_path):
    swept = initbench.sweep(
        ["kaiming", "xavier"], grid={"model.depth": [1, 3], "train.lr": [0.01, 0.1]}, seeds=3, **SMALL, output=str(tmp_path / "s")
    )
    runs = list(csv.DictReader(io.StringIO((swept.folder / "tables/runs.csv").read_text())))
    assert len(runs) == 2 * 2 * 2 * 3
    rows = list(csv.DictReader(io.StringIO((swept.folder / "tables/cells.csv").read_text())))
    assert len(rows) == 8
    for row in rows:
        own = sorted(
            float(run["test_accuracy"]) for run in runs
            if all(run[key] == row[key] for key in ("model.depth", "train.lr", "scheme"))
        )  # fmt: skip
        assert float(row["value"]) == pytest.approx(own[1])
        assert int(row["n"]) == 3


@pytest.mark.heavy
def test_one_axis_is_lines_two_are_heat_maps_and_three_small_ones():
    def plotted(grid):
        return initbench.sweep(["kaiming", "xavier"], grid=grid, seeds=1, **SMALL, fresh=True, output="s").plots

    (lines,) = plotted({"model.depth": [1, 3]})
    assert [line.scheme for line in lines.panels[0].lines] == ["kaiming", "xavier"]
    assert lines.panels[0].ticks == ((0.0, "1"), (1.0, "3"))
    accuracy, trained = plotted({"model.depth": [1, 3], "train.lr": [0.01, 0.1, 1]})
    assert (accuracy.name, trained.name) == ("accuracy", "trained")
    assert accuracy.title == "Final test accuracy, median of the seeds, in percent"
    heat = accuracy.panels[0].heat
    assert (heat.y, heat.x, len(heat.values), len(heat.values[0])) == (("1", "3"), ("0.01", "0.1", "1"), 2, 3)
    three, _ = plotted({"model.depth": [1, 3], "train.lr": [0.01, 0.1], "train.momentum": [0.0, 0.9]})
    assert [panel.title for panel in three.panels] == [
        "kaiming, momentum 0.0", "xavier, momentum 0.0", "kaiming, momentum 0.9", "xavier, momentum 0.9",
    ]  # fmt: skip


@pytest.mark.heavy
def test_a_cell_left_out_is_empty_and_a_diverged_one_is_marked():
    swept = initbench.sweep(
        ["kaiming", "normal:std=50"], grid={"model.depth": [2, 4], "train.lr": [0.01, 10.0], "where": "model.depth * train.lr < 30"},
        seeds=1, **SMALL | {"steps": 12}, output="s",
    )  # fmt: skip
    heat = swept.plots[0].panels[1].heat
    assert heat.values[1][1] is None
    assert heat.marks[1][1] == ""
    assert any(mark == "x" for row in heat.marks for mark in row)


@pytest.mark.heavy
def test_the_command_end_to_end():
    words = ["sweep", "kaiming", "xavier", "--grid", "model.depth=1,3", "--grid", "train.lr=1e-2..1:log:3", "--seeds", "2", "--steps", "3"]
    words += ["--set", "model.width=8", "--dataset", TINY, "--engine", "serial"]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "6 cells, 24 runs: 0 done, 24 to do, about" in dry.stdout
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    assert "Each cell: median of its seeds" in ran.stdout
    again = CliRunner().invoke(app, [*words, "--dry-run"])
    assert "24 done, 0 to do." in again.stdout
    more = CliRunner().invoke(app, [*words, "--grid", "train.momentum=0.5,0.9", "--dry-run"])
    assert "12 cells, 48 runs: 0 done, 24 finished in other folders, which are taken from there, 24 to do" in more.stdout
    for ending, begin in (("latex", "% \\usepackage{booktabs}"), ("markdown", "| depth"), ("csv", "model.depth,"), ("json", "{")):
        table = CliRunner().invoke(app, ["table", "--format", ending])
        assert table.exit_code == 0, table.output
        assert table.stdout.startswith(begin)
        assert ("Benjamini" in table.stdout) == (ending != "csv")


def test_the_statistics_of_a_cell_are_those_of_a_comparison():
    summary = of_cells({2: {"xavier": 0.5, "kaiming": 0.9}})
    runs = [
        make_run(scheme, seed, {"xavier": 0.5, "kaiming": 0.9}[scheme] + 0.001 * seed + 0.0001 * len(scheme))
        for scheme in ("xavier", "kaiming")
        for seed in range(8)
    ]
    alone = summarize(runs, "xavier", order=["xavier", "kaiming"])
    assert summary.sweep.cells[0].comparisons[0].p == alone.comparisons[0].p
    assert summary.sweep.cells[0].p_fdr["kaiming"] == alone.comparisons[0].p
    assert math.isclose(alone.comparisons[0].p, 2 / 256)


@pytest.mark.parametrize("path", sorted((ROOT / "configs/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_sweep_says_how_many_runs_it_has(path):
    config = load_config(path.stem)
    said = int(re.search(r"(\d+) runs", path.read_text())[1])
    assert said == len(sweep.jobs(config, {}))
    assert len(config.seeds) >= 8


def test_how_many_tests_must_show_a_difference_is_said():
    level = {"xavier": 0.5, "kaiming": 0.9}
    summary = of_cells(dict.fromkeys(range(12), level), seeds=6)
    assert summary.sweep.leads[0].better == 12
    assert any("6 seeds differences are shown only where 8 or more of the 12 tests show one" in note for note in summary.notes)


@pytest.mark.heavy
def test_the_page_says_why_by_the_signal_of_the_cells(tmp_path):
    swept = initbench.sweep(["zeros", "kaiming"], grid={"model.depth": [1, 3]}, seeds=2, **SMALL, output=str(tmp_path / "s"))
    words = why_of_cells(swept.summary)
    lost = [cell for cell in swept.summary.sweep.cells if cell.scheme("zeros").signal_lost_at is not None]
    assert lost
    measured = [cell for cell in swept.summary.sweep.cells if cell.scheme("zeros").signal is not None]
    assert f"zeros loses the signal at initialization in {len(lost)} of {len(measured)} cells and trains in 0 of them" in words
    assert f"(depth {lost[0].values['model.depth']}: {lost[0].scheme('zeros').signal})." in words
    assert "kaiming" not in words
    assert html.escape(words) in (tmp_path / "s" / "report.html").read_text()


def test_where_no_cell_loses_the_signal_it_does_not_say_why():
    kept = {4: {"xavier": 0.9, "kaiming": 0.9}, 16: {"xavier": 0.8, "kaiming": 0.9}}
    assert why_of_cells(of_cells(kept)).startswith("With no scheme is the signal lost at initialization in any cell")


def runs_of_cells(ends, seeds=6):
    """Cells with runs: `ends` gives for (depth, lr) and scheme an accuracy, None (diverged), "failed" or "skipped"."""
    found = []
    for (depth, lr), own in ends.items():
        runs = []
        for scheme, end in own.items():
            for seed in range(seeds):
                run = make_run(scheme, seed, end if not isinstance(end, str) else 0.5)
                runs.append(run if not isinstance(end, str) else run.model_copy(update={"status": RunStatus(end), "reason": "it is so"}))
        cell = Cell((("model.depth", depth), ("train.lr", lr)), ExperimentConfig(schemes=("kaiming",), seeds=(0,)))
        found.append((cell, runs))
    return found


AXES = {"model.depth": (2, 4, 8), "train.lr": (0.1, 1.0)}


def test_what_failed_or_was_skipped_is_not_said_not_to_train():
    ends = {
        (depth, lr): {
            "fixup": "skipped",
            "kaiming": "failed" if depth == 4 else (0.9 if lr == 0.1 else None),
            "xavier": "failed" if depth == 4 else 0.9,
        }
        for depth in (2, 4, 8)
        for lr in (0.1, 1.0)
    }
    summary = summarize_sweep(AXES, runs_of_cells(ends), None, order=["fixup", "xavier", "kaiming"])
    assert summary.sweep.along == "train.lr"
    assert summary.headline.startswith("xavier trains at every lr, kaiming trains up to lr 0.1 (at some depth); ")
    assert summary.headline.endswith("; fixup failed or was skipped in every cell")
    assert summary.reference == "xavier"
    assert {each.other for cell in summary.sweep.cells for each in cell.comparisons if each.p is not None} == {"xavier"}
    assert "36 of 108 runs were skipped; the first, fixup with seed 0: it is so." in summary.notes


def test_combinations_that_are_left_out_are_counted():
    ends = {(2, 0.1): {"kaiming": 0.9}, (2, 1.0): {"kaiming": 0.9}, (8, 0.1): {"kaiming": 0.1}}
    notes = summarize_sweep(AXES, runs_of_cells(ends), None, order=["kaiming"]).notes
    assert "3 of 6 combinations are left out by a condition; nothing is said of them." in notes


def test_one_cell_with_few_seeds_does_not_speak_for_all():
    one, other = runs_of_cells({(2, 0.1): {"kaiming": 0.9, "xavier": 0.5}, (4, 0.1): {"kaiming": 0.9, "xavier": 0.5}}, seeds=9)
    few = (other[0], [run for run in other[1] if run.job.seed < 4])
    notes = summarize_sweep({"model.depth": (2, 4), "train.lr": (0.1,)}, [one, few], None, order=["xavier", "kaiming"]).notes
    assert "1 of the 2 tests has fewer than 6 seeds, which cannot show a difference." in notes
    assert not any("in any cell" in note for note in notes)


@pytest.mark.parametrize("seeds", [1, 3, 6])
def test_the_estimate_knows_how_long_each_cell_trains(seeds, monkeypatch):
    grid = {"train.steps": [10, 100, 1000, 30], "model.depth": [1, 2]}
    plan = make_plan("sweep", asked(grid, seeds=seeds, dataset=TINY, model="mlp:width=8"), Execution(jobs=1, device="cpu"))
    price = pilot._Price(step=0.01, evaluation=0.0, beside=0.1, epoch=0.0)
    monkeypatch.setattr(pilot, "_price", lambda runs: price)
    assert pilot.estimated_seconds(plan) == pytest.approx(seeds * 2 * 2 * (0.01 * 1140 + 4 * 0.1))


def test_the_price_between_two_networks_is_between_theirs():
    low, high = pilot._Price(1.0, 2.0, 3.0, 4.0), pilot._Price(3.0, 2.0, 5.0, 4.0)
    assert pilot._between({0: low, 4: high}, 1) == pilot._Price(1.5, 2.0, 3.5, 4.0)
    assert [pilot._between({0: low, 4: high}, place) for place in (0, 4, 9)] == [low, high, high]


@pytest.mark.heavy
def test_that_seeds_are_too_few_is_said_before_the_runs():
    words = ["sweep", "kaiming", "xavier", "--grid", "model.depth=1,2", "--dataset", TINY, "--steps", "1", "--seeds", "4"]
    for options in (["--dry-run"], ["--engine", "serial"]):
        told = " ".join(CliRunner().invoke(app, [*words, *options]).stderr.split())
        assert "4 seeds cannot show a difference in any cell, however large: for that, use --seeds 6 or more." in told
    assert "cannot show" not in CliRunner().invoke(app, [*words[:-1], "6", "--dry-run"]).stderr


@pytest.mark.parametrize(
    ("values", "places", "how"),
    [
        ((2, 6, 12, 20), [2, 6, 12, 20], ""),
        ((0.001, 0.01, 0.1), [-3, -2, -1], " (logarithmic)"),
        ((0, 1, 10), [0, 1, 10], ""),
        ((4, 8, 16, 32), [math.log10(4 * 2**power) for power in range(4)], " (logarithmic)"),
        (("relu", "tanh", "gelu"), [0, 1, 2], ""),
        ((8, 2, 4), [0, 1, 2], ""),
    ],
)
def test_values_stand_on_the_axis_by_their_size(values, places, how):
    found, said = reporting._positions(axis_of("model.depth", values))
    assert found == pytest.approx(places)
    assert said == how


def test_a_line_over_an_axis_says_why_points_are_missing():
    def notes(ends):
        cells = runs_of_cells({(depth, 0.1): {"kaiming": 0.9, "xavier": end} for depth, end in zip((2, 4, 8), ends, strict=True)})
        own = [(Cell(cell.values[:1], cell.config), runs) for cell, runs in cells]
        summary = summarize_sweep({"model.depth": (2, 4, 8)}, own, None, order=["kaiming", "xavier"])
        return reporting.plots(summary)[0].panels[0].notes[1:]

    assert notes([0.9, 0.8, 0.7]) == ()
    assert notes([0.9, None, 0.7]) == ("No point: most seeds diverged",)
    assert notes([0.9, "failed", None]) == ("No point: most seeds diverged or failed or were skipped",)

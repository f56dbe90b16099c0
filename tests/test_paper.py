"""The table of a paper: what is bold, what is marked, what the caption says, and each format as a whole."""

import csv
import io
import json
import shutil
import subprocess

import pytest
from golden_support import assert_golden
from simulated_runs import make_run

from initbench.reporting.paper import FORMATS, escaped, paper_table, render
from initbench.statistics.summary import summarize

HOSTILE = ("./x$\\frac$y_1.py:Net", "./<script>&%#{~^}.py", "./模型.py", "./a|b.py")


def summary_of(accuracies, seeds=8):
    """A summary of schemes whose seeds have these accuracies, spread by a hundredth; None: diverged."""
    runs = [
        make_run(scheme, seed, None if middle is None else middle + 0.001 * ((seed * 7) % 11 - 5))
        for scheme, middle in accuracies.items()
        for seed in range(seeds)
    ]
    return summarize(runs)


def marks(table):
    return {row.scheme.scheme: (row.as_good_as_best, row.shown_worse) for row in table.rows}


def test_the_best_is_bold_with_what_ties_and_what_is_worse_is_marked():
    table = paper_table(summary_of({"xavier": 0.5, "kaiming": 0.9, "lecun": 0.9, "normal": None}))
    assert [row.scheme.scheme for row in table.rows][2:] == ["xavier", "normal"]
    assert marks(table) == {"kaiming": (True, False), "lecun": (True, False), "xavier": (False, True), "normal": (False, True)}
    assert "Median over 8 seeds, 95 % intervals" in table.caption
    assert "signed ranks of paired seeds, 5 %, after Holm's correction over 6 comparisons" in table.caption
    assert "A run that diverged counts as worse than every number." in table.caption


def test_seeds_that_are_too_few_for_the_test_put_nothing_in_bold():
    table = paper_table(summary_of({"xavier": 0.5, "kaiming": 0.9}, seeds=3))
    assert set(marks(table).values()) == {(False, False)}
    assert "nothing is set in bold" in table.caption
    assert r"\textbf" not in render(table, "latex")
    assert table.seeds_needed == 6
    assert paper_table(summary_of({"xavier": 0.5, "kaiming": 0.9})).seeds_needed is None


def test_one_scheme_and_all_diverged_have_a_table_without_bold():
    assert marks(paper_table(summary_of({"kaiming": 0.9}))) == {"kaiming": (False, False)}
    assert set(marks(paper_table(summary_of({"normal": None, "xavier": None}))).values()) <= {(False, False), (True, False)}
    assert "Bold" not in paper_table(summary_of({"kaiming": 0.9})).caption


def test_the_numbers_of_csv_and_json_are_those_of_the_summary():
    summary = summary_of({"xavier": 0.5, "kaiming": 0.9, "normal": None})
    table = paper_table(summary)
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    records = json.loads(render(table, "json"))["rows"]
    for row, record in zip(rows, records, strict=True):
        estimate = summary.scheme(row["scheme"]).estimate("final_test_accuracy")
        assert record["final_test_accuracy"] == estimate.value
        assert float(row["final_test_accuracy"] or "nan") == pytest.approx(estimate.value or float("nan"), rel=1e-8, nan_ok=True)
        assert record["final_test_accuracy_low"] == estimate.low
    assert records[-1]["final_test_accuracy"] is None


@pytest.mark.golden
@pytest.mark.parametrize("ending", FORMATS)
def test_each_format_is_as_it_was_looked_at(ending):
    summary = summary_of({"xavier": 0.5, "kaiming": 0.9, "lecun": 0.9, "normal": None, "./a_b&c.py": 0.3}, seeds=10)
    assert_golden(f"table.{ending}.txt", render(paper_table(summary), ending))


def test_names_of_others_are_no_commands():
    assert escaped("\\input{/etc/passwd} $x$ a_b 100%") == (r"\textbackslash{}input\{/etc/passwd\} \$x\$ a\_b 100\%")
    assert escaped("模\n") == "[U+6A21][U+000A]"
    text = render(paper_table(summary_of({"kaiming": 0.9, "./=cmd().py": 0.2, "./<script>.py": 0.3})), "markdown")
    assert "<script>" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_it(tmp_path):
    table = paper_table(summary_of(dict.fromkeys(HOSTILE, 0.4) | {"kaiming": 0.9, "normal": None}))
    (tmp_path / "t.tex").write_text(render(table, "latex"))
    (tmp_path / "m.tex").write_text("\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n\\input{t}\n\\end{document}\n")
    done = subprocess.run(["pdflatex", "-halt-on-error", "m.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]

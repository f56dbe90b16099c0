import pytest
from simulated_runs import make_comparison, make_run

from initbench.reporting import tables
from initbench.reporting.tables import harmless
from initbench.reporting.templates import unbroken
from initbench.results.record import Place
from initbench.statistics.summary import group, summarize

ORDER = ["xavier", "kaiming", "normal", "lecun", "fixup"]


@pytest.fixture(scope="module")
def summary():
    return summarize(make_comparison(), order=ORDER)


def test_the_table_of_schemes_row_by_row(summary):
    table = tables.scheme_table(summary)
    assert table.title == "Median of 8 seeds [95 % interval]"
    assert table.columns == (
        "scheme",
        "test accuracy",
        "test loss",
        "above chance",
        "activations, last/first layer",
        "gradients, first/last layer",
    )
    assert table.rows == (
        ("kaiming", "97.2 % [96.7, 97.3]", "0.184 [0.152, 0.203]", "8 of 8", "0.976", "1.010"),
        ("lecun", "95.0 % [94.9, 95.3]", "0.221 [0.174, 0.235]", "7 of 8", "0.483", "0.498"),
        ("xavier", "95.0 % [94.8, 95.3]", "0.237 [0.210, 0.271]", "8 of 8", "0.253", "0.258"),
        ("normal", "diverged", "diverged", "0 of 8", "16783", "16811"),
        ("fixup", "", "", "skipped", "", ""),
    )


def test_numbers_are_on_the_right(summary):
    table = tables.scheme_table(summary)
    assert {table.columns[index] for index in table.right} == {
        "test accuracy",
        "test loss",
        "above chance",
        "activations, last/first layer",
        "gradients, first/last layer",
    }


def test_the_best_and_what_ties_with_it_are_bold(summary):
    assert tables.scheme_table(summary).best == {0}
    assert "| **kaiming** | 97.2 % [96.7, 97.3] |" in tables.summary_markdown(summary, "?")
    level = summarize([make_run(scheme, seed, 0.9 + seed / 100) for scheme in ("kaiming", "xavier") for seed in range(8)])
    assert (tables.scheme_table(level).best, tables.scheme_table(level).level) == ({0}, {1})
    few = summarize([make_run(scheme, seed, accuracy) for scheme, accuracy in (("kaiming", 0.9), ("xavier", 0.5)) for seed in range(3)])
    assert tables.scheme_table(few).best == frozenset()
    assert "Bold" not in tables.summary_markdown(few, "?")


def test_a_target_and_another_metric_get_columns_of_their_own():
    summary = summarize(make_comparison(), order=ORDER, metric="loss_curve_area", target=0.9)
    columns = tables.scheme_table(summary).columns
    assert columns[1] == "mean training loss"
    assert "steps to 90 % test accuracy" in columns
    (row,) = (row for row in tables.scheme_table(summary).rows if row[0] == "normal")
    never = row[columns.index("steps to 90 % test accuracy")]
    assert never == "never got there"


def test_one_seed_and_few_seeds_are_called_so():
    assert tables.statistic_text(summarize([make_run("kaiming", 0)])) == "one seed"
    assert tables.statistic_text(summarize([make_run("kaiming", seed) for seed in range(3)])) == "median of 3 seeds (lowest to highest)"


def test_the_table_of_outcomes_counts_every_kind(summary):
    table = tables.outcome_table(summary)
    assert table.rows[2] == ("normal", "0 of 8 [0 %, 32 %]", "2", "6", "0", "0", "5, 6, 8, 9, 11, 12")
    assert table.rows[3] == ("lecun", "7 of 7 [65 %, 100 %]", "0", "0", "1", "0", "")
    assert table.rows[4][5] == "8"


def test_the_table_of_pairs_has_p_before_and_after_holm(summary):
    table = tables.pair_table(summary)
    assert table.rows[0] == ("kaiming - xavier", "2.0 [1.9, 2.3]", "8", "8, 0, 0", "+1.00", "1.00", "0.0078", "0.0469", "better")
    assert table.rows[1][1] == "no size: one diverged"
    assert table.rows[3] == ("fixup - xavier", "", "0", "", "", "", "", "", "not comparable")


def test_the_layer_that_loses_the_signal_is_marked(summary):
    runs = group(make_comparison())["normal"]
    table = tables.layer_table(runs, summary.scheme("normal").signal_lost_at)
    assert [row[1] for row in table.rows] == ["layers.0", "layers.1", "layers.2", "head"]
    assert table.marked == {2}
    assert tables.layer_table(group(make_comparison())["kaiming"], None).marked == frozenset()


def test_a_figure_in_decades_says_so(summary):
    assert "signal lost at start (decades)" in tables.metric_table(summary).columns


def test_a_signal_that_there_is_none_of_is_no_overflow():
    run = make_run("kaiming", 0)
    unused = {"activation_variance": None, "gradient_variance": None, "zero_fraction": None}
    layers = tuple(stats.model_copy(update=unused) if stats.position == 1 else stats for stats in run.layers)
    row = tables.layer_table([run.model_copy(update={"layers": layers})], None).rows[1]
    assert (row[3], row[4], row[6]) == ("", "", "")
    assert row[7] != ""


def test_a_layer_that_overflowed_says_so():
    runs = [make_run("normal", seed, None, gain=1e30) for seed in range(3)]
    assert tables.layer_table(runs, None).rows[3][3] == "overflow"


def test_the_markdown_of_a_table_letter_by_letter():
    table = tables.Table("title", ("a|b", "n"), (("x", "1"), ("y\nz", "2")), frozenset({1}))
    assert tables.markdown(table) == "| a\\|b | n |\n|---|---:|\n| x | 1 |\n| y z | 2 |\n"


def test_summary_md_begins_with_the_verdict_and_holds_every_section(summary):
    text = tables.summary_markdown(summary, "the question")
    lines = text.splitlines()
    assert lines[0] == "# the question"
    assert lines[2] == f"**{summary.headline}.**"
    assert [line for line in lines if line.startswith("## ")] == [
        "## Against xavier, by test accuracy",
        "## All pairs",
        "## How the runs ended",
        "## All metrics",
        "## Notes",
    ]
    for sentence in summary.verdicts:
        assert f"- {sentence}." in lines


def test_the_same_sentences_are_in_markdown_and_json(summary):
    text, document = tables.summary_markdown(summary, "q"), summary.model_dump_json()
    for sentence in (summary.headline, *summary.verdicts):
        assert sentence in text
        assert sentence in document


def test_where_a_residual_stream_is_followed_the_columns_say_so():
    run = make_run("kaiming", 0, depth=4)
    ends = [
        stats.model_copy(update={"stream_variance": 1.0, "stream_gradient_variance": 1.0, "place": Place.BRANCH_END})
        if stats.position in (1, 3)
        else stats
        for stats in run.layers
    ]
    columns = tables.scheme_table(summarize([run.model_copy(update={"layers": tuple(ends)})])).columns
    assert columns[-2:] == ("activations, last/first block", "gradients, first/last block")
    assert tables.scheme_table(summarize([run])).columns[-2:] == ("activations, last/first layer", "gradients, first/last layer")


def test_names_are_neither_bold_nor_slanted_in_markdown():
    assert harmless("./a*b*.py") == "./a\\*b\\*.py"


@pytest.mark.parametrize(
    ("cell", "shown"), [("81.6 % [79.2, 84.6]", "81.6~% [79.2,~84.6]"), ("8.5 % (7.2 to 9.8)", "8.5~% (7.2~to~9.8)"), ("7 of 8", "7 of 8")]
)
def test_intervals_do_not_break(cell, shown):
    assert unbroken(cell) == shown.replace("~", "\u00a0")

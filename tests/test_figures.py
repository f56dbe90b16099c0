import math
from itertools import pairwise

import pytest
from simulated_runs import make_comparison, make_run

from initbench.reporting.axes import x_ticks
from initbench.reporting.draw import STYLES, figure_of
from initbench.reporting.figures import MOST_POINTS, plots
from initbench.reporting.layout import frame_of, inches_high, rows_of
from initbench.reporting.panels import STREAM, Panel, Plot
from initbench.reporting.roles import layer_roles
from initbench.reporting.scales import head_beyond, limits
from initbench.results.record import Evaluation, Place, RunStatus
from initbench.statistics.summary import group, summarize

ORDER = ["xavier", "kaiming", "normal", "lecun", "fixup"]


def plotted(runs, order=()):
    return {plot.name: plot for plot in plots(summarize(runs, order=order), group(runs, order))}


@pytest.fixture(scope="module")
def comparison():
    return plotted(make_comparison(), ORDER)


def test_the_plots_of_a_comparison(comparison):
    assert list(comparison) == ["loss", "accuracy", "accuracy_curves", "signal", "gradients", "dead_units"]


def test_every_seed_is_a_thin_line_and_each_scheme_one_thick_one(comparison):
    lines = comparison["loss"].panels[0].lines
    assert sum(line.weight == "seed" for line in lines) == 8 + 8 + 8 + 7
    assert [line.scheme for line in lines if line.named] == ["xavier", "kaiming", "normal", "lecun"]


def test_diverged_runs_are_marked_and_missing_schemes_named(comparison):
    panel = comparison["loss"].panels[0]
    assert sum(line.broken for line in panel.lines) == 6
    assert [(each.scheme, each.steps, each.words) for each in panel.lost] == [
        ("normal", (5, 6, 8, 9, 11, 12), "6 of 8 diverged, first at step 5")
    ]
    assert panel.notes == ("fixup: no loss curve (skipped)",)


def test_the_median_ends_where_half_of_the_seeds_have_diverged(comparison):
    middle = next(line for line in comparison["loss"].panels[0].lines if line.named and line.scheme == "normal")
    assert middle.points[-1][0] == 8  # seeds 0, 1, 3 and 4 end after 4, 5, 7 and 8 steps: at step 9 four of eight are gone


def test_the_median_over_seeds_is_the_median():
    runs = [make_run("kaiming", seed, train_losses=losses) for seed, losses in enumerate([(1.0, 5.0), (2.0, 4.0), (9.0, 3.0)])]
    middle = plotted(runs)["loss"].panels[0].lines[-1]
    assert middle.points == ((1.0, 2.0), (2.0, 4.0))


def test_long_curves_are_means_of_stretches_and_the_axis_says_so():
    losses = tuple(float(index) for index in range(10 * MOST_POINTS))
    panel = plotted([make_run("kaiming", 0, train_losses=losses)])["loss"].panels[0]
    assert panel.y_label == "training loss, mean of every 10 steps"
    assert len(panel.lines[0].points) == MOST_POINTS
    assert panel.lines[0].points[0] == (5.5, 4.5)


def test_each_seed_is_a_dot_and_what_has_no_dot_is_written(comparison):
    strips = comparison["accuracy"].panels[0].strips
    assert [len(strip.values) for strip in strips] == [8, 8, 2, 7, 0]
    assert [strip.note for strip in strips[2:]] == ["2 at chance, 6 diverged", "95.0 % [94.9, 95.3], 1 failed", "8 skipped"]
    assert strips[2].middle is None


def test_layers_run_forward_for_activations_and_backward_for_gradients(comparison):
    forward, backward = comparison["signal"].panels[0], comparison["gradients"].panels[0]
    assert [x for x, _ in forward.lines[0].points] == [1, 2, 3, 4]
    assert [x for x, _ in backward.lines[0].points] == [4, 3, 2, 1]
    assert (forward.layers, backward.layers) == ("forward", "backward")


def test_there_is_a_panel_for_the_start_and_one_for_the_end(comparison):
    start, end = comparison["signal"].panels
    assert [line.scheme for line in start.lines] == ["xavier", "kaiming", "normal", "lecun"]
    assert "fixup: no measurement (skipped)" in end.notes


def test_a_scheme_that_always_diverged_has_no_end_and_that_is_said():
    runs = [make_run(scheme, seed, accuracy) for scheme, accuracy in (("kaiming", 0.9), ("normal", None)) for seed in range(3)]
    start, end = plotted(runs, ["kaiming", "normal"])["signal"].panels
    assert len(start.lines) == 2
    assert len(end.lines) == 1
    assert end.notes == ("Bars and shade: lowest to highest seed", "normal: no measurement (diverged)")


def test_a_variance_that_overflowed_is_a_gap_and_never_a_number():
    runs = [make_run("normal", seed, None, gain=1e30) for seed in range(3)]
    points = plotted(runs)["signal"].panels[0].lines[0].points
    assert [y is None for _, y in points] == [False, False, True, True]


def test_the_head_has_no_activation_and_so_no_dead_units(comparison):
    assert len(comparison["dead_units"].panels[0].lines[0].points) == 3


def test_predictions_are_drawn_with_their_band():
    runs = [make_run("kaiming", seed) for seed in range(3)]
    predicted = {
        "predicted_pre_activation_variance": 2.0,
        "predicted_pre_activation_variance_low": 1.5,
        "predicted_pre_activation_variance_high": 2.5,
        "predicted_gradient_variance": 1e-3,
        "predicted_gradient_variance_low": 5e-4,
        "predicted_gradient_variance_high": 2e-3,
    }
    runs = [run.model_copy(update={"layers": tuple(stats.model_copy(update=predicted) for stats in run.layers)}) for run in runs]
    found = plotted(runs)
    panel = found["prediction"].panels[0]
    assert [line.weight for line in panel.lines] == ["middle", "theory"]
    assert panel.bands[0].points[0] == (1.0, 1.5, 2.5)
    assert found["gradients"].panels[0].bands
    assert "theory" in found["gradients"].panels[0].notes[0]


def test_a_layer_without_a_signal_is_left_out_of_its_line():
    run = make_run("kaiming", 0)
    layers = tuple(stats.model_copy(update={"activation_variance": None}) if stats.position == 1 else stats for stats in run.layers)
    (line,) = plotted([run.model_copy(update={"layers": layers})])["signal"].panels[0].lines
    assert [x for x, _ in line.points] == [1, 3, 4]
    assert all(y is not None for _, y in line.points)


def test_one_seed_is_not_called_a_median():
    found = plotted([make_run("kaiming", 0)])
    assert found["loss"].title == "Training loss"
    assert found["accuracy"].title == "Final test accuracy"
    assert found["accuracy"].panels[0].strips[0].middle is None


def test_nothing_is_plotted_of_nothing():
    assert plots(summarize([]), group([])) == ()


def lost_at(seed, step):
    """A run that learns as the others and diverges after some evaluations."""
    accuracy = 0.10 + 0.01 * seed
    evaluations = tuple(Evaluation(step=at, epoch=at / 10, test_loss=1.0, test_accuracy=accuracy) for at in (10, 20) if at <= step)
    return make_run("kaiming", seed, None, evaluations=evaluations)


def test_a_run_that_is_lost_counts_as_the_worst_accuracy_and_not_as_the_best():
    left = [make_run("kaiming", seed, 0.10 + 0.01 * seed) for seed in range(5)]
    early, late = [lost_at(seed, 0) for seed in (5, 6)], [lost_at(7, 10)]
    middle = plotted([*left, *early, *late])["accuracy_curves"].panels[0].lines[-1]
    # at step 20 the five that are left reach 10, 11, 12, 13, 14 %, and three are below: 10 and 11 are the middle two
    assert middle.weight == "middle"
    assert middle.points[-1] == (20, pytest.approx(0.105))
    one_more = plotted([*left[1:], *early, *late, lost_at(0, 10)])["accuracy_curves"].panels[0].lines[-1]
    assert one_more.points[-1][0] == 10  # half are lost at step 20: there is no median


def test_the_end_of_training_says_how_many_came_to_it():
    runs = [make_run("kaiming", seed, None if seed < 3 else 0.9) for seed in range(8)]
    runs += [make_run("xavier", seed) for seed in range(8)]
    start, end = plotted(runs, ["kaiming", "xavier"])["signal"].panels
    assert end.notes == ("Bars and shade: lowest to highest seed", "kaiming: 5 of 8 runs (3 diverged)")
    assert start.notes == ("Bars and shade: lowest to highest seed",)


def renamed(run, names, place=None):
    layers = tuple(
        stats.model_copy(update={"layer": names[stats.position], "place": place if stats.position == len(names) - 1 else None})
        for stats in run.layers
    )
    return run.model_copy(update={"layers": layers})


def test_many_seeds_are_a_range_that_leaves_out_what_diverged():
    runs = [make_run("kaiming", seed, train_losses=(2.0 + seed, 1.0 + seed)) for seed in range(9)]
    gone = make_run("kaiming", 9, None, train_losses=(99.0,))
    panel = plotted([*runs, gone])["loss"].panels[0]
    assert [line.weight for line in panel.lines] == ["middle"]
    assert [(band.of, band.points) for band in panel.bands] == [("seeds", ((1.0, 2.0, 10.0), (2.0, 1.0, 9.0)))]


def test_layers_show_the_lowest_and_the_highest_seed():
    runs = [make_run("kaiming", seed) for seed in range(5)]
    (band,) = plotted(runs)["signal"].panels[0].bands
    at_2 = [stats.activation_variance for run in runs for stats in run.layers if (stats.step, stats.position) == (0, 1)]
    assert band.points[1] == (2.0, min(at_2), max(at_2))


def test_layers_of_repeated_blocks_have_a_panel_for_each_part():
    names = [f"blocks.{block}.{part}" for block in range(3) for part in ("attn.q", "mlp.fc1")] + ["head"]
    runs = [renamed(make_run("kaiming", seed, depth=6), names) for seed in range(2)]
    plot = plotted(runs)["signal"]
    assert [panel.title for panel in plot.panels] == ["blocks.*.attn.q", "", "blocks.*.mlp.fc1", "", "the others", ""]
    assert [panel.corner for panel in plot.panels] == ["start", "end"] * 3
    start = plot.panels[::2]
    q = sorted(stats.activation_variance for run in runs for stats in run.layers if (stats.step, stats.layer) == (0, "blocks.1.attn.q"))
    assert start[0].lines[0].points[1] == (2.0, pytest.approx(sum(q) / 2))
    assert [len(panel.lines[0].points) for panel in start] == [3, 3, 1]


def test_a_quantity_of_hidden_layers_leaves_out_the_head_and_no_other_layer():
    names = [f"blocks.{block}.{part}" for block in range(3) for part in ("attn.q", "mlp.fc1")] + ["head"]
    plot = plotted([renamed(make_run("kaiming", 0, depth=6), names, Place.HEAD)])["dead_units"]
    assert [len(line.points) for panel in plot.panels for line in panel.lines] == [3, 3, 3, 3]


def streamed(run, blocks):
    """The same with a residual stream that doubles behind each block."""
    layers = tuple(
        stats.model_copy(update={"stream_variance": 2.0**stats.position, "stream_gradient_variance": 0.5, "place": Place.BRANCH_END})
        if stats.position % 2 and stats.position < 2 * blocks
        else stats
        for stats in run.layers
    )
    return run.model_copy(update={"layers": layers})


def test_a_residual_stream_has_a_panel_of_its_own_at_start_and_end():
    names = [f"blocks.{block}.{part}" for block in range(3) for part in ("attn.q", "mlp.fc1")] + ["head"]
    plot = plotted([streamed(renamed(make_run("kaiming", seed, depth=6), names), 3) for seed in range(2)])["signal"]
    assert [panel.title for panel in plot.rows[0]] == [STREAM, ""]
    assert plot.rows[0][0].lines[0].points == ((1.0, 2.0), (2.0, 8.0), (3.0, 32.0))


@pytest.mark.heavy
def test_many_schemes_in_panels_of_parts_are_grey_behind_the_best():
    names = [f"blocks.{block}.{part}" for block in range(12) for part in "abcdefgh"] + ["head"]
    schemes = [f"normal:std=0.{index}" for index in range(1, 9)]
    runs = [renamed(make_run(scheme, 0, 0.5 + index / 20, depth=96), names) for index, scheme in enumerate(schemes)]
    plot = plotted(runs, schemes)["signal"]
    assert plot.settled.highlight == schemes[-1]
    assert plot.highlighting(schemes[0]).settled.highlight == schemes[0]
    assert rows_of(plot.settled, STYLES["paper", 2])[-1].note.endswith("Grey: the 7 other schemes")
    assert inches_high(plot, STYLES["paper", 2]) < 10


def ticks_of(panel, inches, between=0.4):
    return x_ticks(panel, inches, between, STYLES["notebook", 2])


def test_the_head_stands_apart_and_names_stand_at_the_axis_where_they_fit():
    names = ["conv1", "conv2", "fc", "head"]
    panel = plotted([renamed(make_run("kaiming", 0), names, Place.HEAD)])["signal"].panels[0]
    assert panel.head == 4
    wide, narrow, least = ticks_of(panel, 3), ticks_of(panel, 1), ticks_of(panel, 0.5)
    assert (wide.texts, wide.tilted) == (("conv1", "conv2", "fc", "head"), False)
    assert (narrow.texts, narrow.tilted) == (("conv1", "conv2", "fc", "head"), True)
    assert (least.texts, least.tilted) == (("1", "head"), False)
    long = [f"features.layers.{index}.a_long_name" for index in range(4)]
    assert ticks_of(plotted([renamed(make_run("kaiming", 0), long)])["signal"].panels[0], 3).texts == ("1", "2", "3", "4")


def test_a_long_name_of_a_head_is_cut_in_the_middle_and_stays_clear_of_the_next_axes():
    names = [f"layers.{index}.of_a_long_name" for index in range(3)] + ["classifier_with_a_long_name"]
    panel = plotted([renamed(make_run("kaiming", 0), names, Place.HEAD)])["signal"].panels[0]
    assert ticks_of(panel, 3, between=8).texts == ("1", "2", "3", "classi…_name")
    assert ticks_of(panel, 3, between=0.4).texts[-1] == "clas…ame"


@pytest.mark.parametrize("inches", [0.5, 1.1, 1.6, 3.2])
@pytest.mark.parametrize("count", [1, 2, 5, 9, 30])
def test_labels_at_an_axis_never_overlap(count, inches):
    names = [*(f"blocks.{index}" for index in range(count - 1)), "head"]
    panel = plotted([renamed(make_run("kaiming", 0, depth=count - 1), names, Place.HEAD)])["gradients"].panels[0]
    ticks = ticks_of(panel, inches)
    pixel = inches / (max(ticks.places) - min(ticks.places) or 1)
    for (left, one), (right, other) in pairwise(sorted(zip(ticks.places, ticks.texts, strict=True))):
        needed = 8.5 / 72 / math.sin(math.radians(40)) if ticks.tilted else 0.6 * 8.5 / 72 * (len(one) + len(other)) / 2
        assert (right - left) * pixel > needed
    assert "head" in ticks.texts


def test_many_schemes_come_the_best_first():
    names = [f"normal:std=0.{index}" for index in range(1, 9)]
    found = plotted([make_run(name, seed, 0.5 + 0.05 * index) for index, name in enumerate(names) for seed in range(2)], names)
    assert list(found["loss"].schemes) == names[::-1]
    assert [strip.scheme for strip in found["accuracy"].panels[0].strips] == names[::-1]


def test_what_counts_blocks_is_what_repeats():
    def parts(*names):
        return {role: len(own) for role, own in layer_roles(names).items()}

    places = ((0, "1.key"), (1, "1"), (1, "3"))
    vit = [f"blocks.{block}.{at}.branch.{leaf}" for block in range(4) for at, leaf in places]
    assert parts(*vit, "head") == {"blocks.*.0.branch.1.key": 4, "blocks.*.1.branch.1": 4, "blocks.*.1.branch.3": 4, "the others": 1}
    resnet = [f"layer{stage}.{block}.conv{which}" for stage in (1, 2) for block in (0, 1) for which in (1, 2)]
    assert parts("conv1", *resnet, "fc") == {"layer*.*.conv1": 4, "layer*.*.conv2": 4, "the others": 2}
    assert parts(*(f"linear{index}" for index in range(20)), "head") == {}
    assert parts(*(f"net.{index}" for index in range(0, 40, 2))) == {}


def test_what_diverged_comes_before_what_was_skipped():
    names = [f"normal:std=0.{index}" for index in range(1, 9)]
    skipped = {"status": RunStatus.SKIPPED, "train_losses": (), "evaluations": (), "layers": (), "first_bad_step": None}
    ends = [0.9, None, skipped, None, skipped, skipped | {"status": RunStatus.FAILED}, None, 0.8]
    runs = [make_run(name, 0, **end) if isinstance(end, dict) else make_run(name, 0, end) for name, end in zip(names, ends, strict=True)]
    order = [names[place] for place in (0, 7, 1, 3, 6, 5, 2, 4)]
    assert list(summarize(runs, order=names).ranking) == order
    assert [strip.scheme for strip in plotted(runs, names)["accuracy"].panels[0].strips] == order


def test_many_schemes_without_a_curve_are_one_sentence_with_their_number():
    skipped = {"status": RunStatus.SKIPPED, "train_losses": (), "evaluations": (), "layers": (), "first_bad_step": None}
    runs = [make_run(f"normal:std=0.{index}", 0, **skipped) for index in range(1, 8)] + [make_run("kaiming", 0)]
    panel = plotted(runs)["loss"].panels[0]
    assert panel.notes == ("normal:std=0.1, normal:std=0.2, normal:std=0.3 and 4 more: no loss curve (skipped)",)


def test_a_note_of_panels_at_the_end_says_so_once_and_is_never_without_a_title():
    names = [f"blocks.{block}.{part}" for block in range(3) for part in ("attn.q", "mlp.fc1")] + ["head"]
    runs = [renamed(make_run(scheme, 0, end, depth=6), names) for scheme, end in (("kaiming", 0.9), ("normal", None))]
    (note,) = [row.note for row in rows_of(plotted(runs)["signal"], STYLES["notebook", 2]) if row.note]
    assert note == "End: normal: no measurement (diverged)"
    panels = (Panel("a", "", "", notes=("all", "one")), Panel("b", "", "", notes=("all",)))
    (row,) = rows_of(Plot("", "", (panels,)), STYLES["notebook", 2])
    assert row.note == "all. a: one"


def many_signals():
    """Nine schemes, of which the last explodes and always diverges."""
    schemes = [*(f"normal:std=0.{index}" for index in range(1, 9)), "ones"]
    return plotted([make_run(name, 0, None if name == "ones" else 0.9, gain=1e3 if name == "ones" else 1.0) for name in schemes], schemes)


def test_many_schemes_that_always_diverge_do_not_set_the_axis_of_layers():
    panels = many_signals()["signal"].panels
    assert limits(panels)[1] < 100
    few = [make_run("kaiming", 0), make_run("ones", 0, None, gain=1e3)]
    assert limits(plotted(few)["signal"].panels)[1] > 1e9


def test_only_rows_with_tilted_names_have_room_for_them():
    style = STYLES["notebook", 2]
    names = [f"a_layer_{index}" for index in range(4)]
    runs = [renamed(make_run(f"normal:std=0.{index}", 0), names) for index in range(1, 9)]
    first, last = [row for row in rows_of(plotted(runs)["signal"], style) if not row.heading.endswith("training")][:2]
    assert (first.next, last.next) == (4, 0)
    assert frame_of(first, style).ticks == pytest.approx(0.9 * style.em)
    assert frame_of(last, style).ticks > 3.6 * style.em + 0.3


@pytest.mark.heavy
def test_what_is_left_out_of_many_panels_is_counted_in_schemes():
    schemes = [f"normal:std={1 + index / 100}" for index in range(40)]
    losses = [(2.0, 1 + max(0, index // 2) / 100) for index in range(40)]
    runs = [make_run(name, 0, 0.9 - index / 100, train_losses=losses[index]) for index, name in enumerate(schemes)]
    few = rows_of(plotted(runs, schemes)["loss"], STYLES["notebook", 2])
    assert "not shown" not in few[-1].note  # 20 panels of two schemes each
    more = [*runs, *(make_run(f"uniform:bound={index}", 0, 0.1, train_losses=(3.0, 2.0 + index)) for index in range(1, 8))]
    rows = rows_of(plotted(more)["loss"], STYLES["notebook", 2])
    assert "The 40 best and the 4 worst; 3 between are not shown" in rows[-1].note


def test_layers_that_were_not_measured_are_named_with_why():
    run = make_run("kaiming", 0)
    layers = tuple(
        stats.model_copy(update={"gradient_variance": None, "overflowed": (), "not_measured": "hidden inside a recurrent module"})
        if stats.position < 3
        else stats.model_copy(update={"overflowed": ()})
        for stats in run.layers
    )
    found = plotted([run.model_copy(update={"layers": layers})])
    assert found["gradients"].panels[0].notes == ("layers.0, layers.1, layers.2: not measured, hidden inside a recurrent module",)
    assert found["signal"].panels[0].notes == ()


def test_a_head_beyond_the_axis_of_its_panel_is_written_there():
    names = ["stem"] + [f"blocks.{block}.{part}" for block in range(3) for part in ("attn.q", "mlp.fc1")] + ["head"]
    run = renamed(make_run("kaiming", 0, depth=7), names, Place.HEAD)
    layers = tuple(stats.model_copy(update={"gradient_variance": 9.0}) if stats.layer == "head" else stats for stats in run.layers)
    plot = plotted([run.model_copy(update={"layers": layers})])["gradients"]
    others = next(panel for panel in plot.panels if panel.head is not None)
    assert head_beyond(others, *limits(plot.panels)) == "9"
    written = [text.get_text() for axes in figure_of(plot).axes for text in axes.texts]
    assert written.count("9") == 2  # at the start and at the end


def test_axes_hold_the_steps_at_which_runs_diverged_and_no_fractions_of_steps():
    runs = [make_run("normal", seed, None, train_losses=(1.0,), first_bad_step=2, evaluations=()) for seed in range(2)]
    figure = figure_of(plotted(runs)["loss"])
    low, high = figure.axes[0].get_xlim()
    assert low < 1 < 2 < high
    assert {tick for tick in figure.axes[0].get_xticks() if low <= tick <= high} == {1, 2}
    assert [tuple(line.get_xdata()) for line in figure.axes[1].lines] == [(2, 2)]


def test_what_always_diverges_does_not_set_the_axis(comparison):
    many = [make_run("normal", seed, None, train_losses=(2.0, 1e9, 1e20)) for seed in range(9)]
    panel = plotted([*many, *(make_run("kaiming", seed) for seed in range(9))])["loss"].panels[0]
    assert limits([panel])[1] < 100


def test_a_bad_start_of_a_run_that_recovers_is_cut_and_marked():
    recovers = [make_run("normal", seed, train_losses=(1e7, 1e6, *[1.0] * 98)) for seed in range(3)]
    steady = [make_run("kaiming", seed, train_losses=tuple(2 - step / 100 for step in range(100))) for seed in range(3)]
    panel = plotted([*recovers, *steady])["loss"].panels[0]
    assert 2 < limits([panel])[1] < 1e4
    assert limits([plotted(steady)["loss"].panels[0]])[1] == pytest.approx(2, rel=0.2)


def test_grey_lines_are_named_where_one_scheme_is_in_colour(comparison):
    (row,) = rows_of(comparison["loss"].highlighting("kaiming"), STYLES["paper", 2])
    assert row.note.endswith("Grey: xavier, normal, lecun")

import dataclasses
import struct
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from random import Random

import pytest
from simulated_runs import make_comparison, make_run

from initbench.question import catalog
from initbench.reporting.draw import DPI, STYLES, WIDTH, draw, figure_of
from initbench.reporting.figures import plots
from initbench.reporting.looks import LOOKS, SHIPPED, looks
from initbench.reporting.panels import Curve, Panel, Plot, short_names
from initbench.statistics.summary import group, summarize

ORDER = ["xavier", "kaiming", "normal", "lecun", "fixup"]


def drawn(runs, order=()):
    return {plot.name: draw(plot) for plot in plots(summarize(runs, order=order), group(runs, order))}


@pytest.fixture(scope="module")
def pictures():
    return drawn(make_comparison(), ORDER)


def texts(svg):
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.heavy
def test_the_same_plot_has_the_same_bytes(pictures):
    runs = list(reversed(make_comparison()))
    again = {plot.name: draw(plot) for plot in plots(summarize(runs, order=ORDER), group(runs, ORDER)) if plot.name in {"loss", "accuracy"}}
    for name, files in again.items():
        assert files == pictures[name]


@pytest.mark.heavy
def test_pictures_carry_no_date_and_no_version(pictures):
    for files in pictures.values():
        assert b"<dc:date>" not in files[".svg"]
        assert b"Matplotlib" not in files[".png"]


def test_a_png_is_as_wide_as_a_readme_needs(pictures):
    for files in pictures.values():
        width, height = struct.unpack(">II", files[".png"][16:24])
        assert width == WIDTH * DPI
        assert 200 < height < 1200


def test_every_scheme_is_labelled_with_a_piece_of_its_own_line(pictures):
    svg = pictures["signal"][".svg"].decode()
    assert {"xavier", "kaiming", "normal", "lecun"} <= set(texts(svg))
    for name in ("xavier", "kaiming", "normal", "lecun"):
        assert looks([name])[name].colour.lower() in svg.lower()


def test_the_title_and_the_note_are_in_the_picture(pictures):
    found = texts(pictures["loss"][".svg"])
    assert "Training loss: each seed (thin) and the median (thick)" in found
    assert any("fixup: no loss curve (skipped)" in text for text in found)


@pytest.mark.heavy
@pytest.mark.parametrize(("gain", "depth"), [(0.0, 3), (1e30, 3), (128.0, 30)])
def test_vanished_and_overflowed_signals_can_be_drawn(gain, depth):
    runs = [make_run("normal", seed, None, gain=gain, depth=depth) for seed in range(2)]
    plot = next(plot for plot in plots(summarize(runs), group(runs)) if plot.name == "signal")
    assert "normal" in texts(draw(plot)[".svg"])


@pytest.mark.heavy
def test_more_than_six_schemes_have_a_small_panel_each_and_those_that_are_the_same_share_one():
    names = [f"normal:std=0.{index}" for index in range(1, 9)]
    runs = [make_run(name, 0) for name in names]
    twin = make_run("kaiming", 0, train_losses=runs[0].train_losses)
    svg = draw(next(plot for plot in plots(summarize([*runs, twin]), group([*runs, twin])) if plot.name == "loss"))[".svg"].decode()
    assert {"kaiming", "= normal:std=0.1", *names[1:]} <= set(texts(svg))


@pytest.mark.heavy
def test_of_many_schemes_that_are_the_same_a_panel_names_as_many_as_it_has_room_for():
    names = [f"normal:std={index}" for index in range(1, 26)]
    runs = [make_run(name, 0, train_losses=(2.0, 1.0)) for name in names] + [make_run("kaiming", 0)]
    written = texts(draw(next(plot for plot in plots(summarize(runs), group(runs)) if plot.name == "loss"))[".svg"])
    same = [text for text in written if text.startswith("= ")]
    assert 3 <= len(same) <= 8
    assert f"and {24 - len(same)} more" in written


def test_lines_that_cover_one_another_share_a_label():
    runs = [make_run(name, 0, train_losses=(2.0, 1.0, offset)) for name, offset in (("kaiming", 0.5), ("xavier", 0.5), ("normal", 0.1))]
    svg = draw(next(plot for plot in plots(summarize(runs), group(runs)) if plot.name == "loss"))[".svg"].decode()
    assert {"kaiming", "= xavier", "normal"} <= set(texts(svg))
    assert "xavier" not in texts(svg)


LONG = [
    "variance_scaling:distribution=uniform,mode=fan_in,scale=2.0",
    "variance_scaling:distribution=normal,mode=fan_in,scale=2.0",
    "variance_scaling:distribution=normal,mode=fan_out,scale=2.0",
    "./schemes/of/mine/one/scheme.py:scale=1.0",
    "./schemes/of/mine/two/scheme.py:scale=1.0",
    "kaiming",
]


@pytest.mark.parametrize("most", [28, 20, 17])
def test_long_names_keep_what_tells_them_apart(most):
    names = short_names(LONG, most)
    assert len(set(names.values())) == len(LONG)
    assert max(map(len, names.values())) <= most
    assert names["kaiming"] == "kaiming"
    words = ("uni", "nor", "ou", "one", "two")
    assert all(word in names[scheme] for word, scheme in zip(words, LONG, strict=False))


def test_no_two_names_are_alike_however_they_differ():
    random = Random(0)
    for _ in range(100):
        schemes = list(dict.fromkeys("".join(random.choices("ab=,", k=random.randint(1, 60))) for _ in range(30)))
        assert len(set(short_names(schemes, 12).values())) == len(schemes)


def test_a_long_name_alone_is_cut_in_the_middle():
    assert short_names(["./schemes/of/mine/of/a/long/path.py:scale=1.0"]) == {
        "./schemes/of/mine/of/a/long/path.py:scale=1.0": "./schemes/of/m…".ljust(15) + ".py:scale=1.0"
    }


def test_every_scheme_of_a_long_name_is_labelled_and_those_that_coincide_too():
    losses = [(2.0, 1.0, 0.5), (2.0, 1.0, 0.1), (2.0, 1.0, 1.0), (2.0, 1.0, 0.7), (2.0, 1.0, 0.9), (2.0, 1.0, 0.1)]
    runs = [make_run(name, 0, train_losses=own) for name, own in zip(LONG, losses, strict=True)]
    found = plots(summarize(runs, order=LONG), group(runs, LONG))
    names = short_names(LONG)
    written = texts(draw(found[0])[".svg"])
    assert {*(names[scheme] for scheme in LONG[:5]), "= kaiming"} <= set(written)
    assert {names[scheme] for scheme in LONG} <= set(texts(draw(found[1])[".svg"]))


def test_runs_that_diverged_have_a_row_of_their_own(pictures):
    assert "normal: 6 of 8 diverged, first at step 5" in texts(pictures["loss"][".svg"])


def test_every_shipped_scheme_has_a_look_of_its_own_that_no_other_name_takes():
    assert sorted(SHIPPED) == sorted(entry.name for entry in catalog.entries("scheme"))
    assert len(set(LOOKS)) == len(LOOKS) > 2 * len(SHIPPED)
    others = [f"normal:std={value / 100}" for value in range(1, 40)]
    found = looks([*others, *SHIPPED])
    assert len(set(found.values())) == len(found)
    assert looks(["normal:std=0.07", "kaiming"])["kaiming"] == found["kaiming"]


def test_a_scheme_looks_the_same_beside_others():
    alone = looks(["./mine.py:build"])["./mine.py:build"]
    assert looks(["kaiming", "./mine.py:build", "xavier"])["./mine.py:build"] == alone


def test_schemes_of_one_colour_differ_in_their_dash():
    named = ["kaiming", "xavier", "torch_default", "orthogonal:gain=auto", "normal:std=0.5", "./mine.py:build"]
    assert len({look[:2] for look in looks(named).values()}) == len(named)


def test_schemes_of_one_colour_differ_in_their_dots_too():
    named = [*LONG, *(f"normal:std=0.{index}" for index in range(1, 4)), "normal"]
    assert len({look[::2] for look in looks(named).values()}) == len(named)
    assert len({look[::2] for look in LOOKS[:36]}) == 36


def test_the_line_of_a_seed_has_the_dash_of_its_scheme():
    runs = [make_run("torch_default", seed) for seed in range(2)]
    lines = figure_of(plots(summarize(runs), group(runs))[0]).axes[0].lines
    assert looks(["torch_default"])["torch_default"].dash == "dashed"
    assert {line.get_linestyle() for line in lines if len(line.get_xdata()) > 1} == {"--"}


def test_titles_that_end_alike_stay_apart():
    titles = [f"{coder}.layers.*.self_attention.out_proj" for coder in ("encoder", "decoder", "a_third_one")]
    line = Curve("kaiming", ((1.0, 1.0), (2.0, 2.0)), named=True)
    panels = tuple(Panel(title, "layer", "variance", (line,), layers="forward") for title in titles)
    drawn = [axes.get_title(loc="left") for axes in figure_of(Plot("signal", "", (panels,), ("kaiming",))).axes]
    assert len(set(drawn)) == 3
    assert all(len(title) < len(whole) for title, whole in zip(drawn, titles, strict=True))


def test_where_dots_take_the_width_a_long_name_is_cut_and_not_its_note():
    runs = [make_run(name, seed) for name in LONG for seed in range(8)]
    plot = next(plot for plot in plots(summarize(runs), group(runs)) if plot.name == "accuracy")
    written = [text.get_text() for text in figure_of(plot, STYLES["paper", 1]).axes[0].texts]
    assert all(text.endswith(f"  {strip.note}") for text, strip in zip(written, plot.panels[0].strips, strict=True))
    assert len({text.partition("  ")[0] for text in written}) == len(LONG)


def test_notes_beside_rows_of_dots_are_within_the_picture():
    runs = [make_run("normal", seed, None) for seed in range(2)]
    plot = next(plot for plot in plots(summarize(runs), group(runs)) if plot.name == "accuracy")
    figure = figure_of(plot)
    figure.draw_without_rendering()
    note = next(text for text in figure.axes[0].texts if text.get_text() == "2 diverged")
    assert note.get_window_extent().x1 < figure.bbox.x1


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["x$\\frac$y", "$\\alpha_{$", "a$b$c", "<b>&amp;"])
def test_names_are_drawn_as_they_are(name):
    runs = [make_run("kaiming", 0)]
    plot = plots(summarize(runs), group(runs))[0]
    lines = tuple(dataclasses.replace(line, scheme=name) for line in plot.panels[0].lines)
    panel = dataclasses.replace(plot.panels[0], lines=lines, title=name)
    shown = dataclasses.replace(plot, rows=((panel,),), title=name, schemes=(name,))
    assert texts(draw(shown)[".svg"]).count(name) == 3


@pytest.mark.heavy
def test_drawing_leaves_pyplot_and_the_global_settings_alone():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import matplotlib\n"
        "settings = lambda: [matplotlib.rcParams[name] for name in ('font.size', 'svg.hashsalt', 'axes.grid')]\n"
        "before = settings()\n"
        "from test_draw import drawn, make_run\n"
        "assert drawn([make_run('kaiming', 0, layers=())])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.heavy
def test_two_processes_draw_what_one_draws():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from hashlib import sha256; from test_draw import make_comparison, plots, summarize, group\n"
        "from initbench.reporting import draw\n"
        "made, asked, mapped = plots(summarize(make_comparison()), group(make_comparison())), [], draw.mapped\n"
        "draw.mapped = lambda *given: asked.append(given[2]) or mapped(*given)\n"
        "draw.cores = lambda: int(sys.argv[1])\n"
        "found = draw.draw_all(made)\n"
        "assert len(found) == len(made) >= draw.FEW_PLOTS and len(asked) == draw.cores() - 1, asked\n"
        "print(sha256(repr(found).encode()).hexdigest())"
    )
    one, two = (subprocess.run([sys.executable, "-c", code, cores], check=True, capture_output=True, text=True).stdout for cores in "12")
    assert one == two


@pytest.mark.parametrize("style", sorted(STYLES))
def test_long_names_leave_room_for_the_dots(style):
    runs = [make_run(f"kaiming:mode=fan_out,nonlinearity=relu{'x' * length}", seed) for length in (0, 40) for seed in range(6)]
    runs += [make_run("xavier", seed, None) for seed in range(6)]
    plot = next(plot for plot in plots(summarize(runs), group(runs)) if plot.name == "accuracy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figure_of(plot, STYLES[style])
    assert figure.axes[0].get_position().width > 0.3

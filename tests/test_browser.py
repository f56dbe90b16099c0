"""The pages as people open them: of few and many schemes, with runs that diverged, with hostile names; clicked, sorted, small."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from simulated_runs import make_config, make_run

import initbench
from initbench.probing.map_run import draw_map
from initbench.question.request import configure
from initbench.reporting import draw, page
from initbench.reporting.write import plots_of
from initbench.results.record import Place, RunStatus
from initbench.statistics.summary import group, summarize

pytestmark = pytest.mark.browser

WAYS = [(1400, False), (1400, True), (400, False), (400, True)]
"""Widths, and whether it is dark."""
LONG = "./" + "a_very_long_name_" * 12 + ".py"
HOSTILE = ("./x$\\frac$y.py", "./</script><script>alert(1)</script>.py", './"><img src=x onerror=alert(1)>.py', "./模型 é.py", LONG)
MOST_BYTES = 5_000_000


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install --group browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Opens the page of a file: `with opened(path, width, dark) as page`. An error in it, or a request to a network, fails the test."""

    @contextmanager
    def open_page(path, width=1400, dark=False, scripts=True):
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            accept_downloads=True,
        )
        page = context.new_page()
        wrong = []
        page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(("file:", "blob:", "data:")) else None)
        page.goto(path.absolute().as_uri())
        yield page
        assert wrong == []
        context.close()

    return open_page


def write(folder, schemes, *, seeds=4, depth=6):
    """The page of simulated runs, as it stands in a results folder; every third scheme diverges with half of its seeds."""
    runs = [
        make_run(scheme, seed, None if place % 3 == 2 and seed % 2 else 0.9 - 0.5 * place / len(schemes), depth=depth)
        for place, scheme in enumerate(schemes)
        for seed in range(seeds)
    ]
    return write_page(folder, runs)


def write_page(folder, runs):
    summary, own = summarize(runs := list(runs)), group(runs)
    pictures = [(plot, draw.draw(plot, endings=(".svg",))[".svg"]) for plot in plots_of(summary, own)]
    path = folder / "report.html"
    path.write_text(page.render(make_config(*own, seeds=max(map(len, own.values()))), summary, own, pictures), encoding="utf-8")
    return path


def many(count):
    return ["kaiming", "xavier", "normal", *(f"sigma:sigma_w={1 + index / 100:g}" for index in range(count - 3))]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    asked = {
        "one": ["kaiming"],
        "small": ["kaiming", "xavier", "normal"],
        "hostile": ["kaiming", *HOSTILE],
        "twelve": many(12),
        "thirty": many(30),
    }
    made = {name: write(tmp_path_factory.mktemp(name), schemes) for name, schemes in asked.items()}
    made["single"] = write(tmp_path_factory.mktemp("single"), ["kaiming", "xavier"], seeds=1)
    return {**made, "strange": write_page(tmp_path_factory.mktemp("strange"), strange_runs())}


STRANGE = {
    "layers.1": {"activation_variance": 0.0, "pre_activation_mean": -0.2},
    "layers.2": {"activation_variance": None, "overflowed": ("activation_variance",), "pre_activation_mean": 0.3},
    "layers.3": {"activation_variance": None, "overflowed": ()},
    "head": {"place": Place.HEAD, "pre_activation_mean": 50.0},
}


def strange_runs():
    """Zero, overflow, nothing measured, a far head; of `xavier` one run alone ends, `normal` starts high, three are skipped."""
    nothing = {"status": RunStatus.SKIPPED, "reason": "no branch", "train_losses": (), "evaluations": (), "layers": (), "init": None}
    for seed in range(4):
        for scheme, accuracy in (("kaiming", 0.9), ("xavier", None if seed else 0.5), ("normal", 0.7)):
            run = make_run(scheme, seed, accuracy, depth=5)
            layers = tuple(stats.model_copy(update=STRANGE.get(stats.layer, {})) for stats in run.layers)
            yield run.model_copy(update={"layers": layers, "train_losses": (1e5 if scheme == "normal" else 2.3, *run.train_losses[1:])})
        yield from (make_run(scheme, seed, **nothing) for scheme in ("fixup", "rezero", "skipinit"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Pages that commands wrote."""
    folder = tmp_path_factory.mktemp("real")
    data = "synthetic:n=256,test=64,classes=3,shape=[1,6,6],noise=0.5"
    initbench.probe("mlp:depth=4,width=16", ["kaiming", "xavier", "normal"], dataset=data, output=str(folder / "probe"))
    initbench.compare(
        ["kaiming", "xavier", "normal:std=5"], model="mlp:depth=6,width=16", dataset=data, seeds=3, steps=30,
        settings=["probe.every_steps=10"], engine="serial", output=str(folder / "compare"),
    )  # fmt: skip
    initbench.compare(
        ["kaiming", "xavier"], model="residual_mlp:width=16", dataset=data, seeds=2, steps=5,
        engine="serial", output=str(folder / "residual"),
    )  # fmt: skip
    initbench.recommend(
        model="mlp:depth=3,width=16", schemes=["kaiming", "xavier"], dataset=data, seeds=2, steps=10, output=str(folder / "recommend")
    )
    own = [folder / name for name in ("x$\\frac$y.py", "模型 é.py", "a_very_long_name_" * 10 + ".py")]
    for path in own:
        path.write_text("from initbench.schemes.normal import build as normal\n\n\ndef build():\n    return normal(std=9.0)\n")
    initbench.probe("mlp:depth=4,width=16", list(map(str, own)), dataset=data, output=str(folder / "probe-hostile"))
    initbench.probe("mlp:depth=3,width=16", dataset=data, as_is=True, output=str(folder / "probe-as-is"))
    asked = configure("probe", schemes=["kaiming"], model="mlp:depth=16,width=16", dataset=data, settings=["train.steps=5"])
    draw_map(asked, "sigma_w=0.3:4:5,sigma_b=0:1:3", out=str(folder / "map"))
    draw_map(asked, "gain=1:9:3,depth=2:8:3", train=True, out=str(folder / "map-trained"))
    return {name: folder / name / "report.html" for name in REAL}


NAMES = ["one", "single", "small", "hostile", "twelve", "thirty", "strange"]
REAL = ["probe", "probe-hostile", "probe-as-is", "map", "map-trained", "compare", "residual", "recommend"]


def violations(opened_page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened_page).response["violations"]
    return [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found]


def small_text(opened_page):
    """Texts on the screen below 11 pixels, within drawings as they are scaled."""
    return opened_page.evaluate("""() => {
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
      while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !parent.getClientRects().length) continue;
        const svg = parent.closest("svg"), scale = svg ? svg.getScreenCTM().a : 1;
        const size = parseFloat(getComputedStyle(parent).fontSize) * scale;
        if (size < 10.95) found.push([walker.currentNode.textContent.trim(), size]);
      }
      return found.slice(0, 5);
    }""")


def drawing_of(shown, section):
    """The first drawing of a section, once it is there."""
    shown.locator(f"#{section}").scroll_into_view_if_needed()
    shown.wait_for_selector(f"#{section} .drawing svg")
    return shown.locator(f"#{section} .drawing").first


@pytest.mark.parametrize(("width", "dark"), WAYS)
@pytest.mark.parametrize("name", [*NAMES, *REAL])
def test_a_page_has_no_error_and_can_be_read_by_everyone(name, width, dark, pages, real, opened):
    with opened({**pages, **real}[name], width, dark) as shown:
        shown.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        shown.wait_for_timeout(300)
        assert violations(shown) == []
        assert small_text(shown) == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_it_all_without_scripts(name, pages, opened):
    with opened(pages[name], scripts=False) as shown:
        assert shown.locator("main table").first.is_visible()
        assert shown.locator("figure svg").count() >= 3
        assert not shown.locator("#legend").is_visible()


@pytest.mark.parametrize("name", ["small", "twelve", "residual", "probe"])
def test_a_page_is_no_longer_than_five_screens_until_it_is_unfolded(name, pages, real, opened):
    with opened({**pages, **real}[name]) as shown:
        height = "document.documentElement.scrollHeight"
        assert shown.evaluate(height) < 5 * 900
        for link in shown.locator("nav a").all():
            link.click()
            assert shown.locator(link.get_attribute("href")).is_visible()
        assert shown.evaluate(height) > 5 * 900 or name == "probe"


def test_a_link_into_a_folded_section_opens_it(pages, opened):
    with opened(pages["small"]) as shown:
        assert not shown.locator("#figures").is_visible()
        shown.goto(shown.url + "#figures")
        assert shown.locator("#figures").is_visible()
        assert not shown.locator("#network").is_visible()
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert shown.locator("#network").is_visible()
        shown.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not shown.locator("#network").is_visible()


@pytest.mark.parametrize("name", ["small", "hostile", "twelve", "residual", "probe", "recommend"])
def test_a_sheet_of_paper_holds_every_column(name, pages, real, opened):
    with opened({**pages, **real}[name], width=720) as shown:  # A4 within its margins
        shown.emulate_media(media="print")
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        wide = shown.locator("main table:visible").evaluate_all("each => each.map(table => table.getBoundingClientRect().right)")
        assert len(wide) > 1
        assert max(wide) <= 720


def test_a_long_name_is_saved_and_found_whole(pages, opened):
    with opened(pages["hostile"]) as shown:
        table = shown.locator("main table").first
        shown.get_by_role("searchbox").first.fill(LONG[20:])
        assert table.locator("tbody tr:visible").count() == 1
        with shown.expect_download() as download:
            shown.get_by_role("button", name="save as CSV").first.click()
        assert Path(download.value.path()).read_text().splitlines()[1].startswith(LONG)


def test_names_of_others_run_nothing(pages, opened):
    with opened(pages["hostile"]) as shown:
        shown.on("dialog", lambda _dialog: pytest.fail("a name ran as code"))
        assert shown.locator("script").count() == 2
        in_data = json.loads(shown.locator("#data").inner_text())["schemes"][2]["name"] == HOSTILE[1]
        assert in_data or shown.locator("#legend button").count() == 8
        assert shown.locator("img").count() == 0


def test_a_large_page_is_small_and_quick(tmp_path, opened, record_property):
    path = write(tmp_path, many(30), seeds=20, depth=110)
    assert path.stat().st_size < MOST_BYTES
    with opened(path) as shown:
        first = shown.evaluate("performance.getEntriesByType('paint').find(each => each.name === 'first-contentful-paint').startTime")
        record_property("first view", f"{path.stat().st_size / 1e6:.1f} MB after {first:.0f} ms")
        assert first < 5000  # it is about a tenth of that; a busy machine is no fault of the page
        assert drawing_of(shown, "depth").is_visible()


def test_tables_are_sorted_filtered_and_saved(pages, opened):
    with opened(pages["twelve"]) as shown:
        table = shown.locator("main table").first
        table.get_by_role("button", name="test accuracy").click()
        accuracies = [float(text.split()[0]) for text in table.locator("tbody tr td:nth-child(2)").all_inner_texts() if text[0].isdigit()]
        assert accuracies == sorted(accuracies)
        assert table.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
        table.get_by_role("button", name="test accuracy").click()
        assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
        shown.get_by_role("searchbox").first.fill("kaiming")
        assert table.locator("tbody tr:visible").count() == 1
        with shown.expect_download() as download:
            shown.get_by_role("button", name="save as CSV").first.click()
        lines = Path(download.value.path()).read_text().splitlines()
        assert lines[0].startswith("scheme,test accuracy")
        assert len(lines) == 2
        shown.get_by_text("config.yaml", exact=True).click()
        with shown.expect_download() as download:
            shown.get_by_role("button", name="save config.yaml").click()
        assert "schemes:" in Path(download.value.path()).read_text()


def test_schemes_are_toggled_and_lines_read(real, opened):
    with opened(real["compare"]) as shown:
        drawing = shown.locator("#loss .drawing")
        drawing.scroll_into_view_if_needed()
        before = drawing.locator("path").count()
        chip = shown.locator("#legend button").first
        chip.click()
        assert chip.get_attribute("aria-pressed") == "false"
        assert drawing.locator("path").count() < before
        chip.click()
        box = drawing.locator("svg").bounding_box()
        for x in range(80, int(box["width"]) - 20, 40):
            shown.mouse.move(box["x"] + x, box["y"] + box["height"] / 2)
        for y in range(20, 220, 10):
            shown.mouse.move(box["x"] + 200, box["y"] + y)
        assert "seed" in drawing.locator("output").inner_text()
        shown.locator("#loss select").first.select_option("epoch")
        assert drawing.locator("svg").is_visible()
        shown.locator("#loss select").first.select_option("second")
        assert drawing.locator("svg").get_attribute("aria-label").startswith("training loss by second")
        shown.get_by_label("smoothing").first.fill("0.9")
        assert "moving average with weight 0.9" in drawing.locator(".y-label").inner_text()


def test_the_slider_moves_the_signal_to_another_step(real, opened):
    data = json.loads(real["compare"].read_text().split('id="data">')[1].split("</script>")[0])
    assert len(data["steps"]) >= 4
    with opened(real["compare"]) as shown:
        drawing = drawing_of(shown, "depth")
        before = drawing.inner_html()
        shown.get_by_label("training step").fill("2")
        assert f"step {data['steps'][2]}" in shown.locator("#depth .tools output").inner_text()
        assert drawing.inner_html() != before
        assert shown.locator("#depth .drawing").nth(1).locator("rect").count() > len(data["layers"])
        shown.locator("#depth select").first.select_option("gradient_variance")
        assert drawing.locator("p").inner_text() == "gradient variance"


@pytest.mark.parametrize("width", [1400, 400])
def test_a_chart_of_layers_has_their_names_and_no_number_between_them(width, real, opened):
    with opened(real["compare"], width) as shown:
        drawing = drawing_of(shown, "depth")
        layers = json.loads(shown.locator("#data").inner_text())["layers"]
        ticks = drawing.locator("svg text").all_text_contents()
        assert [tick for tick in ticks if tick in layers] == layers
        assert not any(tick.endswith(".5") for tick in ticks[-len(layers) - 1 :])


def test_no_line_joins_the_head_to_the_layer_before_it(real, opened):
    with opened(real["compare"]) as shown:
        drawing = drawing_of(shown, "depth")
        assert json.loads(shown.locator("#data").inner_text())["head"] == 6
        lines = drawing.locator("svg path[fill=none]").evaluate_all("each => each.map(path => path.getAttribute('d'))")
        assert lines
        assert max(line.count("L") for line in lines) == 5  # six hidden layers; the head is a dot


def test_what_is_said_of_a_chart_is_true_of_it(pages, opened):
    seeds = "lowest to highest seed"
    for name, several in (("one", True), ("single", False)):
        with opened(pages[name]) as shown:
            said = drawing_of(shown, "depth").locator(".notes").inner_text()
            assert (seeds in said.lower()) is several
            assert "head" not in said


@contextmanager
def explored(opened, path, quantity="activation_variance", step=0, of=0):
    """The drawing of depth and the map of layers and steps beside it; `of`: the scheme of the map, by its rank."""
    with opened(path) as shown:
        drawing = drawing_of(shown, "depth")
        shown.locator("#depth select").first.select_option(quantity)
        shown.locator("#depth select").last.select_option(str(of))
        shown.get_by_label("training step").fill(str(step))
        yield drawing, shown.locator("#depth .drawing").nth(1)


def heights(drawing):
    """The labels of the y axis as numbers."""
    labels = drawing.locator("svg text[text-anchor=end]").all_text_contents()
    return [float(label) for label in labels if label[:1] in "-0123456789"]


def test_zero_and_overflow_have_marks_of_their_own_and_what_was_not_measured_is_said(pages, opened):
    with explored(opened, pages["strange"]) as (drawing, colours):
        assert drawing.locator("path[fill='var(--paper)']").count() == 2 * 3  # of each scheme a circle below and a triangle above
        for words in ("Open circles: zero", "Open triangles: overflow", "Not measured at 1 of 6 layers", "A shade that ends at the edge"):
            assert words in drawing.inner_text()
        assert [each.split()[-1] for each in colours.locator(".key span").all_inner_texts()[1:]] == ["zero", "overflow", "measured"]
        assert [colours.locator(f"svg[role=img] rect[fill='{fill}']").count() for fill in ("#888888", "#c2277c")] == [2, 2]
        assert colours.locator("svg[role=img] g text").all_text_contents() == ["0", "∞"] * 2
        read = set()
        for mark in drawing.locator("path[fill='var(--paper)']").all():  # they stand beside one another
            mark.hover()
            read.add(drawing.locator("output").inner_text())
        assert read >= {f"{scheme}; layer 2 (layers.1): 0" for scheme in ("kaiming", "normal", "xavier")}
        colours.locator("svg[role=img] g").nth(1).hover()
        assert colours.locator("output").inner_text().endswith("layer 2 (layers.1): 0")
    with explored(opened, pages["small"]) as (drawing, colours):
        assert not any(mark in drawing.inner_text() for mark in ("Open", "Filled", "edge"))
        low, high = colours.locator(".key span").inner_text().split()  # no other
        assert float(high) >= 99 * float(low)  # noise is no trend


def test_a_median_says_over_how_many_runs_it_is(pages, opened):
    with explored(opened, pages["strange"], step=1, of=2) as (drawing, colours):
        assert "xavier: 1 of 4 runs (3 diverged)." in drawing.inner_text()
        assert colours.locator("svg[role=img] text", has_text="1 of 4").count() == 1
        colours.locator("svg[role=img] g").last.hover()
        assert colours.locator("output").inner_text().startswith("xavier (1 of 4 runs); step 20; ")
    with explored(opened, pages["strange"], step=0) as (drawing, colours):
        assert " of 4" not in drawing.inner_text() + colours.inner_text()


def test_means_have_a_linear_scale_that_a_far_head_does_not_set(pages, opened):
    with explored(opened, pages["strange"], "pre_activation_mean") as (drawing, colours):
        assert min(heights(drawing)) < 0 < max(heights(drawing)) < 1
        assert "Filled triangles: beyond the axes." in drawing.inner_text()
        assert "white: 0" in colours.locator(".key").inner_text()
        fills = colours.locator("svg[role=img] g rect").evaluate_all("each => each.slice(0, 6).map(cell => cell.getAttribute('fill'))")
        assert [fill.partition(" ")[0] for fill in fills] == ["hsl(30", "hsl(215", "hsl(30", "hsl(30", "hsl(30", "hsl(30"]


def test_a_scheme_that_starts_high_does_not_set_the_axis_of_the_loss(pages, opened):
    with opened(pages["strange"]) as shown:
        drawing = drawing_of(shown, "loss")
        for scale in ("log", "linear"):
            shown.locator("#loss select").nth(1).select_option(scale)
            assert max(heights(drawing)) < 100
            assert "Filled triangles: beyond the axes." in drawing.inner_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_logarithmic_axis_has_three_labels(name, pages, opened):
    with opened(pages[name]) as shown:
        assert len(heights(drawing_of(shown, "loss"))) >= 3


def test_who_has_nothing_to_draw_has_no_button(pages, opened):
    with opened(pages["strange"]) as shown:
        assert shown.locator("#legend .chip").all_inner_texts() == ["kaiming", "normal", "xavier"]
        assert "Nothing to draw of fixup, rezero, skipinit." in shown.locator("#legend").inner_text()
        why = shown.get_by_text("rezero was skipped on 4 seeds: no branch.", exact=True)
        assert not why.is_visible()
        shown.get_by_text("3 schemes were skipped").click()
        assert why.is_visible()


def test_repeated_blocks_are_drawn_kind_by_kind(real, opened):
    with opened(real["residual"]) as shown:
        drawing = drawing_of(shown, "depth")
        data = json.loads(shown.locator("#data").inner_text())
        kinds = [name for name, _ in data["roles"]]
        assert f"A line for each kind of layer: {', '.join(kinds)}." in drawing.inner_text()
        assert "The stream behind the blocks: stream variance." in drawing.inner_text()
        lines = drawing.locator("svg path[fill=none]").count()
        assert lines >= 2 * len(kinds) - 2
        shown.locator("#depth select").nth(1).select_option("0")
        assert drawing.locator("svg path[fill=none]").count() < lines
        assert "layer of this kind" in drawing.inner_text()
        assert "A line for each kind" not in drawing.inner_text()


def test_the_signal_of_a_probe_is_explored(real, opened):
    with opened(real["probe"]) as shown:
        drawing = shown.locator("#depth .drawing")
        assert drawing.count() == 1  # one step: no slider, and no map of layers and steps
        drawing.scroll_into_view_if_needed()
        shown.wait_for_selector("#depth .drawing svg path")
        before = drawing.locator("path").count()
        shown.locator("#legend button").first.click()
        assert drawing.locator("path").count() < before
        shown.locator("#depth select").first.select_option("correlation")
        assert "correlation" in drawing.locator("p").inner_text() or "cosine" in drawing.locator("p").inner_text()
        shown.get_by_role("link", name="parameters").click()
        shown.wait_for_selector("#parameters tbody tr")
        assert shown.locator("#parameters tbody tr").count() > 4


@pytest.mark.parametrize("name", ["probe", "map"])
def test_a_probe_says_it_all_without_scripts(name, real, opened):
    with opened(real[name], scripts=False) as shown:
        assert shown.locator("h1").inner_text().endswith("?")
        assert shown.locator("figure svg").first.is_visible()
        assert shown.locator("#command").inner_text().startswith("initbench probe ")
        assert not shown.get_by_role("button").first.is_visible()


def test_a_probe_says_at_its_top_which_layer_loses_the_signal(real, opened):
    with opened(real["probe-hostile"]) as shown:
        words = shown.locator("main > .why").first
        assert words.bounding_box()["y"] < 900
        assert "The signal is lost with 3 of 3: " in words.inner_text()
        assert "explode at linear" in words.inner_text()
        assert "explode at linear" in shown.locator("#layers details[open] summary").first.text_content()


@pytest.mark.parametrize("dark", [False, True])
def test_theory_on_a_map_keeps_its_colour_in_the_dark(dark, real, opened):
    with opened(real["map"], dark=dark) as shown:
        strokes = "each => each.map(path => getComputedStyle(path).stroke)"
        colours = shown.locator("figure svg path").evaluate_all(strokes)
        assert "rgb(17, 17, 17)" in colours
        assert "rgb(254, 254, 254)" in colours


def test_points_of_a_map_are_sorted_and_saved(real, opened):
    with opened(real["map"]) as shown:
        shown.get_by_role("link", name="point by point").click()
        table = shown.get_by_role("table").first
        table.get_by_role("button", name="sigma_b").click()
        assert table.locator("tbody tr td:nth-child(2)").all_inner_texts() == ["0"] * 5 + ["0.5"] * 5 + ["1"] * 5
        with shown.expect_download() as download:
            shown.locator("#points").get_by_role("button", name="save as CSV").click()
        saved = Path(download.value.path()).read_text().splitlines()
        assert saved[0] == 'sigma_w,sigma_b,"gradient, powers of ten",correlation'
        assert len(saved) == 16

import re
from html.parser import HTMLParser

import pytest
from simulated_runs import make_comparison, make_config, make_run

from initbench.question.config import parse_ref
from initbench.reporting import page
from initbench.reporting.draw import draw
from initbench.reporting.figures import plots
from initbench.reporting.page_data import page_data
from initbench.reporting.templates import LONGEST
from initbench.results.record import Place, RunStatus
from initbench.statistics.summary import group, named, summarize

ORDER = ["xavier", "kaiming", "normal", "lecun", "orthogonal"]


def rendered(runs, order, reference=None, kinds=("accuracy",)):
    summary, by_scheme = summarize(runs, reference, order=order), group(runs, order)
    pictures = [(plot, draw(plot)[".svg"]) for plot in plots(summary, by_scheme) if plot.name in kinds]
    return page.render(make_config(*order), summary, by_scheme, pictures), summary


@pytest.fixture(scope="module")
def html():
    runs = [run for run in make_comparison() if str(run.job.scheme) != "fixup"]
    skipped = {"status": RunStatus.SKIPPED, "reason": "a <tag> & more", "train_losses": (), "evaluations": (), "layers": (), "init": None}
    return rendered([*runs, *(make_run("orthogonal", seed, **skipped) for seed in range(8))], ORDER)


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.open = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in {"src", "href", "xlink:href"}]


def test_the_verdict_comes_first(html):
    text, summary = html
    assert text.index(summary.headline) < text.index("<table ") < text.index("<svg")


def test_nothing_is_loaded_from_anywhere(html):
    links = Links()
    links.feed(html[0])
    assert links.found
    assert [link for link in links.found if not link.startswith("#") or f'id="{link[1:]}"' not in html[0]] == []
    assert not re.search(r"<script[^>]* src|<link|<img|@import|url\((?!#)", html[0])
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket|sendBeacon", html[0])


def test_every_sentence_and_note_is_there_and_escaped(html):
    text, summary = html
    for sentence in summary.verdicts[:3]:
        assert sentence in text
    assert "a &lt;tag&gt; &amp; more" in text
    assert "<tag>" not in text


def test_the_layer_that_loses_the_signal_is_marked_and_its_table_open(html):
    text, _ = html
    section = text[text.rindex("<details", 0, text.index("<strong>normal</strong>")) :]
    section = section[: section.index("</details>")]
    assert section.startswith("<details open>")
    assert "<details>\n<summary><strong>kaiming</strong>" in text
    assert re.search(r'<tr class="marked"><td[^>]*>3</td><td>layers.2</td>', section)
    assert "activations explode at layers.2" in section


def test_plots_take_the_colours_of_the_page(html):
    svg = re.search(r"<svg.*?</svg>", html[0], re.DOTALL).group()
    assert "currentColor" in svg
    assert "#333333" not in svg
    assert 'aria-label="Final test accuracy' in svg
    assert not re.search(r'<svg[^>]* (width|height)="', svg)


def test_a_picture_in_a_page_has_no_letter_too_many():
    svg = '<svg width="9pt"><path d="M 1.23456 20 \nL 3.14159 -4.05 \nz\n"/><use x="57.767596" y="1.5"/></svg>'
    assert page.inline_svg(svg, "t") == ('<svg role="img" aria-label="t"><path d="M1.2 20L3.1 -4.0z"/><use x="57.7" y="1.5"/></svg>')


def test_the_page_says_how_to_do_it_again(html):
    text, _ = html
    assert "initbench compare -c config.yaml</pre>" in text
    assert 'id="typed"' not in text
    assert "torch</dt><dd>2.15.0" in text
    assert "schemes:" in text


def test_another_reference_is_part_of_the_command():
    runs = [make_run(scheme, seed) for scheme in ("xavier", "kaiming") for seed in range(2)]
    text, _ = rendered(runs, ["xavier", "kaiming"], "kaiming", kinds=())
    assert "initbench compare -c config.yaml --reference kaiming</pre>" in text


def test_one_run_has_a_page_as_well():
    text, _ = rendered([make_run("kaiming", 0, 0.97)], ["kaiming"], kinds=())
    assert "initbench run -c config.yaml</pre>" in text
    assert "1 run," in text
    assert "with one seed" in text


def test_many_schemes_are_shortened_in_the_title():
    names = ["xavier", "kaiming", "normal", "lecun", "orthogonal", "zeros"]
    summary = summarize([])
    assert (
        page.question(make_config(*names), summary) == "Which initialization for mlp on mnist5k: xavier, kaiming, normal, lecun or 2 more?"
    )
    assert page.question(make_config(*names[:2]), summary) == "Which initialization for mlp on mnist5k: xavier or kaiming?"
    assert page.question(make_config("kaiming"), summary) == "How does mlp on mnist5k train with kaiming?"


# ---- what the scripts draw


def drawn(runs, order=ORDER, reference=None):
    summary = summarize(runs, reference, order=order)
    return page_data(summary, group(runs, order)), summary


def heads(run):
    last = max(stats.position for stats in run.layers)
    layers = [stats.model_copy(update={"place": Place.HEAD}) if stats.position == last else stats for stats in run.layers]
    return run.model_copy(update={"layers": tuple(layers)})


def test_the_head_stands_apart_as_in_the_plots():
    data, _ = drawn([heads(make_run("kaiming", 0, depth=3))])
    assert data["layers"][data["head"]] == "head"
    assert drawn([heads(make_run("kaiming", 0, depth=1))])[0]["head"] is None  # a line of two is a line
    assert drawn([make_run("kaiming", 0, depth=3)])[0]["head"] is None


def test_layers_of_repeated_blocks_are_lines_of_their_kind():
    names = [f"blocks.{block}.{part}" for block in range(4) for part in ("query", "up")]
    run = make_run("kaiming", 0, depth=len(names))
    own = [stats.model_copy(update={"layer": names[stats.position]}) if stats.layer != "head" else stats for stats in run.layers]
    data, _ = drawn([run.model_copy(update={"layers": tuple(own)})])
    assert data["roles"] == [["blocks.*.query", [0, 2, 4, 6]], ["blocks.*.up", [1, 3, 5, 7]], ["the others", [8]]]
    assert drawn([make_run("kaiming", 0)])[0]["roles"] == []


def test_one_seed_has_no_lowest_and_highest():
    assert drawn([make_run("kaiming", 0), make_run("xavier", 0)])[0]["low"] == {}
    several = drawn([make_run("kaiming", seed) for seed in range(2)])[0]
    assert several["low"].keys() == several["high"].keys() == {"activation_variance", "gradient_variance"}


def with_values(run, layer, **values):
    layers = [stats.model_copy(update=values) if stats.layer == layer else stats for stats in run.layers]
    return run.model_copy(update={"layers": tuple(layers)})


def test_the_page_knows_over_how_many_runs_a_median_is():
    data, _ = drawn(
        [make_run("kaiming", 0), make_run("kaiming", 1), make_run("kaiming", 2, None), make_run("xavier", 0)], ["kaiming", "xavier"]
    )
    assert data["steps"] == [0, 20]
    assert data["of"] == [3, 1]
    assert data["absent"] == [[{}, {"diverged": 1}], [{}, {}]]


def test_zero_overflow_and_what_was_not_measured_are_three_things():
    run = with_values(make_run("kaiming", 0), "layers.0", activation_variance=0.0)
    run = with_values(run, "layers.1", activation_variance=None, overflowed=("activation_variance",))
    run = with_values(run, "layers.2", activation_variance=None, overflowed=())
    data, _ = drawn([run])
    assert data["values"]["activation_variance"][0][0][:3] == [0, "over", None]


def test_the_highest_seed_may_have_overflowed():
    wild = with_values(make_run("kaiming", 1), "layers.1", activation_variance=None, overflowed=("activation_variance",))
    data, _ = drawn([make_run("kaiming", 0), wild, make_run("kaiming", 2)])
    assert data["high"]["activation_variance"][0][0][1] == "over"
    assert all(data[each]["activation_variance"][0][0][1] > 0 for each in ("low", "values"))


def test_a_quantity_that_can_be_negative_has_a_linear_scale():
    data, _ = drawn([with_values(make_run("kaiming", 0), "layers.1", pre_activation_mean=-0.1)])
    scales = {each["name"]: each["scale"] for each in data["quantities"]}
    assert scales["pre_activation_mean"] == "linear"
    assert scales["activation_variance"] == "log"
    assert scales["dead_fraction"] == "share"


def test_who_has_nothing_to_draw_is_not_shown_in_the_place_of_the_last():
    runs, names = many_runs(2)
    nothing = {"status": RunStatus.SKIPPED, "reason": "no", "train_losses": (), "evaluations": (), "layers": (), "init": None}
    skipped = ["fixup", "rezero", "skipinit"]
    data, summary = drawn([*runs, *(make_run(name, seed, **nothing) for name in skipped for seed in range(2))], [*names, *skipped])
    assert [data["schemes"][place]["name"] for place in data["empty"]] == skipped
    assert len(data["groups"]) == len(names)
    assert next(name for name in reversed(summary.ranking) if name in names) in shown(data)


def shown(data):
    return {data["schemes"][place]["name"] for index in data["shown"] for place in data["groups"][index]}


def many_runs(seeds=8):
    """Eleven schemes, the reference among the worst."""
    names = ["xavier", *(f"sigma:sigma_w=1.{index}" for index in range(11, 22) if index % 10)]
    return [make_run(name, seed, 0.9 - 0.03 * place if place else 0.45) for place, name in enumerate(names) for seed in range(seeds)], names


@pytest.mark.parametrize("seeds", [2, 8])
@pytest.mark.parametrize(("reference", "second"), [("xavier", "xavier"), (None, "sigma:sigma_w=1.12")])
def test_whom_the_headline_names_is_drawn_from_the_start(reference, second, seeds):
    runs, names = many_runs(seeds)
    data, summary = drawn(runs, names, reference)
    words = set(re.findall(r"[\w:=.]+\w", summary.headline))
    told = words.intersection(names)
    assert {"sigma:sigma_w=1.11", second} <= told
    assert told <= shown(data)
    assert set(named(summary)) == told
    assert len(data["shown"]) < len(names)


def test_a_headline_about_all_schemes_names_all():
    runs = [make_run(name, seed, 0.1) for name in ORDER for seed in range(2)]
    data, summary = drawn(runs)
    assert summary.headline.startswith("No scheme came above chance")
    assert shown(data) == set(ORDER)


def test_schemes_that_coincide_are_one_line_with_one_name():
    runs = [make_run(scheme, seed) for scheme in ("kaiming", "xavier") for seed in range(2)]
    twins = [run.model_copy(update={"job": run.job.model_copy(update={"scheme": parse_ref("edge_of_chaos")})}) for run in runs[:2]]
    nothing = {"status": RunStatus.SKIPPED, "reason": "no", "train_losses": (), "evaluations": (), "layers": (), "init": None}
    others = [make_run(scheme, seed, **nothing) for scheme in ("fixup", "rezero") for seed in range(2)]
    data, _ = drawn([*runs, *twins, *others], ["kaiming", "xavier", "edge_of_chaos", "fixup", "rezero"])
    assert sorted(map(sorted, data["groups"])) == [[0, 2], [1]]
    assert sorted(data["empty"]) == [3, 4]


def test_schemes_that_differ_a_little_are_two_lines():
    run = make_run("kaiming", 0)
    losses = tuple(loss * 1.02 for loss in run.train_losses)
    other = run.model_copy(update={"job": run.job.model_copy(update={"scheme": parse_ref("xavier")}), "train_losses": losses})
    assert len(drawn([run, other])[0]["groups"]) == 2


def test_many_that_were_skipped_are_one_folded_list():
    reason = {"status": RunStatus.SKIPPED, "reason": "no branch", "train_losses": (), "evaluations": (), "layers": (), "init": None}
    for names in (["fixup", "rezero", "skipinit"], ["fixup", "rezero"]):
        text, _ = rendered([make_run("kaiming", 0), *(make_run(name, 0, **reason) for name in names)], ["kaiming", *names], kinds=())
        folded = re.findall(r"<details[^>]*>\s*<summary>(\d) schemes were skipped</summary>(.*?)</details>", text, re.DOTALL)
        assert [(number, words.count("was skipped on 1 seed: no branch.")) for number, words in folded] == [("3", 3)] * (len(names) == 3)
        assert text.count("fixup was skipped on 1 seed: no branch.</li>") == 1


# ---- its tables


def first_column(text, title):
    table = text[text.index(f"<caption>{title}") :]
    return re.findall(r'<tr(?: class="(\w+)")?><td[^>]*>([^<]*)', table[: table.index("</table>")])


def test_tables_have_the_best_first_and_marked(html):
    text, summary = html
    assert summary.leader == "kaiming"
    for title in ("Median of 8 seeds", "How the runs ended", "All metrics"):
        rows = first_column(text, title)
        assert [name for _, name in rows] == list(summary.ranking)
        assert rows[0] == ("best", "kaiming")
        assert rows[-1][1] == "orthogonal"  # skipped: it has no number
        assert {name for mark, name in rows if mark == "level"} == set(summary.inseparable)
    assert "★ best test accuracy" in text
    pairs = [name for _, name in first_column(text, "All pairs")]
    assert all("kaiming" in name for name in pairs[: len(ORDER) - 1])


def test_where_nothing_is_shown_to_differ_it_is_said_once():
    three = ORDER[:3]
    text, summary = rendered([make_run(scheme, seed, 0.9 + seed / 100) for scheme in three for seed in range(8)], three, kinds=())
    assert len(summary.inseparable) == 2
    assert not any(mark == "level" for mark, _ in first_column(text, "Median of 8 seeds"))
    assert "; no other is shown to differ from it." in text


def test_where_so_few_seeds_can_show_nothing_none_is_called_the_best():
    runs = [make_run(scheme, seed, 0.5 + place / 10 + seed / 100) for place, scheme in enumerate(ORDER[:3]) for seed in range(2)]
    text, _ = rendered(runs, ORDER[:3], kinds=())
    assert "★ best" not in text


def test_the_only_scheme_is_not_the_best_one():
    text, _ = rendered([make_run("kaiming", 0)], ["kaiming"], kinds=())
    assert "★ best" not in text


def test_a_long_name_is_cut_in_its_middle_and_whole_in_its_title():
    name = "./" + "long_" * 20 + "end.py"
    text, _ = rendered([make_run(name, 0), make_run("kaiming", 0)], [name, "kaiming"], kinds=())
    cell = re.search(rf'<td title="{re.escape(name)}"><span class="cut">([^<]*)</span></td>', text)
    assert len(cell[1]) == LONGEST
    assert cell[1].startswith("./long_")
    assert cell[1].endswith("long_end.py")

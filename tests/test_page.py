import re
from html.parser import HTMLParser

import pytest
from simulated_runs import make_comparison, make_config, make_run

from initbench.reporting import page
from initbench.reporting.draw import draw
from initbench.reporting.figures import plots
from initbench.results.record import RunStatus
from initbench.statistics.summary import group, summarize

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

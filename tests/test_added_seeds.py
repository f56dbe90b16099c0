"""Every way to say that seeds are added until it is decided, beside every other: all of it counts, or a sentence says why not."""

import pytest

from initbench.errors import ConfigError
from initbench.question.config import Execution, UntilConfig, View
from initbench.question.request import configure, view_of
from initbench.studies.plan import make_plan

SHORT = "schemes: [he, xavier]\nseeds: {until: decided, at_most: 32, margin: 0.5, each: 2}\n"
LONG = "schemes: [he, xavier]\nuntil: {margin: 0.5, each: 2}\nseeds: 32\n"
FIXED = "schemes: [he, xavier]\nseeds: 16\n"
USUAL = UntilConfig()


@pytest.fixture
def asked(tmp_path):
    """The seeds at most and how they are added, of a file, settings and words of `compare`."""

    def found(text, *settings, **words):
        path = tmp_path / "question.yaml"
        path.write_text(text)
        config = configure("compare", path, settings=settings, dashes="--", **words)
        return len(config.seeds), config.until

    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["until.each=3"], (64, UntilConfig(each=3))),
        (["seeds.each=3"], (64, UntilConfig(each=3))),
        (["until.margin=2", "until.reference=he"], (64, UntilConfig(margin=2, reference="he"))),
        (["until.metric=final_test_loss"], (64, UntilConfig(metric="final_test_loss"))),
        (["until=decided"], (64, USUAL)),
        (["seeds.until=decided", "seeds.at_most=9"], (9, USUAL)),
    ],
)
@pytest.mark.parametrize("word", [None, "decided"])
def test_a_setting_about_added_seeds_counts_with_the_option_and_without(asked, settings, expected, word):
    assert asked(FIXED, *settings, until=word) == expected


def test_seeds_that_are_set_beside_the_option_are_those_at_most(asked):
    assert asked(FIXED, "seeds=9", until="decided") == asked(FIXED, "seeds.at_most=9", until="decided") == (9, USUAL)


@pytest.mark.parametrize("text", [SHORT, LONG])
@pytest.mark.parametrize(
    ("settings", "words", "expected"),
    [
        ([], {}, (32, UntilConfig(margin=0.5, each=2))),
        ([], {"until": "decided"}, (32, UntilConfig(margin=0.5, each=2))),
        (["until=decided"], {}, (32, UntilConfig(margin=0.5, each=2))),
        ([], {"max_seeds": 20}, (20, UntilConfig(margin=0.5, each=2))),
        (["seeds.at_most=20"], {}, (20, UntilConfig(margin=0.5, each=2))),
        ([], {"seeds": 8}, (8, None)),
        (["until.each=3"], {"view": View(margin=2)}, (32, UntilConfig(margin=2, each=3))),
        (["seeds.margin=3"], {"until": "decided", "view": View(reference="he")}, (32, UntilConfig(margin=3, reference="he", each=2))),
        ([], {"view": view_of(margin="none")}, (32, UntilConfig(each=2))),
    ],
)
def test_words_change_what_a_file_says_of_added_seeds_and_leave_the_rest(asked, text, settings, words, expected):
    assert asked(text, *settings, **words) == expected


@pytest.mark.parametrize(
    ("text", "settings", "words", "said"),
    [
        (SHORT, ["until.each=3"], {"seeds": 8}, "--set until.each=3 adds seeds until it is decided, and --seeds fixes their number"),
        (FIXED, ["seeds.until=decided"], {"seeds": 8}, "--set seeds.until=decided adds seeds"),
        (FIXED, ["until.margin=1"], {"until": "decided", "view": View(margin=2)}, "--margin says what until.margin is, so that --set"),
        (FIXED, ["seeds.at_most=9"], {"until": "decided", "max_seeds": 12}, "--set seeds.at_most=9 would not count"),
        (FIXED, ["seeds.at_most=9"], {}, "bounds the seeds that --set seeds.until=decided adds"),
        (FIXED, ["until.most=9"], {"until": "decided"}, "--set until.most=9: unknown key 'until.most'"),
        (FIXED.replace("16", "{at_most: 9}"), [], {"until": "decided"}, "question.yaml:2: seeds is a mapping without `until`"),
        (SHORT.replace("0.5", "0"), [], {}, "question.yaml:2: until.margin is 0; it must be greater than 0"),
        (SHORT.replace("decided", "bored"), [], {}, "question.yaml:2: until: it is 'bored'; seeds can be added until: decided"),
        (FIXED, ["model.width=5"], {"model": "mlp:depth=1"}, "--model says what model is, so that --set model.width=5 would not count"),
        (FIXED, ["tune.seeds=4"], {"tune": "train.lr"}, "--tune says what tune is, so that --set tune.seeds=4 would not count"),
    ],
)
def test_what_would_not_count_is_refused(asked, text, settings, words, said):
    with pytest.raises(ConfigError) as error:
        asked(text, *settings, **words)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_margin_that_is_taken_away_later_stays_away(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text(SHORT)
    config = configure("compare", path)
    means = Execution(output=str(tmp_path / "out"))
    assert make_plan("compare", config, means).view.margin == 0.5
    assert make_plan("compare", config, means, view_of(margin="none")).view.margin is None

"""Results of several machines together, and beside published figures."""

import pytest
from race_support import made_up, question

from initbench.errors import ConfigError, StorageError
from initbench.question import config_file, plan
from initbench.question.config import Execution, TrainConfig
from initbench.results import store
from initbench.results.record import RunStatus
from initbench.statistics.known_metrics import all_metrics
from initbench.statistics.summary import summarize
from initbench.studies import published
from initbench.studies.answer import load_results
from initbench.studies.merge import merge
from initbench.studies.plan import make_plan, plan_of

PLAIN = {"tune": None, "train": TrainConfig(steps=4)}


@pytest.fixture
def write(tmp_path):
    """Writes a results folder with made-up runs, as a machine would leave it."""

    def written(name, config, command="compare", status=RunStatus.COMPLETED, **losses):
        folder = tmp_path / name
        planned = make_plan(command, config, Execution(output=str(folder)))
        store.write_text(folder / store.CONFIG, config_file.dump_config(planned.config))
        store.write_manifest(
            folder,
            store.Manifest(
                initbench="0", command=command, config_hash=plan.config_hash(planned.config), jobs=store.planned(planned.jobs), started=name
            ),
        )
        for _, job in planned.jobs:
            store.write_result(folder, made_up(job, losses.get(str(job.scheme), 0.5), status))
        return folder

    return written


def test_seeds_of_two_machines_become_one_comparison(write, tmp_path):
    one = write("one", question("he", "xavier", seeds=4, **PLAIN), kaiming=0.2)
    config = question("he", "xavier", seeds=4, **PLAIN).model_copy(update={"seeds": (4, 5, 6, 7)})
    two = write("two", config, kaiming=0.2)
    merged = merge([one, two], tmp_path / "both")
    results = load_results(merged)
    assert len(results.results) == 16
    assert results.config.seeds == tuple(range(8))
    assert results.summary.headline.startswith("kaiming beats xavier by 30.0 points of test accuracy")
    assert plan_of(merged).missing == ()


def test_schemes_of_two_machines_become_one_comparison(write, tmp_path):
    merged = merge([write("one", question("he", seeds=2, **PLAIN)), write("two", question("xavier", seeds=2, **PLAIN))], tmp_path / "both")
    assert [str(scheme) for scheme in load_results(merged).config.schemes] == ["kaiming", "xavier"]


def test_what_one_machine_failed_at_is_taken_from_the_other(write, tmp_path):
    config = question("he", "xavier", seeds=2, **PLAIN)
    broken, whole = write("broken", config, status=RunStatus.FAILED), write("whole", config)
    for order in ([broken, whole], [whole, broken]):
        merged = merge(order, tmp_path / f"both-{order[0].name}")
        assert {run.status for run in load_results(merged).results} == {RunStatus.COMPLETED}


def test_different_questions_are_refused_with_every_key_that_differs(write, tmp_path):
    one = write("one", question("he", "xavier", seeds=2, **PLAIN))
    two = write("two", question("he", "xavier", seeds=2, tune=None, train=TrainConfig(steps=4, lr=0.3, momentum=0.5)))
    with pytest.raises(ConfigError) as caught:
        merge([one, two], tmp_path / "both")
    assert f"train.lr is 0.05 in {one} and 0.3 in {two}; train.momentum is 0.9 in {one} and 0.5 in {two}" in str(caught.value)
    assert not (tmp_path / "both").exists()
    three = write("three", question("he", "xavier", seeds=2, tune=None, train=TrainConfig(steps=4), model="mlp:depth=7"))
    with pytest.raises(ConfigError, match=r"model\.depth is not given in .*one and 7 in .*three"):
        merge([one, three], tmp_path / "both")


def test_a_race_is_merged_only_with_the_same_race(write, tmp_path):
    race = write("race", question("he", "xavier", seeds=2), command="recommend")
    plain = write("plain", question("he", "xavier", seeds=2))
    with pytest.raises(ConfigError, match=r"command is recommend in .*race and compare in .*plain"):
        merge([race, plain], tmp_path / "both")
    fewer = write("fewer", question("he", "xavier", seeds=3), command="recommend")
    with pytest.raises(ConfigError, match=r"seeds is \[0,1\] in .*race and \[0,1,2\] in .*fewer"):
        merge([race, fewer], tmp_path / "both")


def test_a_folder_without_results_or_into_itself_is_refused(write, tmp_path):
    one = write("one", question("he", seeds=2, **PLAIN))
    with pytest.raises(StorageError, match=r"There is no results folder .*nowhere"):
        merge([one, tmp_path / "nowhere"], tmp_path / "both")
    with pytest.raises(ConfigError, match="is one of the folders to be merged"):
        merge([one, write("two", question("xavier", seeds=2, **PLAIN))], one)


def test_canonical_words_are_compared_not_spellings(write, tmp_path):
    one = write("one", question("he", seeds=2, **PLAIN))
    two = write("two", question("glorot", seeds=2, tune=None, train=TrainConfig(steps=4), model="mlp:width=256"))
    assert merge([one, two], tmp_path / "both").is_dir()


@pytest.mark.parametrize("name", published.shipped())
def test_a_shipped_reference_is_about_a_shipped_config_and_its_schemes(name):
    found = published.read(published.shipped()[name])
    config = plan.resolve_config(config_file.load_config(found.config))
    assert {figure.scheme for figure in found.figures} <= {str(scheme) for scheme in config.schemes}
    known = {published.SHARE, *(metric.name for metric in all_metrics())}
    assert {figure.metric for figure in found.figures} <= known
    assert all(figure.low < figure.high for figure in found.figures)


def reference(low, high, metric="trained_share"):
    figure = published.PublishedFigure(what="share", scheme="kaiming", metric=metric, published="x", low=low, high=high)
    return published.Published(title="t", source="s", config="he2015_depth30", figures=(figure,))


@pytest.mark.parametrize(
    ("low", "high", "metric", "agreement"),
    [
        (0.8, 1.0, "trained_share", "agrees"),
        (0.0, 0.5, "trained_share", "differs"),
        (0.0, 0.7, "trained_share", "agrees"),
        (0.0, 1.0, "signal_decades", "not measured"),
        (0.15, 0.25, "final_test_loss", "agrees"),
        (0.25, 0.35, "final_test_loss", "differs"),
    ],
)
def test_figures_agree_when_the_measured_interval_meets_the_published_range(low, high, metric, agreement):
    runs = [made_up(job, 0.2) for job in plan.make_jobs(question("he", seeds=8, **PLAIN))]
    (line,) = published.compare(summarize(runs), reference(low, high, metric))
    assert line.agreement == agreement
    if metric == "trained_share":
        assert (line.here, line.n, round(line.here_low, 3)) == (1.0, 8, 0.676)


def test_a_folder_is_compared_with_the_references_that_are_about_its_question(write):
    config = config_file.load_config("he2015_depth30")
    folder = write("he", config.model_copy(update={"seeds": (0, 1)}), kaiming=0.2, xavier=0.95)
    lines = published.against(load_results(folder), "reference")
    assert [(line.figure.scheme, line.agreement) for line in lines] == [("kaiming", "agrees"), ("xavier", "agrees")]
    assert published.against(load_results(folder), "he2015_depth30_small") == lines
    with pytest.raises(ConfigError, match=r"train.steps is not given, there 0.*Use: initbench compare -c glorot2010_gradients"):
        published.against(load_results(folder), "glorot2010_gradients")
    with pytest.raises(ConfigError, match=r"Unknown reference 'he2015_depht30'\. Did you mean"):
        published.against(load_results(folder), "he2015_depht30")
    other = write("other", question("he", "xavier", seeds=2, **PLAIN))
    with pytest.raises(ConfigError, match="There are some for: initbench compare -c"):
        published.against(load_results(other), "reference")

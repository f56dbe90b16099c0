"""The sentences that say why: true ones, recomputed from the runs; and none where the signal does not say it."""

import re

import pytest
from simulated_runs import make_run

import initbench
from initbench.reporting.page_data import page_data, short
from initbench.reporting.why import _size, why
from initbench.reporting.write import by_scheme
from initbench.statistics.findings import Candidate, Fate, RacedRound, Recommendation
from initbench.statistics.summary import group, summarize

TINY = "synthetic:n=512,test=128,classes=3,shape=[1,6,6],noise=0.5"


def explained(schemes, **options):
    results = initbench.compare(schemes, engine="serial", **{"dataset": TINY, **options})
    return results, why(results.summary, by_scheme(results.config, results.reported))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.heavy
def test_a_deep_relu_net_is_explained_by_rule_theory_and_measurement():
    results, said = explained(
        ["kaiming", "xavier"], model="mlp:depth=20,width=64", dataset="mnist5k", seeds=8, steps=100, settings=["train.lr=0.01"]
    )
    assert results.summary.leader == "kaiming"
    found = re.search(
        r"xavier sets Var W = 1/fan_in, with which each layer should multiply the variance by 0\.5; measured over 19 layers", said
    )
    assert found, said
    assert "kaiming sets Var W = 2/fan_in, with which each layer should keep the variance" in said
    assert "(activations vanish at" in said
    layers = results.to_pandas("layers").query("scheme == 'xavier' and step == 0")
    ratios = [own[own.layer == "linear20"].activation_variance.item() / own[own.layer == "linear1"].activation_variance.item()
              for _, own in layers.groupby("seed")]  # fmt: skip
    middle = sorted(ratios)[3] / 2 + sorted(ratios)[4] / 2
    stated = float(re.search(r"activations shrinks to ([\d.e-]+) times", said)[1])
    assert stated == pytest.approx(middle, rel=0.5)


@pytest.mark.heavy
def test_where_nothing_is_shown_the_signal_explains_nothing():
    _, said = explained(["kaiming", "xavier"], model="mlp:depth=2,width=32", seeds=2, steps=20)
    assert said == "No scheme is shown to be worse than the best, and with none of them is the signal lost at initialization."
    runs = [make_run(scheme, seed, accuracy) for scheme, accuracy in (("kaiming", 0.9), ("xavier", 0.8)) for seed in range(2)]
    said = why(summarize(runs), group(runs))
    unsure = "No scheme is shown to be worse than the best (that takes at least 6 seeds)"
    assert said == f"{unsure}, and with none of them is the signal lost at initialization."


@pytest.mark.heavy
def test_what_loses_the_signal_is_said_where_too_few_seeds_show_nothing():
    _, said = explained(["kaiming", "normal:std=2"], model="mlp:depth=8,width=64", seeds=2, steps=10)
    start = "No scheme is shown to be worse than the best (that takes at least 6 seeds). At initialization, though, one of them loses the"
    assert said.startswith(f"{start} signal: normal")
    assert "sets Var W = 4;" in said or "sets Var W = 4," in said


def test_a_winner_whose_signal_is_no_better_is_not_explained_by_it():
    runs = [
        make_run(scheme, seed, accuracy + 0.001 * seed) for scheme, accuracy in (("kaiming", 0.9), ("xavier", 0.4)) for seed in range(8)
    ]
    said = why(summarize(runs), group(runs))
    start = "The signal at initialization does not say why: no scheme that is shown to be worse begins clearly worse off than kaiming."
    assert said.startswith(start)


@pytest.mark.heavy
def test_a_signal_that_shrinks_without_being_lost_is_a_likely_reason():
    results, said = explained(
        ["kaiming", "xavier"], model="mlp:depth=10,width=48", dataset="mnist5k", seeds=8, steps=40, settings=["train.lr=0.01"]
    )
    assert results.summary.pairs[0].beats("kaiming")
    assert said.startswith(
        "The signal is lost with none of the schemes that are shown to be worse; a likely reason is how it begins. xavier"
    )
    assert (
        "each layer should multiply the variance by 0.5; measured over 9 layers, the variance of activations shrinks to 1e-3 times" in said
    )


@pytest.mark.heavy
def test_a_first_loss_far_from_guessing_is_said():
    _, said = explained(["kaiming", "normal:std=0.4"], model="mlp:depth=5,width=40", dataset="mnist5k", seeds=8, steps=40)
    loss = re.search(r"normal:std=0.4 sets .* and the first loss is ([\d.e]+), where guessing has 2\.3\.", said)
    assert loss, said
    assert float(loss[1]) > 100


@pytest.mark.parametrize(
    ("number", "written"),
    [(0.5, "0.5"), (2, "2"), (13.4, "13"), (130, "130"), (1262, "1300"), (2e-6, "2e-6"), (3.2e9, "3e9"), (0.01, "1e-2")],
)
def test_sizes_are_written_as_people_write_them(number, written):
    assert _size(number) == written


def test_one_scheme_is_described_and_none_measured_says_nothing():
    runs = [make_run("kaiming", seed, 0.9) for seed in range(3)]
    assert why(summarize(runs), group(runs)).startswith("kaiming")
    bare = [run.model_copy(update={"layers": ()}) for run in runs]
    assert why(summarize(bare), group(bare)) == ""


@pytest.mark.heavy
def test_the_data_of_a_page_are_the_numbers_of_the_runs():
    results = initbench.compare(["kaiming", "normal:std=9"], model="mlp:depth=5,width=16", dataset=TINY, seeds=3, steps=12, engine="serial")
    data = page_data(results.summary, by_scheme(results.config, results.reported))
    layers = results.to_pandas("layers")
    for scheme, name in enumerate(each["name"] for each in data["schemes"]):
        own = layers[(layers.scheme == name) & (layers.step == 0)]
        for place, layer in enumerate(data["layers"]):
            expected = own[own.layer == layer].activation_variance.median()
            assert data["values"]["activation_variance"][scheme][0][place] == pytest.approx(expected, rel=1e-3)
    curves = results.to_pandas("curves").query("quantity == 'train_loss' and scheme == 'kaiming' and seed == 1").value
    (run,) = (each for each in data["runs"] if each["scheme"] == 0 and each["seed"] == 1)
    assert run["losses"] == pytest.approx(list(curves), rel=1e-3)


@pytest.mark.parametrize(("value", "written"), [(None, None), (float("inf"), "over"), (0.123456, 0.1235), (5.0, 5), (1e40, 1e40)])
def test_numbers_are_short(value, written):
    assert short(value) == written


@pytest.mark.heavy
def test_what_is_said_of_a_race_is_about_its_last_round_and_names_who_did_not_take_part():
    answer = initbench.recommend(
        "mlp:depth=8,width=32", ["kaiming", "orthogonal", "normal:std=2", "sparse"], dataset=TINY, seeds=3, steps=30, engine="serial"
    )
    said = why(answer.summary, by_scheme(answer.config, answer.reported))
    out = answer.summary.recommendation.of_fate(Fate.NO_SIGNAL)
    assert out, [line.fate for line in answer.summary.recommendation.candidates]
    assert "of the last round" in said
    assert f"{out[0]}, where " in said
    choice = answer.summary.recommendation
    gone = [line for line in choice.candidates if 0 < line.rounds < choice.reported]
    for line in gone:
        stage = choice.rounds[line.rounds - 1]
        sentence = next(each for each in said.split("Round ") if each.startswith(f"{line.rounds} ("))
        assert sentence.startswith(f"{line.rounds} ({stage.steps} steps, {stage.seeds} seeds): ")
        assert line.scheme in sentence
    assert answer.summary.leader == answer.summary.recommendation.scheme


@pytest.mark.parametrize(("number", "said"), [(2, ""), (3, "; 1 more loses it, too"), (5, "; 3 more lose it, too")])
def test_who_is_not_named_is_counted(number, said):
    names = [f"sigma:sigma_w=0.{place}" for place in range(1, number + 1)]
    runs = [make_run("kaiming", seed, 0.9) for seed in range(12)]
    runs += [make_run(name, seed, 0.2 + 0.01 * place, gain=1e-3) for place, name in enumerate(names) for seed in range(12)]
    told = why(summarize(runs), group(runs))
    assert ("more" in told) == bool(said)
    assert said in told


def test_why_says_who_left_a_race_in_which_round_and_how():
    ends = {"lecun": (Fate.BEHIND, 0.1), "bert": (Fate.BEHIND, 0.01), "gpt2": (Fate.BEHIND, 0.1), "t5": (Fate.BEHIND, 0.1),
            "zeros": (Fate.STUCK, 0.1), "ones": (Fate.DIVERGED, 0.1)}  # fmt: skip
    lines = [
        Candidate(scheme=name, fate=fate, value=value, rounds=1, **({"by": "kaiming", "by_value": 0.1} if fate is Fate.BEHIND else {}))
        for name, (fate, value) in ends.items()
    ]
    aside = Candidate(scheme="xavier", fate=Fate.SET_ASIDE, value=0.1, rounds=2)
    rounds = tuple(RacedRound(steps=steps, seeds=2, points=()) for steps in (250, 1000, 1000))
    race = Recommendation(
        key="train.lr", scheme="kaiming", value=0.1, candidates=(*lines, aside), rounds=rounds, reported=3, complete=True, code="",
        runs=9, steps=9, full_runs=9, full_steps=9,
    )  # fmt: skip
    runs = [make_run("kaiming", seed, 0.9) for seed in range(3)]
    said = why(summarize(runs).model_copy(update={"recommendation": race}), group(runs))
    assert said.endswith(
        "Round 1 (250 steps, 2 seeds): far behind kaiming at lr 0.1 were lecun at lr 0.1, bert at lr 0.01 and 2 more; zeros learned "
        "nothing at any lr; ones at lr 0.1 diverged. Round 2 (1,000 steps, 2 seeds): there was no room for xavier at lr 0.1."
    )

import random

import pytest
from simulated_runs import make_comparison, make_run

import initbench
from initbench.errors import ConfigError
from initbench.reporting.figures import plots
from initbench.reporting.paper import paper_table
from initbench.reporting.tables import summary_markdown
from initbench.results.record import Evaluation, RunStatus, Setter
from initbench.statistics.findings import Summary
from initbench.statistics.summary import ends_text, group, summarize
from initbench.statistics.verdicts import Verdict

ORDER = ["xavier", "kaiming", "normal", "lecun", "fixup"]


@pytest.fixture(scope="module")
def summary():
    return summarize(make_comparison(), order=ORDER)


def spread(scheme, centre, seeds=8):
    return [make_run(scheme, seed, centre + random.Random(seed).uniform(-0.004, 0.004)) for seed in range(seeds)]


def test_the_first_scheme_named_is_the_reference(summary):
    assert summary.reference == "xavier"
    assert [found.scheme for found in summary.schemes] == ORDER


def test_the_headline_says_who_won_and_by_how_much(summary):
    assert (
        summary.headline
        == "kaiming beats lecun by 2.0 points of test accuracy [1.7, 2.4], 7 seeds, p = 0.047 after Holm; kaiming also beats xavier, normal"
    )
    asked = summarize(make_comparison(), "xavier", order=ORDER)
    assert asked.headline.startswith("kaiming beats xavier by 2.0 points of test accuracy [1.9, 2.3], 8 seeds, p = ")
    assert summary.leader == "kaiming"


def test_the_headline_compares_the_best_with_the_next_best():
    runs = [run for scheme, middle in (("xavier", 0.3), ("kaiming", 0.9), ("lecun", 0.88)) for run in spread(scheme, middle)]
    assert summarize(runs).headline.startswith("kaiming beats lecun by 2.0 points")
    assert summarize(runs, "xavier").headline.startswith("kaiming beats xavier by 60.0 points")
    assert summarize(runs, "kaiming").headline.startswith("kaiming beats lecun by 2.0 points")
    assert summarize(runs, "lecun").headline.startswith("kaiming beats lecun by 2.0 points")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([None], "the only run diverged"),
        ([0.1], "the only run ended at chance"),
        ([0.1, 0.1, None], "of 3 runs 2 ended at chance and 1 diverged"),
    ],
)
def test_how_runs_ended_where_none_trained(ends, said):
    assert summarize([make_run("ones", seed, end) for seed, end in enumerate(ends)]).headline == f"No scheme came above chance: {said}"


def test_the_order_of_the_results_does_not_matter(summary):
    shuffled = make_comparison()
    random.Random(1).shuffle(shuffled)
    assert summarize(shuffled, order=ORDER).model_dump_json() == summary.model_dump_json()


def test_a_summary_is_read_back_from_its_json(summary):
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_each_outcome_is_counted(summary):
    assert [ends_text(found) for found in summary.schemes] == [
        "8 of 8 above chance",
        "8 of 8 above chance",
        "0 of 8 above chance, 2 at chance, 6 diverged",
        "7 of 8 above chance, 1 failed",
        "skipped",
    ]
    normal = summary.scheme("normal")
    assert normal.first_bad_steps == (5, 6, 8, 9, 11, 12)
    assert (normal.trained_share.successes, normal.trained_share.n) == (0, 8)
    assert summary.scheme("lecun").trained_share.n == 7


def test_a_diverged_seed_lowers_the_median_instead_of_vanishing():
    runs = [make_run("kaiming", seed, None if seed < 3 else 0.90 + 0.01 * seed) for seed in range(8)]
    found = summarize(runs).scheme("kaiming").estimate("final_test_accuracy")
    assert found.value == pytest.approx((0.93 + 0.94) / 2)  # places 4 and 5 of all 8; of the survivors it would be 0.95
    assert (found.n, found.without_number) == (8, 3)


def test_what_happened_is_noted(summary):
    assert "normal diverged on 6 of 8 seeds, first between steps 5 and 12." in summary.notes
    assert "lecun failed on 1 seed: out of memory." in summary.notes
    assert "fixup was skipped on 8 seeds: fixup needs residual branches; mlp has none." in summary.notes
    assert any("do not have the same number of usable seeds" in note for note in summary.notes)


def test_the_signal_of_each_scheme_is_told(summary):
    assert summary.scheme("normal").signal == "activations explode at layers.2"
    assert summary.scheme("normal").signal_lost_at == "layers.2"
    assert summary.scheme("kaiming").signal == "the signal passes from layer to layer"
    assert summary.scheme("fixup").signal is None


def test_another_reference_can_be_named_by_an_alias():
    summary = summarize(make_comparison(), "he", order=ORDER)
    assert summary.reference == "kaiming"
    assert all(found.other == "kaiming" for found in summary.comparisons)


def test_an_unknown_reference_is_a_clear_error():
    with pytest.raises(ConfigError, match=r"Unknown reference 'kaming'. Did you mean 'kaiming'.*xavier, kaiming, normal"):
        summarize(make_comparison(), "kaming", order=ORDER)


def test_one_seed_says_that_there_is_no_interval():
    summary = summarize([make_run("kaiming", 0, 0.97)])
    assert summary.headline == "kaiming reaches 97.0 % test accuracy with one seed"
    assert "One seed has no 95 % interval, which takes 6, and its figures may be luck." in summary.notes


def test_five_seeds_say_what_they_cannot_show():
    summary = summarize(spread("kaiming", 0.97, 5) + spread("xavier", 0.95, 5))
    assert "5 seeds are too few to show it: use --seeds 6" in summary.headline
    assert any("Fewer than 6 seeds" in note for note in summary.notes)


def test_parameters_that_nothing_initialized_are_named_in_a_note():
    runs = [make_run(scheme, seed) for scheme in ("kaiming", "xavier") for seed in range(6)]
    report = runs[0].init
    for number, expected in ((6, "head.weight (kaiming)"), (12, "head.weight")):
        last = report.parameters[-1].model_copy(update={"parameter": "head.weight", "setter": Setter.UNTOUCHED})
        left = report.model_copy(update={"parameters": (*report.parameters[:-1], last)})
        changed = [run.model_copy(update={"init": left}) if index < number else run for index, run in enumerate(runs)]
        (note,) = (note for note in summarize(changed).notes if note.startswith("Nothing initializes"))
        assert note.startswith(f"Nothing initializes {expected}: the values stay those of the model's own code.")
    assert not any(note.startswith("Nothing initializes") for note in summarize(runs).notes)


def test_when_nothing_trained_nobody_wins():
    summary = summarize([make_run(scheme, seed, None) for scheme in ("normal", "ones") for seed in range(8)])
    assert summary.leader is None
    assert summary.headline == "No scheme came above chance: all 16 runs diverged"
    assert summary.verdicts == ("ones and normal are not shown to differ: both diverged on all 8 seeds",)


def test_no_runs_at_all_are_no_crash():
    assert summarize([]).headline == "There are no runs"


def test_an_untrained_network_without_signal_to_compare_is_told():
    start = Evaluation(step=0, epoch=0.0, test_loss=2.4, test_accuracy=0.1)
    runs = [make_run(scheme, 0, train_losses=(), evaluations=(start,), layers=()) for scheme in ("kaiming", "xavier")]
    assert summarize(runs).headline == "Nothing was trained, and the network has too few layers for a signal to be lost between them"


def test_all_failed_is_told():
    failed = [make_run("kaiming", seed, status=RunStatus.FAILED, reason="boom", train_losses=(), evaluations=()) for seed in range(2)]
    summary = summarize(failed)
    assert summary.headline == "Nothing is known of any scheme: all 2 runs failed"
    assert summary.scheme("kaiming").trained_share.value is None


def test_schemes_that_the_leader_is_not_shown_to_beat_are_named():
    summary = summarize(spread("kaiming", 0.97) + spread("lecun", 0.97) + spread("xavier", 0.95), "xavier")
    assert set(summary.inseparable) == {"kaiming", "lecun"} - {summary.leader}
    assert summary.headline.endswith(f"not shown to differ from {summary.leader}: {summary.inseparable[0]}")


def test_a_dead_signal_is_the_worst_one_and_not_a_missing_one():
    runs = [make_run(scheme, seed, 0.9, gain=gain) for scheme, gain in (("kaiming", 1.0), ("zeros", 0.0)) for seed in range(8)]
    summary = summarize(runs, metric="signal_decades")
    assert summary.headline == "kaiming beats zeros: zeros lost the signal on 8 of 8 seeds, p = 0.008"
    assert summary.scheme("zeros").estimate("signal_decades").without_number == 8


def test_what_was_not_measured_is_not_compared():
    runs = [make_run(scheme, seed, layers=()) for scheme in ("kaiming", "xavier") for seed in range(8)]
    found = summarize(runs, metric="signal_decades").pairs[0]
    assert found.sentence == "xavier and kaiming cannot be compared: xavier has no such measurement; kaiming has no such measurement"
    assert summarize(runs, metric="signal_decades").headline.startswith("No run has a ")


def test_probing_alone_compares_the_signal():
    runs = [
        make_run(scheme, seed, 0.1, gain=gain, train_losses=()) for scheme, gain in (("kaiming", 1.0), ("xavier", 0.5)) for seed in range(8)
    ]
    summary = summarize(runs)
    assert summary.metric == "signal_decades"
    assert summary.headline.startswith("kaiming beats xavier by 0.")
    assert summary.comparisons[0].metric == "final_test_accuracy"


def test_all_metrics_are_compared_with_the_reference_and_all_pairs_in_the_chosen_one():
    summary = summarize(make_comparison(), order=ORDER, metric="final_test_loss", target=0.94)
    assert len(summary.pairs) == 10
    assert {found.metric for found in summary.pairs} == {"final_test_loss"}
    assert len(summary.comparisons) == 4 * 7  # perplexity is of language alone
    reached = next(found for found in summary.comparisons if found.metric == "steps_to_target" and found.scheme == "normal")
    assert reached.verdict in {Verdict.WORSE, Verdict.IDENTICAL}
    assert summary.scheme("normal").estimate("steps_to_target").value is None


def test_a_failed_run_counts_neither_for_nor_against_its_scheme():
    runs = [make_run("kaiming", seed, 0.9, **({"status": RunStatus.FAILED, "reason": "boom"} if seed == 3 else {})) for seed in range(8)]
    found = summarize(runs).scheme("kaiming").estimate("final_test_accuracy")
    assert (found.n, found.without_number) == (7, 0)


def test_of_two_results_of_one_seed_the_first_by_id_counts():
    twice = [make_run("kaiming", 0, accuracy, job_id=name) for name, accuracy in (("b", 0.5), ("a", 0.9))]
    for runs in (twice, twice[::-1]):
        assert summarize(runs).scheme("kaiming").estimate("final_test_accuracy").value == 0.9


def test_a_scheme_that_mostly_diverges_does_not_lead():
    risky = [make_run("lecun", seed, 0.99 if seed < 3 else None) for seed in range(8)]
    safe = [make_run("kaiming", seed, 0.3) for seed in range(8)]
    for metric in ("final_test_accuracy", "final_test_loss"):
        assert summarize(risky + safe, order=["lecun", "kaiming"], metric=metric).leader == "kaiming"


def test_a_margin_belongs_to_its_metric():
    runs = spread("xavier", 0.95) + spread("kaiming", 0.951)
    by_accuracy = summarize(runs, margin=2.0)
    assert by_accuracy.pairs[0].verdict is Verdict.EQUIVALENT
    by_loss = summarize(runs, metric="final_test_loss", margin=2.0)
    assert by_loss.margin is None
    assert not any("equivalent" in sentence for sentence in (by_loss.headline, *by_loss.verdicts))
    assert "The margin of 2 is one of test accuracy; verdicts about test loss have none." in by_loss.notes
    its_own = summarize(runs, metric="final_test_loss", margin=2.0, margin_metric="final_test_loss")
    assert "are equivalent within 2 in test loss" in its_own.headline


def test_with_a_holdout_nothing_is_called_a_test_accuracy():
    runs = [
        run.model_copy(update={"job": run.job.model_copy(update={"train": run.job.train.model_copy(update={"holdout": 0.2})})})
        for run in [*spread("xavier", 0.95), *spread("kaiming", 0.97), *spread("zeros", 0.1)]
    ]
    found = summarize(runs)
    assert "points of held-out accuracy" in found.headline
    drawn = plots(found, group(runs))
    words = [
        text for plot in drawn for text in (plot.title, *(panel.x_label + panel.y_label + ". ".join(panel.notes) for panel in plot.panels))
    ]
    said = " ".join([summary_markdown(found, "q"), *found.notes, *words])
    assert "held-out accuracy" in said
    assert "test accuracy" not in said
    assert "test loss" not in said


def test_all_that_is_said_of_one_question_asks_for_one_number_of_seeds():
    runs = [run for place, scheme in enumerate(("kaiming", "lecun", "xavier", "normal")) for run in spread(scheme, 0.9 + place / 100)[:4]]
    asked = {None: "use --seeds 8", "xavier": "use --seeds 7"}
    for reference, words in asked.items():
        summary = summarize(runs, reference)
        assert words in summary.headline
        assert all(words in sentence for sentence in summary.verdicts)
        table = paper_table(summary)
        assert table.seeds_needed == 8, "the best scheme is not the reference: all pairs"
    best = summarize(runs, "normal")
    assert paper_table(best).seeds_needed == 7
    assert "use --seeds 7" in best.headline


def test_without_a_reference_the_comparisons_are_those_of_all_pairs():
    runs = spread("kaiming", 0.97) + spread("lecun", 0.96) + spread("xavier", 0.95)
    summary = summarize(runs, order=("lecun", "kaiming", "xavier"))
    own = [each for each in summary.comparisons if each.metric == summary.metric]
    assert [each.names for each in own] == [("kaiming", "lecun"), ("xavier", "lecun")]
    assert all(each in summary.pairs for each in own)
    assert {each.family for each in summary.comparisons if each.p is not None} == {3}
    assert {each.family for each in summarize(runs, "lecun").comparisons if each.p is not None} == {2}


def test_what_both_of_two_level_schemes_beat_is_said_of_both():
    noisy = [make_run("lecun", seed, 0.97 + (-1) ** seed * 0.01) for seed in range(8)]
    summary = summarize(spread("kaiming", 0.97) + noisy + spread("xavier", 0.90) + spread("normal", 0.80), order=("kaiming", "lecun"))
    assert summary.headline.endswith("after Holm; both beat normal, xavier")
    assert "are not shown to differ" in summary.headline


@pytest.mark.heavy
def test_the_signal_of_a_scheme_is_that_of_the_medians_in_the_table(tmp_path):
    data = "synthetic:n=256,test=64,classes=3,shape=[1,4,4]"
    results = initbench.run("xavier", model="mlp:depth=20,width=16", dataset=data, seeds=5, steps=1, engine="serial", output=tmp_path)
    (scheme,) = results.summary.schemes
    table = results.to_pandas("layers").query("step == 0")
    medians = table.groupby("layer", sort=False).activation_variance.median()
    lost = [layer for layer, value in medians.items() if layer != "head" and value < 1e-4 * medians.iloc[0]]
    assert scheme.signal_lost_at == lost[0]
    assert scheme.signal == f"activations vanish at {lost[0]}"

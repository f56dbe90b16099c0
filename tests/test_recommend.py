"""The race: who is dropped when, what the choice rests on, and what the command says."""

import math
import random

import pytest
from race_support import carried_out, made_up, question, summary_of
from scipy import stats

from initbench.errors import ConfigError
from initbench.question import plan
from initbench.question.config import TrainConfig, View
from initbench.reporting import search, tables
from initbench.results.record import RunStatus
from initbench.statistics.findings import Fate
from initbench.studies import recommend
from initbench.studies.race import ROUNDS, Arm, Race, critical_t, is_far_behind, race, unique
from initbench.studies.recommend import race_question

CHOOSING = range(100, 104)


def arms(schemes=6, values=(0.1, 1.0)):
    return [Arm(f"s{number}", value) for number in range(schemes) for value in values]


def table(level, noise=0.02):
    """Losses around each arm's level, the same each time they are asked for."""

    def loss(arm, number, seed):
        share = ROUNDS[number].share
        found = level(arm, number)
        return found * math.exp(random.Random(f"{arm} {share} {seed}").gauss(0, noise))

    return loss


def by_number(arm, _round):
    return 0.2 * (1 + int(arm.scheme[1:])) * (1 if arm.value == 0.1 else 1.5)


def test_the_best_arm_wins_and_the_others_are_beaten_on_the_way():
    found = race(arms(), CHOOSING, range(8), table(by_number))
    assert found.complete
    assert found.order[0] == Arm("s0", 0.1)
    assert found.exits[Arm("s5", 0.1)].fate in {Fate.BEHIND, Fate.SET_ASIDE}
    assert len(unique(found.trials)) < len(arms()) * 8 / 2


def test_a_race_asks_for_a_round_at_a_time_and_stops_where_losses_are_missing():
    asked = race(arms(), CHOOSING, range(8), lambda *_: None)
    assert not asked.complete
    assert {(number, seed) for _, number, seed in asked.trials} == {(0, 100), (0, 101)}
    assert len(asked.trials) == len(arms()) * 2


def test_short_rounds_never_compare_different_values():
    def level(arm, number):
        short_sighted = 5 if arm.value == 0.1 and ROUNDS[number].share < 1 else 1
        return by_number(arm, number) * short_sighted

    assert race(arms(), CHOOSING, range(8), table(level)).order[0] == Arm("s0", 0.1)


def test_of_arms_that_are_alike_most_leave_for_want_of_room_and_none_is_called_worse():
    found = race(arms(20), CHOOSING, range(8), table(lambda arm, _: 0.3, noise=0.05))
    fates = [ended.fate for ended in found.exits.values()]
    assert fates.count(Fate.SET_ASIDE) > 8 * fates.count(Fate.BEHIND)
    assert Fate.BEATEN not in fates


def test_the_round_that_judges_has_fresh_seeds_an_arm_a_scheme_and_a_favourite_that_was_named_before():
    def level(arm, number):
        return by_number(arm, number) if number < 3 or arm.scheme != "s0" else 0.3

    found = race(arms(values=(0.1, 0.11)), CHOOSING, range(8), table(level, noise=0.3))
    last = [trial for trial in found.trials if trial.round == 3]
    assert {trial.seed for trial in last} == set(range(8))
    assert not {trial.seed for trial in found.trials if trial.round < 3} & set(range(8))
    finalists = list(dict.fromkeys(trial.arm for trial in last))
    assert len({arm.scheme for arm in finalists}) == len(finalists) >= 2
    assert found.favourite.scheme == "s0"
    ended = [str(found.exits[arm]) for arm in found.exits if arm.scheme == "s0" and found.rounds[arm] == 3]
    assert ended == [f"its scheme did better at {found.favourite.value} in round 3"]


def test_an_arm_that_diverges_on_one_seed_is_out():
    def loss(arm, number, seed):
        return math.inf if arm.scheme == "s0" and seed == 101 else table(by_number)(arm, number, seed)

    found = race(arms(), CHOOSING, range(8), loss)
    ended = found.exits[Arm("s0", 0.1)]
    assert (ended.fate, str(ended)) == (Fate.DIVERGED, "diverged on 1 of 2 seeds in round 1")
    assert found.order[0].scheme == "s1"


def test_when_everything_diverges_the_race_ends_without_a_winner():
    found = race(arms(), CHOOSING, range(8), lambda *_: math.inf)
    assert found.complete
    assert max(number for _, number, _ in found.trials) == 0


def test_the_leader_is_followed_beyond_the_edge_of_its_values():
    def beyond(arm, tried):
        return 10.0 if arm.value == 1.0 and 10.0 not in tried else None

    found = race(arms(), CHOOSING, range(8), table(lambda arm, number: by_number(arm, number) / arm.value**2), beyond)
    assert found.order[0] == Arm("s0", 10.0)


def test_critical_values_are_those_of_the_t_distribution():
    assert [critical_t(df) for df in (1, 2, 3, 7)] == [stats.t.ppf(0.99, df) for df in (1, 2, 3, 7)]
    assert [round(critical_t(df), 3) for df in (1, 2, 3, 7)] == [31.821, 6.965, 4.541, 2.998]


def test_far_behind_is_scipys_paired_t_test_on_logarithms_at_one_percent():
    noise = random.Random(1)
    verdicts = set()
    for _ in range(200):
        one, two = [[math.exp(noise.gauss(shift, 0.3)) for _ in range(5)] for shift in (0.5, 0.0)]
        p = stats.ttest_rel([math.log(x) for x in one], [math.log(x) for x in two], alternative="greater").pvalue
        assert is_far_behind(one, two) == (p < 0.01)
        verdicts.add(p < 0.01)
    assert verdicts == {True, False}
    assert not is_far_behind([1.0, 1.0], [1.0, 1.0])
    assert not is_far_behind([2.0], [1.0])


def losses(job):
    if job.train.steps == 1:
        return 2.0 + ord(str(job.scheme)[0]) / 100
    level = {"kaiming": 0.2, "xavier": 0.4, "lecun": 0.2, "normal": 0.9}[str(job.scheme)]
    noise = random.Random(f"{job.scheme} {job.train.lr} {job.seed}")
    return level * (1 + abs(math.log10(job.train.lr / 0.1))) * math.exp(noise.gauss(0, 0.1))


def test_a_recommendation_names_the_winner_its_equals_the_cost_and_the_code():
    config = recommend.prepared(question("kaiming", "xavier", "lecun", "normal", tune=None, train=TrainConfig(steps=40, lr=0.1)))
    summary = summary_of("recommend", config, losses)
    found = summary.recommendation
    assert (found.scheme, found.value) in {("kaiming", 0.1), ("lecun", 0.1)}
    assert {found.scheme, *found.inseparable} == {"kaiming", "lecun"}
    assert summary.headline.startswith(f"Use {found.scheme} with lr 0.1: held-out loss 0.199 [")
    assert found.full_runs == 4 * 5 * 8
    assert found.full_steps == 160 * 40
    assert 0.3 < found.saved < 0.9
    assert all("in held-out loss" in pair.sentence and "test" not in pair.sentence for pair in summary.pairs)
    assert tables.scheme_table(summary).columns[1:3] == ("held-out accuracy", "held-out loss")
    assert f'init_network(model, method="{found.scheme}", seed=0)' in found.code
    assert "lr = 0.1" in found.code


def test_the_test_split_is_never_looked_at():
    config = recommend.prepared(question("kaiming", "xavier", tune=None))
    done, rounds = carried_out("recommend", config, lambda job: 0.5 if str(job.scheme) == "xavier" else 0.3)
    assert {run.job.train.holdout for run in done.values()} == {0.2}
    assert rounds >= 4


def test_a_finished_race_asks_for_nothing_and_an_interrupted_one_for_what_is_missing():
    config = recommend.prepared(question("kaiming", "xavier", "lecun", "normal", tune=None))
    done, _ = carried_out("recommend", config, losses)
    assert all(plan.job_id(job) in done for job in recommend.jobs(config, done))
    lost = sorted(done)[:5]
    left = {name: run for name, run in done.items() if name not in lost}
    again = carried_out("recommend", config, losses)[0]
    assert again == done
    assert set(lost) & {plan.job_id(job) for job in recommend.jobs(config, left)}


def test_a_scheme_that_does_not_apply_or_is_the_same_as_another_does_not_race():
    config = recommend.prepared(question("kaiming", "xavier", "lecun", tune=None))
    first = {}
    for job in recommend.probes(config):
        status = RunStatus.SKIPPED if str(job.scheme) == "xavier" else RunStatus.COMPLETED
        first[plan.job_id(job)] = made_up(job, 2.0, status)
    entrants = recommend.enter(config, first)
    assert {arm.scheme for arm in entrants.arms} == {"kaiming"}
    assert {(each.scheme, each.fate) for each in entrants.ruled_out} == {("xavier", Fate.DOES_NOT_APPLY), ("lecun", Fate.THE_SAME)}


def test_every_scheme_without_required_parameters_races_unless_some_are_named():
    everyone = race_question("mlp:depth=2")
    assert {"kaiming", "xavier", "lsuv"} <= {ref.name for ref in everyone.schemes}
    assert "constant" not in {ref.name for ref in everyone.schemes}
    assert (everyone.model.params, len(everyone.seeds), everyone.tune.key) == ({"depth": 2}, 8, "train.lr")
    some = race_question("mnist5k_mlp", ["he", "xavier"])
    assert [str(ref) for ref in some.schemes] == ["kaiming", "xavier"]
    with pytest.raises(ConfigError, match="Unknown model 'mpl'"):
        race_question("mpl")


@pytest.mark.parametrize(
    ("scheme", "argument"), [("lsuv", "batch=batch"), ("autoinit_jacobian", "batch=batch"), ("siren", "inputs=inputs")]
)
def test_a_scheme_that_needs_data_is_adopted_with_them(scheme, argument):
    config = recommend.prepared(question(scheme, tune=None))
    code = recommend._code(config, Arm(scheme, 0.1))
    assert argument in code
    compile(code, "code", "exec")


def test_an_unfinished_race_recommends_nothing():
    config = recommend.prepared(question("kaiming", "xavier", tune=None))
    summary = recommend.summarize(config, {}, View())
    assert summary.headline == "No scheme can be recommended: the race is not finished"
    assert isinstance(Race().order, list)


def test_a_scheme_that_learns_nothing_at_any_value_is_out_before_the_second_round():
    config = recommend.prepared(question("kaiming", "xavier", "zeros", tune=None))

    def loss(job):
        slow = str(job.scheme) == "xavier" and job.train.lr < 0.1
        return math.log(10) if str(job.scheme) == "zeros" or slow else losses(job)

    done, _ = carried_out("recommend", config, loss)
    found = recommend.summarize(config, done, View()).recommendation
    zeros = next(line for line in found.candidates if line.scheme == "zeros")
    assert (zeros.fate, zeros.rounds, zeros.reason) == (Fate.STUCK, 1, "at chance at every value in round 1")
    assert {run.job.train.steps for run in done.values() if str(run.job.scheme) == "zeros"} == {1, 4}
    assert next(line for line in found.candidates if line.scheme == "xavier").rounds > 1


def test_where_nothing_is_learned_nobody_is_out_for_that():
    found = race(arms(), CHOOSING, range(8), lambda *_: 2.3, guess=math.log(10))
    assert not any(ended.fate is Fate.STUCK for ended in found.exits.values())


def test_the_headline_claims_no_more_than_was_shown():
    everyone = ["kaiming", "xavier", "lecun", "normal", "orthogonal", "lsuv", "he_uniform", "glorot_uniform"]
    config = recommend.prepared(question(*everyone, tune=None, train=TrainConfig(steps=40, lr=0.1)))

    def loss(job):
        if job.train.steps == 1:
            return 2.0 + config.schemes.index(job.scheme) / 100
        noise = random.Random(f"{job.scheme} {job.train.lr} {job.seed}").gauss(0, 0.2)
        return (0.2 if str(job.scheme) == "kaiming" else 0.4) * (1 + abs(math.log10(job.train.lr / 0.1))) * math.exp(noise)

    summary = summary_of("recommend", config, loss)
    found = summary.recommendation
    assert found.scheme == "kaiming"
    behind, aside = found.of_fate(Fate.BEHIND), found.of_fate(Fate.SET_ASIDE)
    assert aside
    assert "every other scheme" not in summary.headline
    left = (*behind, *aside)
    assert f"left out on the way, which is no verdict: {', '.join(left) if len(left) < 5 else f'{len(left)} schemes'}" in summary.headline
    assert f"Left out for want of room, no verdict: {', '.join(aside)}." in summary.notes


def test_of_schemes_that_set_the_same_weights_the_simplest_races_under_its_own_name():
    config = recommend.prepared(question("gradinit", "kaiming:mode=fan_out", "kaiming", tune=None))
    first = {plan.job_id(job): made_up(job, 2.0) for job in recommend.probes(config)}
    entrants = recommend.enter(config, first)
    assert {arm.scheme for arm in entrants.arms} == {"kaiming"}
    assert {line.scheme: line.reason for line in entrants.ruled_out} == {
        "gradinit": "sets the same weights as kaiming",
        "kaiming:mode=fan_out": "sets the same weights as kaiming",
    }


def timed(job, loss, before):
    run = made_up(job, loss)
    train = 0.01 * len(run.train_losses)
    return run.model_copy(update={"seconds": {"train": train, "total": before[str(job.scheme)] + train}})


def test_what_may_still_come_is_counted_and_measured_on_the_first_run():
    config = recommend.prepared(question("kaiming", "xavier", tune=None, train=TrainConfig(steps=40, lr=0.1)))
    done, before = {}, {"kaiming": 0.5, "xavier": 2.0}
    unknown = recommend.outlook(config, done)
    assert (unknown.runs > 0, unknown.seconds) == (True, None)
    done |= {plan.job_id(job): timed(job, 2.0 + (str(job.scheme) == "xavier"), before) for job in recommend.probes(config)}
    (first,) = [job for job in recommend.jobs(config, done) if plan.job_id(job) not in done]  # one run measures
    assert first.train.steps == 10
    done[plan.job_id(first)] = timed(first, 0.5, before)
    told = recommend.outlook(config, done)
    # no widening: at most as many arms as schemes x values in the first round, and the rooms of the later ones
    assert told.runs == unknown.runs - 1
    assert 0.01 * told.steps + 0.5 * told.runs < told.seconds < 0.01 * told.steps + 2.0 * told.runs
    asked = 0
    while missing := [job for job in recommend.jobs(config, done) if plan.job_id(job) not in done]:
        asked += len(missing)
        done |= {plan.job_id(job): timed(job, losses(job), before) for job in missing}
    assert asked <= told.runs
    assert recommend.outlook(config, done) is None


def test_steps_are_not_told_before_it_is_known_how_many_an_epoch_takes():
    config = recommend.prepared(question("kaiming", "xavier", tune=None, train=TrainConfig(epochs=5, lr=0.1)))
    assert recommend.outlook(config, {}).steps is None
    done = {plan.job_id(job): made_up(job, 2.0 + (str(job.scheme) == "xavier")) for job in recommend.probes(config)}
    assert recommend.outlook(config, done).steps > 100  # a made-up epoch has 4 steps


def raced():
    """Of four schemes one diverges at the largest rate, one learns nothing and one is beaten at every rate."""
    level = {"kaiming": 0.2, "xavier": 0.2, "lecun": 0.6, "zeros": math.log(10)}

    def loss(job):
        name = job.scheme.name
        return None if (name, job.train.lr) == ("xavier", 1.0) else level[name] * (1 + 0.01 * ((job.seed + (name == "xavier")) % 2))

    config = question("he", "xavier", "lecun", "zeros", tune={"key": "train.lr", "values": [0.01, 1.0]})
    return summary_of("recommend", config, loss)


def test_every_round_keeps_what_was_measured_at_each_value_with_seeds_steps_and_why_it_went_no_further():
    choice = raced().recommendation
    first, second, *_ = choice.rounds
    assert [(each.steps, each.seeds) for each in choice.rounds] == [(4, 2), (16, 2), (16, 4), (16, 8)]
    assert choice.reported == 4
    assert len(first.points) == 4 * 3
    assert {point.value for point in first.points} == {0.01, 0.1, 1.0}
    gone = {(point.scheme, point.value): point.fate for point in first.points}
    assert gone["xavier", 1.0] is Fate.DIVERGED
    assert gone["zeros", 0.1] is Fate.STUCK
    assert gone["lecun", 0.1] is Fate.BEHIND
    assert gone["kaiming", 0.1] is None
    assert {point.scheme for point in second.points} == {"kaiming", "xavier"}
    assert all(point.n == 2 and len(point.losses) == 2 for point in second.points)


def test_the_picture_of_a_race_has_a_panel_a_round_and_marks_what_went_out():
    summary = raced()
    (plot,) = search.plots(summary)
    assert [panel.title for panel in plot.panels][:2] == ["Round 1: 4 steps, 2 seeds", "Round 2: 16 steps, 2 seeds"]
    lines = {line.scheme: line for line in plot.panels[0].lines}
    assert set(lines) == {"kaiming", "xavier", "lecun", "zeros"}
    assert lines["lecun"].hollow == {-2.0, -1.0, 0.0}
    assert lines["xavier"].hollow == {0.0}
    assert lines["xavier"].points[-1] == (0.0, None)
    assert "Hollow: out after that round" in plot.panels[0].notes
    assert not any(line.hollow for line in plot.panels[-1].lines)
    choice = summary.recommendation
    assert plot.names[choice.scheme] == f"{choice.scheme} (chosen: {choice.value})"
    table = search.values_table(summary)
    assert len(table.rows) == sum(len(each.points) for each in summary.recommendation.rounds)
    assert ("1", "xavier", "1.0", "4", "2", "diverged", "2", "diverged on 2 of 2 seeds in round 1") in table.rows
    assert ("1", "lecun", "0.1", "4", "2", "0.603 (0.6 to 0.606)", "0", "far behind kaiming in round 1") in table.rows


def test_what_is_shown_of_a_race_says_of_which_round_it_is():
    words = search.reported_words(raced())
    assert words.startswith("Tables, curves and layers are of round 4 alone (16 steps, 8 seeds): 2 schemes, each at its best lr.")
    assert "tell of the 2 schemes that went out before" in words
    config = recommend.prepared(question("kaiming", "xavier", tune=None))
    unfinished = recommend.summarize(config, {}, View())
    assert search.reported_words(unfinished).startswith("Tables, curves and layers are of the probes")
    assert search.plots(unfinished) == ()

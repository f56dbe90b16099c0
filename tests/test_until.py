"""Seeds until it is decided: which are added, when it ends, what is said, and that a folder keeps its error control."""

import csv
import io
import math
import random
import re

import pytest
from race_support import apart, asked, carried_out, made_up, question, summary_of
from rich.console import Console
from training_support import TINY
from typer.testing import CliRunner

from initbench import compare, load_results, report
from initbench.cli import live
from initbench.cli.app import app
from initbench.engines import processes, serial
from initbench.errors import ConfigError, StorageError
from initbench.question import plan
from initbench.question.config import Execution, UntilConfig, View
from initbench.question.config_file import dump_config, load_config
from initbench.question.request import configure
from initbench.reporting import decisions, tidy
from initbench.results import jobs as job_files
from initbench.results import store
from initbench.results.record import RunStatus
from initbench.statistics.known_metrics import find_metric
from initbench.statistics.sequential import fewest
from initbench.statistics.summary import group
from initbench.statistics.verdicts import Side, Verdict, compare_family
from initbench.studies import until
from initbench.studies.execution import carry_out
from initbench.studies.kinds import study_of
from initbench.studies.plan import make_plan, new_manifest


def seeds_by_scheme(done):
    found = {}
    for run in done.values():
        found.setdefault(str(run.job.scheme), set()).add(run.job.seed)
    return {scheme: len(seeds) for scheme, seeds in found.items()}


def test_it_is_a_kind_of_question_of_its_own():
    assert study_of("compare", asked("he", "xavier")) is until
    assert study_of("compare", question("he", "xavier", tune=None)).SEARCHES is False


def test_a_large_difference_is_decided_with_the_fewest_seeds():
    config = asked("he", "xavier")
    done, _ = carried_out("compare", config, apart(0.4))
    (seeds,) = set(seeds_by_scheme(done).values())
    assert seeds in {fewest(), fewest() + 1}
    summary = until.summarize(config, done, View())
    assert summary.pairs[0].verdict is Verdict.WORSE
    assert summary.anytime
    assert "anytime p = 0.0" in summary.headline
    assert summary.notes[-1] == f"Decided after {seeds} of at most 64 seeds: {2 * seeds} of 128 runs."


def test_a_scheme_that_is_decided_gets_no_more_seeds_and_the_others_go_on():
    def loss(job):
        return None if str(job.scheme) == "normal" else apart(0.0)(job)

    config = asked("he", "xavier", "normal", seeds=24)
    done, rounds = carried_out("compare", config, loss)
    found = seeds_by_scheme(done)
    assert (found["kaiming"], found["xavier"]) == (24, 24)
    assert found["normal"] <= fewest() + 1
    assert rounds == 1 + len(range(fewest(), 16)) + 4
    summary = until.summarize(config, done, View())
    assert "not decided" in summary.headline
    assert summary.notes[-1].startswith("Not decided after all 24 seeds: 1 of 3 comparisons; ")


def test_equivalence_within_a_margin_ends_it_too():
    summary = summary_of("compare", asked("he", "xavier", margin=2.0), apart(0.0, 0.005), View(margin=2.0))
    assert summary.pairs[0].verdict is Verdict.EQUIVALENT
    assert summary.notes[-1].startswith("Decided after ")


def test_with_a_reference_only_comparisons_with_it_count():
    def loss(job):
        return {"kaiming": 0.3, "xavier": 0.6, "normal": 0.6}[str(job.scheme)] + 0.001 * random.Random(f"{job}").random()

    config = asked("he", "xavier", "normal", reference="he")
    done, _ = carried_out("compare", config, loss)
    assert set(seeds_by_scheme(done).values()) <= {fewest(), fewest() + 1}


def test_two_schemes_that_never_differ_are_equivalent_only_within_a_margin():
    same = "xavier and kaiming are not decided: no difference in test accuracy on any of "
    for margin, said in ((None, same), (1.0, "xavier and kaiming are equivalent within 1 points of test accuracy: ")):
        config = asked("he", "xavier", margin=margin)
        summary = summary_of("compare", config, lambda job: 0.4 + 0.01 * job.seed, View(margin=margin))
        assert summary.headline.startswith(said)
        assert summary.notes[-1].startswith("Ended after " if margin is None else "Decided after ")


def test_two_schemes_that_always_diverge_end_it_early():
    config = asked("he", "xavier")
    done, _ = carried_out("compare", config, lambda _: None)
    assert len(done) < 2 * 12
    last = f"Ended after {len(done) // 2} of at most 64 seeds: {len(done)} of 128 runs; 1 of 1 comparisons show no difference on any seed, "
    assert until.summarize(config, done, View()).notes[-1] == f"{last}which decides nothing."
    assert until.summarize(config, done, View()).pairs[0].verdict is Verdict.BOTH_WITHOUT


def test_a_failed_run_holds_nothing_up():
    config = asked("he", "xavier")
    whole = max(seeds_by_scheme(carried_out("compare", config, apart(0.4))[0]).values())
    done = {}
    while missing := [job for job in until.jobs(config, done) if plan.job_id(job) not in done]:
        for job in missing:
            failed = job.seed == 2 and str(job.scheme) == "xavier"
            done[plan.job_id(job)] = made_up(job, apart(0.4)(job), RunStatus.FAILED if failed else RunStatus.COMPLETED)
    assert seeds_by_scheme(done) == dict.fromkeys(("kaiming", "xavier"), whole + 1)


def test_verdicts_of_any_number_of_looks_are_the_verdict_of_the_last():
    """What was decided stays decided, whatever comes: the wealth counts at its most."""
    config = asked("he", "xavier", seeds=40)
    done, _ = carried_out("compare", config, apart(0.08))
    first = until.standing(config, done).latest[0]
    assert first.verdict is Verdict.WORSE
    more = dict(done)
    for seed in range(40):
        for scheme in config.schemes:
            job = plan.make_job(config, scheme, seed)
            more.setdefault(plan.job_id(job), made_up(job, apart(-0.05)(job)))
    assert until.summarize(config, more, View()).pairs[0].verdict is Verdict.WORSE


def test_more_seeds_at_most_are_the_same_folder_and_another_margin_is_not():
    folder = plan.result_name("compare", asked("he", "xavier", seeds=64))
    assert plan.result_name("compare", asked("he", "xavier", seeds=128)) == folder
    assert plan.result_name("compare", asked("he", "xavier", margin=0.5)) != folder
    assert plan.result_name("compare", question("he", "xavier", tune=None, seeds=64)) != folder


def test_yaml_takes_it_under_seeds_and_writes_what_it_reads_back(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("schemes: [he, xavier]\nseeds: {until: decided, at_most: 32, margin: 0.5}\n")
    config = load_config(str(path))
    assert config.until == UntilConfig(margin=0.5)
    assert config.seeds == tuple(range(32))
    path.write_text(dump_config(config))
    assert load_config(str(path)) == config
    path.write_text("schemes: [he, xavier]\nseeds: {until: decided}\n")
    assert load_config(str(path)).seeds == tuple(range(64))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"until": "decided", "seeds": 8}, "--until adds seeds until it is decided, and --seeds fixes their number"),
        ({"max_seeds": 8}, "--max-seeds bounds the seeds that --until decided adds"),
        ({"until": "bored"}, "seeds can be added until: decided"),
        ({"until": "decided", "max_seeds": 0}, "it must be at least 1"),
        ({"until": "decided", "view": View(margin=0.0)}, "greater than 0"),
        ({"until": "decided", "tune": "train.lr"}, "not with --tune"),
        ({"until": "bored"}, "--until: it is 'bored'; seeds can be added"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(words, said):
    with pytest.raises(ConfigError) as error:
        configure("compare", schemes=["he", "xavier"], dashes="--", **words)
    assert said in str(error.value)


def test_too_few_seeds_to_decide_anything_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["compare", "he", "xavier", "normal", "--until", "decided", "--max-seeds", "5", "--steps", "2"])
    assert ran.exit_code == 2
    assert f"With 5 seeds at most nothing can be decided: that takes at least {fewest()}" in " ".join(ran.output.split())


@pytest.mark.heavy
def test_for_real_it_ends_goes_on_with_more_seeds_and_is_reported_again(tmp_path):
    folder = tmp_path / "results"
    words = {"model": "mlp:depth=2,width=16", "steps": 3, "engine": "serial", "output": str(folder)}
    small = compare(["kaiming", "xavier"], until="decided", max_seeds=6, **words)
    assert len(small.results) == 12
    assert small.summary.anytime
    more = compare(["kaiming", "xavier"], until="decided", max_seeds=9, **words)
    assert 12 <= len(more.results) <= 18
    assert {run.job_id for run in small.results} <= {run.job_id for run in more.results}
    again = report(folder, margin=50)
    assert again.summary.anytime
    assert load_results(folder).summary.notes[-1] == again.summary.notes[-1]
    assert math.isfinite(again.summary.pairs[0].p)


def test_the_sentence_names_the_winner_of_the_verdict_though_later_seeds_lean_the_other_way():
    gaps = [0.010 + 0.001 * place for place in range(9)] + [-0.02 - 0.001 * place for place in range(24)]
    left, right = Side("one", dict(enumerate(0.5 + gap for gap in gaps))), Side("other", dict.fromkeys(range(len(gaps)), 0.5))
    (found,) = compare_family(find_metric("final_test_accuracy"), [(left, right)], anytime=True)
    assert found.verdict is Verdict.BETTER
    assert found.effect < 0
    assert found.sentence.startswith("one beats other")
    low, high = (float(end) for end in re.search(r"\[(-?[\d.]+), (-?[\d.]+)\]", found.sentence).groups())
    assert low <= high


def test_equivalence_that_comes_after_a_difference_was_shown_is_none():
    gaps = [0.002 + 0.0001 * place for place in range(40)]
    left, right = Side("one", dict(enumerate(0.5 + gap for gap in gaps))), Side("other", dict.fromkeys(range(len(gaps)), 0.5))
    metric = find_metric("final_test_accuracy")
    looks = [
        compare_family(metric, [(_first(left, count), _first(right, count))], margin=1.0, anytime=True)[0].verdict for count in range(1, 41)
    ]
    decided = [verdict for verdict in looks if verdict is not Verdict.NOT_DECIDED]
    assert len(set(decided)) == 1
    assert compare_family(metric, [(left, right)], margin=1.0)[0].verdict is Verdict.EQUIVALENT


def _first(side, count):
    return Side(side.scheme, {seed: value for seed, value in side.values.items() if seed < count})


def test_a_reference_that_is_chosen_after_looking_is_corrected_as_all_pairs_are():
    config = asked("he", "xavier", "normal", "orthogonal", seeds=12)
    done, _ = carried_out("compare", config, apart(0.1))
    later = until.summarize(config, done, View(reference="kaiming"))
    assert {each.family for each in later.comparisons if each.metric == later.metric} == {6}
    before = asked("he", "xavier", "normal", "orthogonal", seeds=12, reference="he")
    done, _ = carried_out("compare", before, apart(0.1))
    summary = until.summarize(before, done, View(reference="kaiming"))
    assert {each.family for each in summary.comparisons if each.metric == summary.metric} == {3}
    another = until.summarize(before, done, View(reference="normal"))
    assert {each.family for each in another.comparisons if each.metric == another.metric} == {6}


def test_where_every_run_failed_nothing_is_called_decided():
    config = asked("he", "xavier")
    done = {}
    while missing := [job for job in until.jobs(config, done) if plan.job_id(job) not in done]:
        done |= {plan.job_id(job): made_up(job, 0.4, RunStatus.FAILED) for job in missing}
    (note,) = [note for note in until.summarize(config, done, View()).notes if "could not be made" in note]
    assert note.startswith("1 of 1 comparisons could not be made, as runs failed or were skipped")


def test_a_file_that_adds_seeds_takes_words_of_the_command(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("schemes: [he, xavier, normal]\nseeds: {until: decided, at_most: 32}\n")
    config = configure("compare", path, dashes="--", max_seeds=20, view=View(margin=0.5, reference="he"))
    assert config.seeds == tuple(range(20))
    assert config.until == UntilConfig(margin=0.5, reference="he")
    assert configure("config", path, dashes="--").until == UntilConfig()


@pytest.mark.heavy
def test_the_margin_of_a_question_sleeps_under_another_metric(tmp_path):
    given = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 4}
    compare(["he", "xavier"], until="decided", max_seeds=8, view=View(margin=60.0), output=str(tmp_path / "out"), **given)
    summary = report(tmp_path / "out", metric="final_test_loss").summary
    assert summary.margin is None
    assert any("The margin of 60 is one of test accuracy" in note for note in summary.notes)


@pytest.mark.heavy
def test_more_seeds_at_most_are_no_change_that_is_warned_of(tmp_path):
    given = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 2, "output": str(tmp_path / "out")}
    compare(["he", "xavier"], until="decided", max_seeds=6, **given)
    again = compare(["he", "xavier"], until="decided", max_seeds=8, **given)
    assert not [doubt for doubt in (*again.doubts, *again.mended) if "not as it was written" in doubt]
    assert len(again.config.seeds) == 8
    config = tmp_path / "out" / "config.yaml"
    config.write_text(config.read_text() + "# a remark\n")
    assert load_config(str(config)).seeds == tuple(range(8))


@pytest.mark.heavy
def test_a_folder_that_was_looked_at_never_gets_a_verdict_of_a_fixed_number(tmp_path):
    given = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 2, "output": str(tmp_path / "out")}
    compare(["he", "xavier"], until="decided", max_seeds=6, **given)
    with pytest.raises(StorageError, match="another question"):
        compare(["he", "xavier"], seeds=6, **given)
    with pytest.raises(StorageError, match="no number of them is fixed beforehand any more"):
        compare(["he", "xavier"], seeds=6, fresh=True, **given)
    config = tmp_path / "out" / "config.yaml"
    before = config.read_text()
    config.write_text("".join(line for line in before.splitlines(keepends=True) if not line.startswith("until")))
    with pytest.raises(StorageError, match="asks another question"):
        load_results(tmp_path / "out")
    config.write_text(before)
    assert load_results(tmp_path / "out").summary.anytime
    assert not compare(["he", "lecun"], seeds=2, fresh=True, **given).summary.anytime


def test_a_key_that_adding_seeds_does_not_have_is_told_from_those_that_it_has(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("schemes: [he, xavier]\nseeds: {until: decided, most: 9}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'until.most'.* Allowed here: reference, metric, margin, each"):
        load_config(str(path))


@pytest.mark.heavy
def test_the_last_line_names_the_seeds_that_were_asked_for_last(tmp_path):
    given = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 2, "output": str(tmp_path / "out"), "view": View(margin=100.0)}
    first = compare(["he", "xavier"], until="decided", max_seeds=16, **given)
    again = compare(["he", "xavier"], until="decided", max_seeds=20, **given)
    assert len(again.results) == len(first.results)
    assert again.summary.notes[-1] == first.summary.notes[-1].replace("of at most 16 seeds", "of at most 20 seeds").replace(
        "32 runs", "40 runs"
    )


@pytest.mark.parametrize("words", [{"margin": -1}, {"margin": math.nan}, {"margin": "much"}, {"target": 95}, {"target": True}])
def test_what_cannot_be_looked_for_is_said_in_a_sentence_in_python_too(words):
    (name, _) = next(iter(words.items()))
    with pytest.raises(ConfigError, match=f"^The {name} is .*; it must be "):
        View(**words)


def test_with_a_reference_the_headline_names_only_comparisons_with_it():
    def loss(job):
        gap = {"kaiming": 0.0, "xavier": 0.2, "normal": 0.2, "orthogonal": 0.4, "lecun": -0.2}[str(job.scheme)]
        return 0.4 - gap + 0.05 * random.Random(f"{job.scheme} {job.seed}").random()

    config = asked("he", "xavier", "normal", "orthogonal", "lecun", reference="he", seeds=24)
    headline = summary_of("compare", config, loss, View(reference="he")).headline
    assert headline.startswith("orthogonal beats kaiming by ")
    assert headline.endswith("; kaiming is also beaten by xavier, normal; kaiming beats lecun")


def test_the_picture_has_steps_and_titles_that_are_not_cut():
    config = asked("he:mode=fan_out", "xavier:gain=1.4", "normal:std=0.05", seeds=12)
    done, _ = carried_out("compare", config, apart(0.02))
    runs = group(done.values(), [str(scheme) for scheme in config.schemes])
    (plot,) = decisions.plots(until.summarize(config, done, View(margin=2.0)), runs)
    assert max(map(len, plot.rows)) == 2
    assert {panel.title for panel in plot.panels} == {
        "xavier:gain=1.4 - kaiming:m…=fan_out",
        "normal:std=0.05 - kaiming:m…=fan_out",
        "normal:std=0.05 - xavier:gain=1.4",
    }
    assert {line.weight for panel in plot.panels for line in panel.lines} == {"steps", "theory"}
    assert {band.of for panel in plot.panels for band in panel.bands} == {"steps"}
    assert "Dashed: no difference, and the margin of 2" in plot.panels[-1].notes
    short = asked("he", "xavier", "normal", "lecun", seeds=12)
    done, _ = carried_out("compare", short, apart(0.02))
    (plot,) = decisions.plots(until.summarize(short, done, View()), group(done.values()))
    assert max(map(len, plot.rows)) == 3


def test_a_terminal_shows_each_open_comparison_in_the_place_of_the_last_round(monkeypatch, tmp_path):
    """Its interval and about how many seeds are left; only what the first round says stays."""
    config = asked("he", "xavier", "normal", seeds=24)
    done, _ = carried_out("compare", config, lambda job: None if str(job.scheme) == "normal" else apart(0.03)(job))
    written = io.StringIO()
    monkeypatch.setattr(
        live, "people", lambda: Console(file=written, force_terminal=True, highlight=False, width=140, height=40, soft_wrap=True)
    )
    screen = live.RunScreen()
    screen.planned(make_plan("compare", config, Execution(output=str(tmp_path / "out"))))
    assert "3 schemes x up to 24 seeds" in written.getvalue()
    half = {name: run for name, run in done.items() if run.job.seed < 12}
    (tmp_path / "out").mkdir()
    for run in half.values():
        store.write_result(tmp_path / "out", run)
    store.write_text(tmp_path / "out" / store.CONFIG, dump_config(config))
    there = make_plan("compare", config, Execution(output=str(tmp_path / "out")))
    store.write_manifest(tmp_path / "out", new_manifest(there, None))
    screen.planned(there)
    lines = list(screen.bars.bars.get_renderables())[:-1]
    screen.close()
    (line,) = [line for line in lines if "xavier - kaiming" in str(line)]
    assert re.search(r"points of test accuracy \\?\[-?[\d.]+, -?[\d.]+\] after 12 seeds; about \d+ more at this pace", line)
    assert not [line for line in lines if "normal - " in str(line)]


def test_of_many_open_comparisons_the_soonest_are_told():
    config = asked("he", "xavier", "normal", "lecun", "orthogonal", "uniform", seeds=8)
    done, _ = carried_out("compare", config, apart(0.0))
    *told, last = until.news(config, done)
    assert len(told) == until.TOLD
    assert re.fullmatch(r"\d more comparisons are not decided\.", last)
    left = [int(found[1]) for line in told if (found := re.search(r"about (\d+) more", line))]
    assert left == sorted(left)
    assert len(left) > 1


def test_a_table_says_which_kind_a_verdict_is():
    config = asked("he", "xavier", seeds=8)
    done, _ = carried_out("compare", config, apart(0.4))
    fixed = question("he", "xavier", tune=None, seeds=6)
    for kind, found in (("anytime", until.summarize(config, done, View())), ("fixed", summary_of("compare", fixed, apart(0.4)))):
        rows = list(csv.DictReader(io.StringIO(tidy.comparisons(found))))
        assert {row["kind"] for row in rows} == {kind}


@pytest.mark.heavy
def test_a_look_before_all_runs_of_a_fixed_number_are_there_is_said_to_be_one(tmp_path):
    given = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 2, "output": str(tmp_path / "out")}
    compare(["he", "xavier"], seeds=2, **given)
    next((tmp_path / "out" / "jobs").iterdir()).unlink()
    said = " ".join(CliRunner().invoke(app, ["report", str(tmp_path / "out")]).output.split())
    assert "1 of 4 runs are not there yet. Verdicts count when all of them are" in said


def test_seeds_that_are_listed_are_taken_in_their_order_and_not_exchanged(tmp_path):
    """More whole numbers in a row come behind those that are there; other seeds of a list are another question, so that none is dropped."""
    path = tmp_path / "question.yaml"

    def listed(*seeds):
        path.write_text(f"schemes: [he, xavier]\nseeds: {{until: decided, at_most: {list(seeds)}}}\n")
        return load_config(str(path))

    one = plan.result_name("compare", listed(9, 1, 5, 3, 7, 2))
    assert plan.result_name("compare", listed(9, 11, 15, 13, 17, 12)) != one
    assert plan.result_name("compare", listed(*range(8))) == plan.result_name("compare", listed(*range(9)))
    jobs = until.jobs(plan.resolve_config(listed(9, 1, 5, 3, 7, 2, 8, 4)), {})
    assert {job.seed for job in jobs} == {1, 2, 3, 4, 5, 7}


@pytest.mark.heavy
def test_between_rounds_nothing_is_read_or_started_again(tmp_path, monkeypatch):
    read, started = [], []
    again, start_worker = job_files._again, processes.WorkerPool.start_worker
    monkeypatch.setattr(job_files, "_again", lambda path, header: read.append(path) or again(path, header))
    monkeypatch.setattr(processes.WorkerPool, "start_worker", lambda pool: started.append(pool) or start_worker(pool))
    given = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 2, "output": str(tmp_path / "out"), "engine": "processes", "jobs": 2}
    found = compare(["he", "xavier"], until="decided", max_seeds=9, **given)
    assert len(found.results) > 2 * fewest()
    assert len(started) == 2
    assert len(read) == len(set(read))


def test_a_margin_of_zero_is_refused_over_a_file_too(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("schemes: [he, xavier]\nseeds: {until: decided, at_most: 12}\n")
    with pytest.raises(ConfigError, match="greater than 0"):
        configure("compare", path, dashes="--", view=View(margin=0.0))
    assert configure("compare", path, dashes="--", view=View(margin=0.5)).seeds == tuple(range(12))


@pytest.mark.heavy
@pytest.mark.parametrize("fresh", [False, True])
def test_runs_of_other_folders_are_taken_in_every_round_unless_all_are_asked_for_anew(tmp_path, monkeypatch, fresh, capsys):
    monkeypatch.chdir(tmp_path)
    trained = []
    execute = serial.execute
    monkeypatch.setattr(serial, "execute", lambda jobs, **how: trained.extend(name for name, _ in jobs) or execute(jobs, **how))
    asked_for = {"model": "mlp:depth=1,width=8", "dataset": TINY, "steps": 2}
    given = {**asked_for, "engine": "serial", "jobs": 2}
    seen = [run.job_id for run in compare(["he", "xavier"], seeds=8, **given).results]
    config = configure("compare", schemes=["he", "xavier"], until="decided", max_seeds=10, **asked_for)
    del trained[:]
    with live.run_screen(quiet=False, verbose=False) as screen:
        found = carry_out(make_plan("compare", config, Execution(engine="serial", jobs=2, fresh=fresh)), screen)
    assert len(found.results) > 16
    assert set(trained) == {run.job_id for run in found.results} - (set() if fresh else set(seen))
    assert ("16 done before, 16 of them copied from other folders" in capsys.readouterr().err) is not fresh

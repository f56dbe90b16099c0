"""Which kind of question is asked, and that folders of earlier releases keep their answers."""

import pytest
from race_support import carried_out, made_up, question

from initbench import load_results, report
from initbench.errors import StorageError
from initbench.question import config_file, plan
from initbench.question.config import GridConfig, TrainConfig, UntilConfig, View
from initbench.results import store
from initbench.studies import compare, recommend, tune, until
from initbench.studies.kinds import STUDIES, study_of
from initbench.studies.plan import plan_of


def losses(job):
    return 0.2 + 0.1 * (str(job.scheme) == "xavier") + job.seed / 1000


def test_a_command_and_its_configuration_say_the_kind():
    plain = question("he", "xavier", tune=None)
    assert study_of("compare", plain) is compare
    assert study_of("run", plain) is compare
    assert study_of("compare", question("he")) is tune
    assert study_of("recommend", question("he")) is recommend


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_a_study_asks_for_more_only_where_it_searches(study):
    config = recommend.prepared(question("he", "xavier"))
    if study is until:
        config = config.model_copy(update={"tune": None, "until": UntilConfig()})
    if study.COMMAND == "sweep":
        config = config.model_copy(update={"tune": None, "grid": GridConfig(axes={"train.lr": (0.1, 0.2)})})
    done = {}
    while missing := [job for job in study.jobs(config, done) if plan.job_id(job) not in done]:
        assert study.SEARCHES or not done
        done |= {plan.job_id(job): made_up(job, losses(job)) for job in missing}
    assert study.summarize(config, done, View()).schemes
    assert study.reported(config, done)


@pytest.mark.heavy
@pytest.mark.parametrize(("command", "key"), [("compare", None), ("compare", "train.lr"), ("recommend", "train.lr")])
def test_a_folder_with_the_ids_of_an_earlier_release_is_read_reported_and_resumed(command, key, tmp_path, monkeypatch):
    monkeypatch.setattr("initbench.reporting.draw.draw_all", lambda plots: [{".svg": b"<svg/>"} for _ in plots])
    config = question("he", "xavier", tune=key, train=TrainConfig(steps=16, lr=0.1))
    done, _ = carried_out(command, config, losses)
    former = [run.model_copy(update={"job_id": f"{number:016x}"}) for number, run in enumerate(done.values())]
    listed = store.planned((run.job_id, run.job) for run in former)
    store.write_text(tmp_path / store.CONFIG, config_file.dump_config(config))
    store.write_manifest(tmp_path, store.Manifest(initbench="0", command=command, config_hash="0" * 16, jobs=listed, started="then"))
    for run in former:
        store.write_result(tmp_path, run)
    headline = study_of(command, config).summarize(config, done, View()).headline
    assert load_results(tmp_path).summary.headline == headline
    assert {path.stem for path in (tmp_path / store.JOBS).glob("*")} == {run.job_id for run in former}
    assert report(tmp_path).summary.headline == headline
    assert {path.stem for path in (tmp_path / store.JOBS).glob("*")} == set(done)
    assert plan_of(tmp_path).missing == ()


def test_a_folder_whose_question_was_changed_by_hand_is_still_refused(tmp_path):
    config = question("he", "xavier", tune=None)
    done, _ = carried_out("compare", config, losses)
    store.write_text(tmp_path / store.CONFIG, config_file.dump_config(question("he", "xavier", tune=None, train=TrainConfig(steps=3))))
    listed = store.planned((run.job_id, run.job) for run in done.values())
    hashed = plan.config_hash(config)
    store.write_manifest(tmp_path, store.Manifest(initbench="0", command="compare", config_hash=hashed, jobs=listed, started="then"))
    for run in done.values():
        store.write_result(tmp_path, run)
    with pytest.raises(StorageError, match="holds the results of another question"):
        plan_of(tmp_path)

import pickle

import pytest
from simulated_runs import make_run

from initbench.results import jobs
from initbench.results.columns import Columns, at_step, column
from initbench.results.record import Evaluation, LayerStats, Place, RunResult

LAYERS = (
    LayerStats(step=0, layer="a", position=0, size=4, place=Place.PATH, activation_variance=0.1, gradient_variance=-0.0),
    LayerStats(step=0, layer="b", position=1, overflowed=("activation_variance",), activation_variance=float("inf")),
    LayerStats(step=5, layer="a", position=0, not_measured="it is frozen", prediction_note="none"),
)


@pytest.fixture
def kept():
    evaluations = (Evaluation(step=1, epoch=0.5, test_loss=None, test_accuracy=0.1),)
    return RunResult.model_validate(make_run("kaiming", 0).model_dump() | {"layers": LAYERS, "evaluations": evaluations})


def test_records_come_back_as_they_were(kept):
    assert isinstance(kept.layers, Columns)
    assert kept.layers == LAYERS
    assert tuple(kept.layers) == LAYERS
    assert [each.model_dump_json() for each in kept.layers] == [each.model_dump_json() for each in LAYERS]
    assert kept.layers[-1] == LAYERS[-1]
    assert kept.layers[:2] == LAYERS[:2]
    assert kept.layers != LAYERS[:2]
    assert kept.layers[1].value("activation_variance") == float("inf")
    assert kept.evaluations[0].test_loss is None


def test_a_copy_of_a_record_is_checked_and_changed_like_any_other(kept):
    changed = kept.layers[0].model_copy(update={"activation_variance": 2.0})
    assert changed.activation_variance == 2.0
    assert kept.layers[0].activation_variance == 0.1
    assert LayerStats.model_validate(changed.model_dump()) == changed


def test_a_result_is_written_and_read_with_the_same_bytes(kept):
    text = kept.model_dump_json()
    assert '"activation_variance":0.1' in text
    again = RunResult.model_validate_json(text)
    assert again == kept
    assert again.model_dump_json() == text
    assert pickle.loads(pickle.dumps(kept)).model_dump_json() == text
    assert RunResult.model_validate(kept.model_dump()).layers == kept.layers


def test_a_column_and_a_step_are_those_of_the_records(kept):
    for records in (kept.layers, LAYERS, ()):
        assert column(records, "layer") == [each.layer for each in records]
        assert list(at_step(records, 5)) == [each for each in records if each.step == 5]


def test_what_runs_have_alike_is_kept_once(kept, tmp_path):
    other = kept.model_copy(update={"job_id": "0" * 16, "layers": (LAYERS[0].model_copy(update={"activation_variance": 3.0}), *LAYERS[1:])})
    for run in (kept, other):
        jobs.write(tmp_path, run)
    one, two = jobs.read(tmp_path, [kept.job_id, other.job_id]).results
    assert (one, two) == (kept, other)
    assert one.layers._shapes is two.layers._shapes
    assert [len(run.layers._numbers) for run in (one, two)] == [2, 2]
    for part in ("scheme", "model", "dataset", "init", "train", "probe"):
        assert getattr(one.job, part) is getattr(two.job, part)

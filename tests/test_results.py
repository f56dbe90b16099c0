"""Results: strict JSON, statuses, the report on parameters."""

import json

import pytest

from initbench.results.record import Evaluation, InitReport, LayerStats, ParameterInit, Setter


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_does_not_exist_is_null(value):
    stats = LayerStats(step=0, layer="a", position=0, gradient_variance=value)
    assert json.loads(stats.model_dump_json())["gradient_variance"] is None


def test_json_keeps_every_digit():
    evaluation = Evaluation(step=3, epoch=0.1, test_loss=0.1 + 0.2, test_accuracy=1 / 3)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def report() -> InitReport:
    return InitReport(
        scheme="kaiming",
        parameters=(
            ParameterInit(parameter="a.weight", shape=(3, 2), setter=Setter.SCHEME, by="kaiming", law="normal", target_std=0.5, std=0.47),
            ParameterInit(parameter="gate", shape=(), setter=Setter.UNTOUCHED, by="nothing", std=0.0, mean=2.0),
        ),
        lr_multipliers={"a.weight": 0.1},
    )


def test_the_report_names_what_nothing_set():
    assert report().untouched == ("gate",)


def test_the_report_prints_as_a_table():
    lines = str(report()).splitlines()
    assert lines[0] == "kaiming: 2 parameters"
    assert lines[2].split() == ["a.weight", "3x2", "kaiming", "normal", "0.5", "0.47"]
    assert lines[3].split() == ["gate", "scalar", "nothing", "0", "2"]
    assert lines[4] == "learning rate x 0.1: a.weight"
    assert len({line.find("kaiming") for line in lines[2:3]} | {lines[3].find("nothing")}) == 1

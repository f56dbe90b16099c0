import csv
import io

import pytest
from simulated_runs import make_comparison, make_run

from initbench.reporting import tidy
from initbench.results.record import Evaluation, LayerStats, ParameterInit, RunStatus, Setter
from initbench.statistics.summary import group, summarize


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def every_run():
    return [run for found in group(make_comparison(), ["xavier", "kaiming"]).values() for run in found]


def small_run(**changes):
    return make_run(
        "kaiming",
        3,
        train_losses=(2.5, 0.1),
        evaluations=(Evaluation(step=2, epoch=1.0, test_loss=0.125, test_accuracy=0.9),),
        **changes,
    )


def test_the_curves_of_one_run_letter_by_letter():
    assert tidy.curves([small_run()]) == (
        "scheme,seed,status,outcome,step,epoch,quantity,value\n"
        "kaiming,3,completed,trained,1,,train_loss,2.5\n"
        "kaiming,3,completed,trained,2,,train_loss,0.1\n"
        "kaiming,3,completed,trained,2,1,test_loss,0.125\n"
        "kaiming,3,completed,trained,2,1,test_accuracy,0.9\n"
    )


def test_a_layer_that_overflowed_has_an_empty_field():
    stats = LayerStats(step=0, layer="head", position=0, activation_variance=float("inf"), gradient_variance=0.5)
    (row,) = rows(tidy.layers([small_run(layers=(stats,))]))
    assert (row["layer"], row["activation_variance"], row["gradient_variance"]) == ("head", "", "0.5")


def test_each_parameter_has_its_promise_its_measurement_and_its_learning_rate():
    entry = ParameterInit(
        parameter="head.weight",
        shape=(10, 256),
        setter=Setter.SCHEME,
        by="kaiming",
        law="normal",
        fan_in=256,
        target_std=0.0884,
        std=0.0885,
    )
    report = make_run("kaiming", 0).init.model_copy(update={"parameters": (entry,), "lr_multipliers": {"head.weight": 0.5}})
    (row,) = rows(tidy.init([small_run(init=report)]))
    assert (row["parameter"], row["shape"], row["setter"], row["target_std"], row["std"]) == (
        "head.weight",
        "10x256",
        "scheme",
        "0.0884",
        "0.0885",
    )
    assert (row["fan_out"], row["lr_multiplier"]) == ("", "0.5")


@pytest.mark.parametrize("table", [tidy.curves, tidy.layers, tidy.init])
def test_every_run_is_in_every_table_also_those_without_a_number(table):
    seen = {(row["scheme"], row["seed"]) for row in rows(table(every_run()))}
    assert seen == {(str(run.job.scheme), str(run.job.seed)) for run in every_run()}
    skipped = [row for row in rows(table(every_run())) if row["scheme"] == "fixup"]
    assert len(skipped) == 8
    assert skipped[0]["status"] == "skipped"


def test_diverged_and_failed_runs_say_so_in_their_rows():
    found = {(row["status"], row["outcome"]) for row in rows(tidy.curves(every_run()))}
    assert found == {(kind, kind) for kind in ("diverged", "failed", "skipped")} | {("completed", "trained"), ("completed", "stuck")}


def test_float32_losses_survive_the_nine_digits():
    import struct

    loss = struct.unpack("f", struct.pack("f", 0.123456789))[0]
    text = rows(tidy.curves([make_run("kaiming", 0, train_losses=(loss,), evaluations=())]))[0]["value"]
    assert struct.unpack("f", struct.pack("f", float(text)))[0] == loss


def test_the_summary_has_a_row_for_each_scheme_and_metric():
    found = rows(tidy.summary(summarize(make_comparison(), order=["xavier", "kaiming"])))
    assert len(found) == 5 * 9
    normal = next(row for row in found if (row["scheme"], row["metric"]) == ("normal", "final_test_accuracy"))
    assert {key: normal[key] for key in ("stuck", "diverged", "value", "low", "high", "level", "n", "without_number")} == {
        "stuck": "2",
        "diverged": "6",
        "value": "",
        "low": "",
        "high": "0.1",
        "level": "0.95",
        "n": "8",
        "without_number": "6",
    }


def test_the_comparisons_name_their_family_and_its_size():
    found = rows(tidy.comparisons(summarize(make_comparison(), order=["xavier", "kaiming"])))
    first = found[0]
    assert (first["family"], first["scheme"], first["other"], first["p"], first["p_holm"], first["family_size"], first["verdict"]) == (
        "reference",
        "kaiming",
        "xavier",
        "0.0078125",
        "0.046875",
        "6",
        "better",
    )
    (asked, *_) = rows(tidy.comparisons(summarize(make_comparison(), "xavier", order=["xavier", "kaiming"])))
    assert (asked["family"], asked["p_holm"], asked["family_size"]) == ("reference", "0.0234375", "3")
    assert sum(row["family"] == "all pairs" for row in found) == 10
    assert {row["verdict"] for row in found if "fixup" in {row["scheme"], row["other"]}} == {"not comparable"}


def test_a_run_that_failed_before_anything_was_measured_has_one_row():
    run = make_run("kaiming", 0, status=RunStatus.FAILED, reason="boom", train_losses=(), evaluations=(), layers=(), init=None)
    assert tidy.curves([run]).splitlines()[1:] == ["kaiming,0,failed,failed,,,,"]

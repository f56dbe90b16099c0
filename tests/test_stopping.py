"""The first signal waits for the end of a step, the second does not wait."""

import os
import signal

import pytest

from initbench.cli.stopping import StopRequest, stoppable
from initbench.errors import NotThereError
from initbench.question.config import ExperimentConfig, parse_ref
from initbench.results.record import RunResult, RunStatus
from initbench.studies.plan import make_plan
from initbench.workers.progress import Progress

SIGN = Progress("a", 1, 9)


class Listener:
    def __init__(self):
        self.heard = []

    def planned(self, steps):
        self.heard.append("planned")

    def progress(self, sign):
        self.heard.append("progress")

    def finished(self, result):
        self.heard.append("finished")


@pytest.fixture(autouse=True)
def signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def plan_of_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_plan("compare", ExperimentConfig(schemes=(parse_ref("he"), parse_ref("xavier")), seeds=(0,)))


def drive(listener, steps, *happenings):
    """Plays what happens one after the other; a number is a signal, a word is noted."""
    with stoppable(listener) as watch:
        watch.planned(steps)
        for happening in happenings:
            if isinstance(happening, int):
                os.kill(os.getpid(), happening)
            elif isinstance(happening, Progress):
                watch.progress(happening)
            elif isinstance(happening, RunResult):
                watch.finished(happening)
            else:
                listener.heard.append(happening)


def results(steps):
    return [RunResult(job_id=name, job=job, status=RunStatus.COMPLETED) for name, job in steps.jobs]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_after_the_step_under_way(plan_of_two, number):
    listener = Listener()
    with pytest.raises(StopRequest) as stop:
        drive(listener, plan_of_two, SIGN, number, "the step goes on", SIGN, "too late")
    assert stop.value.number == number
    assert listener.heard == ["planned", "progress", "the step goes on", "progress"]


def test_a_run_that_is_finished_after_the_signal_is_passed_on(plan_of_two):
    listener = Listener()
    with pytest.raises(StopRequest):
        drive(listener, plan_of_two, SIGN, signal.SIGINT, results(plan_of_two)[0], "too late")
    assert listener.heard == ["planned", "progress", "finished"]


def test_the_second_signal_stops_at_once_and_a_third_changes_nothing(plan_of_two):
    listener = Listener()
    with pytest.raises(StopRequest):
        drive(listener, plan_of_two, SIGN, signal.SIGINT, signal.SIGINT, "too late")
    assert listener.heard == ["planned", "progress"]
    os.kill(os.getpid(), signal.SIGINT)


def test_before_the_first_step_and_after_the_last_run_a_signal_stops_at_once(plan_of_two):
    for before in ([], [SIGN, *results(plan_of_two)]):
        listener = Listener()
        with pytest.raises(StopRequest):
            drive(listener, plan_of_two, *before, signal.SIGINT, "too late")
        assert "too late" not in listener.heard


def test_afterwards_signals_mean_what_they_meant_before():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stoppable(Listener()):
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def end_of_workers(*, signalled):
    with stoppable(Listener()) as watch:
        if signalled:
            watch.stepping = True
            watch.on_signal(signal.SIGTERM, None)
        raise NotThereError("The worker processes cannot be started.")


def test_workers_that_the_same_signal_has_ended_are_no_error_but_the_stop():
    with pytest.raises(StopRequest) as stopped:
        end_of_workers(signalled=True)
    assert stopped.value.number == signal.SIGTERM
    with pytest.raises(NotThereError):
        end_of_workers(signalled=False)

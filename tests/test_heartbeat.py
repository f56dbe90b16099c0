"""What is said while a run gives no sign, and what an engine waits for."""

import threading
import time

import pytest
from training_support import jobs_of

from initbench.cli.heartbeat import Heartbeat
from initbench.results.record import RunResult, RunStatus
from initbench.workers.progress import Progress


class Quiet:
    def planned(self, plan):
        pass

    progress = finished = planned


@pytest.mark.heavy
def test_silence_is_said_and_again_when_it_is_twice_as_long(monkeypatch):
    monkeypatch.setattr("initbench.cli.heartbeat.SILENT_SECONDS", 0.2)
    said = []
    beat = Heartbeat(Quiet(), said.append)
    beat.labels, beat.left, beat.signs = {"a": "kaiming, seed 0"}, 1, {}
    beat.progress(Progress("a", 0, 0))
    beat.thread = threading.Thread(target=beat._look, args=(beat.over,))
    beat.thread.start()
    time.sleep(1.0)
    beat.finished(RunResult(job_id="a", job=jobs_of()[0][1], status=RunStatus.COMPLETED))
    assert 2 <= len(said) <= 3
    assert said[0].startswith("No sign of kaiming, seed 0: silent for")
    assert beat.thread is None


def test_what_an_engine_waits_for_is_said_at_once_and_again_in_place_of_other_guesses():
    said = []
    beat = Heartbeat(Quiet(), said.append)
    beat.progress(Progress("", 0, 0, "Waiting for a machine."))
    assert said == ["Waiting for a machine."]
    assert beat._words([""], 60.0).startswith("Waiting for a machine: silent for 60 s.")

"""Where the time goes: what `--profile` adds up."""

import time

from training_support import job_of

from initbench.cli.timing import TimingWatch, process_age
from initbench.results.record import RunResult, RunStatus
from initbench.workers.progress import Progress


def finished(**seconds):
    return RunResult(job_id="x", job=job_of(), status=RunStatus.COMPLETED, seconds=seconds)


def test_the_parts_of_all_runs_are_added_up_and_the_stages_make_the_whole():
    watch = TimingWatch(started=time.perf_counter() - 5)
    watch.planned(None)
    watch.progress(Progress("x", 1, 2))
    watch.finished(finished(total=4.0, train=2.0, probe=1.0))
    watch.finished(finished(total=4.0, train=3.0, evaluate=0.5))
    seconds = {words: float(number) for number, words in (line.split(" s  ", 1) for line in watch.lines())}
    assert seconds["  training: 62.5 % of all runs' time, added up"] == 5.0
    assert seconds["  the rest: 18.8 % of all runs' time, added up"] == 1.5
    stages = [number for words, number in seconds.items() if not words.startswith("  ") and words != "whole command"]
    assert abs(sum(stages) - seconds["whole command"]) < 0.05
    assert seconds["start-up, configuration, plan"] >= 5


def test_a_command_that_ran_nothing_has_no_runs_to_show():
    words = " ".join(TimingWatch().lines())
    assert "training" not in words
    assert "whole command" in words


def test_what_it_hears_is_passed_on():
    class Inner:
        heard = ()

        def planned(self, steps):
            self.heard += ("planned",)

        def progress(self, sign):
            self.heard += ("progress",)

        def finished(self, result):
            self.heard += ("finished",)

    inner = Inner()
    watch = TimingWatch().over(inner)
    watch.planned(None)
    watch.progress(Progress("x", 1, 2))
    watch.finished(finished(total=1.0))
    assert inner.heard == ("planned", "progress", "finished")


def test_a_process_is_older_than_what_it_has_done_since():
    age = process_age()
    assert age is None or 0 < age < 24 * 3600

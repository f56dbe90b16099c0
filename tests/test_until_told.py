"""What is said of comparisons to which seeds were added until they were decided."""

import csv
import io
import re

from race_support import apart, asked, carried_out, made_up

from initbench.question import plan
from initbench.question.config import UntilConfig, View
from initbench.reporting import decisions, tidy
from initbench.reporting.tables import pair_table
from initbench.results.record import RunStatus
from initbench.statistics.sequential import fewest
from initbench.statistics.summary import group
from initbench.studies import until


def test_every_text_says_after_how_many_seeds_a_pair_was_decided_though_both_got_more():
    """With rounds of four seeds more are there than a verdict took."""
    config = asked("he", "xavier", "normal", seeds=24).model_copy(update={"until": UntilConfig(each=4)})
    done, _ = carried_out("compare", config, lambda job: None if str(job.scheme) == "normal" else apart(0.12)(job))
    summary = until.summarize(config, done, View())
    (pair,) = [pair for pair in summary.pairs if set(pair.names) == {"kaiming", "xavier"}]
    assert fewest() < pair.decided_after < pair.n
    assert f"{pair.n} seeds, decided after {pair.decided_after}, anytime p" in summary.headline
    latest = max(each.decided_after for each in summary.pairs)
    assert summary.notes[-1] == f"Decided after {latest} of at most 24 seeds: {len(done)} of 72 runs."
    assert f"worse after {pair.decided_after} seeds" in [row[-1] for row in pair_table(summary).rows]
    rows = csv.DictReader(io.StringIO(tidy.comparisons(summary)))
    assert str(pair.decided_after) in {row["decided_after"] for row in rows if row["family"] == "all pairs"}
    (plot,) = decisions.plots(summary, group(done.values(), [str(scheme) for scheme in config.schemes]))
    assert f"Worse after {pair.decided_after} seeds" in {note for panel in plot.panels for note in panel.notes}
    by_loss = until.summarize(config, done, View(metric="final_test_loss"))
    assert by_loss.notes[-1].startswith("Decided by test accuracy without a margin after ")


def test_the_last_line_tells_apart_what_failed_and_what_is_not_decided():
    def last(loss, failed=frozenset({"normal"})):
        config = asked("he", "xavier", "normal", seeds=8)
        done = {}
        while missing := [job for job in until.jobs(config, done) if plan.job_id(job) not in done]:
            for job in missing:
                status = RunStatus.FAILED if str(job.scheme) in failed else RunStatus.COMPLETED
                done[plan.job_id(job)] = made_up(job, loss(job), status)
        return until.summarize(config, done, View()).notes[-1], len(done)

    unmade = "2 of 3 comparisons could not be made, as runs failed or were skipped; "
    said, runs = last(apart(0.0))
    assert said == f"Not decided after all 8 seeds: 1 of 3 comparisons; {unmade}{runs} of 24 runs. Go on with a larger --max-seeds."
    said, runs = last(apart(0.4))
    assert re.fullmatch(rf"{unmade}the others were decided after \d of at most 8 seeds: {runs} of 24 runs\.", said)


def test_the_last_line_names_what_was_asked_where_something_else_is_looked_at():
    """So that it does not speak against a headline with another margin."""
    config = asked("he", "xavier", margin=2.0)
    done, _ = carried_out("compare", config, apart(0.0, 0.005))

    def last(view):
        return until.summarize(config, done, view).notes[-1]

    assert last(View(margin=2.0)).startswith("Decided after ")
    assert last(View()).startswith("Decided by test accuracy with a margin of 2 after ")
    assert last(View(metric="final_test_loss")).startswith("Decided by test accuracy with a margin of 2 after ")
    plain = asked("he", "xavier")
    done, _ = carried_out("compare", plain, apart(0.4))
    assert until.summarize(plain, done, View()).notes[-1].startswith("Decided after ")
    assert until.summarize(plain, done, View(margin=60.0)).notes[-1].startswith("Decided by test accuracy without a margin after ")


def test_where_there_is_a_margin_it_is_said_that_an_interval_may_reach_beyond_it():
    config = asked("he", "xavier", seeds=8)
    done, _ = carried_out("compare", config, apart(0.0))
    beyond = "a pair may be decided while its interval holds zero or reaches beyond the margin."
    assert [beyond in " ".join(until.summarize(config, done, View(margin=margin)).notes) for margin in (None, 2.0)] == [False, True]


def test_a_comparison_without_a_size_says_who_wins():
    config = asked("he", "normal", seeds=8)
    done = {}
    for job in until.jobs(config, done):
        lost = str(job.scheme) == "normal" and job.seed != 3
        done[plan.job_id(job)] = made_up(job, None if lost else apart(0.0)(job) + 0.1 * (str(job.scheme) == "kaiming"))
    (line,) = until.news(config, done)
    assert line.startswith("normal - kaiming: no size, as most often one of them diverged: better on 1, worse on 5, after 6 seeds")

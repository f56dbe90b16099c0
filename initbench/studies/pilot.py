"""How long the missing runs of a plan take, measured with a few real steps of some of them; nothing is written."""

from collections.abc import Sequence

from initbench.question import catalog
from initbench.question.config import Job
from initbench.question.plan import names_user_file
from initbench.results.record import RunResult
from initbench.studies.execution import device_of, naming_cells, runs_at_once
from initbench.studies.plan import Plan
from initbench.training.job import check

PILOTS = 4
"""Runs of which a few steps are made: evenly chosen, so that small and large models are among them."""
STEPS = (3, 13)
"""Steps of each, of a short and a longer one: what they differ by is the price of a step, and the rest that of a run."""


def estimated_seconds(plan: Plan) -> float | None:
    """Seconds that the missing runs take on this machine; None where it cannot be told, or code of the user's own would be run."""
    missing = [job for name, job in plan.missing if name not in plan.elsewhere]
    if not missing or any(names_user_file(job) for job in missing):
        return None
    chosen = [missing[round(index * (len(missing) - 1) / max(1, PILOTS - 1))] for index in range(min(PILOTS, len(missing)))]
    execute = catalog.load("engine", "serial")
    trials = [(f"{place}-{steps}", _shortened(job, steps)) for place, job in enumerate(chosen) for steps in STEPS]
    device = device_of(plan.execution.device)
    with naming_cells(plan.config):
        for job in chosen:
            check(job, device=device, data_dir=plan.execution.data_dir)
    made = {run.job_id: run for run in execute(trials, device=device, data_dir=plan.execution.data_dir, workers=None, report=None)}
    each = [_seconds(job, [made[f"{place}-{steps}"] for steps in STEPS]) for place, job in enumerate(chosen)]
    known = [seconds for seconds in each if seconds is not None]
    return len(missing) * sum(known) / len(known) / min(len(missing), runs_at_once(plan.execution)) if known else None


def _shortened(job: Job, steps: int) -> Job:
    train = job.train.model_copy(update={"epochs": None, "steps": steps, "evaluate_every_steps": None})
    return job.model_copy(update={"train": train})


def _seconds(job: Job, runs: Sequence[RunResult]) -> float | None:
    """What a job takes, of its two short runs; None where these say nothing."""
    short, long = runs
    taken = len(long.train_losses) - len(short.train_losses)
    if taken <= 0 or "total" not in long.seconds:
        return None
    step = max(0.0, long.seconds["train"] - short.seconds["train"]) / taken
    last = long.evaluations[-1] if long.evaluations else None
    an_epoch = last.step / last.epoch if last is not None and last.epoch else 0.0
    steps = job.train.steps if job.train.steps is not None else (job.train.epochs or 0) * an_epoch
    epochs = steps / an_epoch if an_epoch else 0.0
    beside = long.seconds["total"] - long.seconds["train"]
    return beside + step * steps + max(0.0, epochs - 1) * long.seconds.get("evaluate", 0.0)

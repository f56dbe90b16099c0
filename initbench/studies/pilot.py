"""How long the missing runs of a plan take, measured with a few real steps of some of them; nothing is written."""

import time
from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from initbench.question import catalog
from initbench.question.config import Job
from initbench.question.plan import name_user_files
from initbench.results.record import RunResult
from initbench.studies.execution import device_of, naming_cells, runs_at_once
from initbench.studies.plan import Plan

PILOTS = 8
"""Networks of which a few steps are made, at most: evenly chosen, so that small and large ones are among them."""
PILOT_SECONDS = 3.0
"""After so many seconds no further network is tried: the two ends come first, then what is between."""
STEPS = (3, 13)
"""Steps of each, of a short and a longer run: what they differ by is the price of a step, and the rest that of a run."""


class _Price(NamedTuple):
    """Seconds of a network on its data: of a step, of an evaluation, and of a run beside its steps; and the steps of an epoch."""

    step: float
    evaluation: float
    beside: float
    epoch: float


def estimated_seconds(plan: Plan) -> float | None:
    """Seconds that the missing runs take on this machine; None where it cannot be told, or code of the user's own would be run."""
    from initbench.training.job import check

    missing = [job for name, job in plan.missing if name not in plan.elsewhere]
    if not missing or name_user_files(missing):
        return None
    kinds: dict[Hashable, Job] = {}
    for job in missing:
        kinds.setdefault(_kind(job), job)
    every = list(kinds.values())
    device, execute, begun = device_of(plan.execution.device), catalog.load("engine", "serial"), time.monotonic()
    prices: dict[int, _Price] = {}
    for place in _from_the_ends(len(every)):
        if prices and time.monotonic() - begun > PILOT_SECONDS:
            break
        with naming_cells(plan.config):
            check(every[place], device=device, data_dir=plan.execution.data_dir)
        trials = [(str(steps), _shortened(every[place], steps)) for steps in STEPS]
        made = {run.job_id: run for run in execute(trials, device=device, data_dir=plan.execution.data_dir, workers=None, report=None)}
        if (price := _price([made[str(steps)] for steps in STEPS])) is not None:
            prices[place] = price
    if not prices:
        return None
    order = {kind: place for place, kind in enumerate(kinds)}
    seconds = sum(_seconds(job, _between(prices, order[_kind(job)])) for job in missing)
    return seconds / min(len(missing), runs_at_once(plan.execution))


def _from_the_ends(count: int) -> list[int]:
    """Places of some of so many networks, evenly apart: the first, the last, and then each halfway between two that are there."""
    even = [round(index * (count - 1) / (PILOTS - 1)) for index in range(PILOTS)]
    halves = sorted(range(PILOTS), key=lambda index: (index not in {0, PILOTS - 1}, format(index, "03b")[::-1]))
    return list(dict.fromkeys(even[index] for index in halves))


def _kind(job: Job) -> Hashable:
    """What the price of a step depends on: all but the scheme, the seed and how long is trained."""
    return (
        str(job.model),
        str(job.dataset),
        str(job.task),
        job.train.model_dump_json(exclude={"epochs", "steps", "lr"}),
        job.probe.model_dump_json(),
    )


def _shortened(job: Job, steps: int) -> Job:
    train = job.train.model_copy(update={"epochs": None, "steps": steps, "evaluate_every_steps": None})
    return job.model_copy(update={"train": train})


def _price(runs: Sequence[RunResult]) -> _Price | None:
    """The price of a network, of its two short runs; None where these say nothing."""
    short, long = runs
    taken = len(long.train_losses) - len(short.train_losses)
    if taken <= 0 or "total" not in long.seconds:
        return None
    last = long.evaluations[-1] if long.evaluations else None
    return _Price(
        step=max(0.0, long.seconds["train"] - short.seconds["train"]) / taken,
        evaluation=long.seconds.get("evaluate", 0.0),
        beside=long.seconds["total"] - long.seconds["train"],
        epoch=last.step / last.epoch if last is not None and last.epoch else 0.0,
    )


def _between(prices: Mapping[int, _Price], place: int) -> _Price:
    """The price at a place among those that were measured: on the line between its neighbours."""
    known = sorted(prices)
    after = bisect_left(known, place)
    if after == len(known) or known[after] == place or after == 0:
        return prices[known[min(after, len(known) - 1)]]
    low, high = known[after - 1], known[after]
    share = (place - low) / (high - low)
    return _Price(*(one + share * (other - one) for one, other in zip(prices[low], prices[high], strict=True)))


def _seconds(job: Job, price: _Price) -> float:
    """What a job takes at a price."""
    steps = job.train.steps if job.train.steps is not None else (job.train.epochs or 0) * price.epoch
    epochs = steps / price.epoch if price.epoch else 0.0
    return price.beside + price.step * steps + max(0.0, epochs - 1) * price.evaluation

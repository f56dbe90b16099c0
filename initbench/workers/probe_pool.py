"""Probes on all cores: of a scheme with all of its seeds in a process of its own, or of one network of a coordinate check."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

import torch

from initbench.errors import NotThereError
from initbench.question.config import Ref
from initbench.results.probe_run import ProbeRun
from initbench.results.provenance import cores, may_start_processes
from initbench.training.devices import small_runs
from initbench.training.untrained import Prober
from initbench.workers.forked import LostProcess, mapped

WORTH_IT = 8
"""Probes from which other processes are started."""


T = TypeVar("T")
R = TypeVar("R")


def probe_all(prober: Prober, workers: int | None = None) -> Iterator[ProbeRun]:
    """Every scheme with every seed, scheme by scheme in the question's order. Raises: NotThereError when a process is killed."""

    def run(scheme: Ref | None) -> Iterator[ProbeRun]:
        return prober.run(scheme)

    schemes = prober.schemes
    yield from on_all_cores(run, schemes, prober.device, workers, parts=len(schemes) * len(prober.question.seeds))


def on_all_cores(
    run: Callable[[T], Iterator[R]], items: Sequence[T], device: torch.device, workers: int | None, *, parts: int
) -> Iterator[R]:
    """What `run` gives of each item, in their order; on Linux, from `WORTH_IT` parts on, on as many cores as there are.

    The processes are forked, so that nothing is imported or built again; that is safe because they compute on one thread.
    Raises: NotThereError when a process is killed.
    """
    count = min(workers or cores(), len(items))
    if count < 2 or parts < WORTH_IT or sys.platform != "linux" or device.type != "cpu" or not may_start_processes():
        for item in items:
            yield from run(item)
        return
    try:
        with small_runs(), closing(mapped(lambda item: list(run(item)), items, count)) as probed:
            for results in probed:
                yield from results
    except LostProcess as error:
        raise NotThereError(
            "A process of the probe was killed, as the system does when memory runs out. Choose a smaller model, or --jobs 1."
        ) from error

"""Probes of many schemes on all cores: each scheme with all of its seeds in a process of its own."""

import sys
from collections.abc import Iterator
from contextlib import closing

from initbench.errors import NotThereError
from initbench.question.config import Ref
from initbench.results.probe_run import ProbeRun
from initbench.results.provenance import cores, may_start_processes
from initbench.training.devices import small_runs
from initbench.training.untrained import Prober
from initbench.workers.forked import LostProcess, mapped

WORTH_IT = 8
"""Probes from which other processes are started."""


def probe_all(prober: Prober, workers: int | None = None) -> Iterator[ProbeRun]:
    """Every scheme with every seed, scheme by scheme in the question's order; on Linux, on as many cores as there are.

    The processes are forked, so that nothing is imported or built again; that is safe because they compute on one thread.
    Raises: NotThereError when a process is killed.
    """
    schemes = prober.schemes
    count = min(workers or cores(), len(schemes))
    few = len(schemes) * len(prober.question.seeds) < WORTH_IT
    if count < 2 or few or sys.platform != "linux" or prober.device.type != "cpu" or not may_start_processes():
        for scheme in schemes:
            yield from prober.run(scheme)
        return

    def run(scheme: Ref | None) -> list[ProbeRun]:
        return list(prober.run(scheme))

    try:
        with small_runs(), closing(mapped(run, schemes, count)) as probed:
            for results in probed:
                yield from results
    except LostProcess as error:
        raise NotThereError(
            "A process of the probe was killed, as the system does when memory runs out. Choose a smaller model, or --jobs 1."
        ) from error

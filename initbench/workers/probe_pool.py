"""Probes of many schemes on all cores: each scheme with all of its seeds in a process of its own."""

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from initbench.errors import NotThereError
from initbench.question.config import Ref
from initbench.results.probe_run import ProbeRun
from initbench.results.provenance import cores, may_start_processes
from initbench.training.devices import small_runs
from initbench.training.untrained import Prober

WORTH_IT = 8
"""Probes from which other processes are started."""

_prober: list[Prober] = []


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
    context = multiprocessing.get_context("fork")
    with small_runs(), ProcessPoolExecutor(count, mp_context=context, initializer=_prober.append, initargs=(prober,)) as pool:
        try:
            for results in pool.map(_run, schemes):
                yield from results
        except BrokenProcessPool as error:
            raise NotThereError(
                "A process of the probe was killed, as the system does when memory runs out. Choose a smaller model, or --jobs 1."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run(scheme: Ref | None) -> list[ProbeRun]:
    return list(_prober[0].run(scheme))

"""What the engine `ray` costs beside the work itself, next to the local engine; and how well it fills many slots.

    python benchmarks/ray_overhead.py                 # 2,000 trivial runs, then 64 slots of sleeping runs; three minutes on two cores
    python benchmarks/ray_overhead.py --runs 10000
    python benchmarks/ray_overhead.py --only writing  # without a cluster: seconds

The first part times `execute` of the engines `serial`, `processes` and `ray` on the same runs of two steps: wall time, less the seconds
that the runs themselves took divided by the workers, is overhead. The second part has runners that only sleep: no core is needed.
The third part is what the driver does with each result that comes: reads it, and writes its file.
"""

import argparse
import tempfile
import time
from collections import deque
from pathlib import Path

import ray

from initbench.engines import processes, serial
from initbench.engines import ray as engine
from initbench.question.config import ExperimentConfig
from initbench.question.plan import job_ids, make_jobs
from initbench.results.record import RunResult
from initbench.results.store import write_result
from initbench.workers.runner import Runner, Seat, versions

DATA = "synthetic:n=256,test=64,classes=3,shape=[1,4,4]"


def trivial(runs: int) -> list:
    config = ExperimentConfig(
        schemes=("kaiming", "xavier"), seeds=tuple(range(runs // 2)), model="mlp:depth=1,width=8", dataset=DATA, train={"steps": 2}
    )
    jobs = make_jobs(config)
    return list(zip(job_ids(jobs), jobs, strict=True))


def timed(name: str, execute, jobs: list, workers: int) -> None:
    start = time.perf_counter()
    results = execute(jobs, device="cpu", data_dir=None, workers=workers)
    ready = time.perf_counter() - start
    work = sum(result.seconds.get("total", 0.0) for result in results)
    wall = time.perf_counter() - start - ready
    print(
        f"| {name} | {len(jobs)} | {ready:.1f} | {1000 * wall / len(jobs):.2f} | {1000 * (wall - work / workers) / len(jobs):.2f} |",
        flush=True,
    )


class Sleeper(Runner):
    """A runner that sleeps in place of every run."""

    def run(self, jobs):
        """Gives nothing but the time."""
        start = time.monotonic()
        time.sleep(0.5 * len(jobs))
        return [], time.monotonic() - start


def sleeping(slots: int, runs: int) -> None:
    engine.Runner = Sleeper
    seat = Seat("cpu", None, 1, None, versions(), None, {}, None)
    crew = engine.Crew(ray, seat, slots)
    crew.check([])
    while crew.starting:
        for answer in ray.wait(list(crew.starting), timeout=5)[0]:
            crew._started(answer)
    start = time.perf_counter()
    list(crew.results(deque(trivial(runs))))
    wall, ideal = time.perf_counter() - start, 0.5 * runs / slots
    print(f"\n{slots} slots, {runs} runs that sleep half a second: {wall:.1f} s, ideal {ideal:.1f} s, efficiency {ideal / wall:.0%}")
    crew.close()


def writing(runs: int) -> None:
    (result,) = serial.execute(trivial(2)[:1], device="cpu", data_dir=None)
    texts = [result.model_copy(update={"job_id": f"{number:016x}"}).model_dump_json() for number in range(runs)]
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), time.process_time()
        for text in texts:
            write_result(Path(folder), RunResult.model_validate_json(text))
        each, busy = (time.perf_counter() - start) / runs, (time.process_time() - busy) / runs
    print(f"\nThe driver reads and writes {1 / each:.0f} results of {len(texts[0]) / 1000:.1f} kB a second,", end=" ")
    print(f"{1000 * each:.2f} ms each, {1000 * busy:.2f} of a core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--only", choices=("overhead", "slots", "writing"), help="one of the three parts")
    asked = parser.parse_args()
    if asked.only in {None, "overhead"}:
        print("| engine | runs | seconds to begin | ms a run | of these overhead |\n|---|---|---|---|---|")
        timed("serial", serial.execute, trivial(asked.runs), 1)
        timed("processes, 2 workers", processes.execute, trivial(asked.runs), 2)
        timed("ray, 2 runners", engine.execute, trivial(asked.runs), 2)
    if asked.only in {None, "slots"}:
        ray.init(num_cpus=asked.slots, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        sleeping(asked.slots, 40 * asked.slots)
    if asked.only in {None, "writing"}:
        writing(asked.runs)

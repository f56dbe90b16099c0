"""Two thousand runs in one command: memory, open files, threads, child processes and temporary files must not grow with them.

    python benchmarks/soak.py                      # every case, 2,000 runs each; some minutes on two cores
    python benchmarks/soak.py --runs 200 --only serial errors

Each case is a process of its own. After each run it notes, for itself and its children, the resident memory (Linux: from /proc), open
files, threads, and temporary files. Its end is compared with its state after the first hundred runs; that
is the warm-up. Leaves with 1 where something has grown past its limit. The last column compares the median time between two results
of the last hundred with that of the hundred after the warm-up; it is printed, and not judged.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import initbench
from initbench.studies.plan import Plan
from initbench.workers.progress import Progress

WARM = 100
"""Runs until everything is imported and every cache is filled."""
MOST_MIB = 30.0
"""How much the memory of a process may grow after that."""
DATA = "synthetic:n=128,test=64,classes=3,shape=[1,6,6]"
MODEL = "mlp:depth=2,width=16"
OWN_MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, classes))

    def forward(self, images):
        return self.layers(images + 0.01 * torch.randn_like(images))
"""
OWN_SCHEME = """
import torch
from initbench.init.assign import Law
from initbench.init.contract import Layerwise

def build(*, raises: float = 0.0):
    def fill(weight, layer, generator):
        if torch.rand(()) < raises:
            raise ValueError("as it was told to")
        weight.normal_(0, 0.1)
        return Law("normal", 0.1)
    return Layerwise("own", fill)
"""


@dataclass(frozen=True)
class Sample:
    """What a process and its children hold: resident MiB of each by its id, open files and threads of all, children, temporary files."""

    seconds: float
    mib: dict[int, float]
    files: int
    threads: int
    temporary: int

    @classmethod
    def now(cls, seconds: float = 0.0) -> "Sample":
        """Of this process; so many seconds have gone by since the last one was taken."""
        there = [one for one in family(os.getpid()) if one is not None]
        return cls(
            seconds,
            {pid: mib for pid, mib, _, _ in there},
            sum(files for _, _, files, _ in there),
            sum(threads for _, _, _, threads in there),
            sum(len(names) for _, _, names in os.walk(tempfile.gettempdir())) + len(list(Path.cwd().rglob(".*.tmp"))),
        )


def family(root: int) -> list[tuple[int, float, int, int]]:
    """Id, resident MiB, open files and threads of a process and of its descendants; one that ends meanwhile is left out."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        place = Path(f"/proc/{pid}")
        try:
            pages = int((place / "statm").read_text().split()[1])
            tasks = list((place / "task").iterdir())
            files = len(list((place / "fd").iterdir()))
            waiting += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except (OSError, ValueError):
            continue
        found.append((pid, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, len(tasks)))
    return found


class Samples:
    """Takes a sample after each run: a `Watch`."""

    def __init__(self) -> None:
        self.taken: list[Sample] = []
        self.last = time.perf_counter()

    def planned(self, plan: Plan) -> None:
        """Nothing to note."""

    def progress(self, sign: Progress) -> None:
        """Nothing to note."""

    def finished(self, result: object) -> None:  # noqa: ARG002 - only that there is one
        """A run has ended."""
        self.taken.append(Sample.now(time.perf_counter() - self.last))
        self.last = time.perf_counter()


def compared(samples: Samples, runs: int, folder: Path, engine: str = "auto", scheme: str = "xavier", model: str = MODEL) -> None:
    """One command of so many runs, half of them of `scheme`."""
    words = {"model": model, "dataset": DATA, "steps": 3, "seeds": runs // 2, "settings": ["train.batch_size=32"]}
    initbench.compare(["kaiming", scheme], **words, engine=engine, jobs=2, output=str(folder / "out"), watch=samples)


def own_files(folder: Path) -> tuple[str, str]:
    """A scheme and a model of a user's."""
    (folder / "scheme.py").write_text(OWN_SCHEME)
    (folder / "net.py").write_text(OWN_MODEL)
    return str(folder / "scheme.py"), f"{folder / 'net.py'}:Net"


def with_own_files(samples: Samples, runs: int, folder: Path, engine: str = "processes", raises: float = 0.0) -> None:
    """The same with a user's model and scheme, whose scheme raises an error in one draw of `1 / raises`."""
    scheme, model = own_files(folder)
    compared(samples, runs, folder, engine, f"{scheme}:raises={raises}", model)


def probed(samples: Samples, runs: int, folder: Path) -> None:  # noqa: ARG001 - nothing is written
    """So many calls of `probe`, each of another seed."""
    for seed in range(runs):
        initbench.probe("mlp:depth=3,width=16", ["kaiming"], inputs="1x8x8", seeds=[seed])
        samples.finished(None)


def called(samples: Samples, runs: int, folder: Path) -> None:
    """A quarter as many calls of `compare`, of two runs each, in two folders in turn."""
    for number in range(runs // CALLS_SHARE):
        words = {"model": MODEL, "dataset": DATA, "steps": 3, "seeds": [number]}
        initbench.compare(["kaiming", "xavier"], **words, jobs=2, output=str(folder / f"out{number % 2}"), fresh=True)
        samples.finished(None)


CALLS_SHARE = 4
CASES: dict[str, Callable[[Samples, int, Path], None]] = {
    "serial": lambda *given: compared(*given, engine="serial"),
    "processes": lambda *given: compared(*given, engine="processes"),
    "stacked": lambda *given: compared(*given, engine="stacked"),
    "own serial": lambda *given: with_own_files(*given, engine="serial"),
    "own processes": with_own_files,
    "own stacked": lambda *given: with_own_files(*given, engine="stacked"),
    "errors serial": lambda *given: with_own_files(*given, engine="serial", raises=0.1),
    "errors processes": lambda *given: with_own_files(*given, raises=0.1),
    "probe": probed,
    "compare": called,
}


@dataclass(frozen=True)
class Row:
    """What has grown in a case between its first hundred runs and its last, and how much slower the last hundred is."""

    case: str
    runs: int
    mib: float
    files: int
    threads: int
    children: int
    temporary: int
    slower: float

    def faults(self) -> list[str]:
        """What has passed its limit."""
        grown = {name: getattr(self, name) for name in ("files", "threads", "children", "temporary")}
        return [name for name, more in grown.items() if more > 0] + ["memory"] * (self.mib > MOST_MIB)


def row(case: str, samples: list[Sample], warm: int = WARM) -> Row:
    """The last sample beside that at the end of the warm-up."""
    warm = min(warm, len(samples) // 2)
    first, last = samples[warm - 1], samples[-1]
    gaps = [sample.seconds for sample in samples[warm:]]
    return Row(
        case,
        len(samples),
        max(mib - first.mib[pid] for pid, mib in last.mib.items() if pid in first.mib),
        *(getattr(last, name) - getattr(first, name) for name in ("files", "threads")),
        len(last.mib) - len(first.mib),
        last.temporary - first.temporary,
        statistics.median(gaps[-warm:]) / statistics.median(gaps[:warm]),
    )


def of_case(case: str, runs: int) -> Row:
    """The figures of a case, which is carried out in this process."""
    samples = Samples()
    CASES[case](samples, runs, Path.cwd())
    return row(case, samples.taken)


def in_a_process(case: str, runs: int) -> Row:
    """The same in a process of its own, with folders of its own for results and temporary files. Raises: SystemExit when it breaks."""
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as temporary:
        words = [sys.executable, str(Path(__file__).absolute()), "--inside", case, "--runs", str(runs)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=here, env=os.environ | {"TMPDIR": temporary}, check=False)
        left = sorted(path.name for path in Path(temporary).iterdir())
    if done.returncode or left:
        raise SystemExit(f"{case}: left with {done.returncode}, leaving {left}:\n{done.stderr[-3000:]}")
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--inside", choices=CASES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        print(json.dumps(asdict(of_case(asked.inside, asked.runs))))
        return
    print("| case | runs | MiB more, the process that grew most | open files | threads | children | temporary files | last 100 : first |")
    print("|---|---|---|---|---|---|---|---|")
    wrong = []
    for case in asked.only:
        one = in_a_process(case, asked.runs)
        grown = f"{one.files:+d} | {one.threads:+d} | {one.children:+d} | {one.temporary:+d}"
        print(f"| {case} | {one.runs} | {one.mib:+.1f} | {grown} | {one.slower:.2f} |", flush=True)
        wrong += [f"{case}: {fault}" for fault in one.faults()]
    if wrong:
        raise SystemExit(f"Grown past the limit: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()

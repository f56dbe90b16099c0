"""The fault campaign: a small real comparison, and everything that can happen to it: `python benchmarks/faults.py`, or `make faults`.

After each fault the same command is given again; right is only what ends with every derived file as in a folder to which nothing happened,
byte for byte, and where nothing that was finished was lost. What is damaged has to be named. `--share 0.05` is what CI runs, `--only KIND`
one kind, `--seed N` other dice. Exit code 1 when anything is wrong; of each wrong one it is said what was done.

Signals in every phase of a command are in tests/test_reliability_signals.py, kills within runs in tests/test_reliability_within.py.
"""

import argparse
import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from initbench.errors import InitbenchError, StorageError
from initbench.question.config import Execution
from initbench.question.request import configure
from initbench.reporting.page import without_occasion
from initbench.results import files, index, jobs, store
from initbench.studies.answer import Results
from initbench.studies.execution import carry_out
from initbench.studies.plan import make_plan

WORDS = ["compare", "zeros", "ones", "normal", "--seeds", "2", "--model", "mlp:depth=1,width=8", "--steps", "3", "--device", "cpu"]
RUNS = 6
MANY, SHORT = 1.0, 0.05
"""The share of all faults that is tried: on demand, and in CI."""


class Wrong(Exception):
    """Something is not as it is promised."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every derived file of a results folder, without what is said of the occasion."""
    parts = ("tables", "plots")
    found = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    paths = (*found, *(folder / name for name in store.DERIVED))
    return {str(path.relative_to(folder)): without_occasion(path.read_bytes()) for path in paths}


def compare(folder: Path, engine: str = "serial") -> Results:
    """The comparison in this process: what is missing of it."""
    question = configure("compare", schemes=["zeros", "ones", "normal"], seeds=2, model="mlp:depth=1,width=8", steps=3)
    return carry_out(make_plan("compare", question, Execution(output=str(folder), engine=engine, device="cpu")))


def command(folder: Path, engine: str = "serial", code: str = "") -> subprocess.Popen[bytes]:
    """The comparison in a process of its own, in which `code` is run first."""
    start = [f"{code}\nfrom initbench.__main__ import main\nmain()"]
    words = [sys.executable, "-c", *start, *WORDS, "--engine", engine, "--out", str(folder), "-v"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Campaign:
    """The folders, the dice, and the folder to which nothing happens."""

    def __init__(self, place: Path, seed: int, share: float) -> None:
        self.place, self.dice, self.share = place, random.Random(seed), share
        compare(place / "whole")
        self.whole = contents(place / "whole")
        self.number = 0

    def times(self, count: int) -> range:
        """So many, or the share of them."""
        return range(max(3, round(count * self.share)))

    def folder(self, *, made: bool = False) -> Path:
        """A new folder, with the whole comparison in it if `made`."""
        self.number += 1
        folder = self.place / f"try{self.number}"
        if made:
            shutil.copytree(self.place / "whole", folder)
        return folder

    def same(self, folder: Path, what: str) -> None:
        """Raises: Wrong where the derived files are not those of a folder to which nothing happened."""
        found = contents(folder)
        other = [name for name in {*found, *self.whole} if found.get(name) != self.whole.get(name)]
        left = [path.name for path in folder.rglob("*.tmp")] + [path.name for path in folder.rglob("*.run")]
        shutil.rmtree(folder)
        if other or left:
            raise Wrong(f"{what}: {', '.join(sorted(other)) or 'left behind: ' + ', '.join(left)}")

    def finished(self, folder: Path) -> dict[str, bytes]:
        """The job files that are there."""
        return {job_id: jobs.path_of(folder, job_id).read_bytes() for job_id in jobs.there(folder)}


def kept(before: dict[str, bytes], after: dict[str, bytes], what: str) -> None:
    """Raises: Wrong where a finished run was lost or changed."""
    lost = [name for name, data in before.items() if after.get(name) != data]
    if lost:
        raise Wrong(f"{what}: {', '.join(lost)} lost or changed")


def killed_at_random(campaign: Campaign) -> Iterator[str]:
    """SIGKILL at random times, up to four times a folder, three engines."""
    for _ in campaign.times(50):
        folder, before = campaign.folder(), {}
        engine = campaign.dice.choice(["serial", "processes", "stacked"])
        moments = [round(campaign.dice.uniform(0.2, 5.0), 2) for _ in range(4)]
        what = f"{engine}, killed after {moments} s"
        for moment in moments:
            process = command(folder, engine)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=moment)
            process.kill()
            process.communicate()
            now = campaign.finished(folder) if folder.exists() else {}
            kept(before, now, what)
            before = now
        if engine == "stacked":  # the same within rounding: the same bytes only as it was begun
            shutil.rmtree(folder, ignore_errors=True)
        compare(folder)
        campaign.same(folder, what)
        yield what


CHANGES = """
import os, signal
left = {left}
def counted(function):
    def call(*given, **more):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **more)
    return call
for name in ("replace", "rename", "unlink", "fsync", "mkdir", "symlink"):
    setattr(os, name, counted(getattr(os, name)))
"""


def killed_at_a_write(campaign: Campaign) -> Iterator[str]:
    """SIGKILL before the n-th rename, removal, flush, folder or link."""
    for number in campaign.times(120):
        at = number + 1 if campaign.share == MANY else campaign.dice.randint(1, 120)
        folder, what = campaign.folder(), f"killed before change {at} of the disk"
        process = command(folder, code=CHANGES.format(left=at))
        process.communicate()
        before = campaign.finished(folder) if folder.exists() else {}
        compare(folder)
        kept(before, campaign.finished(folder), what)
        campaign.same(folder, what)
        yield what


def flipped(campaign: Campaign) -> Iterator[str]:
    """One bit flipped, of any file."""
    for _ in campaign.times(500):
        folder = campaign.folder(made=True)
        path = campaign.dice.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        data = bytearray(path.read_bytes())
        place = campaign.dice.randrange(len(data))
        data[place] ^= 1 << campaign.dice.randrange(8)
        what = f"bit {place} of {path.relative_to(folder)}"
        path.write_bytes(data)
        found_and_mended(campaign, folder, path, what)
        yield what


def found_and_mended(campaign: Campaign, folder: Path, path: Path, what: str) -> None:
    """Raises: Wrong where the same command does not name the file, or does not make it good; of the index nothing is said."""
    results = compare(folder)
    said = " ".join((*results.notes, *results.mended))
    if path.name == index.INDEX:
        if said or set(index.load(folder)) != jobs.there(folder):
            raise Wrong(f"{what}: not made anew, or named: {said or 'nothing'}")
    elif path.name not in said:
        raise Wrong(f"{what}: not named, but: {said or 'nothing'}")
    campaign.same(folder, what)


def cut(campaign: Campaign) -> Iterator[str]:
    """A job file cut at lengths through all of it, other files anywhere."""
    folder = campaign.folder(made=True)
    job_id = sorted(jobs.there(folder))[0]
    path = jobs.path_of(folder, job_id)
    whole = path.read_bytes()
    for length in range(0, len(whole), 1 if campaign.share == MANY else 97):
        path.write_bytes(whole[:length])
        if jobs.read(folder, [job_id]).results:
            raise Wrong(f"{path.name} cut to {length} bytes counts as a run")
        yield f"length {length}"
    shutil.rmtree(folder)
    for _ in campaign.times(40):
        folder = campaign.folder(made=True)
        path = campaign.dice.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        path.write_bytes(path.read_bytes()[: campaign.dice.randrange(path.stat().st_size)])
        found_and_mended(campaign, folder, path, f"{path.relative_to(folder)} cut")
        yield f"{path.name} cut"


def disk_full(campaign: Campaign) -> Iterator[str]:
    """Disk full, an I/O error, a read-only file system at the k-th file."""
    for at in campaign.times(50):
        for number in (errno.ENOSPC, errno.EIO, errno.EROFS):
            folder, what = campaign.folder(), f"{errno.errorcode[number]} at file {at + 1}"
            left, opened = at + 1, os.open

            def refusing(path: object, flags: int, *more: object, number: int = number, opened: Callable[..., int] = opened) -> int:
                nonlocal left
                if flags & os.O_CREAT and str(path).endswith(".tmp"):
                    left -= 1
                    if left == 0:
                        raise OSError(number, os.strerror(number))
                return opened(path, flags, *more)

            with mock.patch.object(files.os, "open", refusing), contextlib.suppress(StorageError):
                compare(folder)
            before = campaign.finished(folder) if folder.exists() else {}
            compare(folder)
            kept(before, campaign.finished(folder), what)
            campaign.same(folder, what)
            yield what


def two_at_once(campaign: Campaign) -> Iterator[str]:
    """Two commands in one folder at once."""
    for _ in campaign.times(100):
        folder = campaign.folder()
        engine, delay = campaign.dice.choice(["serial", "processes"]), campaign.dice.uniform(0, 2.5)
        what = f"{engine}, the second after {delay:.2f} s"
        first = command(folder, engine)
        time.sleep(delay)
        second = command(folder, engine)
        said = [process.communicate()[0].decode() for process in (first, second)]
        codes = [first.returncode, second.returncode]
        lines = sum(line.startswith("[") and "/6]" in line for text in said for line in text.splitlines())
        refused = [text for text, code in zip(said, codes, strict=True) if code == StorageError.exit_code]
        if 0 not in codes or not set(codes) <= {0, StorageError.exit_code} or any("in use by another" not in text for text in refused):
            raise Wrong(f"{what}: exit codes {codes}: {refused}")
        if lines != RUNS:
            raise Wrong(f"{what}: {lines} runs were made instead of {RUNS}")
        compare(folder)
        campaign.same(folder, what)
        yield what


def workers_killed(campaign: Campaign) -> Iterator[str]:
    """SIGKILL or SIGSEGV of a worker process."""
    for _ in campaign.times(40):
        folder = campaign.folder()
        number, moment = campaign.dice.choice([signal.SIGKILL, signal.SIGSEGV]), campaign.dice.uniform(0.5, 3.0)
        what = f"a worker gets {number.name} after {moment:.2f} s"
        process = command(folder, "processes")
        time.sleep(moment)
        workers = [pid for pid in below(process.pid) if pid != process.pid]
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(campaign.dice.choice(workers), number)
        said = process.communicate()[0].decode()
        if "Traceback" in said or process.returncode not in {0, 3, 5}:
            raise Wrong(f"{what}: exit code {process.returncode}: {said[-300:]}")
        before = {name: data for name, data in campaign.finished(folder).items() if b'"failed"' not in data} if folder.exists() else {}
        compare(folder)
        kept(before, campaign.finished(folder), what)
        campaign.same(folder, what)
        yield what


def below(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    found, parents = [pid], {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    for _ in range(4):
        found += [child for child, parent in parents.items() if parent in found and child not in found]
    return found


CLOCK = """
import random, time
dice, real = random.Random({seed}), (time.time, time.time_ns)
time.time = lambda: real[0]() - dice.choice([0, 3600, 10**8])
time.time_ns = lambda: real[1]() - dice.choice([0, 3600, 10**8]) * 10**9
"""


def clock_backwards(campaign: Campaign) -> Iterator[str]:
    """A clock that jumps back by an hour or by years."""
    for _ in campaign.times(10):
        folder, seed = campaign.folder(), campaign.dice.randrange(10**6)
        process = command(folder, code=CLOCK.format(seed=seed))
        said = process.communicate()[0].decode()
        if process.returncode != 0:
            raise Wrong(f"clock {seed}: exit code {process.returncode}: {said[-300:]}")
        campaign.same(folder, f"clock {seed}")
        yield f"clock {seed}"


def moved(campaign: Campaign) -> Iterator[str]:
    """The folder copied, with other times, and a run of it lost."""
    for _ in campaign.times(20):
        folder, target = campaign.folder(made=True), campaign.folder()
        shutil.copytree(folder, target)
        shutil.rmtree(folder)
        for path in target.rglob("*"):
            os.utime(path, (1e9, 1e9))
        lost = campaign.dice.choice(sorted(jobs.there(target)))
        jobs.path_of(target, lost).unlink()
        compare(target)
        campaign.same(target, f"moved, {lost} lost")
        yield "moved"


KINDS: dict[str, Callable[[Campaign], Iterator[str]]] = {
    kind.__name__: kind
    for kind in (
        killed_at_random, killed_at_a_write, flipped, cut, disk_full, two_at_once, workers_killed, clock_backwards, moved,
    )
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=MANY, help=f"of all faults; CI tries {SHORT}")
    parser.add_argument("--only", choices=KINDS, action="append", help="one kind; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the dice")
    asked = parser.parse_args()
    wrong: list[str] = []
    print("| fault | tried | right | wrong | seconds |\n|---|---|---|---|---|", flush=True)
    for name in asked.only or KINDS:
        with tempfile.TemporaryDirectory() as place:
            campaign, begun, right, failed = Campaign(Path(place), asked.seed, asked.share), time.perf_counter(), 0, 0
            try:
                for _ in KINDS[name](campaign):
                    right += 1
            except (Wrong, InitbenchError, OSError) as error:
                failed = 1
                wrong.append(f"{name} --seed {asked.seed}, after {right}: {error}")
                print(wrong[-1], flush=True)
            said = str(KINDS[name].__doc__).rstrip(".")
            print(f"| {said} | {right + failed} | {right} | {failed} | {time.perf_counter() - begun:.1f} |", flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""initbench against what people would use instead, in turn, on the same job; prints medians and ratios.

    python benchmarks/speed.py                                       # MLP with 2 seeds, CNN with 1 seed, 1 epoch, 3 repeats
    python benchmarks/speed.py --data DATA_FOLDER --models mlp --only initbench plain_loop floor

DATA_FOLDER holds mnist.npz; INITBENCH_DATA names it too. Whole processes are timed, from start to the last file; every round
runs all sides once, so that a slow minute of the machine hits all of them. The first round is not timed: it warms the file
cache and looks at the memory, which slows down what it looks at. Peak memory is the largest sum over a side's processes of their
proportional set sizes (Linux only). Lightning is left out, and named, where it is not installed.
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

HERE = Path(__file__).parent
MODELS = {"mlp": "mlp", "cnn": "cnn:channels=[16,32],kernel=3,pooling=max,head=flatten"}
SEEDS = {"mlp": 2, "cnn": 1}
SIDES = ("initbench", "floor", "floor_onednn", "plain_loop", "dataloader", "dataloader_2_workers", "lightning_trainer")
TITLES = {
    "initbench": "initbench",
    "dataloader": "(a) torchvision and DataLoader",
    "dataloader_2_workers": "(a) with two loader workers",
    "lightning_trainer": "(b) Lightning",
    "plain_loop": "(c) loop over tensors, all cores",
    "floor": "(d) floor: the bare products as torch calls them",
    "floor_onednn": "(d) the bare products by oneDNN",
}


@dataclass
class Measured:
    side: str
    model: str
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("INITBENCH_DATA", "."), help="the folder with mnist.npz")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seeds", type=int, help="default: 2 for the MLP, 1 for the CNN")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    return parser.parse_args()


def write_idx(data: Path, scratch: Path) -> Path:
    """MNIST's own files, as torchvision wants them, beside a link to the npz."""
    raw = scratch / "idx" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    with np.load(data / "mnist.npz") as arrays:
        for ours, theirs in (("train", "train"), ("test", "t10k")):
            images, labels = arrays[f"x_{ours}"], arrays[f"y_{ours}"].astype(np.uint8)
            for values, name in ((images, f"{theirs}-images-idx3-ubyte"), (labels, f"{theirs}-labels-idx1-ubyte")):
                head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
                (raw / name).write_bytes(head + values.tobytes())
    (scratch / "mnist.npz").symlink_to((data / "mnist.npz").resolve())
    return scratch / "mnist.npz"


def command(side: str, model: str, seeds: int, asked: argparse.Namespace, npz: Path, out: Path) -> list[str]:
    if side == "initbench":
        question = ["xavier", "kaiming", "lecun", "--dataset", "mnist", "--model", MODELS[model], "--set", "probe.every_steps=50"]
        question += ["--set", "probe.batch_size=256"]
        length = ["--seeds", str(seeds), "--epochs", str(asked.epochs)]
        means = ["--data-dir", str(asked.data), "--device", asked.device, "--out", str(out), "--fresh", "--quiet"]
        return [sys.executable, "-m", "initbench", "compare", *question, *length, *means]
    script = side.removesuffix("_2_workers").removesuffix("_onednn")
    words = [sys.executable, str(HERE / "opponents" / f"{script}.py"), "--model", model, "--seeds", str(seeds)]
    words += ["--epochs", str(asked.epochs), "--data", str(npz), "--out", str(out), "--device", asked.device]
    words += ["--workers", "2"] if side.endswith("_2_workers") else []
    return words + (["--onednn"] if side.endswith("_onednn") else [])


def family_mib(root: int) -> float:
    """Proportional set sizes of a process and its descendants, in MiB; 0 where /proc does not tell."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            children = [Path(task, "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
        waiting += [int(child) for group in children for child in group]
    return total / 1024


def environment() -> dict[str, str]:
    """Python keeps compiled modules, as it does unless told otherwise."""
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(words: list[str], cwd: Path) -> float:
    """Wall seconds of one command; its output is shown when it fails."""
    with (cwd / "output").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, env=environment())
        process.wait()
        seconds = time.perf_counter() - start
        check(process, output)
    return seconds


def peak(words: list[str], cwd: Path) -> float:
    """Peak memory of one command, in MiB."""
    with (cwd / "output").open("w+") as output:
        process, most = subprocess.Popen(words, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, env=environment()), 0.0
        while process.poll() is None:
            most = max(most, family_mib(process.pid))
            time.sleep(0.25)
        check(process, output)
    return most


def check(process: subprocess.Popen, output: TextIO) -> None:
    if process.returncode not in {0, 3}:
        output.seek(0)
        raise SystemExit(f"{process.args} left with {process.returncode}:\n{output.read()[-2000:]}")


def check_losses(model: str, asked: argparse.Namespace, npz: Path, scratch: Path, steps: int = 10) -> float:
    """Largest relative difference between our losses and the hand-written loop's, same initial values, same data order."""
    ours, theirs = scratch / "check_ours", scratch / "check_theirs"
    words = command("initbench", model, 1, asked, npz, ours)
    words[words.index("--epochs") : words.index("--epochs") + 2] = ["--steps", str(steps)]
    run(words, scratch)
    run([*command("plain_loop", model, 1, asked, npz, theirs), "--ours", "--steps", str(steps)], scratch)
    with (ours / "tables" / "curves.csv").open() as file:
        losses = [row for row in csv.DictReader(file) if row["quantity"] == "train_loss"]
        own = {(row["scheme"], int(row["step"])): float(row["value"]) for row in losses}
    with (theirs / "losses.csv").open() as file:
        other = {(row["scheme"], int(row["step"])): float(row["loss"]) for row in csv.DictReader(file) if row["loss"]}
    shared = sorted(own.keys() & other.keys())
    if len(shared) < steps:
        raise SystemExit(f"only {len(shared)} losses to compare for {model}")
    return max(abs(own[key] - other[key]) / max(1e-8, abs(other[key])) for key in shared)


def table(measured: list[Measured], seeds: int | None) -> str:
    models = list(dict.fromkeys(item.model for item in measured))
    count = {model: seeds or SEEDS[model] for model in models}
    heads = " | ".join(f"{model.upper()}, {n} seed{'s' * (n > 1)} | against initbench | MiB" for model, n in count.items())
    lines = [f"| side | {heads} |", "|---|" + "---:|---:|---:|" * len(models)]
    ours = {item.model: item.median for item in measured if item.side == "initbench"}
    for side in dict.fromkeys(item.side for item in measured):
        cells = []
        for item in (item for item in measured if item.side == side):
            ratio = f"{item.median / ours[item.model]:.2g} x" if item.model in ours else ""
            cells.append(f"{item.median:.1f} | {ratio} | {item.peak_mib:.0f}")
        lines.append(f"| {TITLES[side]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    asked = options()
    asked.data = asked.data.resolve()
    if not (asked.data / "mnist.npz").is_file():
        raise SystemExit(f"There is no mnist.npz in {asked.data}: get it with `initbench data get mnist`, and name its folder with --data.")
    sides = [side for side in SIDES if side in asked.only]
    if "lightning_trainer" in sides and importlib.util.find_spec("lightning") is None:
        print("Lightning is not installed: its row is left out (pip install lightning).")
        sides.remove("lightning_trainer")
    measured = [Measured(side, model) for model in asked.models for side in sides]
    differences = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        npz = write_idx(asked.data, scratch)
        if "initbench" in sides:
            differences = {model: check_losses(model, asked, npz, scratch) for model in asked.models}
        for repeat in range(asked.repeats + 1):
            for item in measured:
                out = scratch / f"{item.model}-{item.side}-{repeat}"
                words = command(item.side, item.model, asked.seeds or SEEDS[item.model], asked, npz, out)
                if repeat == 0:
                    item.peak_mib = peak(words, scratch)
                    print(f"{item.model} {item.side}: {item.peak_mib:.0f} MiB", file=sys.stderr)
                else:
                    item.seconds.append(run(words, scratch))
                    print(f"{item.model} {item.side}: {item.seconds[-1]:.1f} s", file=sys.stderr)
    print(table(measured, asked.seeds))
    for model, difference in differences.items():
        print(f"{model}: largest relative difference of the first 10 losses to (c), same start and order: {difference:.1e}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
    }
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    print(f"{machine['cores']} cores, load {machine['load'][0]:.1f}, torch {versions['torch']}, Python {machine['python']}")
    if asked.json:
        document = {"machine": machine, "versions": versions, "loss_difference": differences, "sides": [asdict(item) for item in measured]}
        asked.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

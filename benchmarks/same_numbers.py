"""Two checkouts side by side: do their runs, probes and races hold the same numbers, to the last bit?

`python benchmarks/same_numbers.py OLD [NEW]`: OLD is another checkout (`git worktree add ../old v0.1.0`), NEW this one. Both are run
by this Python with the same commands in fresh folders. Numbers that NEW measures in addition are counted, not compared; ids, times
and machines are left out. Ends with 1 when a number differs or a run is missing.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL = ["--dataset", "mnist5k", "--seeds", "2"]
COMMANDS: dict[str, list[str]] = {
    "mlp, processes": ["compare", "xavier", "kaiming", "normal", *SMALL, "--steps", "60", "--engine", "processes"],
    "mlp, serial, adamw": ["compare", "xavier", "mup", *SMALL, "--steps", "30", "--engine", "serial", "--set", "train.optimizer=adamw"],
    "mlp, stacked": ["compare", "xavier", "kaiming", "normal", *SMALL, "--steps", "30", "--engine", "stacked"],
    "deep mlp, diverging": ["compare", "xavier", "normal", *SMALL, "--model", "mlp:depth=12", "--steps", "30"],
    "cnn, processes": ["compare", "orthogonal", "kaiming", *SMALL, "--model", "cnn", "--steps", "8", "--engine", "processes"],
    "cnn, serial, augmented": [
        *["compare", "lsuv", "kaiming", *SMALL, "--model", "cnn", "--steps", "6", "--engine", "serial", "--set", "train.augment=true"],
    ],
    "cnn, stacked": ["compare", "kaiming", "xavier", *SMALL, "--model", "cnn", "--steps", "4", "--engine", "stacked"],
    "resnet, serial": ["compare", "fixup", "kaiming", *SMALL, "--model", "resnet:depth=8,norm=none", "--steps", "3", "--engine", "serial"],
    "vit, serial": ["compare", "mimetic", "small_init", *SMALL, "--model", "vit", "--steps", "4", "--engine", "serial"],
    "tuned": ["compare", "kaiming", "xavier", *SMALL, "--model", "mlp:depth=1,width=16", "--steps", "20", "--tune", "train.lr=0.01,0.1"],
    "recommend": [
        *["recommend", "mlp:depth=2,width=16", "-m", "kaiming", "-m", "xavier", "-m", "lecun", "-m", "normal", "-m", "zeros", *SMALL],
        *["--steps", "24"],
    ],
    "probe, mlp": ["probe", "torch_default", "kaiming", "fixup", "--model", "mlp:depth=8", "--seeds", "2"],
    "probe, resnet": ["probe", "fixup", "kaiming", "--model", "resnet:depth=8", "--seeds", "1", "--dataset", "synthetic"],
    "probe, vit": ["probe", "mimetic", "kaiming", "--model", "vit", "--seeds", "1"],
}
LEFT_OUT = {
    "job_id",
    "seconds",
    "provenance",
    "started",
    "finished",
    "config_hash",
    "folder",
    "derived_from",
    "derived",
    "digest",
    "code",
    "jobs",
}
"""Keys that may differ."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=Path(__file__).parent.parent)
    parser.add_argument("--only", help="commands whose name contains this")
    options = parser.parse_args()
    wrong = 0
    print("| what | files | numbers compared | differ | only in the new |\n|---|---:|---:|---:|---:|", flush=True)
    for name, words in COMMANDS.items():
        if options.only and options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            old, new = (
                carried_out(checkout, words, Path(scratch) / side) for side, checkout in (("old", options.old), ("new", options.new))
            )
            compared, differing = compare(old, new)
        wrong += len(differing)
        more = sum(len(new.get(key, {})) for key in old) - compared
        print(f"| {name} | {len(old)} | {compared:,} | {len(differing)} | {more:,} |", flush=True)
        for line in differing[:5]:
            print(f"    {line}")
    return int(bool(wrong))


def carried_out(checkout: Path, words: list[str], folder: Path) -> dict[Any, dict[str, Any]]:
    """Runs a command of a checkout; its files by what they are about, each as path -> value."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    ran = subprocess.run(
        [sys.executable, "-m", "initbench", *words, "--out", "out", "-q"], cwd=folder, env=environment, capture_output=True, text=True
    )
    if ran.returncode not in (0, 3):
        raise SystemExit(f"{checkout}: initbench {' '.join(words)} ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    files: dict[Any, dict[str, Any]] = {}
    for path in sorted((folder / "out" / "jobs").glob("*.json")):
        content = json.loads(path.read_bytes())
        files[key_of(content["job"])] = dict(flat({key: value for key, value in content.items() if key != "job"}))
    for path in (folder / "out" / "probe.json",):
        if path.exists():
            files[path.name] = dict(flat(json.loads(path.read_bytes())))
    if words[0] != "probe":
        for path in sorted((folder / "out" / "tables").glob("*.csv")):
            rows = [{column: value for column, value in row.items() if column != "job_id"} for row in csv.DictReader(path.open())]
            rows.sort(key=lambda row: list(row.values()))  # in another order they are the same rows
            files[path.name] = {f"{number}.{column}": value for number, row in enumerate(rows) for column, value in row.items()}
    return files


def key_of(job: dict[str, Any]) -> str:
    """What tells the jobs of one command apart, whatever fields a version adds."""
    train = {key: job["train"][key] for key in ("lr", "steps", "epochs", "holdout")}
    return json.dumps([job["scheme"], job["seed"], train])


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from flat(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{path}.{number}")
    else:
        yield path, value


def compare(old: dict[Any, dict[str, Any]], new: dict[Any, dict[str, Any]]) -> tuple[int, list[str]]:
    """How many leaves of the old files stand in the new ones, and those that differ or are missing."""
    compared, differing = 0, []
    for key, leaves in old.items():
        if key not in new:
            differing.append(f"{key}: missing")
            continue
        for path, value in leaves.items():
            compared += 1
            if path not in new[key] or new[key][path] != value:
                differing.append(f"{key} {path}: {value!r} -> {new[key].get(path, 'missing')!r}")
    return compared, differing


if __name__ == "__main__":
    sys.exit(main())

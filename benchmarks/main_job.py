"""The main job's figures, and those of the commands that must answer at once; prints a Markdown table.

    python benchmarks/main_job.py

Wall seconds are medians of whole processes. Peak memory is the parent's own (VmHWM, Linux only). The heavy modules are those of
torch, pandas, matplotlib and scipy that a command has imported when it ends. One epoch of full MNIST against a DataLoader is
in `speed.py`: `python benchmarks/speed.py --data DATA_FOLDER --models mlp --only initbench dataloader`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("torch", "pandas", "matplotlib", "scipy")
MAIN_JOB = ("compare", "xavier", "kaiming", "normal")
AT_ONCE = (("--help",), ("list", "schemes"), ("compaer",), ("run", "--method", "xavir"))
REPEATS = 5


def run(words: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall seconds of one command and the peak memory of its first process in MiB; 0 where /proc does not tell."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "initbench", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0))
            process.wait(0.01)
        except (OSError, subprocess.TimeoutExpired):
            continue
    return time.perf_counter() - start, peak / 1024


def heavy_modules(words: tuple[str, ...], folder: Path) -> str:
    code = (
        f"import sys\nsys.argv = ['initbench', *{words!r}]\nfrom initbench.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] or "none"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = run(MAIN_JOB, folder)
        again = [run(MAIN_JOB, folder) for _ in range(REPEATS)]
        print("| command | seconds | peak MiB of the parent | heavy modules |\n|---|---|---|---|")
        print(f"| initbench {' '.join(MAIN_JOB)} (24 runs) | {first[0]:.1f} | {first[1]:.0f} | |")
        median = statistics.median(seconds for seconds, _ in again)
        print(f"| the same again: all done | {median:.2f} | {max(memory for _, memory in again):.0f} | {heavy_modules(MAIN_JOB, folder)} |")
        for words in AT_ONCE:
            runs = [run(words, folder) for _ in range(REPEATS)]
            median = statistics.median(seconds for seconds, _ in runs)
            print(
                f"| initbench {' '.join(words)} | {median:.2f} | {max(memory for _, memory in runs):.0f} | {heavy_modules(words, folder)} |"
            )
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()

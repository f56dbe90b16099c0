"""Coverage-guided fuzzing of everything that reads somebody's file or words: `python benchmarks/fuzz.py --seconds 60`, or `make fuzz`.

Each reader runs in a process of its own under atheris (libFuzzer), which begins with real files and goes on with whatever reaches new
lines. A reader may give something or raise one of the package's own errors; any other exception, more than 5 s for one input, or more
than 2 GiB (torch alone takes 0.7) is a finding, which is printed with the bytes that led to it. Exit code 1 when there is one.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SECONDS_AN_INPUT, MEGABYTES = 5, 2048
HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "tests")]


def from_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of bytes, of one that reads a file of this name."""
    path = Path(tempfile.mkdtemp()) / name
    path.parent.mkdir(exist_ok=True)

    def reads(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return reads


def config() -> Callable[[bytes], object]:
    from initbench.question.config_file import load_config

    return from_file("mine.yaml", lambda path: load_config(str(path)))


def words() -> Callable[[bytes], object]:
    from initbench.question import catalog
    from initbench.question.config import parse_ref

    return lambda data: catalog.resolve("scheme", parse_ref(data.decode("utf-8", "replace")))


def settings() -> Callable[[bytes], object]:
    from initbench.question.config_file import load_config

    return lambda data: load_config(settings=data.decode("utf-8", "replace").split("\n"))


def job_file() -> Callable[[bytes], object]:
    from initbench.results import jobs

    return from_file("jobs/0123456789abcdef.json", lambda path: jobs.read(path.parent.parent, ["0123456789abcdef"]))


def manifest() -> Callable[[bytes], object]:
    from initbench.results import store

    return from_file("manifest.json", lambda path: store.known_manifest(path.parent))


def data_file() -> Callable[[bytes], object]:
    from initbench.data.files import load_file

    return from_file("mine.npz", load_file)


def batch_file() -> Callable[[bytes], object]:
    from initbench.training.inputs import read_input

    return from_file("mine.npy", lambda path: read_input(str(path), 8))


def torch_batch() -> Callable[[bytes], object]:
    from initbench.training.inputs import read_input

    return from_file("mine.pt", lambda path: read_input(str(path), 8))


def checkpoint() -> Callable[[bytes], object]:
    from initbench.training.checkpoints import read_checkpoint

    return from_file("mine.pt", read_checkpoint)


def safetensors() -> Callable[[bytes], object]:
    from initbench.training.checkpoints import read_checkpoint

    return from_file("mine.safetensors", read_checkpoint)


def own_file() -> Callable[[bytes], object]:
    from initbench.question.user_files import sources

    return from_file("mine.py", sources)


READERS = {each.__name__: each for each in (
    config, words, settings, job_file, manifest, data_file, batch_file, torch_batch, checkpoint, safetensors, own_file,
)}  # fmt: skip


def write_corpus(folder: Path) -> None:
    """Real files of each kind, one folder a reader."""
    import io

    import numpy as np
    import torch
    from safetensors.torch import save
    from simulated_runs import make_run

    from initbench.question import config_file
    from initbench.results import files

    def seeds(reader: str, *contents: bytes) -> None:
        (folder / reader).mkdir()
        for index, content in enumerate(contents):
            (folder / reader / str(index)).write_bytes(content)

    def written(write: Callable[[io.BytesIO], object]) -> bytes:
        into = io.BytesIO()
        write(into)
        return into.getvalue()

    images, labels = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 3
    weights = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}
    run = make_run("kaiming", 0, depth=1).model_dump_json()
    seeds("config", *(path.read_bytes() for path in config_file.shipped().values()))
    seeds("words", b"kaiming:mode=fan_out", b"normal:std=0.1", b"./mine.py:Net:scale=[1,2],name=null", b"all")
    seeds("settings", b"schemes=[kaiming]\ntrain.lr=0.1", b"seeds=0,1\nmodel.depth=3\ninit.layers.head=zeros")
    seeds("job_file", files.sealed(run), run.encode())
    seeds("manifest", files.sealed('{"initbench": "0.1.0", "command": "run", "jobs": []}'), b"{}")
    seeds("data_file", *(written(lambda into, save=save: save(into, x_train=images, y_train=labels, x_test=images, y_test=labels))
                         for save in (np.savez, np.savez_compressed)))  # fmt: skip
    seeds("batch_file", written(lambda into: np.save(into, images)), written(lambda into: np.savez(into, x=images, y=labels)))
    seeds("torch_batch", written(lambda into: torch.save((torch.ones(2, 3), torch.arange(2)), into)))
    seeds("checkpoint", written(lambda into: torch.save({"state_dict": weights}, into)), written(lambda into: torch.save(weights, into)))
    seeds("safetensors", save(weights))
    seeds("own_file", b"from torch import nn\nfrom . import other\n\nclass Net(nn.Module):\n    pass\n")


def fuzz(reader: str, corpus: Path, seconds: int) -> None:
    """Runs one reader in this process; does not come back."""
    import warnings

    import atheris

    with atheris.instrument_imports(include=["initbench", "ruamel", "numpy.lib.format", "safetensors"]):
        read = READERS[reader]()
    from initbench.errors import InitbenchError

    warnings.simplefilter("ignore")

    def once(data: bytes) -> None:
        try:
            read(data)
        except InitbenchError as error:
            if not str(error).strip():
                raise RuntimeError("an error without a sentence") from error

    limits = [f"-max_total_time={seconds}", f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={MEGABYTES}"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, "-print_final_stats=1", "-max_len=65536"], once)
    atheris.Fuzz()


def main() -> int:
    """Fuzzes the readers that are named, or all, one after the other, and prints a line of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", choices=[*READERS, []], metavar="READER", help=", ".join(READERS))
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--in-process", metavar="CORPUS", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.in_process:
        fuzz(asked.readers[0], asked.in_process, asked.seconds)
    wrong = 0
    print("| reader | inputs | lines and branches reached | found |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        for reader in asked.readers or READERS:
            command = [sys.executable, str(HERE), reader, "--seconds", str(asked.seconds), "--in-process", str(Path(folder) / reader)]
            ran = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder, check=False)
            inputs = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
            covered = re.findall(r"cov: (\d+)", ran.stderr)
            why = [line for line in (ran.stdout + ran.stderr).splitlines() if not re.match(r"INFO|WARNING|#\d+|stat::|MS: ", line)]
            count = f"{int(inputs[1]):,}" if inputs else "?"
            found = "nothing" if ran.returncode == 0 else "something"
            print(
                f"| {reader} | {count} | {covered[-1] if covered else '?'} | {found} |",
                *(why if ran.returncode else ()),
                sep="\n",
                flush=True,
            )
            wrong += ran.returncode != 0
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

"""How long the linter takes, and how much memory: `python benchmarks/lint_time.py [MODEL ...]`.

A ResNet-50 and a GPT of twelve layers, narrow and at full size, each in a process of its own with two threads. Memory is the highest
resident size beyond what the process has after its imports and a lint of a tiny model, over the size of the model's parameters.
Exit code 1 where a goal is missed: 5 seconds narrow, 60 at full size, twice the model's memory at full size.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import lint_models
import torch
from torch import nn

from initbench import lint

MEGA = 1e6
TWICE = 2.0


def resnet(width: int) -> nn.Module:
    """torchvision's ResNet-50 with bottlenecks of `width` / 64 of their width."""
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [3, 4, 6, 3], width_per_group=width)


def gpt(width: int, vocabulary: int) -> nn.Module:
    """The GPT of the other benchmarks, twelve layers."""
    lint_models.WIDTH, lint_models.DEPTH, lint_models.VOCABULARY = width, 12, vocabulary
    return lint_models.GPT()


MODELS = {
    "ResNet-50, narrow": (lambda: resnet(16), "3x64x64", 5.0),
    "GPT, 12 layers, width 96": (lambda: gpt(96, 512), "int:512:32", 5.0),
    "ResNet-50": (lambda: resnet(64), "3x224x224", 60.0),
    "GPT, 12 layers, width 768": (lambda: gpt(768, 50257), "int:50257:32", 60.0),
}
"""What builds each, its input, and how many seconds are wanted."""


def measured(name: str) -> dict[str, float]:
    """Seconds, the model's parameters and the memory, of this process."""
    make, shape, _ = MODELS[name]
    torch.set_num_threads(2)
    lint(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), inputs="8")
    parameters = sum(value.numel() for value in torch.nn.Module.parameters(_on_meta(make)))
    before = _resident()
    begun = time.perf_counter()
    lint(make, inputs=shape)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "parameters": parameters, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before}


def _on_meta(make) -> nn.Module:
    with torch.device("meta"):
        return make()


def _resident() -> int:
    """Bytes that are in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def main() -> int:
    """Prints a row a model; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measured(given.models[0])))
        return 0
    failed = False
    print("| model | input | parameters | seconds | wanted | memory | over the model's |\n|---|---|---|---|---|---|---|")
    for name in given.models or MODELS:
        ran = subprocess.run([sys.executable, __file__, "--inside", name], capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        _, shape, wanted = MODELS[name]
        times = found["peak"] / (4 * found["parameters"])
        failed |= found["seconds"] > wanted or (wanted > 5 and times > TWICE)
        print(
            f"| {name} | {shape} | {found['parameters'] / MEGA:.1f} M | {found['seconds']:.1f} | {wanted:.0f} "
            f"| {found['peak'] / MEGA:.0f} MB | {times:.1f} |",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

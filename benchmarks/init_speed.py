"""How long each scheme takes to initialize, beside torch's own kaiming_normal_ over the same weights.

    python benchmarks/init_speed.py [SCHEME ...]

Data-free schemes on a ResNet-110 (of the norm that they need; a transformer where they need one; residual networks do not
suit those for plain networks, which get an MLP with as many weights), CPU seconds of one thread, the least of several
goes, the scheme and torch in turns on a new model each, so that a busy machine disturbs both alike. What is timed is the
scheme's `apply`, the report included: finding the layers, once for all schemes, is printed apart. Then LSUV on a 30-layer
MLP.
"""

import copy
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from initbench import build_model
from initbench.cli import guide
from initbench.errors import DoesNotApply
from initbench.init.contract import InitContext, Need, Scheme
from initbench.init.initialize import build_scheme, initialize
from initbench.nn.layers import WeightLayer, weight_layers
from initbench.nn.seeds import generator
from initbench.question import catalog
from initbench.question.config import parse_ref

SHAPE, CLASSES = (3, 32, 32), 10
MODELS = (
    "resnet:depth=110",
    "resnet:depth=110,norm=none",
    "resnet:depth=110,norm=none,preactivation=true,activation=tanh",
    "mlp:depth=50,width=176",
    "mlp:depth=50,width=176,activation=tanh",
    "mlp:depth=50,width=176,activation=sin",
    "vit:depth=13,width=128",
    "vit:depth=13,width=128,norm=none",
    "vit:depth=13,width=128,norm=post",
)
ORTHOGONAL = {"orthogonal", "delta_orthogonal", "scaled_orthogonal", "looks_linear", "dks", "tat", "mimetic"}
"""Those whose time is that of a QR or singular value decomposition."""
MOST = 3.0
LSUV_SECONDS = 2.0


def least(action: Callable[[], object], goes: int = 7) -> float:
    found = []
    for _ in range(goes):
        start = time.process_time()
        action()
        found.append(time.process_time() - start)
    return min(found)


def both(scheme: Scheme, shape: nn.Module, inputs: Tensor, goes: int = 11) -> tuple[float, float]:
    """The least time of `apply` and of torch's function on the same weights; each go takes a new model."""
    ours, theirs = [], []
    for _ in range(goes):
        model = copy.deepcopy(shape)
        find = partial(weight_layers, model, inputs)
        context = InitContext(seed=0, layers=find(), inputs=inputs, find_layers=find)
        ours.append(least(partial(scheme.apply, model, context), 1))
        theirs.append(least(partial(torch_init, context.layers), 1))
    return min(ours), min(theirs)


def torch_init(layers: tuple[WeightLayer, ...]) -> None:
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)


def main() -> int:
    torch.set_num_threads(1)
    shapes = {text: build_model(text, SHAPE, CLASSES) for text in MODELS}
    inputs = torch.randn(2, *SHAPE, generator=generator(0, "speed"))
    first = MODELS[0]
    count = sum(layer.weight.numel() for layer in weight_layers(shapes[first], inputs))
    print(f"{first}: {count:,} weights, layers found in {1000 * least(partial(weight_layers, shapes[first], inputs), 3):.0f} ms\n")
    print(f"{'scheme':20s}{'ms':>8s}{'torch':>8s}{'ratio':>8s}  model")
    slow = []
    for entry in catalog.entries("scheme"):
        if sys.argv[1:] and entry.name not in sys.argv[1:]:
            continue
        scheme = build_scheme(parse_ref(guide.setting(entry)))
        if scheme.needs & {Need.DATA, Need.GRADIENTS}:
            continue
        for text in MODELS:
            try:
                seconds, torchs = both(scheme, shapes[text], inputs)
            except DoesNotApply:
                continue
            ratio = seconds / torchs
            late = ratio > MOST and entry.name not in ORTHOGONAL
            slow += [entry.name] if late else []
            mark = " <-- slow" if late else "  (decomposition)" if entry.name in ORTHOGONAL else ""
            print(f"{entry.name:20s}{1000 * seconds:8.1f}{1000 * torchs:8.1f}{ratio:8.2f}  {text}{mark}", flush=True)
            break
    seconds = lsuv_seconds()
    print(f"\nLSUV on the 30-layer MLP: {seconds:.2f} s (at most {LSUV_SECONDS:g})")
    print(f"More than {MOST:g} times torch's time: {', '.join(slow) or 'none'}")
    return int(bool(slow) or seconds > LSUV_SECONDS)


def lsuv_seconds() -> float:
    images = torch.randn(256, 1, 28, 28, generator=generator(0, "speed"))

    def batch(size: int, _: int) -> tuple[Tensor, Tensor]:
        return images[:size], torch.zeros(size, dtype=torch.int64)

    def once() -> None:
        initialize(build_model("mlp:depth=30"), parse_ref("lsuv"), seed=0, inputs=images[:2], batch=batch)

    return least(once, 3)


if __name__ == "__main__":
    sys.exit(main())

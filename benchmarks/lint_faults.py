"""Does the linter find what is wrong? `python benchmarks/lint_faults.py [KIND ...]`.

Puts faults, one at a time, into eight healthy models (`lint_models.py`): each must be found at the parameter that was spoiled, by the
rule that is about it; the healthy twins must have no error and no warning. Prints a table of kinds and models and what was missed.
Exit code 1 where fewer than 95 % are found or a twin is not silent.
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lint_models import DEPTH, MODELS, WIDTH
from torch import nn

from initbench import lint
from initbench.linting.run import LintReport

WANTED = 95.0
Spoil = Callable[[nn.Module], list[str]]
"""Spoils a model and gives the parameters that must be named; none where the kind makes no sense for it."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault: the rules that may find it, and how it is made; `with_checkpoint`: what the model should hold is given."""

    kind: str
    codes: tuple[str, ...]
    spoil: Spoil
    with_checkpoint: bool = False


def hidden(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linear layers and convolutions but the head, by name."""
    kinds = (nn.Linear, nn.Conv2d)
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kinds) and name not in {"head", "router"}]


def first(change: Callable[[torch.Tensor], object], place: int = 1) -> Spoil:
    """Changes one hidden weight; of an LSTM one of its own."""

    def spoil(model: nn.Module) -> list[str]:
        if hasattr(model, "core"):
            name, weight = "core.weight_hh_l0", model.core.weight_hh_l0
        else:
            layer, module = hidden(model)[place]
            name, weight = f"{layer}.weight", module.weight
        with torch.no_grad():
            change(weight)
        return [name]

    return spoil


def replaced(weight: torch.Tensor) -> None:
    """Memory that nobody writes."""
    weight.data = torch.empty(weight.shape)


def copied(model: nn.Module) -> list[str]:
    """Two weights of one shape with the same numbers."""
    by_shape: dict[tuple[int, ...], list[tuple[str, nn.Parameter]]] = {}
    for name, value in model.named_parameters():
        if value.dim() > 1 and bool(value.any()):
            by_shape.setdefault(tuple(value.shape), []).append((name, value))
    pairs = [found for found in by_shape.values() if len(found) > 1]
    if not pairs:
        return []
    (_, one), (name, other) = pairs[0][:2]
    other.data.copy_(one.data)
    return [name]


def two_zero(model: nn.Module) -> list[str]:
    """Two layers in a row that are zero."""
    if hasattr(model, "experts"):
        layers = [model.experts[0][0], model.experts[0][2]]
        names = ["experts.0.0.weight"]
    elif hasattr(model, "blocks") and hasattr(model.blocks[0], "attention"):
        layers, names = [model.blocks[0].attention.value, model.blocks[0].attention.output], ["blocks.0.attention.value.weight"]
    elif hasattr(model, "hidden"):
        layers, names = [model.hidden[1], model.hidden[2]], ["hidden.1.weight"]
    else:
        return []
    for layer in layers:
        nn.init.zeros_(layer.weight)
    return names


def seeded(model: nn.Module) -> list[str]:
    """All numbers from one seed, whatever the seed of the run."""
    generator = torch.Generator().manual_seed(0)
    spoiled = []
    for name, value in model.named_parameters():
        if value.dim() > 1 and bool(value.any()):
            value.data.copy_(torch.randn(value.shape, generator=generator) * 0.05)
            spoiled.append(name)
    return spoiled[:1]


def unseeded(weight: torch.Tensor) -> None:
    """Numbers that no seed decides."""
    generator = torch.Generator()
    generator.seed()
    weight.copy_(torch.randn(weight.shape, generator=generator) * weight.std())


def padding(model: nn.Module) -> list[str]:
    if not hasattr(model, "tokens"):
        return []
    nn.init.normal_(model.tokens.weight, std=0.02)
    return ["tokens.weight"]


def norm_drawn(model: nn.Module) -> list[str]:
    """A norm's weight drawn like a weight."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, std=0.02)
            return [f"{name}.weight"]
    return []


def norms_shut(model: nn.Module) -> list[str]:
    """A norm on the only way whose weight is zero."""
    if not hasattr(model, "convs"):
        return []
    nn.init.zeros_(model.norms[2].weight)
    return ["norms.2.weight"]


def convs(std: Callable[[nn.Conv2d], float]) -> Spoil:
    """Every convolution drawn with a std of its own."""

    def spoil(model: nn.Module) -> list[str]:
        found = [(name, module) for name, module in hidden(model) if isinstance(module, nn.Conv2d) and module.kernel_size[0] == 3]
        for _, module in found:
            nn.init.normal_(module.weight, std=std(module))
        return [f"{name}.weight" for name, _ in found]

    return spoil


def transposed(model: nn.Module) -> list[str]:
    if not hasattr(model, "up"):
        return []
    nn.init.xavier_normal_(model.up.weight)
    return ["up.weight"]


def packed_gates(model: nn.Module) -> list[str]:
    """Xavier over all gates as one matrix."""
    if not hasattr(model, "core"):
        return []
    for name, value in model.core.named_parameters():
        if name.startswith("weight"):
            nn.init.xavier_normal_(value)
    return ["core.weight_ih_l0"]


def packed_orthogonal(model: nn.Module) -> list[str]:
    if not hasattr(model, "core"):
        return []
    for name, value in model.core.named_parameters():
        if name.startswith("weight_hh"):
            nn.init.orthogonal_(value)
    return ["core.weight_hh_l0"]


def forget_twice(model: nn.Module) -> list[str]:
    if not hasattr(model, "core"):
        return []
    for layer in range(2):
        getattr(model.core, f"bias_hh_l{layer}").data[48:96].fill_(1)
    return ["core.bias_ih_l0"]


def depth_of(std: float) -> Spoil:
    """Every hidden weight with one std, in networks without norms."""

    def spoil(model: nn.Module) -> list[str]:
        if not hasattr(model, "hidden"):
            return []
        for layer in model.hidden:
            nn.init.normal_(layer.weight, std=std)
        return [""]

    return spoil


def head(change: Callable[[nn.Module], object]) -> Spoil:
    def spoil(model: nn.Module) -> list[str]:
        with torch.no_grad():
            change(model.head)
        return ["head.weight"]

    return spoil


def tied(model: nn.Module) -> list[str]:
    if not hasattr(model, "tokens"):
        return []
    nn.init.normal_(model.tokens.weight)
    model.tokens.weight.data[0].zero_()
    model.head.weight = model.tokens.weight
    return ["tokens.weight"]


def scaled(wrong: str, right: str, place: str) -> Spoil:
    """The residual scaling on another matrix of the branch."""

    def spoil(model: nn.Module) -> list[str]:
        if not hasattr(model, "blocks") or not hasattr(model.blocks[0], place):
            return []
        for block in model.blocks:
            nn.init.normal_(getattr(getattr(block, place), wrong).weight, std=0.02 / math.sqrt(2 * DEPTH))
            nn.init.normal_(getattr(getattr(block, place), right).weight, std=0.02)
        return [f"blocks.0.{place}.{wrong}.weight"]

    return spoil


def unscaled(model: nn.Module) -> list[str]:
    """No end of any branch scaled."""
    if not hasattr(model, "blocks") or not hasattr(model.blocks[0], "mlp"):
        return []
    for block in model.blocks:
        nn.init.normal_(block.mlp.w2.weight, std=0.02)
        nn.init.normal_(block.attention.output.weight, std=0.02)
    return ["blocks.0.mlp.w2.weight"]


def dead(model: nn.Module) -> list[str]:
    """A bias far below zero before a ReLU."""
    if hasattr(model, "hidden"):
        layer, name = model.hidden[2], "hidden.2.bias"
    elif hasattr(model, "experts"):
        layer, name = model.enter, "enter.bias"
    else:
        return []
    nn.init.constant_(layer.bias, -10.0)
    return [name]


def saturated(model: nn.Module) -> list[str]:
    if not hasattr(model, "core"):
        return []
    model.enter.weight.data.mul_(30)
    return ["enter.weight"]


def one_hot(model: nn.Module) -> list[str]:
    if not hasattr(model, "blocks") or not hasattr(model.blocks[0], "attention"):
        return []
    for block in model.blocks:
        for layer in (block.attention.query, block.attention.key):
            nn.init.normal_(layer.weight, std=4 / math.sqrt(WIDTH))
    return ["blocks.0.attention.query.weight"]


def cut(model: nn.Module) -> list[str]:
    """A detach behind a hidden layer."""
    if hasattr(model, "core"):
        model.enter.register_forward_hook(_detached)
        return ["enter.weight"]
    name, module = hidden(model)[0]
    module.register_forward_hook(_detached)
    return [f"{name}.weight"]


def _detached(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
    return output.detach()


def alike(model: nn.Module) -> list[str]:
    """Biases that drown the signal."""
    if not hasattr(model, "hidden"):
        return []
    for layer in model.hidden:
        nn.init.constant_(layer.bias, 100.0)
    return [""]


def few_values(weight: torch.Tensor) -> None:
    """As many different values as three bits hold."""
    step = float(weight.std())
    weight.copy_(((weight / step).round().clamp(-2, 2) * step).to(torch.bfloat16))


def equal_rows(weight: torch.Tensor) -> None:
    weight[1::2] = weight[::2][: len(weight[1::2])].clone()


FAULTS = (
    Fault("never initialized", ("IB101",), first(replaced)),
    Fault("NaN", ("IB102",), first(lambda weight: weight.view(-1)[:3].fill_(math.nan))),
    Fault("infinite", ("IB102",), first(lambda weight: weight.view(-1)[:1].fill_(math.inf))),
    Fault("absurdly large", ("IB102",), first(lambda weight: weight.mul_(1e7))),
    Fault("denormal", ("IB102",), first(lambda weight: weight.mul_(1e-40))),
    Fault("copied layers", ("IB103",), copied),
    Fault("constant weight", ("IB104",), first(lambda weight: weight.fill_(0.02))),
    Fault("equal rows", ("IB104",), first(equal_rows)),
    Fault("both factors zero", ("IB105", "IB301"), two_zero),
    Fault("fixed seed", ("IB107",), seeded),
    Fault("no seed", ("IB108",), first(unseeded)),
    Fault("drawn after loading", ("IB109",), first(lambda weight: weight.normal_(0, 0.1)), with_checkpoint=True),
    Fault("few values", ("IB110",), first(few_values)),
    Fault("padding row", ("IB111",), padding),
    Fault("norm drawn", ("IB112",), norm_drawn),
    Fault("norm shut", ("IB112",), norms_shut),
    Fault("kernel area forgotten", ("IB201",), convs(lambda conv: math.sqrt(2 / conv.in_channels))),
    Fault("xavier, area forgotten", ("IB201",), convs(lambda conv: math.sqrt(2 / (conv.in_channels + conv.out_channels)))),
    Fault("transposed", ("IB201",), transposed),
    Fault("gates as one matrix", ("IB201",), packed_gates),
    Fault("gates orthogonal together", ("IB203",), packed_orthogonal),
    Fault("forget bias twice", ("IB203",), forget_twice),
    Fault("far too small", ("IB301",), depth_of(1e-3)),
    Fault("far too large", ("IB301",), depth_of(1.0)),
    Fault("large head", ("IB304", "IB305"), head(lambda layer: layer.weight.mul_(400))),
    Fault("tied embedding of std 1", ("IB204",), tied),
    Fault("w3 scaled, not w2", ("IB302",), scaled("w3", "w2", "mlp")),
    Fault("value scaled, not output", ("IB302",), scaled("value", "output", "attention")),
    Fault("branch ends not scaled", ("IB303",), unscaled),
    Fault("dead units", ("IB306",), dead),
    Fault("saturated units", ("IB307",), saturated),
    Fault("one-hot attention", ("IB308",), one_hot),
    Fault("inputs alike", ("IB309",), alike),
    Fault("detached", ("IB310",), cut),
)


def spoiled(make: Callable[[], nn.Module], spoil: Spoil) -> Callable[[], nn.Module]:
    """Builds the model with the fault."""

    def build() -> nn.Module:
        model = make()
        spoil(model)
        return model

    return build


def is_found(report: LintReport, fault: Fault, names: list[str]) -> bool:
    """Whether one of the rules names one of the parameters (or, for the whole network, anything)."""
    found = [finding for finding in report.findings if finding.code in fault.codes]
    return any(names == [""] or set(names) & set(finding.parameters) for finding in found)


def tried(fault: Fault, model: str) -> tuple[LintReport, list[str]] | None:
    """What is found of a fault in a model, and the parameters that must be named; None where it makes no sense there."""
    make, shape = MODELS[model]
    names = fault.spoil(copy.deepcopy(make()))
    if not names:
        return None
    torch.manual_seed(0)
    checkpoint = make().state_dict() if fault.with_checkpoint else None
    select = fault.codes if not fault.with_checkpoint else ("IB109",)
    return lint(spoiled(make, fault.spoil), inputs=shape, checkpoint=checkpoint, select=select), names


def main() -> int:
    """Prints the table; 1 where too few are found or a healthy model is not silent."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kinds", nargs="*")
    given = parser.parse_args()
    begun, found, missed = time.perf_counter(), 0, []
    print(f"| fault | rule | {' | '.join(MODELS)} |\n|---|---|{'---|' * len(MODELS)}")
    for fault in FAULTS:
        if given.kinds and fault.kind not in given.kinds:
            continue
        cells = []
        for model in MODELS:
            looked = tried(fault, model)
            result = None if looked is None else is_found(looked[0], fault, looked[1])
            cells.append({True: "found", False: "**missed**", None: ""}[result])
            found += result is True
            missed += [f"{fault.kind} in {model}"] if result is False else []
        print(f"| {fault.kind} | {', '.join(fault.codes)} | {' | '.join(cells)} |", flush=True)
    loud = []
    for model, (make, shape) in MODELS.items():
        report = lint(make, inputs=shape)
        loud += [f"{model}: {finding.code} {finding.about}" for finding in report.of("warning")]
    share, seconds = 100 * found / max(1, found + len(missed)), time.perf_counter() - begun
    print(f"\n{found} of {found + len(missed)} found ({share:.1f} %), {seconds:.0f} s; missed: {'; '.join(missed) or 'none'}")
    print(f"healthy twins with an error or a warning: {'; '.join(loud) or 'none'}")
    return 1 if share < WANTED or loud else 0


if __name__ == "__main__":
    sys.exit(main())

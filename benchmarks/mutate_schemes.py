"""Breaks each scheme in one way at a time, and asks whether the tests notice.

    python benchmarks/mutate_schemes.py [SCHEME ...]

Mutations: all weights that a scheme sets times 1.05 and times 2, fan_in and fan_out exchanged, the sign of each weight
dropped; every number that it puts into the forward pass times 1.05 (0 becomes 0.05), and its biases times 1.05.
`same`: the mutation changes nothing that this scheme does; the reasons are listed below the table.
The tests that are asked: first the scheme's own line of tests/test_scheme_checks.py, then every test file of schemes that
names it. Prints a table; leaves with 1 when a mutation survives.
"""

import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from initbench.errors import DoesNotApply
from initbench.init.contract import InitContext, Layerwise
from initbench.init.initialize import initialize
from initbench.init.structural import Structural
from initbench.nn.layers import WeightLayer
from initbench.question import catalog
from initbench.question.config import Ref
from initbench.results.record import Setter

TESTS = Path(__file__).parent.parent / "tests"
MUTATIONS = ("times 1.05", "times 2", "fans swapped", "sign dropped", "numbers", "biases")
REQUIRED: dict[str, dict[str, Any]] = {"constant": {"value": 0.5}}
QUICK: dict[str, dict[str, Any]] = {"metainit": {"steps": 2, "batch_size": 4}, "gradinit": {"iterations": 2, "batch_size": 8}}


def altered(weight: Tensor, mutation: str) -> None:
    if mutation == "times 1.05":
        weight.mul_(1.05)
    elif mutation == "times 2":
        weight.mul_(2)
    elif mutation == "sign dropped":
        weight.abs_()


def misled(layer: WeightLayer, mutation: str) -> WeightLayer:
    if mutation == "fans swapped":
        return replace(layer, fan_in=layer.fan_out, fan_out=layer.fan_in)
    return replace(layer, fan_in=2 * layer.fan_in, fan_out=2 * layer.fan_out) if mutation == "fans doubled" else layer


def broken(scheme: Any, mutation: str) -> Any:
    """The scheme with the mutation in it."""
    if isinstance(scheme, Layerwise):
        plain = scheme.fill

        def fill(weight: Tensor, layer: WeightLayer, generator: torch.Generator) -> Any:
            law = plain(weight, misled(layer, mutation), generator)
            altered(weight, mutation)
            return law

        plain_bias = scheme.fill_bias

        def fill_bias(bias: Tensor, layer: WeightLayer, generator: torch.Generator) -> Any:
            assert plain_bias is not None
            law = plain_bias(bias, misled(layer, mutation), generator)
            bias.mul_(1.05 if mutation == "biases" else 1)
            return law

        return replace(scheme, fill=fill, fill_bias=fill_bias if plain_bias else None)
    if isinstance(scheme, Structural):
        planned = scheme.plan

        def plan(model: nn.Module, context: InitContext) -> Any:
            made = planned(model, context)
            numbers = tuple(replace(number, value=number.value * 1.05 or 0.05) for number in made.numbers)
            return replace(made, laws=broken(made.laws, mutation), numbers=numbers if mutation == "numbers" else made.numbers)

        return replace(scheme, plan=plan)
    return After(scheme, mutation)


@dataclass(frozen=True)
class After:
    """Any other scheme, its weights altered when it is done."""

    scheme: Any
    mutation: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scheme, name)

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        if "fans" in self.mutation:
            context = replace(context, layers=tuple(misled(layer, self.mutation) for layer in context.layers))
        report = self.scheme.apply(model, context)
        with torch.no_grad():
            for layer in context.own_layers(model):
                altered(layer.weight, self.mutation)
            parameters = dict(model.named_parameters())
            for entry in report.parameters if self.mutation == "biases" else ():
                if entry.setter is Setter.SCHEME and entry.parameter.endswith("bias"):
                    parameters[entry.parameter].mul_(1.05)
        return report


def install(name: str, mutation: str) -> Callable[..., Any]:
    """Puts the broken `build` in the place of the real one; gives the real one."""
    module = import_module(f"initbench.schemes.{name}")
    real: Callable[..., Any] = module.build
    module.build = lambda **params: broken(real(**params), mutation)  # type: ignore[attr-defined]
    return real


def changes_nothing(name: str, mutation: str) -> bool:
    """Whether the broken scheme gives the same weights as the real one on all models of the contract test."""
    sys.path.insert(0, str(TESTS))
    contract = import_module("test_schemes_contract")
    module = import_module(f"initbench.schemes.{name}")
    ref = Ref(name=name, params=REQUIRED.get(name, {}) | QUICK.get(name, {}))
    for number in range(len(contract.models())):
        found = []
        for broken_one in (False, True):
            model = contract.models()[number]
            real = install(name, mutation) if broken_one else module.build
            try:
                initialize(model, ref, seed=0, inputs=contract.IMAGES[:2], batch=contract.batch)
            except DoesNotApply:
                break
            finally:
                module.build = real  # type: ignore[attr-defined]
            found.append([value.clone() for value in model.state_dict().values()])
        if len(found) == 2 and not all(alike(a.double(), b.double()) for a, b in zip(*found, strict=True)):
            return False
    return True


def alike(first: Tensor, second: Tensor) -> bool:
    """Whether values differ by no more than rounding, which networks of sines amplify: 2 % of their root mean square."""
    return bool((first - second).abs().max() <= 0.02 * first.square().mean().sqrt()) if first.numel() else True


def reason(name: str, mutation: str) -> str:
    """Why a mutation changes nothing."""
    if "times" in mutation:
        return "all weights are zero"
    if mutation == "sign dropped":
        return "no weight is negative"
    if mutation == "numbers":
        return "it puts no numbers into the forward pass"
    if mutation == "biases":
        return "its biases are zero"
    return (
        "it does not use the fans, or divides them out"
        if changes_nothing(name, "fans doubled")
        else "its law is symmetric in the fans, or their part in it is divided out"
    )


def noticed(name: str, mutation: str) -> bool:
    """Whether a test fails: first the check that every scheme is given, then all that name it."""
    words = [name, *next(entry for entry in catalog.entries("scheme") if entry.name == name).aliases]
    files = sorted(path for path in TESTS.glob("test_schemes_*.py") if re.search(rf"\b({'|'.join(words)})\b", path.read_text()))
    own = f"{TESTS / 'test_scheme_checks.py'}::test_every_shipped_scheme_passes[{name}]"
    return fails(name, mutation, [own]) or fails(name, mutation, [str(path) for path in files])


def fails(name: str, mutation: str, tests: list[str]) -> bool:
    """Whether one of these tests fails, in a process of its own (forked: torch is imported once)."""
    child = os.fork()
    if child == 0:
        install(name, mutation)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        os._exit(int(code))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 1


def main() -> int:
    torch.set_num_threads(1)
    if fails("zeros", "none", [str(path) for path in sorted(TESTS.glob("test_scheme*.py"))]):
        print("The tests of schemes fail as they are. Mend that first.")
        return 2
    names = sys.argv[1:] or [entry.name for entry in catalog.entries("scheme")]
    print(f"{'scheme':20s}" + "".join(f"{mutation:>14s}" for mutation in MUTATIONS))
    survived, reasons = 0, dict[str, list[str]]()
    for name in names:
        row = []
        for mutation in MUTATIONS:
            outcome = "same" if changes_nothing(name, mutation) else "noticed" if noticed(name, mutation) else "SURVIVED"
            if outcome == "same":
                reasons.setdefault(f"{mutation}: {reason(name, mutation)}", []).append(name)
            survived += outcome == "SURVIVED"
            row.append(outcome)
        print(f"{name:20s}" + "".join(f"{outcome:>14s}" for outcome in row), flush=True)
    print("\nChanges nothing, because")
    for why in sorted(reasons):
        print(f"- {why}: {', '.join(reasons[why])}")
    print(f"\n{survived} survived.")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Does what `lint --fix` writes clear what it should? `python benchmarks/lint_fix.py [--kinds KIND ...] [--models MODEL ...]`.

Puts the faults of `lint_faults.py` into its eight models, one at a time, lets `report.fix` write `initialize(model)` of torch and of
initbench, and counts the errors and warnings that are cleared, those that are new, and the models whose output is then finite and whose
loss falls over a few steps of SGD. Exit code 1 where a finding that numbers can clear is left, a new one comes, or a model does not train.
"""

import argparse
import sys
import time
from collections import Counter

import torch
from lint_faults import FAULTS, Fault, spoiled
from lint_models import MODELS
from torch.nn import functional

from initbench import lint
from initbench.linting.mending import Fix, initializer
from initbench.linting.remedies import OUT_OF_REACH
from initbench.linting.run import FIXES
from initbench.training.inputs import read_input

STEPS, BATCH = 40, 32


def fixed(fault: Fault, model: str, kind: str) -> Fix | None:
    """The fix for a fault in a model; None where the fault makes no sense there."""
    make, shape = MODELS[model]
    if not fault.spoil(make()):
        return None
    torch.manual_seed(0)
    checkpoint = make().state_dict() if fault.with_checkpoint else None
    return lint(spoiled(make, fault.spoil), inputs=shape, checkpoint=checkpoint).fix(kind)


def trains(fault: Fault, model: str, fix: Fix) -> str:
    """What is wrong with the mended model: its output is not finite, or SGD does not lower its loss; empty where nothing is."""
    make, shape = MODELS[model]
    torch.manual_seed(0)
    net = spoiled(make, fault.spoil)()
    if fix.code:
        initializer(fix.code)(net)
    inputs = read_input(shape, BATCH)[0]
    with torch.no_grad():
        outputs = net(inputs)
    if not outputs.isfinite().all():
        return "not finite"
    targets = torch.randint(0, outputs.shape[-1], outputs.shape[:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        loss = functional.cross_entropy(net(inputs).flatten(0, -2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return "" if losses[-1] < losses[0] else f"loss {losses[0]:.3g} to {losses[-1]:.3g}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kinds", nargs="*", default=[fault.kind for fault in FAULTS])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    given = parser.parse_args()
    begun, wrong = time.perf_counter(), []
    for kind in FIXES:
        counts: Counter[str] = Counter()
        for fault in FAULTS:
            for model in given.models if fault.kind in given.kinds else ():
                fix = fixed(fault, model, kind)
                if fix is None:
                    continue
                where = f"{kind}: {fault.kind} in {model}"
                counts["models"] += 1
                counts["findings"] += len(fix.before.findings)
                counts["cleared"] += len(fix.cleared)
                within = [each for each, _ in fix.remains if each.code not in OUT_OF_REACH]
                counts["out of reach"] += len(fix.remains) - len(within)
                wrong += [f"{where}: {each.code} {each.about} remains" for each in within]
                wrong += [f"{where}: {each.severity} {each.code} {each.about} is new" for each in fix.new if each.severity != "info"]
                problem = trains(fault, model, fix)
                counts["trained"] += not problem
                wrong += [f"{where}: {problem}"] if problem else []
        reach = counts["findings"] - counts["out of reach"]
        print(
            f"{kind}: {counts['cleared']} of {reach} findings cleared ({100 * counts['cleared'] / max(1, reach):.1f} %), "
            f"{counts['out of reach']} more are out of reach of numbers; "
            f"{counts['trained']} of {counts['models']} models are finite, and their loss falls",
            flush=True,
        )
    print(f"{time.perf_counter() - begun:.0f} s\n" + "\n".join(wrong or ["nothing is left, nothing is new"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

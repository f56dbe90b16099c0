"""What the linter says of healthy models of other people: `python benchmarks/lint_zoo.py [NAME ...]`.

The zoo of the tests (`tests/zoo`: torchvision, timm, tiny configurations of transformers, models as people write them) and the models of
this package. Prints every error and warning, and those that were looked at and are peculiarities of the model, with the evidence.
Exit code 1 where more than 2 % of the models have an error or a warning that is none. Takes minutes.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "zoo"))

import importlib.util

from zoo import ENTRIES

from initbench import lint
from initbench.errors import InitbenchError
from initbench.linting.finding import Finding

MOST = 2.0
OWN = {
    "mlp": "1x28x28", "mlp:depth=10,activation=tanh": "1x28x28", "cnn": "3x32x32", "resnet": "3x32x32",
    "resnet:depth=8,norm=none": "3x32x32",
    "residual_mlp": "1x28x28", "vit": "3x32x32", "vit:norm=post": "3x32x32",
}  # fmt: skip
"""Our own models, as they are built, and what they are given."""
REAL = {
    (
        "spectral-norm-old",
        "IB30*",
    ): "torch's old spectral_norm takes its first power iteration in a training step; in evaluation mode before "
    "that, the weight is divided by a guess",
    ("wavenet", "IB310"): "the last block's residual convolution feeds nothing: only skips reach the output",
    ("torchvision-mnasnet", "IB304"): "the head is drawn by kaiming_uniform with fan_out of 10 classes: logits of std 5",
    ("timm-dla", "IB304"): "the head is a convolution drawn with sqrt(2 / (kernel area x outputs)): std 0.45 for 10 classes",
    (
        "torchvision-detection-retina-head",
        "IB301",
    ): "RetinaNet's head has std 0.01 on purpose, and no norm: the signal shrinks tenfold a layer",
    ("timm-gemma4_vit", "IB308"): "queries and keys are normalized and multiplied without 1/sqrt(width): scores of std 4",
    ("timm-mobilenetv5", "IB*"): "LayerScale of 1e-5, norms of its own, and a head of std 0.4 on 10 classes: the first loss is measured",
    (
        "mlp:depth=10,activation=tanh",
        "IB*",
    ): "torch's default, 1/(3 fan_in), before tanh: nine layers lose eight powers of ten of the variance",
    ("timm-csatv2", "IB106"): "its init_weights promises to set all again after to_empty, and its response norms have no reset_parameters",
    ("timm-byoanet", "IB201"): "the position kernel has std dim_qk^-0.5, whatever its area",
}
"""Findings that were looked at and are real: (model, code), both globs, and the evidence."""


def reports(wanted: list[str]) -> Iterator[tuple[str, tuple[Finding, ...] | str]]:
    """Each model's errors and warnings, or why it could not be looked at."""
    for entry in ENTRIES:
        if entry.broken or (entry.needs and importlib.util.find_spec(entry.needs) is None) or not _is_wanted(entry.name, wanted):
            continue
        try:
            yield entry.name, lint(entry.build, inputs=entry.inputs()).of("warning")
        except InitbenchError as error:
            yield entry.name, str(error)
    for name, shape in OWN.items():
        if _is_wanted(name, wanted):
            yield name, lint(name, inputs=shape).of("warning")


def _is_wanted(name: str, wanted: list[str]) -> bool:
    return not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)


def real(name: str, finding: Finding) -> str | None:
    """Why a finding is a peculiarity of the model; None where it is not known to be."""
    return next((why for (model, code), why in REAL.items() if fnmatchcase(name, model) and fnmatchcase(finding.code, code)), None)


def main() -> int:
    """Prints each finding and the shares; 1 where too many are not real."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="*", metavar="NAME")
    given = parser.parse_args()
    begun, models, doubtful, peculiar = time.perf_counter(), 0, [], []
    for name, found in reports(given.models):
        if isinstance(found, str):
            print(f"{name}: not looked at: {found}", flush=True)
            continue
        models += 1
        for finding in found:
            why = real(name, finding)
            print(
                f"{name}: {finding.severity} {finding.code} {finding.about}: {finding.message}; {finding.measured}; {finding.effect}",
                flush=True,
            )
            print(f"    real: {why}" if why else "    NOT KNOWN", flush=True)
        (doubtful if any(real(name, finding) is None for finding in found) else peculiar if found else []).append(name)
    share = 100 * len(doubtful) / max(1, models)
    seconds = time.perf_counter() - begun
    print(f"\n{models} models in {seconds:.0f} s; {len(peculiar)} with real peculiarities: {', '.join(peculiar) or 'none'};")
    print(f"{len(doubtful)} ({share:.1f} %) with other errors or warnings: {', '.join(doubtful) or 'none'}")
    return 1 if share > MOST else 0


if __name__ == "__main__":
    sys.exit(main())

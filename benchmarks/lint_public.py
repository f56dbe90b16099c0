"""Does the linter find faults that are known from the public? `python benchmarks/lint_public.py [NAME ...]`.

Each is rebuilt small in our own code (`lint_public_models.py`): it must be found at a parameter that has it, by the rule that is about
it, and the twin without it must have no error and no warning. Exit code 1 where one is missed or a twin is not silent.
`--library [PATH ...]` looks at the models of the libraries themselves: of those that are installed, and of other versions of transformers
by folders that hold one (`pip install --no-deps --target FOLDER transformers==5.14.1`). What is not installed is not run, and not in the
table.
"""

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial

import torch
from lint_public_models import CASES, Case
from torch import nn

from initbench import lint
from initbench.linting.finding import Finding
from initbench.linting.run import LintReport

HEAD = "| library | model | rule | found | measured |\n|---|---|---|---|---|"
LAYERS = 12


def looked_at(case: Case, *, faulty: bool) -> LintReport:
    """What the linter says of the model with the fault, or of its twin."""
    checkpoint = None
    if case.loaded:
        torch.manual_seed(1)
        checkpoint = case.make(faulty=False).state_dict()
    return lint(partial(built, case, checkpoint, faulty=faulty), inputs=case.inputs, checkpoint=checkpoint)


def built(case: Case, checkpoint: dict[str, torch.Tensor] | None, *, faulty: bool) -> nn.Module:
    """The model; one that loads a checkpoint draws afterwards only what its fault draws."""
    model = case.make(faulty=faulty)
    if checkpoint is None:
        return model
    drawn = {name: value.clone() for name, value in model.state_dict().items() if faulty and fnmatchcase(name, case.at)}
    model.load_state_dict(checkpoint | drawn)
    return model


def found(case: Case, report: LintReport) -> Finding | None:
    """The finding of a rule that is about the fault, at a parameter that has it."""
    about = [finding for finding in report.findings if finding.code in case.codes]
    return next((finding for finding in about if any(fnmatchcase(name, case.at) for name in finding.parameters)), None)


def t5(head: int) -> nn.Module:
    """T5 as its configuration asks for a head of its own, a layer each way."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(d_model=head, d_kv=32, d_ff=256, num_layers=1, num_heads=2, vocab_size=2048, tie_word_embeddings=False)
    return Decoded(T5ForConditionalGeneration(config))


class Decoded(nn.Module):
    """An encoder and decoder that both read the same ids."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, decoder_input_ids=ids).logits


class Logits(nn.Module):
    """A language model that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids).logits


def gpt2() -> nn.Module:
    """GPT-2 with as many layers as the small one, narrow."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return Logits(GPT2LMHeadModel(GPT2Config(n_layer=LAYERS, n_embd=96, n_head=4, vocab_size=512, n_positions=64)))


def encoder() -> nn.Module:
    """torch's encoder of three layers."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 3, enable_nested_tensor=False)


def library_rows(*, only: str | None = None) -> Iterator[str]:
    """A row of the table for each model of an installed library."""
    models = [("torch", "nn.TransformerEncoder", encoder, "12x32", "IB103")]
    if importlib.util.find_spec("transformers") is not None:
        from transformers import GPT2LMHeadModel, T5ForConditionalGeneration  # noqa: F401  read before torch is watched

        models += [
            ("transformers", f"GPT-2, {LAYERS} layers", gpt2, "int:512:32", "IB303"),
            ("transformers", "T5, tie_word_embeddings=False, width 768", partial(t5, 768), "int:2048:16", "IB304"),
        ]
    for name, model, make, shape, code in models:
        if only in {None, name}:
            version = importlib.import_module(name).__version__.partition("+")[0]
            report = lint(make, inputs=shape, select=[code])
            told = f"yes, {report.findings[0].severity}" if report.findings else "no"
            measured = "; ".join(f"{each.message}: {each.measured}, {each.effect}" for each in report.findings[:1])
            yield f"| {name} {version} | {model} | {code} | {told} | {measured} |"


def libraries(folders: list[str]) -> None:
    """Prints the table of libraries; each folder in a process of its own, as a process has one version of a library."""
    print(HEAD)
    for row in library_rows():
        print(row, flush=True)
    for folder in folders:
        way = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        ran = subprocess.run([sys.executable, __file__, "--inside"], env=os.environ | {"PYTHONPATH": way}, capture_output=True, text=True)
        print(ran.stdout.strip() if ran.returncode == 0 else f"{folder}: not run: {ran.stderr.strip().splitlines()[-1]}", flush=True)


def main() -> int:
    """Prints the tables; 1 where a fault is missed or a twin is not silent."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--library", nargs="*", metavar="PATH")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        with contextlib.redirect_stderr(None):
            rows = list(library_rows(only="transformers"))
        print("\n".join(rows))
        return 0
    if given.library is not None:
        libraries(given.library)
        return 0
    begun, missed, noisy, count = time.perf_counter(), [], [], 0
    print("| fault | seen in | rule | found at | severity |\n|---|---|---|---|---|")
    for case in CASES:
        if given.names and not any(fnmatchcase(case.name, pattern) for pattern in given.names):
            continue
        count += 1
        finding = found(case, looked_at(case, faulty=True))
        where = f"{finding.code} | {finding.about} | {finding.severity}" if finding else f"{', '.join(case.codes)} | **missed** | "
        print(f"| {case.name} | {case.source} | {where} |", flush=True)
        missed += [] if finding else [case.name]
        noisy += [f"{case.name}: {each.code} {each.about}" for each in looked_at(case, faulty=False).of("warning")]
    print(f"\n{count - len(missed)} of {count} found in {time.perf_counter() - begun:.0f} s; missed: {'; '.join(missed) or 'none'}")
    print(f"twins without the fault that have an error or a warning: {'; '.join(noisy) or 'none'}")
    return 1 if missed or noisy else 0


if __name__ == "__main__":
    sys.exit(main())

"""`check-scheme` passes what keeps its promises, and names the promise that a scheme breaks."""

import re

import pytest
import torch
from typer.testing import CliRunner

from initbench.cli import guide
from initbench.cli.app import app
from initbench.errors import ConfigError, DoesNotApply
from initbench.init.checks import CHECKS, check_scheme
from initbench.question import catalog
from initbench.question.config import parse_ref

SHIPPED = {entry.name: guide.setting(entry) for entry in catalog.entries("scheme") if entry.path.parent.name == "schemes"}
QUICK = {
    "metainit": "metainit:steps=1,batch_size=4",
    "gradinit": "gradinit:iterations=1,batch_size=8",
    "krahenbuhl": "krahenbuhl:batch_size=32",
}

GOOD = '''
"""A scheme of my own."""
import time
import torch
from initbench.errors import DoesNotApply
from initbench.schemes import Law
from initbench.schemes import Layerwise

def build(*, scale: float = 1.0):
    """N(0, scale^2 / fan_in)."""
    def fill(weight, layer, generator):
        std = scale / max(1, layer.fan_in) ** 0.5
        weight.normal_(0, std, generator=generator)
        return Law("normal", std)
    def check(model, layers):
        pass
    return Layerwise("mine", fill, check=check)
'''
DRAW = "weight.normal_(0, std, generator=generator)"
CLOCK = "; weight.mul_(1 + time.perf_counter_ns() % 997 * 1e-5)"
FANS_OF_THE_TENSOR = "torch.nn.init.kaiming_normal_(weight, nonlinearity='linear', generator=generator)"
NO_EMPTY = "weight.view(len(weight), -1)[:] = 0; " + DRAW
ONE_STREAM = "weight.normal_(0, std, generator=torch.Generator().manual_seed(generator.initial_seed() % 2))"
REFUSAL = "        if len(layers) > 3:\n            "
BROKEN = {
    "scale": ("law", DRAW, DRAW + ".mul_(1.05)", "std .* is promised"),
    "fans of the tensor": ("layer kinds", DRAW, FANS_OF_THE_TENSOR, r"ConvTranspose2d\(32, .*stride=\(2, 2\).* promised"),
    "no empty layer": ("layer kinds", DRAW, NO_EMPTY, r"Linear\(in_features=3, .* ends with RuntimeError"),
    "no law": ("report", 'return Law("normal", std)', "return None", "gives no law for linear1.weight"),
    "mean": ("law", DRAW, DRAW + ".add_(std / 20)", "mean 0 is promised"),
    "global generator": ("global generator", DRAW, "weight.normal_(0, std)", "draws from torch's global generator"),
    "clock": ("determinism", DRAW, DRAW + CLOCK, "same seed gives other values"),
    "one stream": ("distinct", DRAW, ONE_STREAM, "hold the same values"),
    "infinite": ("precision", "std = scale", "std = 1e6 * scale", "not finite in torch.float16"),
    "crash": ("runs", DRAW, "raise ValueError('no')", "ends with ValueError: no"),
    "refuses all": ("runs", "        pass", "        raise DoesNotApply('No.')", "applies to none"),
    "refuses late": (
        "refusal", "        pass", REFUSAL + "torch.nn.init.ones_(layers[0].weight); raise DoesNotApply('No.')", "was changed before",
    ),
    "no sentence": ("refusal", "        pass", REFUSAL + "raise DoesNotApply('no')", "is no sentence"),
    "requires_grad": ("frame", "        pass", "        layers[-1].weight.requires_grad_(False)", "another shape, type or requires_grad"),
}  # fmt: skip


def written(folder, name="mine", old="", new=""):
    assert old in GOOD
    path = folder / f"{name}.py"
    path.write_text(GOOD.replace(old, new) if old else GOOD)
    return str(path)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scheme_passes(name):
    entry, _ = catalog.find("scheme", name)
    found = check_scheme(parse_ref(QUICK.get(name, SHIPPED[name])), parse_ref(entry.example_model))
    assert [(check.what, check.found) for check in found if not check.passed] == []
    assert {check.what for check in found} == {"runs", "refusal", *CHECKS}


@pytest.mark.heavy
def test_a_scheme_of_ones_own_passes_from_the_command_line(tmp_path):
    result = CliRunner().invoke(app, ["check-scheme", written(tmp_path) + ":scale=2"])
    assert result.exit_code == 0, result.output
    assert result.output.count("passed") == 2 + len(CHECKS)


@pytest.mark.heavy
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_named(case, tmp_path):
    what, old, new, said = BROKEN[case]
    failed = {check.what: check.found for check in check_scheme(parse_ref(written(tmp_path, "broken", old, new))) if not check.passed}
    assert what in failed
    assert re.search(said, failed[what]), failed[what]
    assert failed[what].endswith(".")


@pytest.mark.heavy
def test_a_scheme_that_looks_at_other_layers_is_noticed(tmp_path):
    old = "    return Layerwise"
    path = written(tmp_path, "leaning", old, SHARED + old)
    failed = [check.what for check in check_scheme(parse_ref(path)) if not check.passed]
    assert "other layers" in failed


SHARED = """    drawn = []
    plain = fill
    def fill(weight, layer, generator):
        law = plain(weight, layer, generator)
        drawn.append(layer.name)
        return law if len(drawn) % 2 else (weight.mul_(-1), law)[1]
"""


@pytest.mark.heavy
def test_a_failed_check_ends_with_code_4(tmp_path):
    _, old, new, _ = BROKEN["scale"]
    result = CliRunner().invoke(app, ["check-scheme", written(tmp_path, "broken", old, new)])
    assert result.exit_code == 4
    assert "does not pass: law, layer kinds." in result.output


def test_a_scheme_that_gives_no_report_is_told_what_to_give(tmp_path):
    path = tmp_path / "silent.py"
    path.write_text(SILENT)
    with pytest.raises(ConfigError, match=r"apply\(\) of the scheme .* gives a NoneType. It must return an InitReport"):
        check_scheme(parse_ref(str(path)))


SILENT = """
class Silent:
    name, needs = "silent", frozenset()
    def apply(self, model, context):
        return None

def build():
    return Silent()
"""


def test_a_model_that_the_scheme_refuses_is_told_as_such():
    with pytest.raises(DoesNotApply, match="is for residual networks"):
        check_scheme(parse_ref("fixup"), parse_ref("mlp"))


def test_an_unknown_parameter_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="has no parameter 'scal'"):
        check_scheme(parse_ref(written(tmp_path) + ":scal=2"))


def test_the_check_leaves_the_threads_and_the_global_generator_as_they_were():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    check_scheme(parse_ref("kaiming"), parse_ref("mlp:depth=1,width=8"))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)

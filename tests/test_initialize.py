"""initialize() goes from a scheme's name to an initialized model; patterns and mistakes are spoken about clearly."""

import pytest
import torch
from schemes_support import init
from torch import nn

from initbench.errors import ConfigError, DoesNotApply, InitbenchError
from initbench.init.contract import Layerwise, Need
from initbench.init.initialize import build_scheme, initialize
from initbench.question.config import parse_ref
from initbench.results.record import Setter


def net():
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)), "head": nn.Linear(8, 3)})


def found(report):
    return {entry.parameter: entry for entry in report.parameters}


def test_a_pattern_gives_layers_to_another_scheme_and_the_first_match_wins():
    model = net()
    by = found(init(model, "kaiming", layers={"head.*": "zeros", "*": "constant:value=2", "body.0": "ones"}))
    assert (model["head"].weight == 0).all()
    assert (model["body"][0].weight == 2).all()
    assert by["head.weight"].by == "zeros ('head.*')"
    assert by["head.weight"].setter is Setter.RULE
    assert (model["body"][1].weight == 1).all()
    assert (model["body"][0].bias == 0).all()


def test_the_other_layers_do_not_notice_a_pattern():
    plain, ruled = net(), net()
    init(plain, "kaiming")
    init(ruled, "kaiming", layers={"head.*": "zeros"})
    assert torch.equal(plain["body"][2].weight, ruled["body"][2].weight)


def test_a_pattern_brings_its_schemes_biases_along():
    model = net()
    init(model, "kaiming", layers={"head.*": "torch_default"})
    assert model["head"].bias.abs().sum() > 0
    assert (model["body"][0].bias == 0).all()


def test_a_pattern_that_names_no_weight_sets_the_very_parameters_it_names():
    model = net()
    by = found(init(model, "kaiming", layers={"body.1.weight": "zeros", "*.bias": "constant:value=0.25"}))
    assert (model["body"][1].weight == 0).all()
    assert (model["head"].bias == 0.25).all()
    assert (model["body"][1].bias == 0.25).all()
    assert by["head.bias"].by == "constant ('*.bias')"


@pytest.mark.parametrize("rule", [{"layers": {"haed.*": "zeros"}}, {"in_out": ("haed.*",)}, {"only": ("haed.*",)}])
def test_a_pattern_that_matches_nothing_is_an_error_with_the_names_there_are(rule):
    model = net()
    before = model["head"].weight.clone()
    with pytest.raises(ConfigError, match=r"The pattern 'haed\.\*' .* matches no parameter.*body\.0\.weight"):
        init(model, "kaiming", **rule)
    assert torch.equal(model["head"].weight, before)


def test_only_what_is_named_is_set():
    model = net()
    before = {name: value.clone() for name, value in model.named_parameters()}
    report = init(model, "kaiming", only=("body.[02].weight",), layers={"body.0.*": "zeros"})
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"body.0.weight", "body.2.weight"}
    assert not model["body"][0].weight.any()
    assert {entry.by for entry in report.parameters if entry.parameter not in changed} == {"not named by init.only"}


def test_an_exclusion_that_matches_nothing_is_fine():
    init(net(), "kaiming", exclude=("nothing",))


def test_the_report_says_the_resolved_scheme():
    assert init(nn.Linear(3, 4), "he_uniform").scheme == "kaiming:distribution=uniform"


def test_the_layers_come_back_with_the_report():
    report, layers = initialize(net(), parse_ref("xavier"), seed=0)
    assert [layer.name for layer in layers] == ["body.0", "body.2", "head"]
    assert report.untouched == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xavir", "Did you mean 'xavier'"),
        ("kaiming:mod=fan_in", "Did you mean 'mode'"),
        ("constant", "needs value"),
        ("./nowhere.py", "There is no file"),
    ],
)
def test_a_wrong_name_is_one_sentence(text, words):
    with pytest.raises(ConfigError, match=words):
        init(nn.Linear(3, 4), text)


OWN = '''
from initbench.schemes import Layerwise, Need
from initbench.schemes import Law

class Data:
    name = "hungry"
    needs = frozenset({Need.DATA})
    def apply(self, model, context):
        context.batch(4, 0)

def build(*, scale: float = 1.0):
    """Mine."""
    def fill(weight, layer, generator):
        weight.fill_(scale)
        return Law("constant", 0.0, scale)
    return Layerwise("mine", fill)

def hungry():
    return Data()

def wrong():
    return 3
'''


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return str(path)


def test_a_users_own_scheme_works_by_its_file_name(own):
    layer = nn.Linear(3, 4)
    init(layer, f"{own}:scale=3")
    assert (layer.weight == 3).all()
    assert isinstance(build_scheme(parse_ref(own)), Layerwise)


def test_a_scheme_that_needs_data_is_refused_without(own):
    assert build_scheme(parse_ref(f"{own}:hungry")).needs == {Need.DATA}
    with pytest.raises(DoesNotApply, match="'hungry' needs data, and there is none"):
        init(nn.Linear(3, 4), f"{own}:hungry")


def test_a_pattern_cannot_take_a_scheme_of_whole_models(own):
    with pytest.raises(ConfigError, match="works on whole models"):
        init(net(), "xavier", layers={"head.*": f"{own}:hungry"})


def test_a_file_that_gives_no_scheme_is_refused(own):
    with pytest.raises(InitbenchError, match=r"must return a Layerwise"):
        init(nn.Linear(3, 4), f"{own}:wrong")


def test_what_cannot_be_told_about_a_model_is_in_the_report():
    class Detour(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    told, _ = initialize(Detour(), parse_ref("kaiming"), seed=0, inputs=torch.zeros(2, 4))
    assert told.notes == ("'aside' is not met in a forward pass in evaluation mode.",)
    assert "aside" in str(told).splitlines()[-1]
    plain, _ = initialize(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), parse_ref("kaiming"), seed=0, inputs=torch.zeros(2, 4))
    assert plain.notes == ()

"""References as text, and what is wrong with a configuration in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from initbench.errors import ConfigError
from initbench.question.config import ExperimentConfig, InitRules, Ref, TrainConfig, as_ref, parse_ref, parse_value
from initbench.question.messages import explain

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
PLAIN = st.one_of(st.booleans(), st.none(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), NAMES)
VALUES = st.one_of(PLAIN, st.lists(PLAIN.filter(lambda value: value is not None), max_size=3))
WORDS_THAT_ARE_VALUES = {"true", "false", "null", "inf", "nan"}


@pytest.mark.heavy
@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=3))
def test_the_text_of_a_reference_reads_back_to_the_same_reference(name, params):
    strings = [value for value in params.values() if isinstance(value, str)]
    strings += [item for value in params.values() if isinstance(value, list) for item in value if isinstance(item, str)]
    if not WORDS_THAT_ARE_VALUES & set(strings):
        ref = Ref(name=name, params=params)
        assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("kaiming", "kaiming", {}),
        ("kaiming:mode=fan_out,a=0.1", "kaiming", {"mode": "fan_out", "a": 0.1}),
        ("mlp:widths=[64,32],bias=false", "mlp", {"widths": [64, 32], "bias": False}),
        ("./mine.py:Net:scale=2", "./mine.py:Net", {"scale": 2}),
        ("package.module:function", "package.module:function", {}),
        ("normal:std=1e-2", "normal", {"std": 0.01}),
        ("lsuv:base=normal:std=2,tolerance=0.1", "lsuv", {"base": "normal:std=2", "tolerance": 0.1}),
        ("mlp:activation=sin:omega=30", "mlp", {"activation": "sin:omega=30"}),
    ],
)
def test_a_reference_is_a_name_and_parameters(text, name, params):
    assert parse_ref(text) == Ref(name=name, params=params)


def test_a_parameter_without_a_value_is_refused_with_the_right_form():
    with pytest.raises(ConfigError, match=r"name:key=value"):
        parse_ref("mlp:depth=3,wide")


def test_numbers_are_read_as_yaml_1_2_reads_them():
    assert [parse_value(text) for text in ("1e-3", "12", "true", "null", "yes", "0x10")] == [0.001, 12, True, None, "yes", "0x10"]


def test_a_mapping_with_a_name_is_a_reference():
    assert as_ref({"name": "mlp", "depth": 3}) == as_ref("mlp:depth=3") == Ref(name="mlp", params={"depth": 3})
    assert as_ref({"name": "npz", "params": {"name": "x"}}) == Ref(name="npz", params={"name": "x"})


def problems(data):
    with pytest.raises(ValidationError) as caught:
        ExperimentConfig.model_validate(data)
    return {problem.place: problem.sentence for problem in explain(caught.value, data)}


def test_every_problem_has_its_place_what_was_given_and_what_is_allowed():
    found = problems(
        {
            "schemes": ["kaiming", 5],
            "seeds": [0],
            "train": {"lr": -1, "batch_size": "abc", "optimizer": 3, "epoch": 3},
            "init": {"bias": "foo"},
            "probe": 7,
        }
    )
    assert found[("train", "lr")] == "train.lr is -1; it must be greater than 0."
    assert found[("train", "batch_size")] == "train.batch_size is 'abc'; it must be a whole number."
    assert found[("train", "optimizer")] == "train.optimizer is 3; it must be a name such as adam, or a mapping with the key name."
    assert found[("train", "epoch")].startswith("unknown key 'train.epoch'. Did you mean 'epochs'? Allowed here: epochs, steps,")
    assert found[("init", "bias")] == "init.bias is 'foo'; it must be a number or 'scheme'."
    assert found[("probe",)] == "probe is 7; it must be a mapping of key: value."
    assert "must be a name such as" in found[("schemes", 1)]
    assert len(found) == 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": []}, "seeds is empty; it must name at least one."),
        ({"seeds": [1, 1]}, "the same seed is named twice: 1."),
        ({"seeds": [-1]}, "seeds are whole numbers from 0."),
        ({"schemes": ["kaiming", "kaiming"]}, "the same scheme is named twice: kaiming."),
        ({"train": {"epochs": 1, "steps": 2}}, "train: give epochs or steps, not both."),
        ({"train": {"nesterov": True, "momentum": 0}}, "train: nesterov needs momentum > 0."),
    ],
)
def test_rules_between_values_are_sentences_too(change, sentence):
    assert list(problems({"schemes": ["kaiming"], "seeds": [0], **change}).values()) == [sentence]


def test_training_takes_five_epochs_unless_a_length_is_given():
    assert TrainConfig().epochs == 5
    assert TrainConfig(steps=3).epochs is None


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        InitRules().bias = 1.0

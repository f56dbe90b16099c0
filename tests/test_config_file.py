"""Config files: short forms, overrides, every problem at once with its file and line, and the JSON schema."""

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from initbench.errors import ConfigError
from initbench.question.config import ExperimentConfig, Ref, parse_ref
from initbench.question.config_file import dump_config, headline, load_config, locate, shipped
from initbench.question.keys import plain_config
from initbench.question.schema import schema

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def written(text, name="mine.yaml"):
        (tmp_path / name).write_text(text)
        return name

    return written


def problems(*arguments, **options):
    with pytest.raises(ConfigError) as caught:
        load_config(*arguments, **options)
    return str(caught.value).splitlines()


def test_short_forms_mean_what_they_say(write):
    config = load_config(write('schemes: kaiming\nseeds: 3\nmodel: {name: mlp, depth: 30}\ndataset: "synthetic:n=100"\n'))
    assert config.schemes == (Ref(name="kaiming"),)
    assert config.seeds == (0, 1, 2)
    assert config.model == parse_ref("mlp:depth=30")
    assert config.dataset == parse_ref("synthetic:n=100")


def test_numbers_are_those_of_yaml_1_2(write):
    config = load_config(write("schemes: [kaiming]\nseeds: [0, 3, 5]\ntrain: {lr: 1e-3}\n"))
    assert config.train.lr == 0.001
    assert config.seeds == (0, 3, 5)


def test_all_problems_are_told_at_once_each_with_its_line(write):
    file = write(
        "model: mpl\n"
        "schemes: [xavir, 'kaiming:moed=fan_in']\n"
        "seeds: 0\n"
        "train:\n"
        "  epoch: 3\n"
        "  lr: -1\n"
        "init:\n"
        "  layers:\n"
        "    'head.*': zeroes\n"
        "extra: 1\n"
    )
    found = problems(file, settings=["train.momentum=2"])
    assert sorted(line.split(": ")[0] for line in found) == sorted(
        ["--set train.momentum=2"] + [f"mine.yaml:{line}" for line in (1, 2, 2, 3, 5, 6, 9, 10)]
    )
    assert "mine.yaml:2: Unknown scheme 'xavir'. Did you mean 'xavier'? See: initbench list schemes" in found
    assert "mine.yaml:5: unknown key 'train.epoch'. Did you mean 'epochs'?" in "\n".join(found)
    assert "mine.yaml:9: Unknown scheme 'zeroes'. Did you mean 'zeros'?" in "\n".join(found)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("schemes: [kaiming]\nschemes: [xavier]\n", 2, "duplicate key"),
        ("schemes: [kaiming\n", 2, "expected"),
        ("- kaiming\n", 1, "a mapping of key: value"),
        ("\tschemes: 1\n", 1, "cannot start"),
        ("schemes: [kaiming]\nseeds: abc\n", 2, "8 means 0 to 7"),
        ("schemes: [kaiming]\nseeds: 2\ntrain:\n  epochs: 1\n  steps: 2\n", 3, "not both"),
    ],
)
def test_what_is_not_yaml_or_not_a_config_is_told_with_its_line(text, line, words, write):
    (found,) = problems(write(text), default_seeds=1)
    assert found.startswith(f"mine.yaml:{line}: ")
    assert words in found


def test_a_setting_overrides_the_file_and_an_option_overrides_both(write):
    file = write("schemes: [kaiming]\nseeds: 1\nmodel: mlp\ntrain: {lr: 0.1, epochs: 2}\n")
    config = load_config(file, settings=["train.lr=0.2", "model.depth=7"], options={"train.steps": ("--steps", 4)})
    assert (config.train.lr, config.train.steps, config.train.epochs) == (0.2, 4, None)
    assert config.model == parse_ref("mlp:depth=7")
    config = load_config(file, settings=["train.lr=0.2"], options={"train.lr": ("--lr", 0.3), "model": ("--model", None)})
    assert config.train.lr == 0.3


def test_epochs_take_the_place_of_steps_but_both_cannot_be_asked_for(write):
    file = write("schemes: [kaiming]\nseeds: 1\ntrain: {epochs: 2}\n")
    assert load_config(file, settings=["train.steps=4"]).train.epochs is None
    both = {"train.epochs": ("--epochs", 1), "train.steps": ("--steps", 4)}
    assert "give epochs or steps, not both" in problems(file, options=both)[0]
    assert "give epochs or steps, not both" in problems(file, settings=["train.steps=4", "train.epochs=1"])[0]


def test_a_pattern_with_dots_can_be_set():
    config = load_config(settings=["schemes=he", "init.layers.head.*=zeros"], default_seeds=1)
    assert config.init.layers == {"head.*": parse_ref("zeros")}
    assert "init.layers is 'x'; it must be a mapping" in problems(settings=["schemes=he", "init.layers=x"], default_seeds=1)[0]


def test_problems_come_in_the_order_of_the_lines(write):
    found = problems(write("model: mpl\nseeds: 1\nschemes: [he, xavir]\ntrain:\n  lr: 0\n  betas: 1\nmodle: 1\n"))
    assert [int(line.split(":")[1]) for line in found] == [1, 3, 5, 6, 7]


def test_a_decay_rate_is_below_one():
    (found,) = problems(settings=["schemes=he", "train.betas=[0.9,1.5]"], default_seeds=1)
    assert found == "--set train.betas=[0.9,1.5]: train.betas.1 is 1.5; it must be less than 1."


def test_an_optimizer_is_checked_as_schemes_are_and_kept_as_its_text(write):
    (sentence,) = problems(write("schemes: he\nseeds: 1\ntrain: {optimizer: sdg}\n"))
    assert sentence == "mine.yaml:3: Unknown optimizer 'sdg'. Did you mean 'sgd'? See: initbench list optimizers"
    (sentence,) = problems(settings=["schemes=he", "train.optimizer=muon:nesterov=1"], default_seeds=1)
    assert sentence.endswith("The parameter 'nesterov' of the optimizer 'muon' is 1; it must be true or false.")
    config = load_config(write("schemes: he\nseeds: 1\ntrain: {optimizer: {name: rmsprop, alpha: 0.9}}\n"))
    assert plain_config(config)["train"]["optimizer"] == "rmsprop:alpha=0.9"
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


def test_a_mapping_without_a_name_is_told_that_alone(write):
    assert problems(write("schemes: he\nseeds: 1\nmodel: {depth: 3}\n")) == ["mine.yaml:3: 'model.name' is missing."]


def test_what_is_overridden_is_blamed_on_what_overrode_it(write):
    file = write("schemes: [kaiming, xavier]\nseeds: 1\n")
    assert problems(file, settings=["schemes=[xavir]"])[0].startswith("--set schemes=[xavir]: Unknown scheme 'xavir'")


def test_a_setting_reaches_what_the_file_does_not_mention():
    config = load_config(settings=["model.depth=7", "schemes=[he]", "init.bias=0.5"], default_seeds=2)
    assert (config.model, config.init.bias, config.seeds) == (parse_ref("mlp:depth=7"), 0.5, (0, 1))


@pytest.mark.parametrize("setting", ["train.lr", "=3", "train..lr=1"])
def test_a_setting_that_is_not_key_and_value_is_refused(setting):
    (found,) = problems(settings=[setting, "schemes=kaiming"], default_seeds=1)
    assert "write it as key=value" in found


def test_a_setting_that_is_given_twice_is_refused():
    (found,) = problems(settings=["train.lr=1", "schemes=kaiming", "train.lr =2"], default_seeds=1)
    assert found == "--set train.lr is given 2 times, and only one value can count. Give it once."


@pytest.mark.parametrize(("given", "seeds"), [("4", (0, 1, 2, 3)), ("0,3,5", (0, 3, 5)), ("7,", (7,)), ([2], (2,))])
def test_seeds_are_a_number_or_a_list(given, seeds):
    assert load_config(options={"schemes": ("SCHEME", ["he"]), "seeds": ("--seeds", given)}).seeds == seeds


def test_nothing_selected_is_told():
    assert problems(default_seeds=1)[0].startswith("No scheme is named.")
    assert "empty" in problems(settings=["schemes=[]"], default_seeds=1)[0]


def test_a_data_file_of_ones_own_is_called_by_its_name():
    options = {"schemes": ("SCHEME", ["he"]), "dataset": ("--dataset", "digits")}
    assert load_config(options=options, default_seeds=1, data_files=lambda: {"digits"}).dataset == parse_ref("npz:file=digits")
    assert "Unknown dataset 'digits'" in problems(options=options, default_seeds=1)[0]


def test_an_unknown_config_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"Unknown config 'mnist_mpl'. Did you mean 'mnist_mlp'"):
        locate("mnist_mpl")
    with pytest.raises(ConfigError, match=r"There is no config file 'nowhere/x.yaml'"):
        locate("nowhere/x.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_is_sound_and_begins_with_its_command(path):
    config = load_config(path.stem)
    does = "sweep" if path.parent.name == "sweeps" else "compare"
    command = "smoke" if path.stem == "smoke" else f"{does} -c {path.stem}"
    assert path.read_text().startswith(f"# initbench {command}\n# ")
    assert headline(path).endswith(".")
    assert len(config.schemes) > 1 or path.stem == "phase_diagram"


def test_the_configs_that_users_are_promised_are_there():
    promised = {"mnist5k_mlp", "mnist_mlp", "mnist_mlp_deep", "fashion_mnist_cnn", "cifar10_cnn", "smoke"}
    assert promised <= set(shipped())
    assert load_config("mnist_mlp_deep").model.params["depth"] == 30


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_saved_reads_back_to_the_same(path, write):
    config = load_config(str(path), settings=["init.layers.head=zeros"])
    assert load_config(write(dump_config(config))) == config


def test_a_parameter_called_name_survives_saving(write):
    config = load_config(settings=["schemes=he", "init.bias=0.5"], options={"model": ("--model", "torchvision:resnet18")}, default_seeds=1)
    config = config.model_copy(update={"model": Ref(name="torchvision", params={"name": "resnet18"})})
    assert load_config(write(dump_config(config))) == config


def test_the_committed_schema_is_the_one_that_the_code_gives():
    committed = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    assert committed == schema(), "run: initbench config schema > docs/config.schema.json"


@pytest.mark.heavy
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_schema_accepts_the_shipped_configs(path):
    jsonschema.validate(YAML(typ="safe", pure=True).load(path), schema())


@pytest.mark.heavy
@pytest.mark.parametrize(
    "data", [{"seeds": 0}, {"trian": {}}, {"train": {"lr": "abc"}}, {"model": 5}, {"schemes": []}, {"init": {"bias": "x"}}]
)
def test_the_schema_refuses_what_the_program_refuses(data):
    jsonschema.validate({}, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


def aliases(levels):
    """Each level holds the one before nine times."""
    return "a0: &a0 [1]\n" + "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, levels))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: &a\n  name: mlp\n  inner: *a\n", "no parameter 'inner'"),
        ("schemes: &a [*a]\n", "schemes.0 is null"),
        ("[" * 3000, "nested too deep"),
        (aliases(12), "nested too deep"),
    ],
)
def test_what_refers_to_itself_or_has_no_end_is_told(text, words, write):
    with pytest.raises(ConfigError, match=words):
        load_config(write(text), default_seeds=1)


def test_what_is_no_text_is_told(tmp_path):
    (tmp_path / "bin.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match=r"bin\.yaml is no text in UTF-8"):
        load_config(str(tmp_path / "bin.yaml"))


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path):
    (tmp_path / "marked.yaml").write_text("model: mlp:depth=3\nschemes: [kaiming]\n", encoding="utf-8-sig")
    assert load_config(str(tmp_path / "marked.yaml"), default_seeds=1).model == parse_ref("mlp:depth=3")

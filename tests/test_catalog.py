"""Names are found without importing what they name."""

import subprocess
import sys

import pytest

from initbench.errors import ConfigError
from initbench.question import catalog
from initbench.question.config import Ref, parse_ref


@pytest.fixture
def own_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    doc = '"""Half of it.\n\n    Source: me.\n    """'
    source = f"def build(*, scale: float = 2.0, mode: str):\n    {doc}\n    return scale\n"
    (tmp_path / "mine.py").write_text(source)
    return "./mine.py"


def test_every_shipped_entry_has_a_summary_and_every_scheme_a_source():
    for kind in catalog.KINDS:
        for entry in catalog.entries(kind):
            assert entry.summary.endswith("."), entry.name
            assert kind != "scheme" or entry.source, entry.name
            assert kind != "scheme" or entry.family, entry.name


def test_no_name_or_alias_is_taken_twice():
    for kind in catalog.KINDS:
        names = [name for entry in catalog.entries(kind) for name in (entry.name, *entry.aliases)]
        assert len(names) == len(set(names)), kind


def test_an_alias_stands_for_a_name_with_parameters():
    assert catalog.resolve("scheme", Ref(name="xavier_uniform")) == parse_ref("xavier:distribution=uniform")
    assert catalog.resolve("scheme", Ref(name="he")) == Ref(name="kaiming")


def test_parameters_that_are_defaults_are_left_out():
    assert catalog.resolve("scheme", parse_ref("kaiming:a=0,mode=fan_in")) == Ref(name="kaiming")


def test_a_whole_number_becomes_a_float_where_a_float_is_wanted():
    resolved = catalog.resolve("scheme", parse_ref("normal:std=2"))
    assert type(resolved.params["std"]) is float


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("scheme", "xavir", "Unknown scheme 'xavir'. Did you mean 'xavier'? See: initbench list schemes"),
        ("model", "mpl", "Unknown model 'mpl'. Did you mean 'mlp'? See: initbench list models"),
        ("dataset", "zzzz", "Unknown dataset 'zzzz'. See: initbench list datasets"),
        ("scheme", "kaiming:moed=fan_in", "The scheme 'kaiming' has no parameter 'moed'. Did you mean 'mode'?"),
        ("scheme", "constant", "The scheme 'constant' needs value: write constant:value=VALUE."),
        ("scheme", "normal:std=big", "The parameter 'std' of the scheme 'normal' is 'big'; it must be a number."),
        (
            "scheme",
            "kaiming:mode=fan_on",
            "The parameter 'mode' of the scheme 'kaiming' is 'fan_on'. Did you mean 'fan_in'? Allowed: fan_in,",
        ),
        ("model", "mlp:depth=1.5", "The parameter 'depth' of the model 'mlp' is 1.5; it must be a whole number."),
        ("scheme", "./nowhere.py", "There is no file 'nowhere.py'"),
        ("scheme", "no_such_package:build", "There is no module 'no_such_package'"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(kind, text, sentence):
    with pytest.raises(ConfigError) as caught:
        catalog.resolve(kind, parse_ref(text))
    assert str(caught.value).startswith(sentence)


def test_a_file_of_ones_own_is_a_scheme(own_scheme):
    entry, _ = catalog.find("scheme", own_scheme)
    assert (entry.family, entry.summary, entry.source) == ("own", "Half of it.", "me.")
    assert [(parameter.name, parameter.default, parameter.required) for parameter in entry.parameters] == [
        ("scale", 2.0, False),
        ("mode", None, True),
    ]
    assert catalog.load("scheme", own_scheme)(mode="x") == 2.0
    assert catalog.user_file("scheme", own_scheme) == entry.path
    assert catalog.user_file("scheme", "kaiming") is None


def test_a_class_of_a_users_module_is_a_model(tmp_path, monkeypatch):
    (tmp_path / "their_nets.py").write_text(
        "class Net:\n    def __init__(self, shape, classes, *, width: int = 4):\n        self.width = width\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.resolve("model", parse_ref("their_nets:Net:width=8")).params == {"width": 8}
    assert catalog.load("model", "their_nets:Net")((1,), 2, width=8).width == 8


def test_a_name_with_dots_is_told_how_to_write_an_own_one():
    with pytest.raises(ConfigError, match=r"Unknown model 'mine.Net'. Write your own as ./mine.py:NAME or package.module:NAME. See:"):
        catalog.find("model", "mine.Net")


def test_a_users_file_may_import_what_is_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_mine.py").write_text("WIDTH = 3\n")
    (tmp_path / "mine.py").write_text("from beside_mine import WIDTH\ndef build():\n    return WIDTH\n")
    assert catalog.load("scheme", f"{tmp_path}/mine.py")() == 3


def test_the_first_argument_of_a_class_may_have_any_name(tmp_path):
    (tmp_path / "mine.py").write_text("class Net:\n    def __init__(this, width=4):\n        pass\n")
    assert [parameter.name for parameter in catalog.find("model", f"{tmp_path}/mine.py:Net")[0].parameters] == ["width"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("def build(:\n", "mine.py:1:"), ("import no_such_thing_here\ndef build(): ...\n", "Cannot import"), ("x = 1\n", "has no 'build'")],
)
def test_a_broken_file_is_named_with_what_is_wrong(source, sentence, tmp_path):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ConfigError, match=sentence):
        catalog.load("scheme", str(tmp_path / "mine.py"))


def test_the_choices_of_a_parameter_are_known_from_the_source_alone():
    (mode,) = [parameter for parameter in catalog.find("scheme", "kaiming")[0].parameters if parameter.name == "mode"]
    assert mode.choices == ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


@pytest.mark.heavy
def test_listing_everything_imports_nothing_heavy():
    code = (
        "import sys\nfrom initbench.question import catalog\n"
        "for kind in catalog.KINDS: catalog.entries(kind)\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_what_a_scheme_is_shown_with_is_data_of_its_file():
    entry = catalog.find("scheme", "siren")[0]
    assert (entry.example_model, entry.needs) == ("mlp:activation=sin", ("inputs",))
    plain = catalog.find("scheme", "kaiming")[0]
    assert (plain.example_model, plain.needs) == ("mlp", ())


def test_a_file_is_an_entry_by_the_function_that_it_defines_not_by_its_text(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "told.py").write_text('"""Not a model:\ndef build(\n"""\n')
    (tmp_path / "models" / "net.py").write_text("def build(shape, classes): ...\n")
    assert [entry.name for entry in catalog.entries.__wrapped__("model")] == ["net"]

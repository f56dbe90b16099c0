"""What `list` and `show` say."""

import pytest

from initbench.cli import guide
from initbench.errors import ConfigError


def test_a_name_that_two_kinds_have_is_shown_for_both(monkeypatch):
    monkeypatch.setattr(guide.config_file, "shipped", lambda: {"kaiming": guide.Path("kaiming.yaml")})
    kinds = [getattr(found, "kind", "config") for found in guide.shown("kaiming:mode=fan_out")]
    assert kinds == ["scheme", "config"]


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [
        ("from initbench.schemes import Layerwise\ndef build(): ...\n", "", "scheme"),
        ("from initbench import schemes\ndef build(): ...\n", "", "scheme"),
        ("# not of initbench.schemes\ndef build(shape, classes): ...\n", "", "model"),
        ("from initbench.optimizers import Rule\ndef build(train): ...\n", "", "optimizer"),
        ("class Net: ...\n", ":Net", "model"),
        ("def load(root): ...\n", "", "dataset"),
        ("def execute(jobs): ...\n", "", "engine"),
        ("from initbench.metrics import Metric\ndef build(): ...\n", "", "metric"),
        ("def write(runs, out, title): ...\n", "", "export"),
    ],
)
def test_a_users_file_is_shown_as_what_it_is(tmp_path, source, name, kind):
    (tmp_path / "mine.py").write_text(source)
    (found,) = guide.shown(f"{tmp_path}/mine.py{name}")
    assert found.kind == kind


def test_a_users_file_that_defines_nothing_of_the_name_is_told(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"is no scheme, model, dataset, task, optimizer, engine, metric, export or rule"):
        guide.shown(f"{tmp_path}/mine.py")
    with pytest.raises(ConfigError, match=r"There is no file"):
        guide.shown(f"{tmp_path}/nowhere.py")


def test_an_unknown_name_is_told_with_the_nearest_of_any_kind():
    with pytest.raises(ConfigError, match=r"Unknown name 'mnist5'. Did you mean 'mnist5k'"):
        guide.shown("mnist5")


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("scheme", "kaiming", '"kaiming"'),
        ("model", "mlp", 'model="mlp"'),
        ("dataset", "npz", 'dataset="npz:file=NAME"'),
        ("optimizer", "lion", "train.optimizer=lion"),
        ("metric", "steps_to_target", "View(metric='steps_to_target', target=0.5)"),
        ("metric", "activation_ratio", "View()"),
        ("export", "parquet", 'export("parquet", compare('),
    ],
)
def test_an_example_uses_the_entry(kind, name, words):
    example = guide.example(guide.catalog.find(kind, name)[0])
    compile(example, name, "exec")
    assert words in example


def test_a_page_has_the_parts_of_a_docstring():
    entry = guide.catalog.find("scheme", "fixup")[0]
    page = guide.page(entry)
    assert page.summary.startswith("Trains residual networks without norm")
    assert page.formula[0].startswith("L branches of m layers each")
    assert page.applies == "residual networks without norm and attention, such as `resnet:depth=8,norm=none`."
    assert page.needs.startswith("model hooks")
    assert page.source.startswith("Zhang, Dauphin & Ma 2019")
    assert entry.example_model == "resnet:depth=8,norm=none"


def test_a_page_without_labels_is_all_text():
    page = guide.page(guide.catalog.find("model", "mlp")[0])
    assert (page.applies, page.needs, page.source) == ("", "", "")
    assert len(page.formula) == 1


def test_an_example_gives_values_to_what_has_no_default():
    assert '"constant:value=0.5"' in guide.example(guide.catalog.find("scheme", "constant")[0])

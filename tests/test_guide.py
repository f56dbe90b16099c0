"""What `list`, `show` and `doctor` say."""

import pytest

from initbench import guide
from initbench.errors import ConfigError


def test_a_name_that_two_kinds_have_is_shown_for_both(monkeypatch):
    monkeypatch.setattr(guide.config_file, "shipped", lambda: {"kaiming": guide.Path("kaiming.yaml")})
    kinds = [getattr(found, "kind", "config") for found in guide.shown("kaiming:mode=fan_out")]
    assert kinds == ["scheme", "config"]


def test_an_unknown_name_is_told_with_the_nearest_of_any_kind():
    with pytest.raises(ConfigError, match=r"Unknown name 'mnist5'. Did you mean 'mnist5k'"):
        guide.shown("mnist5")


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [("scheme", "kaiming", 'method="kaiming"'), ("model", "mlp", 'model="mlp"'), ("dataset", "npz", 'dataset="npz:file=NAME"')],
)
def test_an_example_uses_the_entry(kind, name, words):
    example = guide.example(guide.catalog.find(kind, name)[0])
    compile(example, name, "exec")
    assert words in example


def test_the_doctor_says_which_data_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(guide.provenance, "examine", lambda: ())
    data, disk = guide.doctor(str(tmp_path))
    assert data.found.startswith(f"mnist5k (data folder: {tmp_path}")
    assert disk.what == "disk"

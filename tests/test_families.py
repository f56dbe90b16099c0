"""One word for many schemes: `all`, and the name of a family."""

import pytest
from typer.testing import CliRunner

from initbench.cli.app import app
from initbench.errors import ConfigError
from initbench.question import catalog, config_file, families


def names(*schemes):
    config = config_file.load_config(None, options={"schemes": ("scheme", list(schemes)), "seeds": ("seeds", 1)})
    return [str(ref) for ref in config.schemes]


def test_every_scheme_that_needs_no_parameter_is_in_one_family():
    listed = [name for found in families.families().values() for name in found]
    assert len(listed) == len(set(listed)) >= 45
    assert {entry.name for entry in catalog.entries("scheme")} - set(listed) == {"constant"}


def test_all_is_every_family():
    assert names("all") == [name for found in families.families().values() for name in found]


def test_a_family_is_its_schemes_in_order():
    assert names("family:residual") == ["depth_scaled", "fixup", "rezero", "skipinit", "stable_resnet", "zero_gamma"]


def test_blanks_in_names_of_families_can_be_written_in_three_ways():
    assert names("family:variance_scaling") == names("family:variance-scaling") == names("family:Variance Scaling")


def test_what_is_named_already_is_not_named_again():
    assert names("glorot", "fixup:mode=fan_in", "family:residual", "family:residual", "kaiming") == [
        "glorot", "fixup:mode=fan_in", "depth_scaled", "fixup", "rezero", "skipinit", "stable_resnet", "zero_gamma", "kaiming",
    ]  # fmt: skip
    assert "xavier" not in names("glorot", "all")


def test_an_unknown_family_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"Unknown family 'residal'\. Did you mean 'residual'\?.*Allowed: critical, .*transformer"):
        names("family:residal")


def test_a_config_file_can_say_all(tmp_path):
    (tmp_path / "c.yaml").write_text("schemes: all\nseeds: 1\n")
    assert len(config_file.load_config(str(tmp_path / "c.yaml")).schemes) >= 45


def test_the_command_line_takes_families_beside_schemes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["compare", "--family", "sparse", "kaiming", "--seeds", "1", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert [line.split()[1] for line in result.stdout.splitlines() if line.endswith("to do")] == ["kaiming", "sparse", "sparse_incoming"]

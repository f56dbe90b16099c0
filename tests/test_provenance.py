"""What a result was made on."""

import subprocess
import sys
from pathlib import Path

import initbench
from initbench.results import provenance


def test_the_environment_says_what_changes_numbers():
    found = provenance.environment()
    assert found["initbench"] == initbench.__version__
    assert {"python", "platform", "cpu", "cpu_cores", "torch", "numpy"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def test_the_environment_holds_no_path_and_no_name_of_a_machine():
    import socket

    text = " ".join(provenance.environment().values())
    assert str(Path.home()) not in text.split()
    assert socket.gethostname() not in text


def test_the_environment_is_told_without_torch():
    code = "import sys; from initbench.results import provenance; provenance.environment(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_package_that_is_not_there_has_no_version():
    assert provenance.package_version("no-such-package-anywhere") is None
    assert provenance.package_version("pydantic")


def test_outside_of_a_checkout_there_is_no_revision(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "initbench" / "provenance.py"))
    assert provenance.source_revision() is None

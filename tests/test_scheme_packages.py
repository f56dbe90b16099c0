"""A researcher's own scheme: one file beside the question, or a package that is installed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
SOURCE = '''
"""A scheme of one's own."""
from initbench.schemes import Law
from initbench.schemes import Layerwise

FAMILY = "mine"
ALIASES = {"thirds_alias": {}}


def build(*, scale: float = 1.0):
    """Var W = scale^2 / (3 fan_in): a third of LeCun's.

    W ~ N(0, scale^2 / (3 fan_in)), b = 0.

    Applies to: any weight layer.
    Needs: nothing.

    Source: this test.
    """

    def fill(weight, layer, generator):
        std = scale / (3 * max(1, layer.fan_in)) ** 0.5
        weight.normal_(0, std, generator=generator)
        return Law("normal", std)

    return Layerwise("thirds", fill)
'''


def initbench(folder, *arguments, path=()):
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(ROOT)]), "COLUMNS": "200"}
    command = [sys.executable, "-m", "initbench", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def wheel(folder):
    """A built package, as any build tool makes it, whose metadata name an entry point."""
    path = folder / "thirds_package-1.0-py3-none-any.whl"
    info = "thirds_package-1.0.dist-info"
    members = {
        "thirds_package/__init__.py": "",
        "thirds_package/scheme.py": SOURCE,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: thirds-package\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[initbench.schemes]\nthirds = thirds_package.scheme:build\n",
    }
    record = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip has installed the package into."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("package")
    target = folder / "site"
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel(folder))], check=True, capture_output=True)
    return target


def test_a_scheme_of_an_installed_package_is_listed_and_shown(installed, tmp_path):
    listed = initbench(tmp_path, "list", "schemes", path=[installed])
    assert "thirds" in listed.stdout
    shown = initbench(tmp_path, "show", "thirds", path=[installed])
    assert "Var W = scale^2 / (3 fan_in): a third of LeCun's." in shown.stdout
    assert "scale" in shown.stdout
    assert "thirds" not in initbench(tmp_path, "list", "schemes").stdout


def test_a_scheme_of_an_installed_package_is_compared_by_its_name_and_alias(installed, tmp_path):
    small = ["--model", "mlp:depth=1,width=8", "--steps", "2", "--seeds", "1", "--engine", "serial", "-q"]
    done = initbench(tmp_path, "compare", "thirds_alias:scale=2", "lecun", *small, "--json", path=[installed])
    assert done.returncode == 0, done.stderr
    assert '"scheme": "thirds:scale=2.0"' in done.stdout
    assert done.stdout.count('"status": "completed"') == 2


def test_a_scheme_in_a_file_is_trained_with_and_checked(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    small = ["--model", "mlp:depth=1,width=8", "--steps", "2", "--seeds", "1", "--engine", "serial", "-q"]
    done = initbench(tmp_path, "run", "./mine.py:scale=2", *small, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"status": "completed"') == 1
    checked = initbench(tmp_path, "check-scheme", "./mine.py", "--model", "mlp:depth=1,width=32")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "failed" not in checked.stdout

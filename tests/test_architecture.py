"""The house rules: import contract, cold files, file lengths, nothing left unfinished."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CORE

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "initbench"
COLD_FOLDERS = ("cli", "exports", "metrics", "probing", "quantities", "question", "reporting", "results", "statistics", "studies", "theory")
COLD = sorted([*PACKAGE.glob("*.py"), *(path for folder in COLD_FOLDERS for path in (PACKAGE / folder).glob("*.py"))])
EVERYTHING = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])
HEAVY = {"torch", "torchvision", "pandas", "matplotlib", "scipy"}


def imports_at_module_level(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("path", COLD, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_cold_file_imports_nothing_heavy(path):
    assert not imports_at_module_level(path) & HEAVY


@pytest.mark.heavy
@pytest.mark.parametrize("arguments", [["--help"], ["list", "schemes"], ["compaer"], ["run", "--method", "xavir"], ["config", "validate"]])
def test_a_cold_command_leaves_the_heavy_packages_alone(arguments, tmp_path):
    code = (
        "import sys\n"
        "from initbench.__main__ import main\n"
        f"sys.argv = ['initbench', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}), file=sys.stdout)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.strip().splitlines()[-1] == "[]", ran.stdout + ran.stderr


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_of_more_than_500_lines_says_why(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 500 or any(line.startswith("# Longer than 500 lines: ") for line in lines)


def test_every_exception_is_caught_only_where_users_code_is_run():
    catching = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"except (Base)?Exception\b|except:", path.read_text())
    }
    assert catching <= {"errors.py", "training/job.py", "nn/activation.py", "workers/forked.py", "linting/run.py"}


@pytest.mark.heavy
def test_only_the_console_prints():
    printing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= {"cli/output.py"}


def test_imports_point_one_way():
    ran = subprocess.run([str(Path(sys.executable).with_name("lint-imports"))], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout


def test_no_room_is_named_after_nothing():
    names = {path.stem for path in PACKAGE.rglob("*.py")} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not names & {"utils", "helpers", "common", "core", "base", "misc"}


def test_every_file_of_the_core_is_there():
    assert {f"{name}.py" for name in CORE} <= {path.name for path in (ROOT / "tests").glob("test_*.py")}

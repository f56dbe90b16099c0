"""docs/architecture.md tells the truth: the picture shows the rooms that there are, and every file and function on the page exists."""

import ast
import importlib.util
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROUTES = dict(re.findall(r"^## The route of (.+?)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
STEPS = {name: re.findall(r"^\d+\. .*$", text, re.MULTILINE) for name, text in ROUTES.items()}


@pytest.fixture(scope="module")
def rooms():
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def defined_in(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.heavy
def test_the_picture_shows_the_rooms_and_imports_that_there_are(rooms):
    shown = re.findall(r'id="((?:room|arrow)-[^"]+)"', rooms.PICTURE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(rooms.ids()), "draw it anew with: make docs"


@pytest.mark.heavy
def test_no_two_rooms_are_drawn_at_one_place(rooms):
    at = rooms.places()
    assert len({at[room] for room in rooms.rooms()}) == len(rooms.rooms())
    assert all(at[room][1] > at[other][1] for room, other in rooms.arrows())


def test_every_room_has_its_line_in_the_table(rooms):
    (table,) = re.findall(r"^\| room \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    named = [name for line in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert named == list(rooms.rooms())


@pytest.mark.parametrize("route", ["a scheme's name", "a batch", "a seed", "a result"])
def test_a_route_has_ten_steps_each_in_a_file(route):
    assert len(STEPS[route]) == 10
    assert all(re.match(r"\d+\. `initbench/[\w/]+\.py`: `\w+(\(\))?`", step) for step in STEPS[route])


@pytest.mark.parametrize("line", [line for line in PAGE.splitlines() if "`initbench/" in line])
def test_a_line_names_files_that_exist_and_what_they_define(line):
    for path, words in re.findall(r"`(initbench/[\w/]+\.py)`(.*?)(?=`initbench/|$)", line):
        assert set(re.findall(r"`(\w+)\(\)`", words)) <= defined_in(path)


def test_every_function_on_the_page_is_named_with_its_file():
    assert [line for line in PAGE.splitlines() if re.search(r"`\w+\(\)`", line) and "`initbench/" not in line] == []


@pytest.mark.heavy
def test_every_type_in_the_table_exists_once():
    (table,) = re.findall(r"^\| type \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    defined = Counter(name for path in (ROOT / "initbench").rglob("*.py") for name in defined_in(path))
    assert {name: defined[name] for name in re.findall(r"^\| `(\w+)`", table, re.MULTILINE) if defined[name] != 1} == {}


def test_every_dependency_has_its_reason():
    (table,) = re.findall(r"^\| package \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    named = [name for line in table.strip().splitlines()[2:] for name in re.findall(r"`([\w.]+)`", line.split("|")[1])]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(named) == sorted(re.match(r"[\w.]+", dependency)[0] for dependency in project["dependencies"])

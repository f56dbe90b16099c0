"""What belongs to a user's file."""

from pathlib import Path

import pytest

import initbench
from initbench.errors import ConfigError, StorageError
from initbench.question.user_files import digest, imports, sources


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_file_has_what_it_imports_from_beside_it_and_nothing_else(tmp_path):
    write(
        tmp_path,
        mine="import first, torch, json\nfrom second import x\n",
        first="import third\n",
        second="",
        third="import first\n",
        other="",
    )
    assert [path.stem for path in sources(tmp_path / "mine.py")] == ["mine", "first", "second", "third"]


def test_a_module_of_a_package_has_what_it_imports_of_the_package(tmp_path):
    write(tmp_path, pkg__nets="from . import blocks\nfrom .deep.parts import part\nfrom pkg import more\nimport outside\n", outside="")
    write(tmp_path, pkg__blocks="", pkg__more="", pkg__deep__parts="from ..blocks import b\n", pkg__unused="")
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "deep" / "__init__.py").write_text("")
    found = {str(path.relative_to(tmp_path)) for path in sources(tmp_path / "pkg" / "nets.py")}
    assert found == {"pkg/__init__.py", "pkg/nets.py", "pkg/blocks.py", "pkg/more.py", "pkg/deep/parts.py"}


def test_installed_packages_do_not_count(tmp_path):
    folder = tmp_path / "site-packages"
    write(folder, single="import numpy_like\n", numpy_like="")
    assert [path.stem for path in sources(folder / "single.py")] == ["single"]


def test_the_digest_changes_with_any_of_the_files_and_with_nothing_else(tmp_path):
    write(tmp_path, mine="import first\n", first="x = 1\n", other="")
    before = digest(tmp_path / "mine.py")
    write(tmp_path, other="y = 1\n")
    assert digest(tmp_path / "mine.py") == before
    write(tmp_path, first="x = 2\n")
    assert digest(tmp_path / "mine.py") != before


def test_imports_are_full_names_and_a_comment_is_none(tmp_path):
    write(tmp_path, mine="import os.path, torch as t\nfrom initbench import schemes\nfrom . import beside\n# initbench.models\n")
    assert imports(tmp_path / "mine.py") == {"os.path", "torch", "initbench", "initbench.schemes"}


OWN_NET = """
from torch import nn


def net(shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Linear(width, classes))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("now", ["gone", "another", "elsewhere"])
@pytest.mark.parametrize("more", [{}, {"tune": "train.lr=0.1,0.01"}, {"grid": {"model.width": [4, 8]}}])
def test_results_are_looked_at_whatever_has_become_of_the_users_files(now, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(OWN_NET)
    data = "synthetic:n=256,test=128,classes=3,shape=[1,6,6]"
    train = initbench.sweep if "grid" in more else initbench.compare
    question = {"model": "./net.py:net", "dataset": data, "seeds": 2, "steps": 3, **more}
    made = train(["xavier", "kaiming"], engine="serial", output="out", **question)
    before = {path.relative_to("out"): path.read_bytes() for path in Path("out/tables").iterdir()}
    if now == "gone":
        Path("net.py").unlink()
    elif now == "another":
        Path("net.py").write_text("raise SystemExit('looking runs no code')")
    else:
        (tmp_path / "there").mkdir()
        Path("out").rename("there/out")
        monkeypatch.chdir(tmp_path / "there")
    loaded = initbench.load_results("out")
    assert loaded.summary == made.summary
    assert len(loaded.reported) == len(made.reported)
    assert [plot.name for plot in loaded.plots] == [plot.name for plot in made.plots]
    assert initbench.report("out").summary == made.summary
    assert {path.relative_to("out"): path.read_bytes() for path in Path("out/tables").iterdir()} == before
    with pytest.raises((StorageError, ConfigError)):
        train(["xavier", "kaiming"], engine="serial", output="out", **question)

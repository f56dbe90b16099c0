"""The commands `plot` and `table` on real results folders, of a comparison and of a probe."""

import re
import subprocess
import sys
import zlib

import pytest
from typer.testing import CliRunner

import initbench
from initbench.cli.app import app
from initbench.errors import ConfigError

TINY = "synthetic:n=256,test=64,classes=3,shape=[1,6,6],noise=0.5"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots") / "compared"
    return initbench.compare(
        ["kaiming", "xavier", "normal:std=5"],
        model="mlp:depth=6,width=16",
        dataset=TINY,
        seeds=3,
        steps=20,
        output=str(folder),
        engine="serial",
    )


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots") / "probed"
    return initbench.probe("mlp:depth=4,width=16", ["kaiming", "xavier"], dataset=TINY, output=str(folder))


def call(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.mark.heavy
def test_without_a_name_it_lists_what_there_is(compared, probed):
    assert [line.split()[0] for line in call("plot", compared.folder).stdout.splitlines()][:3] == ["loss", "accuracy", "accuracy_curves"]
    assert {"signal", "gradients", "pre_activations"} <= {line.split()[0] for line in call("plot", probed.folder).stdout.splitlines()}


def size_in_inches(pdf):
    width, height = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf).groups()
    return float(width) / 72, float(height) / 72


def sizes_of_type(pdf):
    """The font sizes that the page's streams set, in points."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    found = []
    for stream in streams:
        try:
            found += re.findall(rb"/F\d+ ([\d.]+) Tf", zlib.decompress(stream))
        except zlib.error:
            continue
    return [float(size) for size in found]


@pytest.mark.heavy
@pytest.mark.parametrize(("columns", "width"), [(1, 3.25), (2, 6.75)])
def test_a_figure_of_a_paper_is_as_wide_as_its_columns_and_its_type_7_points_or_more(columns, width, compared, tmp_path):
    names = [plot.name for plot in compared.plots]
    done = call("plot", compared.folder, *names, "--out", tmp_path, "--columns", columns)
    assert done.exit_code == 0, done.output
    for name in names:
        pdf = (tmp_path / f"{name}.pdf").read_bytes()
        assert size_in_inches(pdf)[0] == pytest.approx(width)
        assert min(sizes_of_type(pdf)) >= 7
        assert compared.chosen(name).title.encode() not in pdf


@pytest.mark.heavy
@pytest.mark.parametrize("ending", ["pdf", "svg", "png"])
def test_the_same_results_give_the_same_bytes_in_another_process(ending, compared, tmp_path):
    for part in ("one", "two"):
        words = ["plot", str(compared.folder), "signal", "--format", ending, "--out", str(tmp_path / f"{part}.{ending}")]
        subprocess.run([sys.executable, "-m", "initbench", *words], check=True, capture_output=True)
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


@pytest.mark.heavy
def test_a_scheme_can_be_put_before_the_others(compared, tmp_path):
    assert call("plot", compared.folder, "loss", "--format", "svg", "--highlight", "xavier", "--out", tmp_path / "l.svg").exit_code == 0
    svg = (tmp_path / "l.svg").read_text()
    colours = set(re.findall(r"stroke: (#\w{6})", svg))
    assert "#d55e00" in colours
    assert "#0072b2" not in colours
    assert ">xavier<" in svg
    assert ">kaiming<" not in svg


@pytest.mark.heavy
@pytest.mark.parametrize(("words", "said"), [
    (["nothing"], "There is no plot 'nothing' of"),
    (["loss", "--highlight", "lecun"], "There is no scheme 'lecun' in this plot. There are:"),
    (["loss", "--format", "png", "--out", "x.pdf"], "--out is x.pdf, and --format is png. Leave out --format"),
    (["loss", "--out", "x.jpg"], "A figure ends in .pdf, .svg or .png."),
])  # fmt: skip
def test_what_there_is_not_is_said_before_anything_is_written(words, said, compared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("plot", compared.folder, "accuracy", *words) if words == ["nothing"] else call("plot", compared.folder, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_without_results_and_a_damaged_probe_are_said(tmp_path, probed):
    assert "holds no initbench results" in call("plot", tmp_path, "loss").stderr
    (tmp_path / "probe.json").write_text((probed.folder / "probe.json").read_text()[:500])
    assert "is not as it was written" in call("plot", tmp_path, "signal").stderr
    assert call("table", probed.folder).exit_code == 2


def test_table_prints_or_writes(compared, tmp_path):
    printed = call("table", compared.folder, "--format", "markdown").stdout
    assert printed.startswith("| scheme | test accuracy (%) |")
    assert call("table", compared.folder, "--format", "markdown", "--out", tmp_path / "t.md").exit_code == 0
    assert (tmp_path / "t.md").read_text() == printed


def test_a_notebook_shows_plots_and_tables(compared, probed):
    for shown in (compared, probed, initbench.load_results(compared.folder), initbench.load_probe(probed.folder)):
        figure = shown.plot("signal", style="slide")
        assert figure.get_figwidth() == 13
        html = shown._repr_html_()
        assert "<table " in html
        assert "kaiming" in html
        with pytest.raises(ConfigError, match="There is no style 'poster'"):
            shown.plot("signal", style="poster")
    assert len(probed.to_pandas()) == sum(len(run.layers) for run in probed.runs)
    assert initbench.load_probe(probed.folder).verdicts == probed.verdicts

"""In a notebook: what is shown there, how far a call is, and the example, which is run in a kernel of its own."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

import initbench
from initbench.results.record import RunStatus
from initbench.studies import notebook

EXAMPLE = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"
TINY = {"model": "mlp:depth=1,width=8", "dataset": "synthetic:n=256,test=20,shape=[1,4,4]", "steps": 2, "engine": "serial", "device": "cpu"}


class Shown:
    """What a front end shows: IPython as far as it is used here."""

    version_info = (9, 0)

    def __init__(self):
        self.texts = []
        self.update = self.display

    def get_ipython(self):
        return SimpleNamespace(kernel=None)

    def display(self, data, *, raw, display_id=None):
        assert raw
        assert re.fullmatch(r'<progress value="[\d.]+" max="\d+"></progress> ' + re.escape(data["text/plain"]), data["text/html"])
        self.texts.append(data["text/plain"])
        return self


@pytest.fixture
def front_end(monkeypatch):
    shown = Shown()
    monkeypatch.setitem(sys.modules, "IPython", shown)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setattr(notebook, "PAUSE", 0)
    return shown


def test_outside_of_a_notebook_nothing_is_shown(monkeypatch):
    assert notebook.watch() is None
    assert notebook.line(3, "run") is None
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not notebook.is_here()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert not notebook.is_here(), "IPython in a terminal has no kernel"


@pytest.mark.heavy
def test_a_comparison_tells_how_far_it_is(front_end, tmp_path):
    made = initbench.compare(["xavier", "kaiming"], seeds=2, output=str(tmp_path / "out"), **TINY)
    assert front_end.texts[0] == "0 of 4 runs"
    assert re.fullmatch(r"2 of 4 runs, \d+ s left", next(text for text in front_end.texts if text.startswith("2")))
    assert re.fullmatch(r"4 runs in \d+ s", front_end.texts[-1])
    assert len(made.results) == 4
    front_end.texts.clear()
    initbench.compare(["xavier", "kaiming"], seeds=2, output=str(tmp_path / "out"), **TINY)
    assert front_end.texts == [], "there is nothing to run"


@pytest.mark.heavy
def test_a_watch_that_is_given_is_told_instead(front_end, tmp_path):
    told = []
    watch = SimpleNamespace(planned=told.append, progress=told.append, finished=told.append)
    initbench.run("xavier", output=str(tmp_path / "out"), watch=watch, **TINY)
    assert len(told) >= 2
    assert front_end.texts == []


def test_a_probe_tells_how_far_it_is(front_end):
    initbench.probe("mlp:depth=1,width=8", ["kaiming", "xavier"], inputs="1x4x4")
    assert front_end.texts[0] == "0 of 2 probes"
    assert re.fullmatch(r"2 probes in \d+ s", front_end.texts[-1])


def test_the_line_is_not_drawn_more_often_than_anyone_can_read(front_end, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(notebook, "PAUSE", 0.2)
    line = notebook.Line(1000, "run")
    for done in range(1, 1001):
        now[0] = done / 100
        line.move(done)
    assert 40 <= len(front_end.texts) <= 52
    assert front_end.texts[-1] == "1000 runs in 10 s"
    said = [tuple(map(int, re.findall(r"\d+", text))) for text in front_end.texts[1:-1]]
    assert all(abs(left - 10 * (1 - done / 1000)) <= 1 for done, _, left in said)


def test_a_report_on_an_initialization_is_a_table_and_safe():
    hostile = "<script>alert(1)</script>&"
    model = nn.ModuleDict({hostile: nn.Linear(3, 2)})
    model.register_parameter("scale", nn.Parameter(model[hostile].bias.detach().clone()))
    report = initbench.init_network(model, "kaiming", seed=0)
    html = report._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;.weight" in html
    assert "Nothing set scale." in html
    assert not re.search(r"color|background", html), "a notebook may be light or dark"
    frame = report.to_pandas()
    assert frame.parameter.tolist() == [name for name, _ in model.named_parameters()]
    weight = frame.set_index("parameter").loc[f"{hostile}.weight"]
    assert (weight["shape"], weight.fan_in, weight.law) == ("2x3", 3, "normal")
    assert weight["std"] == pytest.approx(model[hostile].weight.std(correction=0).item(), rel=1e-5)
    assert frame.lr_multiplier.tolist() == [1.0] * 3


@pytest.mark.heavy
def test_results_of_hostile_names_are_shown_as_text(tmp_path):
    (tmp_path / "<b>&amp;$x$.py").write_text("from initbench.schemes import kaiming\n\n\ndef build():\n    return kaiming.build()\n")
    made = initbench.run(f"{tmp_path}/<b>&amp;$x$.py", output=str(tmp_path / "out"), **TINY)
    assert {run.status for run in made.results} == {RunStatus.COMPLETED}
    html = made._repr_html_()
    assert "<b>&amp;$x$" not in html
    assert "&lt;b&gt;&amp;amp;$x$.py" in html


@pytest.mark.heavy
def test_a_figure_is_a_picture_in_a_notebook_and_objects_are_a_line(tmp_path):
    made = initbench.compare(["xavier", "kaiming"], seeds=1, output=str(tmp_path / "out"), **TINY)
    for plot in made.plots:
        assert made.plot(plot.name)._repr_png_().startswith(b"\x89PNG")
    probed = initbench.probe("mlp:depth=2,width=8", ["kaiming"], inputs="1x4x4")
    assert repr(probed).startswith("<Probe of 1 schemes: kaiming")
    assert len(repr(probed)) < 300
    assert probed.plot("signal")._repr_png_().startswith(b"\x89PNG")


def test_the_example_is_kept_without_outputs():
    cells = json.loads(EXAMPLE.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert all(cell["outputs"] == [] and cell["execution_count"] is None and cell["metadata"] == {} for cell in code)


def test_the_example_links_to_pages_that_there_are():
    text = "".join(line for cell in json.loads(EXAMPLE.read_text(encoding="utf-8"))["cells"] for line in cell["source"])
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    assert all((EXAMPLE.parent / link).is_file() for link in links)


@pytest.mark.exports
def test_the_example_runs_in_a_kernel_of_its_own(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make test-exports installs it")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make test-exports installs it")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: make test-exports installs it")
    done = nbformat.read(EXAMPLE, as_version=4)
    nbclient.NotebookClient(done, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = [set(output.get("data", {})) for output in outputs]
    assert not [output for output in outputs if output.output_type == "stream"], "nothing is printed beside"
    assert sum("image/png" in kind for kind in kinds) == 3
    plain = [output["data"]["text/plain"] for output in outputs]
    assert any(re.fullmatch(r"9 runs in \d+ s", text) for text in plain)
    assert any(text.startswith("<Results of 9 runs") for text in plain)
    shown = "".join(output["data"].get("text/html", "") for output in outputs)
    assert shown.count("<table") >= 4
    assert "<strong>kaiming: 4 parameters</strong>" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["results"]

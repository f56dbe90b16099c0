"""Tasks: what a model is given, its loss, when a run counts as trained, and that a plain loop gives the same numbers."""

import hashlib
import math
import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from training_support import job_of

import initbench
from initbench.data.text import text_splits
from initbench.datasets import coordinates, shapes, text274k, waves
from initbench.errors import ConfigError, DataError, StorageError
from initbench.init.initialize import initialize
from initbench.nn.build import build_model
from initbench.question import catalog, plan
from initbench.question.config import ExperimentConfig, parse_ref
from initbench.results.outcome import Outcome, outcome
from initbench.results.provenance import NOT_STACKED, STACKED_RUNS
from initbench.results.record import Evaluation, RunResult, RunStatus
from initbench.training.job import build_task, load_data, run_job
from initbench.training.loop import Ready, Stopwatch, train

CPU, PLAIN = torch.device("cpu"), torch.contiguous_format
MODELS = """
from torch import nn

class Words(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Embedding(classes, 24), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, classes))

class Code(nn.Sequential):
    def __init__(self, shape):
        size = shape[0] * shape[1] * shape[2]
        super().__init__(nn.Flatten(), nn.Linear(size, 12), nn.Tanh(), nn.Linear(12, size), nn.Unflatten(1, shape))

class Numbers(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Linear(shape[0], 24), nn.Tanh(), nn.Linear(24, classes))

class Masks(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Conv2d(shape[0], 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))
"""
CASES = {
    "language:context=16": ("Words", "text274k"),
    "autoencoder": ("Code", "synthetic:n=256,test=64,classes=3,shape=[1,6,6]"),
    "regression": ("Numbers", "waves:n=256,test=64,inputs=4"),
    "segmentation": ("Masks", "shapes:n=128,test=32,size=12"),
}
"""Of each task a small model and its data."""


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models.py").write_text(MODELS)


def job_for(task, **train):
    model, data = CASES[task]
    settings = {"steps": 50, "batch_size": 16, "lr": 0.05, **train}
    return job_of("kaiming", model=f"./models.py:{model}", dataset=data, task=task, train=settings)


def plain_loss(task, outputs, inputs, targets):
    """The loss as a textbook has it."""
    if task.startswith("language"):
        return functional.cross_entropy(outputs.transpose(1, 2), targets)
    if task == "segmentation":
        return functional.cross_entropy(outputs, targets)
    return functional.mse_loss(outputs, inputs if task == "autoencoder" else targets)


@pytest.mark.heavy
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("task", CASES)
def test_the_first_fifty_losses_are_those_of_a_plain_loop(task):
    job = job_for(task)
    data = load_data(job.dataset, Path(), CPU, 0.0, job.task)
    model = build_model(job.model, data.shape, data.classes, job.seed)
    init, layers = initialize(model, job.scheme, seed=job.seed, rules=job.init)
    found = train(Ready(job, data, model, layers, init), watch=Stopwatch()).losses
    model = build_model(job.model, data.shape, data.classes, job.seed)
    initialize(model, job.scheme, seed=job.seed, rules=job.init)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    expected = []
    for inputs, targets in islice(data.batches(seed=job.seed, batch_size=16, layout=PLAIN, augment=False), 50):
        optimizer.zero_grad()
        loss = plain_loss(task, model(inputs), inputs, targets)
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected[-1] < expected[0]


@pytest.mark.heavy
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("task", CASES)
def test_a_comparison_is_about_the_loss_and_says_so(task):
    model, data = CASES[task]
    parts = {"model": f"./models.py:{model}", "settings": [f"task={task}"], "dataset": data}
    results = initbench.compare(["xavier", "zeros"], steps=60, seeds=6, engine="serial", output="out", **parts)
    summary = results.summary
    assert summary.metric == ("dice" if task == "segmentation" else "final_test_loss")
    assert summary.has_accuracy is (task.startswith("language") or task == "segmentation")
    assert summary.scheme("zeros").trained == 0
    losses = [run.evaluations[-1].test_loss for run in results.results if str(run.job.scheme) == "xavier"]
    assert all(run.chance_loss is not None for run in results.results)
    assert summary.scheme("xavier").estimate("final_test_loss").low >= min(losses)
    assert (results.folder / "report.html").is_file()


def test_the_loss_of_guessing_is_that_of_a_model_that_gives_one_answer():
    words = load_data(parse_ref("text274k"), Path(), CPU, 0.0, parse_ref("language:context=16"))
    task = words.task
    _, targets = task.pair(words.x_train, words.y_train)
    shares = torch.bincount(targets.flatten(), minlength=words.classes).double().clamp(min=1e-12)
    logits = (shares / shares.sum()).log().float().expand(*targets.shape, -1)
    assert words.chance == pytest.approx(task.losses(logits, targets).mean().item(), abs=2e-3)
    pictures = load_data(parse_ref(CASES["autoencoder"][1]), Path(), CPU, 0.0, parse_ref("autoencoder"))
    (inputs, targets) = next(pictures.batches(seed=0, batch_size=256, layout=PLAIN, augment=False))
    mean = inputs.mean(0, keepdim=True).expand_as(inputs)
    assert pictures.chance == pytest.approx(pictures.task.losses(mean, targets).mean().item(), rel=1e-3)


def test_a_run_has_trained_when_its_loss_is_a_tenth_below_guessing():
    job = job_of(task="regression")

    def ended(loss, chance, first=2.0):
        looks = tuple(Evaluation(step=step, epoch=0, test_loss=value, test_accuracy=None) for step, value in ((0, first), (5, loss)))
        return outcome(
            RunResult(job_id="0" * 16, job=job, status=RunStatus.COMPLETED, train_losses=(1.0,), evaluations=looks, chance_loss=chance)
        )

    assert ended(0.89, 1.0) is Outcome.TRAINED
    assert ended(0.91, 1.0) is Outcome.STUCK
    assert ended(1.7, None) is Outcome.TRAINED
    assert ended(1.9, None) is Outcome.STUCK


def test_the_usual_task_changes_no_identity_and_another_does():
    usual = ExperimentConfig(schemes=("kaiming",), seeds=(0, 1))
    other = usual.model_copy(update={"task": parse_ref("autoencoder")})
    first, second = plan.make_jobs(usual)
    assert plan.job_ids([first, second]) == [plan.job_id(first), plan.job_id(second)]
    others = plan.make_jobs(other)
    assert plan.job_ids(others) == [plan.job_id(job) for job in others]
    assert not set(plan.job_ids(others)) & set(plan.job_ids([first, second]))
    assert "task" not in first.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("dataset", "task", "says"),
    [
        ("mnist5k", "language", "'language' takes a text, and the dataset 'mnist5k' is none"),
        ("text274k", "classification", "'classification' takes images with labels, and the dataset 'text274k' is none"),
        ("waves", "segmentation", "'segmentation' takes images with masks, and the dataset 'waves' is none"),
        ("mnist5k", "regression", "'regression' takes numbers"),
        ("shapes:n=20,test=5", "classification", "'classification' takes images with labels"),
        ("text274k", "autoencoder", "'autoencoder' takes images"),
    ],
)
def test_data_that_are_not_for_the_task_are_refused(dataset, task, says):
    with pytest.raises(ConfigError, match=says):
        load_data(parse_ref(dataset), Path(), CPU, 0.0, parse_ref(task))


@pytest.mark.parametrize("context", [0, -1, True, 1.5, "long"])
def test_a_context_that_is_none_is_refused(context):
    with pytest.raises(ConfigError, match="must be a whole number from 1"):
        build_task(parse_ref(f"language:context={context}") if context is not True else parse_ref("language:context=true"))


def test_a_context_longer_than_the_text_is_refused(tmp_path):
    (tmp_path / "short.txt").write_text("abcdefghij" * 10)
    with pytest.raises(DataError, match=r"The test split of short.txt has 10 tokens; a context of 64 needs 65"):
        load_data(parse_ref(f"text:file={tmp_path / 'short.txt'}"), Path(), CPU, 0.0, parse_ref("language"))


def test_what_a_task_is_not_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def build():\n    return 3\n")
    with pytest.raises(ConfigError, match=r"gives an int\. Its build"):
        build_task(parse_ref("./mine.py"))
    with pytest.raises(ConfigError, match="Unknown task 'translation'"):
        catalog.find("task", "translation")


def test_windows_follow_one_another_and_each_token_is_predicted_once():
    data = load_data(parse_ref("text274k"), Path(), CPU, 0.0, parse_ref("language:context=32"))
    inputs, targets = data.task.pair(data.x_train[:5], data.y_train[:5])
    stream = text274k.load(Path()).x_train.long()
    assert torch.equal(inputs.flatten(), stream[:160])
    assert torch.equal(targets.flatten(), stream[1:161])


def test_the_embedded_text_is_the_recorded_one_and_its_origin_is_beside_it():
    path = Path(text274k.__file__).with_suffix(".txt")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    origin = path.with_name("text274k.LICENSE.md").read_text()
    assert digest in origin
    assert all(word in origin for word in ("public domain", "Carroll", "Shakespeare", f"{path.stat().st_size:,} bytes"))
    data = text274k.load(Path())
    assert len(data.x_train) + len(data.x_test) == 273640
    assert data.classes == len(set(path.read_text())) == 75


def test_characters_and_bytes_of_a_text():
    text = "añb\r\nañb\n" * 20
    data = text_splits(text.encode(), "mine", test=0.25)
    assert data.classes == 4
    assert len(data.x_train) + len(data.x_test) == 20 * 8
    raw = text_splits(text.encode(), "mine", tokens="bytes", test=0.25)
    assert raw.classes == 256
    assert bytes(torch.cat([raw.x_train, raw.x_test]).tolist()) == text.encode()
    assert data.digest != raw.digest


@pytest.mark.parametrize(
    ("given", "more", "error", "says"),
    [
        (b"\xff\xfe" * 50, {}, DataError, r"no text in UTF-8 \(byte 0\)"),
        (b"", {}, DataError, "has 0 characters, too few"),
        (b"abc" * 50, {"test": 1.5}, ConfigError, "must be between 0 and 1"),
        (b"abc" * 50, {"tokens": "words"}, ConfigError, "must be: characters or bytes"),
    ],
)
def test_a_text_that_is_none_is_refused(given, more, error, says):
    with pytest.raises(error, match=says):
        text_splits(given, "mine", **more)


@pytest.mark.heavy
def test_a_text_file_is_a_data_set_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("to be or not to be, that is the question; " * 60)
    Path("models.py").write_text(MODELS)
    given = {"model": "./models.py:Words", "dataset": "./notes.txt", "steps": 3, "seeds": 1, "output": "out"}
    results = initbench.run("xavier", settings=["train.batch_size=8"], **given)
    assert results.config.task.name == "language"
    assert results.config.dataset.params == {"file": "./notes.txt"}
    assert results.results[0].classes == len(set(Path("notes.txt").read_text()))


def test_masks_are_of_the_shapes_that_are_drawn():
    data = shapes.load(Path(), n=60, test=10, noise=0.0)
    assert data.x_train.shape == (60, 1, 32, 32)
    assert data.y_train.shape == (60, 32, 32)
    assert set(data.y_train.unique().tolist()) == {0, 1, 2, 3}
    light = data.x_train[:, 0].double() / 255
    assert light[data.y_train > 0].min() > light[data.y_train == 0].max()
    assert torch.equal(shapes.load(Path(), n=60, test=10).x_train, shapes.load(Path(), n=60, test=10).x_train)


def test_waves_have_variance_one_and_coordinates_cover_the_image():
    data = waves.load(Path())
    assert data.y_train.mean().item() == pytest.approx(0, abs=1e-6)
    assert data.y_train.std(correction=0).item() == pytest.approx(1, rel=1e-6)
    image = coordinates.load(Path(), image=3)
    assert len(image.x_train) + len(image.x_test) == 784
    places = torch.cat([image.x_train, image.x_test])
    assert len(torch.unique(places, dim=0)) == 784
    assert places.abs().max() == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: shapes.load(None, n=1),
        lambda: shapes.load(None, noise=2),
        lambda: waves.load(None, frequency=0),
        lambda: waves.load(None, n=True),
    ],
)
def test_made_up_data_that_cannot_be_made_are_refused(call):
    with pytest.raises(ConfigError, match="cannot be made with"):
        call()


def test_an_image_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="must be from 0 to 3999"):
        coordinates.load(Path(), image=4000)


@pytest.mark.usefixtures("models")
def test_a_model_that_does_not_give_what_the_task_wants_is_told_so():
    job = job_for("autoencoder")
    wrong = job.model_copy(update={"model": parse_ref("mlp")})
    with pytest.raises(ConfigError, match=r"has the task 'autoencoder', which wants an image of the same shape"):
        initbench.run("kaiming", model="mlp", dataset=str(wrong.dataset), settings=["task=autoencoder"], steps=2, output="out")


@pytest.mark.usefixtures("models")
def test_a_scheme_that_needs_classes_is_skipped():
    result = run_job(job_for("autoencoder").model_copy(update={"scheme": parse_ref("gradinit")}), "0" * 16, device="cpu", data_dir=None)
    assert result.status is RunStatus.SKIPPED
    assert "cross entropy with classes" in result.reason


@pytest.mark.usefixtures("models")
def test_augmentation_is_for_images():
    with pytest.raises(ConfigError, match=r"train.augment moves and flips images, and waves has none"):
        initbench.run(
            "kaiming",
            model="./models.py:Numbers",
            dataset="waves",
            settings=["task=regression", "train.augment=true"],
            steps=2,
            output="out",
        )


@pytest.mark.heavy
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("task", CASES)
def test_runs_that_are_trained_as_one_have_the_losses_that_they_have_alone(task):
    model, data = CASES[task]
    given = {"model": f"./models.py:{model}", "dataset": data, "steps": 12, "seeds": 2, "settings": [f"task={task}", "train.batch_size=16"]}
    alone, stacked = (initbench.compare(["xavier", "kaiming"], engine=name, output=name, **given) for name in ("serial", "stacked"))
    for one, other in zip(alone.results, stacked.results, strict=True):
        assert other.provenance[STACKED_RUNS] == "4"
        assert other.train_losses == pytest.approx(one.train_losses, rel=1e-4)
        assert other.evaluations[-1].test_loss == pytest.approx(one.evaluations[-1].test_loss, rel=1e-4)


@pytest.mark.heavy
def test_gpts_are_trained_as_one_and_lstms_one_by_one():
    def ended(model):
        given = {
            "model": model,
            "dataset": "text274k",
            "steps": 5,
            "seeds": 2,
            "settings": ["task=language:context=16", "train.batch_size=8"],
        }
        return initbench.compare(["xavier", "kaiming"], engine="stacked", **given).results

    assert all(run.provenance[STACKED_RUNS] == "4" for run in ended("gpt:depth=2,width=16"))
    assert all("aten::lstm" in run.provenance[NOT_STACKED] for run in ended("lstm:width=8"))


def test_the_task_of_a_loss_is_one_number_an_example():
    outputs = nn.functional.one_hot(torch.arange(6).view(2, 3), 6).float()
    language = build_task(parse_ref("language"))
    assert language.losses(outputs, torch.arange(6).view(2, 3)).shape == (2,)
    assert language.hits(outputs, torch.arange(6).view(2, 3)).tolist() == [1.0, 1.0]
    flat = build_task(parse_ref("segmentation")).losses(torch.zeros(2, 5, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64))
    assert flat.tolist() == pytest.approx([math.log(5)] * 2)


@pytest.mark.heavy
def test_a_language_model_is_probed_on_a_text_and_on_random_tokens():
    """Built for as many tokens as there are, and followed along its stream."""
    on_text = initbench.probe("gpt:depth=2,width=32", ["gpt2"], dataset="text274k", seeds=1)
    on_ids = initbench.probe("gpt:depth=2,width=32", ["gpt2"], inputs="int:75:32", seeds=1)
    for found in (on_text, on_ids):
        (run,) = found.runs
        assert run.status is RunStatus.COMPLETED
        head = next(entry for entry in run.init.parameters if entry.parameter.startswith("token"))
        assert head.shape[0] == 75
    assert initbench.lint("gpt:depth=2,width=32", inputs="int:75:32").of("error") == ()


@pytest.mark.heavy
@pytest.mark.usefixtures("models")
def test_a_file_that_was_changed_is_named_when_a_folder_is_to_go_on():
    given = {"model": "./models.py:Numbers", "dataset": "waves:n=64,test=16", "steps": 2, "seeds": 1, "output": "out"}
    initbench.compare(["xavier", "kaiming"], settings=["train.batch_size=8"], **given)
    Path("models.py").write_text(MODELS + "# changed\n")
    with pytest.raises(StorageError, match=r"was made with ./models.py:Numbers as it was before; it, or a file that it imports, has been"):
        initbench.resume("out")
    assert initbench.report("out").summary.metric == "final_test_loss"


@pytest.mark.heavy
@pytest.mark.usefixtures("models")
def test_nothing_is_said_of_images_where_there_are_none():
    asked = {"model": "./models.py:Numbers", "dataset": "waves:n=256,test=64,inputs=4", "settings": ["train.batch_size=16"], "steps": 3}
    tuned = initbench.compare(["xavier", "kaiming"], tune="train.lr=0.01,0.1", seeds=2, engine="serial", **asked)
    raced = initbench.recommend(schemes=["xavier", "kaiming"], tune="train.lr=0.01,0.1", seeds=2, engine="serial", **asked)
    for results in (tuned, raced):
        told = (results.folder / "summary.md").read_text()
        assert "training examples" in told
        page = (results.folder / "report.html").read_text()
        words = re.sub(r"<(script|style|svg)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
        assert "training examples" in words
        assert not re.search(r"\bimages?\b", told + words), re.findall(r".*\bimages?\b.*", told + words)

"""Jobs and their identity."""

import pytest

from initbench.errors import ConfigError
from initbench.question import plan
from initbench.question.config import ExperimentConfig, InitRules, Job, ProbeConfig, Ref, TrainConfig, TuneConfig, parse_ref


def config(*schemes, **more):
    return ExperimentConfig(schemes=tuple(parse_ref(text) for text in schemes), seeds=more.pop("seeds", (0, 1)), **more)


def ids(question):
    return [plan.job_id(job) for job in plan.make_jobs(question)]


def test_there_is_a_job_for_each_seed_and_scheme_seed_by_seed():
    jobs = plan.make_jobs(config("xavier", "kaiming"))
    assert [(job.seed, str(job.scheme)) for job in jobs] == [(0, "xavier"), (0, "kaiming"), (1, "xavier"), (1, "kaiming")]


def test_a_job_is_the_same_however_its_scheme_is_written():
    assert ids(config("glorot")) == ids(config("xavier:gain=1,distribution=normal")) == ids(config("xavier"))


def test_a_job_is_the_same_however_its_optimizer_is_written():
    written = ("rmsprop", "rmsprop:alpha=0.99", {"name": "rmsprop", "momentum": 0.0})
    assert len({tuple(ids(config("xavier", train=TrainConfig(optimizer=text)))) for text in written}) == 1
    assert '"optimizer":"sgd"' in plan.canonical(config("xavier"))


@pytest.mark.parametrize(
    "change",
    [
        {"train": TrainConfig(epochs=4)},
        {"train": TrainConfig(optimizer="lion:beta1=0.8")},
        {"model": parse_ref("mlp:depth=4")},
        {"dataset": parse_ref("synthetic")},
        {"seeds": (2, 3)},
    ],
)
def test_whatever_changes_the_result_changes_the_identity(change):
    before, after = config("xavier"), config("xavier", **change)
    assert not set(ids(before)) & set(ids(after))
    assert plan.config_hash(before) != plan.config_hash(after)


def test_a_job_does_not_depend_on_what_it_is_compared_with():
    assert set(ids(config("xavier"))) < set(ids(config("xavier", "normal")))


def test_an_identity_is_the_same_on_every_machine_and_day():
    assert ids(config("xavier", seeds=(0,))) == ["d025f9352975cf7c"]


class LaterTrain(TrainConfig):
    label_smoothing: float = 0.0


class LaterJob(Job):
    train: LaterTrain
    remark: str = "none"


class LaterConfig(ExperimentConfig):
    train: LaterTrain = LaterTrain()
    remark: str = "none"


def test_a_field_that_is_added_with_a_default_changes_no_identity():
    train = {"steps": 7, "holdout": 0.2}
    (job, *_) = plan.make_jobs(config("xavier", train=TrainConfig(**train)))
    later = LaterJob.model_validate({**job.model_dump(), "train": train})
    assert plan.job_id(later) == plan.job_id(job)
    assert plan.job_id(later.model_copy(update={"remark": "another"})) != plan.job_id(job)
    assert plan.job_id(later.model_copy(update={"train": LaterTrain(**train, label_smoothing=0.1)})) != plan.job_id(job)
    grown = LaterConfig(schemes=(parse_ref("xavier"),), seeds=(0, 1), train=LaterTrain(**train))
    assert plan.config_hash(grown) == plan.config_hash(config("xavier", train=TrainConfig(**train)))


def test_a_default_that_identities_rest_on_is_never_changed():
    """A field at its default is left out of an identity, so another default would give other runs the name of old ones."""
    defaults = {
        kind.__name__: {name: field.default for name, field in kind.model_fields.items() if not field.is_required()}
        for kind in (Job, InitRules, TrainConfig, ProbeConfig, TuneConfig, ExperimentConfig)
    }
    defaults["InitRules"]["layers"] = InitRules().layers
    assert defaults == {
        "Job": {"task": Ref(name="classification")},
        "InitRules": {"bias": "scheme", "exclude": ("embedding",), "only": (), "layers": {}, "in_out": (), "strict": False},
        "TrainConfig": {
            "epochs": None,
            "steps": None,
            "batch_size": 128,
            "optimizer": Ref(name="sgd"),
            "lr": 0.05,
            "momentum": 0.9,
            "nesterov": False,
            "betas": (0.9, 0.999),
            "weight_decay": 0.0,
            "schedule": "constant",
            "warmup_steps": 0,
            "clip_norm": None,
            "precision": "float32",
            "augment": False,
            "evaluate_every_steps": None,
            "holdout": 0.0,
        },
        "ProbeConfig": {"every_steps": None, "batch_size": None},
        "TuneConfig": {"values": (), "seeds": 3, "holdout": 0.2},
        "ExperimentConfig": {
            "model": Ref(name="mlp"),
            "dataset": Ref(name="mnist5k"),
            "task": Ref(name="classification"),
            "init": InitRules(),
            "train": TrainConfig(),
            "probe": ProbeConfig(),
            "tune": None,
            "grid": None,
            "until": None,
        },
    }
    assert TrainConfig().epochs == 5


def test_another_text_of_what_a_users_file_imports_is_another_job(tmp_path):
    (tmp_path / "mine.py").write_text("import blocks\nimport torch\ndef build(*, scale: float = 1.0): ...\n")
    (tmp_path / "blocks.py").write_text("WIDTH = 3\n")
    first = ids(config(str(tmp_path / "mine.py")))
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert ids(config(str(tmp_path / "mine.py"))) == first
    (tmp_path / "blocks.py").write_text("WIDTH = 30\n")
    assert not set(first) & set(ids(config(str(tmp_path / "mine.py"))))


def test_another_text_of_a_users_file_is_another_job(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def build(*, scale: float = 1.0): ...\n")
    first = ids(config(str(file)))
    file.write_text("def build(*, scale: float = 2.0): ...\n")
    assert not set(first) & set(ids(config(str(file))))


def test_the_same_scheme_under_two_names_is_refused():
    with pytest.raises(ConfigError, match=r"'kaiming' and 'he' are the same scheme, kaiming. Name it once."):
        plan.make_jobs(config("kaiming", "he"))


def test_the_name_of_a_folder_says_what_is_in_it():
    name = plan.result_name("compare", config("xavier", model=parse_ref("mlp:depth=4")))
    assert name.startswith("compare-mlp-mnist5k-")
    assert name != plan.result_name("compare", config("kaiming", model=parse_ref("mlp:depth=4")))


def test_the_name_of_a_folder_is_a_plain_word_whatever_the_model_is_called(tmp_path):
    file = tmp_path / "my nets.py"
    file.write_text("def build(shape, classes): ...\n")
    name = plan.result_name("run", config("xavier", model=parse_ref(str(file))))
    assert "/" not in name
    assert " " not in name

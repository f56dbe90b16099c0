"""The ids of many jobs at once are those of each."""

from hypothesis import given, settings
from hypothesis import strategies as st

from initbench.question.config import ExperimentConfig
from initbench.question.grid import cells
from initbench.question.plan import job_id, job_ids, make_jobs
from initbench.question.request import configure

SETTINGS = st.lists(
    st.sampled_from(
        ["train.lr=0.3", "train.steps=7", "init.bias=0.5", "init.exclude=[a,b]", "init.layers.head=zeros", "probe.every_steps=3",
         "train.optimizer=adamw", "train.betas=[0.5,0.9]", "model.depth=4", "dataset.name=synthetic", "train.optimizer=rmsprop:alpha=0.9"]
    ), unique_by=lambda setting: setting.partition("=")[0], max_size=4,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(SETTINGS, st.sampled_from([("kaiming", "normal:std=0.3"), ("xavier",), ("sigma:sigma_w=1.5,sigma_b=0.1", "zeros", "kaiming")]))
def test_ids_of_shipped_names(changes, schemes):
    jobs = make_jobs(configure("config", schemes=schemes, settings=changes, seeds=3))
    assert job_ids(jobs) == [job_id(job) for job in jobs]


def test_ids_of_users_own_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom initbench.schemes.normal import build\n\n"
        "def Net(shape, classes, depth=1):\n    return nn.Linear(4, classes)\n"
    )
    config = configure("config", schemes=["./mine.py", "kaiming"], model="./mine.py:Net", settings=["init.layers.head=./mine.py"], seeds=2)
    jobs = make_jobs(config)
    before = job_ids(jobs)
    assert before == [job_id(job) for job in jobs]
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "\n# changed\n")
    assert not set(job_ids(jobs)) & set(before)


def test_a_users_file_is_in_the_ids_of_its_own_jobs_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from initbench.schemes.normal import build\n")
    for schemes in (["./mine.py", "kaiming"], ["kaiming", "./mine.py"]):
        jobs = make_jobs(configure("config", schemes=schemes, seeds=2))
        assert job_ids(jobs) == [job_id(job) for job in jobs]


def test_ids_of_the_cells_of_a_sweep():
    config = configure("sweep", schemes=["kaiming", "sigma"], grid={"model.depth": [1, 2], "train.optimizer": ["sgd", "adam"]}, seeds=2)
    jobs = [job for cell in cells(config) for job in make_jobs(cell.config)]
    assert job_ids(job for job in jobs) == [job_id(job) for job in jobs]
    assert len(set(job_ids(jobs))) == len(jobs)


def test_many_seeds_are_read_in_time_that_grows_with_them():
    config = ExperimentConfig(schemes=("kaiming",), seeds=tuple(range(40_000)))
    assert len(config.seeds) == 40_000

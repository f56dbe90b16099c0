"""Small data and jobs for the tests of datasets, training, worker and engines."""

from typing import Any

import numpy as np

from initbench.question import plan
from initbench.question.config import ExperimentConfig, Job

TINY = "synthetic:n=256,test=64,classes=3,shape=[1,6,6],noise=0.5"


def jobs_of(*schemes: str, seeds: tuple[int, ...] = (0,), **parts: Any) -> list[tuple[str, Job]]:
    """(id, job) of a small experiment; `parts` are those of `ExperimentConfig`."""
    chosen: dict[str, Any] = {
        "schemes": schemes or ("kaiming",),
        "seeds": seeds,
        "dataset": TINY,
        "model": "mlp:depth=2,width=16",
        "train": {"epochs": 2, "batch_size": 32},
        "probe": {"batch_size": 64},
        **parts,
    }
    return [(plan.job_id(job), job) for job in plan.make_jobs(ExperimentConfig(**chosen))]


def job_of(scheme: str = "kaiming", **parts: Any) -> Job:
    """The only job of a small experiment."""
    ((_, job),) = jobs_of(scheme, **parts)
    return job


def arrays(shape=(6, 5), images=20, classes=3, seed=0):
    """The four arrays of a data file, at random."""
    draw = np.random.default_rng(seed)
    return {
        "x_train": draw.integers(0, 256, (images, *shape), dtype=np.uint8),
        "y_train": np.arange(images) % classes,
        "x_test": draw.integers(0, 256, (images // 2, *shape), dtype=np.uint8),
        "y_test": np.arange(images // 2) % classes,
    }

"""A sum of sines of several numbers, to be learned from samples: needs no download."""

from pathlib import Path

import numpy as np
import torch

from initbench.data.made import refuse_number, refuse_sizes
from initbench.data.splits import DataSplits

TASKS = ("regression",)


def load(
    root: Path,  # noqa: ARG001 - nothing is read
    *,
    n: int = 2000,
    test: int = 500,
    inputs: int = 8,
    waves: int = 16,
    frequency: float = 2.0,
    seed: int = 0,
) -> DataSplits:
    """A sum of sines of several numbers, to be learned from samples: needs no download.

    Inputs (N, inputs) are normal with variance 1; the target (N, 1) is the sum of `waves` sines of their directions, each with a random
    frequency (of std `frequency` per input's length), phase and weight, brought to mean 0 and variance 1 on the training samples.
    Raises: ConfigError for numbers that cannot be used.
    """
    refuse_sizes("waves", {"n": (n, 2), "test": (test, 1), "inputs": (inputs, 1), "waves": (waves, 1), "seed": (seed, 0)})
    refuse_number("waves", "frequency", frequency, low=1e-6, high=1e6)
    draw = np.random.default_rng([seed, inputs, waves])
    directions = draw.normal(0, frequency / np.sqrt(inputs), (inputs, waves))
    phases, weights = draw.uniform(0, 2 * np.pi, waves), draw.normal(size=waves)
    x = draw.normal(size=(n + test, inputs))
    y = np.sin(x @ directions + phases) @ weights
    y = (y - y[:n].mean()) / y[:n].std()
    inputs_, targets = torch.from_numpy(x).float(), torch.from_numpy(y).float()[:, None]
    digest = f"waves of seed {seed}: {n} and {test} of {inputs} inputs, {waves} of frequency {frequency}"
    return DataSplits("waves", inputs_[:n], targets[:n], inputs_[n:], targets[n:], 1, (), (), digest)

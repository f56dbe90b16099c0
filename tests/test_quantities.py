"""What is measured of a layer: each quantity by its definition, and that one file makes one known everywhere."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_support import jobs_of

from initbench.engines import serial, stacked
from initbench.measure.probes import ProbeAtStep, measure, to_stats
from initbench.measure.sums import MeasuredTensor, Scratch
from initbench.nn.activation import activation_function
from initbench.nn.layers import weight_layers
from initbench.quantities import QUANTITIES, columns_in_order
from initbench.quantities.quantiles import LEVELS, SAMPLE, places, quantiles, sample
from initbench.quantities.saturated_fraction import NEAR, ends
from initbench.reporting import tidy
from initbench.results.probe_run import ProbedLayer
from initbench.results.record import LayerStats

ROOT = Path(__file__).parent.parent
BEFORE = [
    "step", "layer", "position", "pre_activation_mean", "pre_activation_variance", "activation_mean", "activation_variance",
    "zero_fraction", "dead_fraction", "gradient_variance", "weight_variance", "weight_gradient_norm", "update_ratio",
    "predicted_pre_activation_variance", "predicted_pre_activation_variance_low", "predicted_pre_activation_variance_high",
    "predicted_gradient_variance", "predicted_gradient_variance_low", "predicted_gradient_variance_high", "prediction_note",
]  # fmt: skip
"""The columns of layers.csv that files of others may count on."""


def of(values):
    (kept,), counts = sample(MeasuredTensor(values, Scratch()))
    return quantiles(kept[:, None], torch.tensor([counts], dtype=torch.float64).T)[:, 0].numpy()


@pytest.mark.parametrize("shape", [(1,), (2,), (37, 5), (8, 3, 6, 6), (SAMPLE,)])
def test_quantiles_of_few_values_are_those_of_numpy(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(of(values), np.quantile(values.double().numpy(), LEVELS), rtol=1e-12)


@pytest.mark.parametrize("shape", [(300, 256), (64, 16, 28, 28), (1000, 97)])
def test_quantiles_of_many_values_are_those_of_the_fixed_sample_and_close_to_all(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    chosen = values.flatten()[places(values.numel(), torch.device("cpu"))]
    np.testing.assert_allclose(of(values), np.quantile(chosen.double().numpy(), LEVELS), rtol=1e-12)
    ranks = [(values <= each).double().mean().item() for each in of(values)]
    for rank, level in zip(ranks, LEVELS, strict=True):
        assert abs(rank - level) < 4 * math.sqrt(level * (1 - level) / SAMPLE)


def test_the_sample_takes_no_value_twice_and_units_evenly():
    found = places(300 * 256, torch.device("cpu"))
    assert len(found.unique()) == SAMPLE
    assert (found % 256).bincount().tolist() == [SAMPLE // 256] * 256
    assert (found // 256).bincount(minlength=300).min() >= 0.5 * SAMPLE / 300


def test_quantiles_of_channels_last_are_of_the_same_values_and_nan_stays():
    values = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    np.testing.assert_array_equal(of(values), of(values.contiguous(memory_format=torch.channels_last)))
    values[0, 0, 0, 0] = math.nan
    assert np.isnan(of(values)).all()


BOUNDED = ["tanh", "sigmoid", "hardtanh", "relu6", "hardsigmoid", "softsign", "erf", "hardtanh:max_val=3.0,min_val=-2.0"]


@pytest.mark.parametrize("name", BOUNDED)
def test_saturated_values_lie_where_the_slope_is_next_to_nothing(name):
    function = activation_function(name)
    low, high = ends(function)
    x = torch.linspace(-400, 400, 400_001, dtype=torch.float64, requires_grad=True)
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    near = (y <= low + NEAR * (high - low)) | (y >= high - NEAR * (high - low))
    hard = name.startswith(("hard", "relu6"))
    inner = near & (y > low) & (y < high) if hard else torch.zeros_like(near)
    assert near.any()
    assert (slope[near & ~inner] <= (0.07 if name == "erf" else 0.04) * slope.max()).all()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "silu", "elu", "softplus", "sin", "cos", "identity", "hardswish", "glu"])
def test_what_is_not_bounded_on_both_sides_or_swings_has_no_ends(name):
    assert ends(activation_function(name)) is None


def test_the_share_of_saturated_units_is_that_of_naive_hooks():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 50), nn.Tanh(), nn.Linear(50, 40), nn.Sigmoid(), nn.Linear(40, 3), nn.ReLU()), torch.randn(64, 6)
    with torch.no_grad():
        model[0].weight.mul_(8)
        model[2].weight.mul_(8)
    seen = []
    handles = [model[index].register_forward_hook(lambda module, args, output: seen.append(output)) for index in (1, 3)]
    model(x)
    for handle in handles:
        handle.remove()
    layers = weight_layers(model, x)
    stats = to_stats(layers, [ProbeAtStep(0, measure(model, layers, x, None))])
    tanh, sigmoid = (values.detach().double() for values in seen)
    assert stats[0].saturated_fraction == pytest.approx((tanh.abs() >= 0.98).double().mean().item(), abs=1e-12)
    assert stats[1].saturated_fraction == pytest.approx(((sigmoid <= 0.01) | (sigmoid >= 0.99)).double().mean().item(), abs=1e-12)
    assert stats[0].saturated_fraction > 0.3
    assert stats[2].saturated_fraction is None


def test_a_run_in_a_stack_has_the_quantiles_and_saturated_units_that_it_has_alone():
    train = {"steps": 10, "batch_size": 32, "lr": 0.02}
    jobs = jobs_of("normal", "xavier", model="mlp:depth=2,width=24,activation=tanh", train=train)
    alone, stack = ({result.job_id: result for result in engine.execute(jobs, device="cpu", data_dir=None)} for engine in (serial, stacked))
    names = [quantity.name for quantity in QUANTITIES if quantity.place is None]
    for name, run in alone.items():
        assert len(run.layers) == 6
        for one, other in zip(run.layers, stack[name].layers, strict=True):
            for quantity in names:
                expected = getattr(one, quantity)
                close = expected if expected is None else pytest.approx(expected, rel=1e-3, abs=1e-3)
                assert getattr(other, quantity) == close, quantity
    assert any(layer.saturated_fraction for run in stack.values() for layer in run.layers)


def test_old_columns_keep_their_names_and_places_and_new_ones_come_after_them():
    header = tidy.layers([]).strip().split(",")[len(tidy.RUN) :]
    assert header[: len(BEFORE)] == BEFORE
    words = ["place", "overflowed", "not_measured"]
    assert set(header[len(BEFORE) : -3]) == {"size", *(quantity.name for quantity in QUANTITIES if quantity.place is None)}
    assert header[-3:] == words
    probed = columns_in_order(tuple(ProbedLayer.model_fields))
    assert probed[len(BEFORE) : len(BEFORE) + 5] == ("size", "correlation", "jacobian_mean", "jacobian_max", "jacobian_min")


def test_a_record_from_before_a_quantity_was_measured_can_still_be_read():
    stats = LayerStats.model_validate_json('{"step":0,"layer":"a","position":0,"gradient_variance":0.5,"prediction_note":null}')
    assert (stats.gradient_variance, stats.activation_q50, stats.saturated_fraction) == (0.5, None, None)


NEW = '''
"""The largest activation."""
from initbench.quantities import Quantity

def largest(tensor):
    return (tensor.values.max().to(tensor.wide),), ()

def itself(taken, _):
    return taken[0]

QUANTITIES = (
    Quantity("activation_max", "the largest activation", "activation", largest, itself, title="largest", heading="largest"),
)
'''
USE = """
import torch
from torch import nn
import initbench
from initbench.probing.tables import layer_table, layers_csv
from initbench.quantities import documented
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
found = initbench.probe(model, ["kaiming"], inputs=torch.ones(4, 4))
table = layer_table(found.schemes[0])
layer = found.schemes[0].layers[0]
assert table.rows[0][table.columns.index("largest")] == f"{layer.activation_max:.3g}"
assert layer.activation_max >= layer.activation_q99 > 0
assert "activation_max" in layers_csv(found.runs).splitlines()[0].split(",")
assert "| `activation_max` | the largest activation |" in documented()
print("known")
"""


@pytest.mark.heavy
def test_one_file_makes_a_quantity_known_everywhere(tmp_path):
    shutil.copytree(ROOT / "initbench", tmp_path / "initbench", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "initbench" / "quantities" / "activation_max.py").write_text(NEW)
    ran = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert ran.stdout == "known\n", ran.stderr

"""Training many runs as one against one at a time: every optimizer, layer and measurement."""

import pytest
import torch
from test_engines_stacked import assert_alike, how
from torch import nn
from torch.nn import functional
from training_support import jobs_of

from initbench.stacking.layers import RandomStates, StackedLayers
from initbench.stacking.stack import CannotStack, Stack, refuse_different, signature

SMALL = {"steps": 50, "batch_size": 16, "lr": 0.01}
IMAGES = "synthetic:n=128,test=32,classes=3,shape=[1,8,8],noise=0.5"


@pytest.mark.heavy
@pytest.mark.parametrize(
    "numbers",
    [
        {"momentum": 0.0, "weight_decay": 0.01},
        {"nesterov": True, "clip_norm": 0.5},
        {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.01, "schedule": "linear"},
        {"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.1, "warmup_steps": 5, "clip_norm": 1.0},
        {"optimizer": "adagrad", "lr": 0.02, "schedule": "cosine"},
        {"optimizer": "rmsprop:momentum=0.5,centered=true", "lr": 0.001},
        {"optimizer": "lion", "lr": 0.001, "weight_decay": 0.1},
        {"optimizer": "muon", "lr": 0.02, "weight_decay": 0.1},
        {"augment": True, "evaluate_every_steps": 7},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_every_way_of_training_gives_the_losses_of_a_run_alone(numbers):
    jobs = jobs_of("kaiming", seeds=(0, 1), train={**SMALL, "steps": 20, **numbers}, probe={"every_steps": 5, "batch_size": 32})
    within = 2e-2 if "precision" in numbers else 1e-4 if "optimizer" in numbers else 1e-5
    assert how(assert_alike(jobs, within)) == {"2"}


@pytest.mark.heavy
@pytest.mark.parametrize(
    "model",
    [
        "mlp:depth=2,width=16,norm=batch,dropout=0.2",
        "cnn:channels=[4,4],norm=batch,dropout=0.2",
        "cnn:channels=[4],norm=group,pooling=avg",
        "resnet:depth=8,width=2",
        "vit:depth=1,width=8,heads=2",
        "residual_mlp:depth=2,width=8",
    ],
)
def test_every_model_gives_the_losses_of_a_run_alone(model):
    jobs = jobs_of("kaiming", seeds=(0, 1), model=model, dataset=IMAGES, train={**SMALL, "lr": 0.002})
    assert how(assert_alike(jobs)) == {"2"}


@pytest.mark.heavy
def test_layers_large_enough_for_other_products_give_the_losses_of_a_run_alone():
    jobs = jobs_of("kaiming", "xavier", model="mlp", dataset="mnist5k", train={"steps": 50, "batch_size": 128})
    assert how(assert_alike(jobs)) == {"2"}


def test_learning_rate_multipliers_hold_for_their_own_run_only():
    jobs = jobs_of("mup:base_width=8", "mup:base_width=32", model="mlp:depth=2,width=16", train={**SMALL, "steps": 10})
    results = assert_alike(jobs)
    assert how(results) == {"2"}
    assert len({str(result.init.lr_multipliers) for result in results.values()}) == 2


def stacked_call(models, inputs, convolution="separate", random=None):
    with StackedLayers(convolution, random):
        return Stack(models).call(inputs)


@pytest.mark.parametrize("convolution", ["separate", "unfolded", "grouped"])
@pytest.mark.parametrize(
    "how", [{"padding": 1}, {"stride": 2, "padding": 1}, {"stride": (1, 2), "bias": False}, {"padding": "same"}, {"groups": 2}], ids=str
)
def test_every_way_to_convolve_has_the_values_and_gradients_of_the_plain_one(convolution, how):
    torch.manual_seed(0)
    models = [nn.Conv2d(2, 4, 3, **how) for _ in range(3)]
    inputs = torch.randn(3, 5, 2, 7, 6)
    expected = [model(x) for model, x in zip(models, inputs, strict=True)]
    weighing = torch.randn(expected[0].shape)
    gradients = [torch.autograd.grad((out * weighing).sum(), list(model.parameters())) for out, model in zip(expected, models, strict=True)]
    free = inputs.clone().requires_grad_()
    stack = Stack(models)
    with StackedLayers(convolution):
        out = stack.call(free)
    computed = torch.autograd.grad((out * weighing).sum(), [free, *stack.parameters.values()])
    torch.testing.assert_close(out, torch.stack(expected))
    for number, own in enumerate(computed[1:]):
        torch.testing.assert_close(own, torch.stack([each[number] for each in gradients]))
    own_input = inputs[1].clone().requires_grad_()
    torch.testing.assert_close(computed[0][1], torch.autograd.grad((models[1](own_input) * weighing).sum(), own_input)[0])


def test_linear_layers_take_inputs_of_any_number_of_dimensions():
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    for shape in ((4,), (5, 4), (5, 6, 4)):
        inputs = torch.randn(2, *shape)
        expected = torch.stack([model(x) for model, x in zip(models, inputs, strict=True)])
        torch.testing.assert_close(stacked_call(models, inputs), expected)


def test_each_run_draws_the_dropout_that_it_draws_alone():
    seeds, inputs = (3, 4), torch.ones(2, 6, 5)
    model = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5), nn.Dropout(0.3))
    states, alone = [], []
    for seed, x in zip(seeds, inputs, strict=True):
        torch.manual_seed(seed)
        states.append(torch.get_rng_state())
        alone.append(torch.stack([model(x), model(x)]))
    with StackedLayers("separate", RandomStates(states)):
        stack = Stack([model, model])
        twice = torch.stack([stack.call(inputs), stack.call(inputs)], 1)
    torch.testing.assert_close(twice, torch.stack(alone))


def test_parameters_and_buffers_of_the_models_are_views_of_the_stack():
    models = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2)]
    stack = Stack(models)
    before = models[1][0].weight.clone()
    with torch.no_grad():
        stack.weights[1] += 1
    torch.testing.assert_close(models[1][0].weight, before + 1)
    with StackedLayers("separate"):
        stack.call(torch.randn(2, 8, 3))
    assert models[1][1].running_mean.abs().sum() > 0
    assert models[1][1].num_batches_tracked == 1


def test_models_of_another_function_or_structure_are_refused():
    class Scaled(nn.Linear):
        factor = 1.0

        def forward(self, x):
            return functional.linear(x, self.weight) * self.factor

    one, other = Scaled(3, 2), Scaled(3, 2)
    refuse_different([one, other], torch.randn(2, 3))
    other.factor = 1.01
    with pytest.raises(CannotStack, match="different functions"):
        refuse_different([one, other], torch.randn(2, 3))
    for model in (one, other):
        nn.init.constant_(model.weight, 1e38)
    other.factor = 1.0
    refuse_different([one, other], torch.ones(2, 3) * torch.tensor([[1.0], [-1.0]]))
    with pytest.raises(CannotStack, match="differ in their parameters"):
        Stack([nn.Linear(3, 2), nn.Linear(3, 2, bias=False)])
    with pytest.raises(CannotStack, match="no trainable parameter"):
        Stack([nn.Flatten(), nn.Flatten()])
    assert signature(one) == signature(other) != signature(nn.Linear(3, 2))


def test_frozen_parameters_and_parameters_without_a_gradient_stay_as_they_are():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.frozen = (nn.Linear(2, 2) for _ in range(3))
            self.frozen.requires_grad_(requires_grad=False)

        def forward(self, x):
            return self.frozen(self.used(x))

    models = [Partly(), Partly()]
    inputs = torch.randn(2, 4, 2)
    expected = torch.stack([model(x) for model, x in zip(models, inputs, strict=True)])
    stack = Stack(models)
    assert set(stack.parameters) == {"used.weight", "used.bias", "unused.weight", "unused.bias"}
    torch.testing.assert_close(stack.call(inputs), expected)

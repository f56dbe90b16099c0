"""A scheme puts numbers on a module's input or output: the model computes with them, and stays copyable, movable, pure."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from initbench.models import resnet
from initbench.nn import hooks
from initbench.nn.hooks import Slot


def layer():
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def adjusted():
    model = layer()
    for slot, value in ((Slot.INPUT_SCALE, 2.0), (Slot.INPUT_SHIFT, 0.5), (Slot.OUTPUT_SCALE, -3.0), (Slot.OUTPUT_SHIFT, 0.25)):
        hooks.set_parameter(model, slot, value)
    return model


def wanted(x):
    return -3.0 * layer()(2.0 * x + 0.5) + 0.25


def test_input_and_output_are_scaled_then_shifted():
    x = torch.randn(4, 5)
    torch.testing.assert_close(adjusted()(x), wanted(x))


def test_a_constant_is_a_buffer_and_a_parameter_learns():
    model = layer()
    hooks.set_constant(model, Slot.OUTPUT_SCALE, 2.0)
    hooks.set_parameter(model, Slot.OUTPUT_SHIFT, 0.0)
    assert {name for name, _ in model.named_parameters()} == {"weight", "bias", "output_shift"}
    assert dict(model.named_buffers()).keys() == {"output_scale"}
    model(torch.randn(4, 5)).sum().backward()
    assert model.output_shift.grad == 12
    assert hooks.number(model, Slot.OUTPUT_SCALE) == 2.0
    assert hooks.number(model, Slot.INPUT_SCALE) is None


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_a_copy_computes_the_same_with_numbers_of_its_own(again):
    x, model = torch.randn(4, 5), adjusted()
    twin = again(model)
    torch.testing.assert_close(twin(x), wanted(x))
    with torch.no_grad():
        twin.output_shift += 1
    torch.testing.assert_close(model(x), wanted(x))
    torch.testing.assert_close(twin(x), wanted(x) + 1)


def test_a_second_value_replaces_the_first():
    x, model = torch.randn(4, 5), adjusted()
    hooks.set_constant(model, Slot.OUTPUT_SCALE, -3.0)
    torch.testing.assert_close(model(x), wanted(x))
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 1


def test_clear_leaves_the_model_as_it_was():
    x, model = torch.randn(4, 5), adjusted()
    hooks.normalize_input(model)
    hooks.clear(model)
    assert torch.equal(model(x), layer()(x))
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert model.state_dict().keys() == {"weight", "bias"}


def test_many_models_run_as_one_under_vmap():
    models = [adjusted() for _ in range(3)]
    with torch.no_grad():
        for index, model in enumerate(models):
            model.output_scale.fill_(index + 1.0)
            hooks.set_constant(model, Slot.INPUT_SCALE, index + 0.5)
    parameters, buffers = stack_module_state(models)
    x = torch.randn(4, 5)
    together = vmap(lambda p, b: functional_call(models[0], (p, b), (x,)))(parameters, buffers)
    for model, output in zip(models, together, strict=True):
        torch.testing.assert_close(output, model(x))


def test_the_precision_of_the_signal_is_kept():
    model = adjusted().to(torch.bfloat16)
    hooks.set_constant(model, Slot.OUTPUT_SCALE, 2.0)
    assert model.float().to(torch.bfloat16)(torch.randn(4, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    plain = nn.Identity()
    hooks.set_parameter(plain, Slot.OUTPUT_SCALE, 2.0)
    assert plain(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_the_first_output_of_several_is_changed():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 3, 8)
    before = attention(x, x, x)[0]
    hooks.set_constant(attention, Slot.OUTPUT_SCALE, 0.5)
    torch.testing.assert_close(attention(x, x, x)[0], before / 2)


@pytest.mark.parametrize(("each", "dims"), [("image", (1, 2, 3)), ("location", (1,))])
def test_inputs_get_a_mean_square_of_one(each, dims):
    model = nn.Identity()
    hooks.normalize_input(model, each=each)
    hooks.normalize_input(model, each=each)
    square = model(3 * torch.randn(4, 3, 8, 8) + 1).square().mean(dim=dims)
    torch.testing.assert_close(square, torch.ones_like(square))
    assert model(torch.zeros(4, 3, 8, 8)).abs().max() == 0


def test_a_whole_network_can_be_copied_after_numbers_were_put_on_its_blocks():
    model = resnet.build((1, 8, 8), 10, depth=8, norm="none")
    hooks.set_parameter(model.blocks[0].branch, Slot.OUTPUT_SCALE, 0.0)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
    assert "blocks.0.branch.output_scale" in model.state_dict()

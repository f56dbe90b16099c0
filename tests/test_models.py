"""The models mlp and cnn, activations by name, and a user's own models."""

import textwrap

import pytest
import torch
from torch import nn

from initbench.errors import ConfigError
from initbench.models import cnn, mlp
from initbench.nn.blocks import activation, is_non_decreasing
from initbench.nn.build import Wanted, build_model, check_output
from initbench.question import catalog
from initbench.question.config import Ref, parse_ref

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def wanted(classes):
    return Wanted("mnist5k", (len(IMAGES), classes), f"{classes} classes")


def kinds(model):
    return [type(module).__name__ for module in model]


def test_depth_counts_hidden_layers():
    model = mlp.build((1, 28, 28), 10)
    assert [tuple(layer.weight.shape) for layer in model if isinstance(layer, nn.Linear)] == [(256, 784), (256, 256), (256, 256), (10, 256)]
    assert [name for name, module in model.named_children() if isinstance(module, nn.Linear)] == ["linear1", "linear2", "linear3", "head"]


def test_a_perceptron_without_hidden_layers_is_linear():
    assert kinds(mlp.build((1, 8, 8), 3, depth=0)) == ["Flatten", "Linear"]


def test_widths_give_each_layer_its_own():
    model = mlp.build((12,), 2, widths=[7, 5])
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == [7, 5, 2]


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_each_hidden_layer_has_the_norm_before_its_activation(norm, kind):
    model = mlp.build((12,), 2, depth=1, norm=norm, dropout=0.5)
    assert kinds(model) == ["Flatten", "Linear", kind.__name__, "ReLU", "Dropout", "Linear"]


def test_no_bias_means_no_bias_anywhere():
    for model in (mlp.build((3, 8, 8), 2, bias=False), cnn.build((3, 8, 8), 2, bias=False)):
        assert not any(name.endswith("bias") for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"widths": [4], "depth": 2}, "widths and also depth"),
        ({"depth": -1}, "mlp depth is -1. Allowed: whole numbers from 0"),
        ({"width": 0}, "whole numbers from 1"),
        ({"width": 2.5}, "whole numbers"),
        ({"norm": "bach"}, "Did you mean 'batch'"),
        ({"dropout": 1}, "mlp dropout is 1"),
        ({"activation": "rellu"}, "Unknown activation 'rellu'. Did you mean 'relu'"),
        ({"activation": "LeakyReLU(slope=1)"}, "unexpected keyword argument 'slope'"),
        ({"activation": "LeakyReLU(0.2"}, "Unknown activation|Cannot read"),
        ({"activation": "MultiheadAttention"}, "Unknown activation"),
    ],
)
def test_parameters_that_cannot_be_are_a_sentence(params, says):
    with pytest.raises(ConfigError, match=says):
        mlp.build((12,), 2, **params)


@pytest.mark.parametrize("text", ["LeakyReLU(0.2)", "LeakyReLU(negative_slope=0.2)", "leaky_relu:negative_slope=0.2", "leakyrelu(0.2)"])
def test_an_activation_can_be_written_in_several_ways(text):
    made = activation(text)()
    assert isinstance(made, nn.LeakyReLU)
    assert made.negative_slope == 0.2


@pytest.mark.parametrize(
    "name", ["relu", "tanh", "GELU", "silu", "swish", "elu", "SELU", "softplus", "hard_tanh", "PReLU", "mish", "identity"]
)
def test_every_elementwise_activation_of_torch_can_be_named(name):
    assert activation(name)()(IMAGES).shape == IMAGES.shape


def test_each_layer_gets_an_activation_of_its_own():
    model = mlp.build((12,), 2, depth=2, activation="prelu")
    assert sum(name.startswith("activation") for name, _ in model.named_parameters()) == 2


@pytest.mark.parametrize("pooling", ["none", "max", "avg"])
@pytest.mark.parametrize("head", ["flatten", "global"])
@pytest.mark.parametrize("norm", ["none", "batch", "group", "layer"])
def test_every_form_of_the_cnn_gives_logits(pooling, head, norm):
    model = cnn.build((3, 8, 8), 5, channels=[6, 4], pooling=pooling, head=head, norm=norm, dropout=0.1)
    assert model(IMAGES).shape == (4, 5)


def test_pooling_stops_when_nothing_is_left_to_halve():
    model = cnn.build((3, 8, 8), 5, channels=[2] * 6)
    assert kinds(model).count("MaxPool2d") == 3
    assert model(IMAGES).shape == (4, 5)


@pytest.mark.parametrize("name", ["relu", "LeakyReLU(0.1)", "tanh", "sigmoid", "softplus", "elu"])
def test_max_pooling_before_the_activation_has_the_values_and_gradients_of_after(name):
    early = cnn.build((3, 8, 8), 5, channels=[4], activation=name)
    assert kinds(early) == ["Conv2d", "MaxPool2d", type(activation(name)()).__name__, "Flatten", "Linear"]
    late = nn.Sequential(early[0], early[2], early[1], *early[3:])
    weight = early[0].weight
    gradients = [torch.autograd.grad(model(IMAGES).square().sum(), weight)[0] for model in (early, late)]
    assert torch.equal(early(IMAGES), late(IMAGES))
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("params", [{"activation": "gelu"}, {"activation": "silu"}, {"pooling": "avg"}, {"activation": "LeakyReLU(-0.1)"}])
def test_pooling_stays_after_the_activation_where_the_order_matters(params):
    names = [name for name, _ in cnn.build((3, 8, 8), 5, channels=[4], **params).named_children()]
    assert names[:3] == ["conv1", "activation1", "pool1"]


@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "gelu", "silu", "mish", "hardswish", "softsign", "tanhshrink", "rrelu", "celu"])
def test_what_counts_as_non_decreasing_is(name):
    module = activation(name)().eval()
    values = module(torch.linspace(-6, 6, 2001))
    if is_non_decreasing(module):
        assert (values.diff() >= 0).all()
    else:
        assert (values.diff() < 0).any() or name == "rrelu"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"channels": []}, None),
        ({"channels": [0]}, "cnn channels is"),
        ({"kernel": 4}, "cnn kernel is 4. Allowed: odd"),
        ({"pooling": "mean"}, "Allowed: none, max, avg"),
        ({"head": "flat"}, "Did you mean 'flatten'"),
    ],
)
def test_cnn_parameters_that_cannot_be_are_a_sentence(params, says):
    if says is None:
        assert kinds(cnn.build((3, 8, 8), 5, **params)) == ["Flatten", "Linear"]
        return
    with pytest.raises(ConfigError, match=says):
        cnn.build((3, 8, 8), 5, **params)


def test_a_cnn_refuses_what_is_no_image():
    with pytest.raises(ConfigError, match=r"takes images"):
        cnn.build((12,), 5)


@pytest.fixture
def own(tmp_path):
    """A file with models of the user's own."""
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            class Net(nn.Module):
                def __init__(self, width=4):
                    super().__init__()
                    self.layer = nn.Linear(192, width)
                def forward(self, images):
                    return self.layer(images.flatten(1))

            def full(shape, classes, scale=1):
                return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2] * scale, classes))

            def zoo(num_classes=1000, **options):
                return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))

            def pair():
                class Pair(nn.Module):
                    def forward(self, images):
                        return images, images
                return Pair()

            def nothing():
                return 3
            """
        )
    )
    return path


def test_a_users_class_gets_its_parameters_and_a_users_function_shape_and_classes(own):
    assert build_model(Ref(name=f"{own}:Net", params={"width": 7}), (3, 8, 8), 5).layer.out_features == 7
    assert build_model(Ref(name=f"{own}:full"), (3, 8, 8), 5)[1].out_features == 5
    assert build_model(Ref(name=f"{own}:zoo"), (3, 8, 8), 5)[1].out_features == 5


def test_a_model_of_the_wrong_width_is_told_the_classes_of_the_data(own):
    ref = Ref(name=f"{own}:Net")
    with pytest.raises(ConfigError, match=r"gives shape \(4, 4\) for a batch of 4, but mnist5k has 10 classes"):
        check_output(build_model(ref, (3, 8, 8), 10), ref, IMAGES, wanted(10))


def test_a_model_that_does_not_take_the_images_says_why(own):
    ref = Ref(name=f"{own}:Net")
    with pytest.raises(ConfigError, match=r"does not take the images of mnist5k, which have shape \(3, 4, 4\): .*multiplied"):
        check_output(build_model(ref, (3, 4, 4), 10), ref, IMAGES[:, :, :4, :4], wanted(10))


def test_a_model_that_gives_no_tensor_is_refused(own):
    ref = Ref(name=f"{own}:pair")
    with pytest.raises(ConfigError, match=r"gives a tuple. It must give one tensor of logits"):
        check_output(build_model(ref, (3, 8, 8), 5), ref, IMAGES, wanted(5))


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [("nothing", {}, "gives an int. It must give a torch.nn.Module"), ("Net", {"depth": 3}, "cannot be built: .*'depth'")],
)
def test_what_is_no_model_is_refused(own, name, params, says):
    with pytest.raises(ConfigError, match=says):
        build_model(Ref(name=f"{own}:{name}", params=params), (3, 8, 8), 5)


def test_checking_a_model_keeps_its_mode(own):
    model = build_model(Ref(name="mlp"), (3, 8, 8), 5).train()
    check_output(model, Ref(name="mlp"), IMAGES, wanted(5))
    assert model.training


def test_building_depends_on_the_seed_alone_and_leaves_the_callers_random_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (build_model(Ref(name="mlp"), (12,), 2, seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_parameters_reach_the_model_from_the_command_lines_words():
    model = build_model(catalog.resolve("model", parse_ref("mlp:widths=[9,8],activation=LeakyReLU(0.2),norm=layer")), (12,), 2)
    assert kinds(model) == ["Flatten", "Linear", "LayerNorm", "LeakyReLU", "Linear", "LayerNorm", "LeakyReLU", "Linear"]


def test_an_activation_with_two_parameters_can_be_written_on_the_command_line():
    model = build_model(parse_ref("mlp:activation=Softplus(2,10),widths=[4,5],bias=false"), (12,), 2)
    assert (model.activation1.beta, model.activation1.threshold) == (2, 10)
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == [4, 5, 2]

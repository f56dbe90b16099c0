"""The residual and transformer models: shapes, sizes, what they refuse; torchvision's zoo by name."""

import pytest
import torch

from initbench.errors import ConfigError, NotThereError
from initbench.models import residual_mlp, resnet, vit
from initbench.models import torchvision as zoo
from initbench.nn.layers import weight_layers
from initbench.nn.residual import PadShortcut, branches
from initbench.question import catalog
from initbench.question.config import parse_ref

SHAPES = [(3, 32, 32), (1, 28, 28)]


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_resnet_gives_logits_for_both_kinds_of_images(shape, norm, shortcut):
    model = resnet.build(shape, 7, depth=8, width=8, norm=norm, shortcut=shortcut)
    assert model(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_preactivation_resnet_has_nothing_after_its_sums(norm):
    model = resnet.build((3, 16, 16), 7, depth=14, norm=norm, shortcut="B", preactivation=True)
    x = torch.randn(2, 3, 16, 16)
    assert model(x).shape == (2, 7)
    block = model.blocks[0]
    torch.testing.assert_close(block(model.stem(x)), model.stem(x) + block.branch(model.stem(x)))
    assert type(block.branch[0]).__name__ == ("BatchNorm2d" if norm == "batch" else "ReLU")


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.73)])
def test_a_resnet_has_the_parameters_of_the_paper(depth, millions):
    model = resnet.build((3, 32, 32), 10, depth=depth)
    assert round(parameters(model) / 1e6, 2) == millions
    assert len(weight_layers(model)) == depth


def test_the_padding_shortcut_keeps_the_picture_and_adds_zeros():
    x = torch.randn(2, 4, 6, 6)
    y = PadShortcut(2, 4)(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() + y[:, 6:].abs().sum() == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_a_vit_gives_logits_and_names_its_embeddings(shape, norm):
    model = vit.build(shape, 7, depth=2, width=32, norm=norm)
    assert model(torch.randn(2, *shape)).shape == (2, 7)
    embeddings = {name for name, _ in model.named_parameters() if "embedding" in name}
    assert embeddings == {"patch_embedding.weight", "patch_embedding.bias", "position_embedding"}


def test_a_vit_s_attention_is_torch_s():
    torch.manual_seed(0)
    ours = vit.build((1, 8, 8), 2, depth=1, width=16, heads=2, norm="none").blocks[0][0].branch[0]
    theirs = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("branch_layers", [1, 3])
def test_a_residual_mlp_has_the_depth_it_says(norm, branch_layers):
    model = residual_mlp.build((1, 28, 28), 10, depth=4, width=16, branch_layers=branch_layers, norm=norm)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    layers = weight_layers(model, torch.randn(2, 1, 28, 28))
    assert len(layers) == 2 + 4 * branch_layers
    assert [len(branch.layers) for branch in branches(model, layers)] == [branch_layers] * 4


def build_any(text):
    ref = catalog.resolve("model", parse_ref(text))
    return catalog.load("model", ref.name)((3, 32, 32), 10, **ref.params)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet:depth=18", "6n+2"),
        ("resnet:norm=batsh", "'batsh'"),
        ("resnet:shortcut=C", "A, B"),
        ("vit:patch=5", "patches of 5"),
        ("vit:width=30", "heads"),
        ("vit:mlp_ratio=0", "above 0"),
        ("vit:activation=rellu", "Did you mean"),
        ("residual_mlp:depth=0", "depth"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(text, words):
    with pytest.raises(ConfigError) as error:
        build_any(text)
    assert words in str(error.value)


@pytest.mark.parametrize("build", [resnet.build, vit.build, lambda shape, classes: zoo.build(shape, classes, name="resnet18")])
def test_an_image_model_refuses_a_vector(build):
    with pytest.raises(ConfigError, match="takes images"):
        build((20,), 10)


def build_zoo(text, shape=(1, 28, 28)):
    ref = catalog.resolve("model", parse_ref(text))
    assert ref.name == "torchvision"
    return catalog.load("model", ref.name)(shape, 10, **ref.params)


def test_a_torchvision_model_takes_small_grey_images():
    model = build_zoo("torchvision:resnet18")
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert model.conv1.weight.shape == (64, 1, 7, 7)
    assert parameters(build_zoo("torchvision:resnet18", (3, 32, 32))) == 11_181_642


@pytest.mark.heavy
def test_a_torchvision_model_that_needs_more_pixels_gets_them():
    model = build_zoo("torchvision:squeezenet1_1:resize=64")
    assert model.side == 64
    assert build_zoo("torchvision:densenet121").side == 32
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("torchvision:resnt18", "Did you mean 'resnet18'"),
        ("torchvision:resnet18:colour=3", "does not take these parameters: colour"),
        ("torchvision:alexnet:resize=28", "cannot take images of 28 pixels"),
    ],
)
def test_a_torchvision_model_that_cannot_be_built_says_why(text, words):
    with pytest.raises(ConfigError) as error:
        build_zoo(text)
    assert words in str(error.value)


def test_a_broken_torchvision_breaks_nothing_else(monkeypatch):
    import builtins

    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(NotThereError, match="torchvision cannot be imported"):
        zoo.build((3, 32, 32), 10, name="resnet18")

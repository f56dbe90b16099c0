"""The models of other tasks than classification: shapes, what may look at what, sizes that do not fit, schemes made for them."""

import math

import pytest
import torch
from torch import nn

import initbench
from initbench.errors import ConfigError, DoesNotApply
from initbench.measure.probes import COLUMNS, measure
from initbench.models import autoencoder, gpt, lstm, siren, unet
from initbench.nn.layers import weight_layers
from initbench.question import catalog

TOKENS = torch.randint(0, 50, (4, 16), generator=torch.Generator().manual_seed(0))
GPTS = [
    {},
    {"norm": "post"},
    {"norm": "none", "tied": False},
    {"norm_kind": "rms", "activation": "swiglu", "positions": "rotary"},
]


def gpt_of(**parts):
    torch.manual_seed(0)
    return gpt.build((16,), 50, **{"depth": 3, "width": 32, **parts})


@pytest.mark.parametrize(
    "model", [*(gpt_of(**parts) for parts in GPTS), lstm.build((16,), 50), lstm.build((16,), 50, cell="gru", layers=2)]
)
def test_a_language_model_gives_logits_at_each_place_and_does_not_look_ahead(model):
    model.eval()
    logits = model(TOKENS)
    assert logits.shape == (4, 16, 50)
    changed = TOKENS.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 50
    again = model(changed)
    assert torch.allclose(again[:, :10], logits[:, :10], atol=1e-6)
    assert not torch.allclose(again[:, 10:], logits[:, 10:], atol=1e-6)
    assert model(TOKENS[:, :5]).shape == (4, 5, 50)


def test_the_parts_of_a_gpt_are_those_that_are_asked_for():
    usual, other = gpt_of(), gpt_of(**GPTS[3], tied=False)
    assert usual.head.weight is usual.token_embedding.weight
    assert other.head.weight is not other.token_embedding.weight
    assert usual.position_embedding.shape == (1, 16, 32)
    assert "position_embedding" not in dict(other.named_parameters())
    kinds = {type(module).__name__ for module in other.modules()}
    assert {"RMSNorm", "Gated"} <= kinds
    assert "LayerNorm" not in kinds
    assert not any("Norm" in type(module).__name__ for module in gpt_of(norm="none").modules())
    assert usual.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_rotary_scores_depend_on_the_distance_alone():
    model = gpt_of(positions="rotary", depth=1)
    attention = model.blocks[0][0].branch[1]
    x = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(1)).expand(1, 12, 32)
    seen = []
    softmax = torch.Tensor.softmax
    try:
        torch.Tensor.softmax = lambda self, dim: seen.append(self) or softmax(self, dim)
        attention(x)
    finally:
        torch.Tensor.softmax = softmax
    (scores,) = seen
    for distance in range(5):
        diagonal = scores[0, 0].diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-5)
    assert scores[0, 0, 0, 1] == -math.inf


@pytest.mark.heavy
@pytest.mark.parametrize(
    "scheme", ["gpt2", "small_init", "wang_init", "deepnorm", "t5", "mimetic", "mup", "t_fixup", "admin", "depth_scaled", "xavier", "bert"]
)
@pytest.mark.parametrize("parts", GPTS, ids=["pre", "post", "none", "llama"])
def test_a_scheme_for_transformers_applies_to_each_gpt_or_says_why_not(scheme, parts):
    model = gpt_of(**parts)
    only = {"admin": "post", "deepnorm": "post", "t_fixup": "none"}.get(scheme)
    if only not in {None, parts.get("norm", "pre")}:
        with pytest.raises(DoesNotApply, match=rf"'{scheme}' (needs a norm after each residual sum|is for networks without norm layers)"):
            initbench.init_network(model, scheme, inputs=TOKENS, batch=lambda size, index: (TOKENS[:size], TOKENS[:size, 0]))
        return
    initbench.init_network(model, scheme, inputs=TOKENS, batch=lambda size, index: (TOKENS[:size], TOKENS[:size, 0]))
    assert model(TOKENS).isfinite().all()


def test_gpt2_scales_the_ends_of_branches_by_their_number():
    model = gpt_of(width=64)
    initbench.init_network(model, "gpt2", inputs=TOKENS)
    ends = [name for name, _ in model.named_parameters() if name.endswith(("output.weight", "branch.1.2.weight"))]
    assert len(ends) == 6
    for name in ends:
        assert model.get_parameter(name).std().item() == pytest.approx(0.02 / math.sqrt(6), rel=0.1)
    assert model.blocks[0][0].branch[1].query.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_the_linter_has_no_error_for_a_gpt_with_its_scheme():
    def build():
        model = gpt_of(width=64, depth=4)
        initbench.init_network(model, "gpt2", inputs=TOKENS)
        return model

    assert initbench.lint(build, inputs=TOKENS).of("error") == ()


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_unet_keeps_the_size_and_sees_around_a_pixel(norm, depth):
    model = unet.build((1, 32, 24), 5, depth=depth, width=8, norm=norm).eval()
    images = torch.randn(2, 1, 32, 24, generator=torch.Generator().manual_seed(0))
    assert model(images).shape == (2, 5, 32, 24)
    far = images.clone()
    far[:, :, 0, 0] += 1
    reached = (model(far) != model(images)).any(1)[0]
    rows = int(reached.any(1).nonzero().max()) + 1
    assert rows == 3 if depth == 1 and norm != "group" else rows > 3
    assert len([module for module in model.modules() if isinstance(module, nn.ConvTranspose2d)]) == depth - 1


def test_an_autoencoder_is_mirrored_with_a_linear_code_and_end():
    model = autoencoder.build((1, 28, 28))
    sizes = [layer.out_features for layer in model if isinstance(layer, nn.Linear)]
    assert sizes == [1000, 500, 250, 30, 250, 500, 1000, 784]
    names = [name for name, _ in model.named_children()]
    assert names[names.index("code") + 1] == "linear5"
    assert names[-2:] == ["head", "image"]
    assert model(torch.randn(3, 1, 28, 28)).shape == (3, 1, 28, 28)


def test_the_hidden_signal_of_a_siren_keeps_its_size_with_its_scheme():
    """Sines of a spread phase have the variance 1/2, in each layer behind the first."""
    model = siren.build((2,), 1, depth=5, width=256)
    points = torch.rand(512, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    initbench.init_network(model, "siren", inputs=points)
    layers = weight_layers(model, points)
    values = measure(model, layers, points, None)[:, COLUMNS.index("activation_variance")]
    assert values[1:5].tolist() == pytest.approx([0.5] * 4, rel=0.15)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: gpt.build((1, 28, 28), 10), "takes token ids"),
        (lambda: gpt.build((16,), 50, width=30), "cannot be split into 4 heads. Give a multiple of 4"),
        (lambda: gpt.build((16,), 50, width=36, positions="rotary"), "Give a multiple of 8, for pairs"),
        (lambda: gpt.build((16,), 50, norm="layer"), "Allowed: pre, post, none"),
        (lambda: gpt.build((16,), 50, norm_kind="batch"), "Allowed: layer, rms"),
        (lambda: gpt.build((16,), 50, activation="relu"), "Allowed: gelu, swiglu"),
        (lambda: gpt.build((16,), 50, depth=0), "gpt depth is 0"),
        (lambda: lstm.build((1, 28, 28), 10), "takes token ids"),
        (lambda: lstm.build((16,), 10, cell="rnn"), "Allowed: lstm, gru"),
        (lambda: unet.build((1, 28, 28), 4, depth=4), "cannot be halved 3 times"),
        (lambda: unet.build((1, 32, 32), 4, width=6, norm="group"), "4 groups of channels"),
        (lambda: unet.build((12,), 4), "takes images"),
        (lambda: autoencoder.build((1, 8, 8), widths=[0]), "autoencoder widths"),
        (lambda: autoencoder.build((1, 8, 8), widths=[]), "widths of an autoencoder are empty"),
        (lambda: gpt_of()(torch.zeros(1, 17, dtype=torch.int64)), "built for 16 tokens, and gets 17"),
        (lambda: siren.build((2,), 1, omega=0), "omega of a siren is 0"),
        (lambda: siren.build((2,), 1, depth=0), "siren depth is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_a_sentence(build, says):
    with pytest.raises(ConfigError, match=says):
        build()


def test_each_model_says_which_task_it_is_for():
    tasks = {entry.name: entry.tasks for entry in catalog.entries("model")}
    named = {"gpt": "language", "lstm": "language", "unet": "segmentation", "autoencoder": "autoencoder", "siren": "regression"}
    assert {name: (task,) for name, task in named.items()}.items() <= tasks.items()
    assert {task for of in tasks.values() for task in of} == {entry.name for entry in catalog.entries("task")} - {"supervised"}  # of any

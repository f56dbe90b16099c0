"""Faults that are known from the public, each rebuilt small in our own code beside its healthy twin: `CASES`.

Each `source` says where the fault was seen: a library and its version, or a report with its number. What is rebuilt is the fault, not
the code that had it.
"""

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from lint_models import CNN, DEPTH, GPT, LSTM, VOCABULARY, WIDTH
from torch import Tensor, nn

TOKENS = f"int:{VOCABULARY}:32"


@dataclass(frozen=True)
class Case:
    """A fault: where it was seen, the rules that are about it, a glob of the parameters that must be named, and what is given.

    `make(faulty=...)` builds the model with the fault, or its twin without; `loaded`: what it should hold is what its twin starts with.
    """

    name: str
    source: str
    codes: tuple[str, ...]
    at: str
    inputs: str
    make: Callable[..., nn.Module]
    loaded: bool = False


CASES: list[Case] = []


def case(name: str, source: str, codes: str, at: str, inputs: str, *, loaded: bool = False) -> Callable[..., Callable[..., nn.Module]]:
    """Registers what builds the model."""

    def register(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        CASES.append(Case(name, source, tuple(codes.split()), at, inputs, make, loaded))
        return make

    return register


def stack() -> GPT:
    """A GPT whose weights all have one std, as they do before the residual scaling."""
    model = GPT()
    for block in model.blocks:
        for layer in (block.mlp.w2, block.attention.output):
            nn.init.normal_(layer.weight, std=0.02)
    return model


def scaled(model: nn.Module, wanted: Callable[[str], bool]) -> nn.Module:
    for name, value in model.named_parameters():
        if wanted(name):
            nn.init.normal_(value, std=0.02 / math.sqrt(2 * DEPTH))
    return model


@case("residual scaling never applied", "transformers 4.57.6 to 5.14.1, GPT-2; mended in 5.15", "IB303", "blocks.*.mlp.w2.weight", TOKENS)
def compared_with_a_whole_name(*, faulty: bool) -> nn.Module:
    """The loop compares the full name of a parameter with the last part of it."""
    ends = ("w2.weight", "output.weight")
    return scaled(stack(), (lambda name: name in ends) if faulty else (lambda name: name.endswith(ends)))


@case("w3 of the gated MLP scaled, not w2", "karpathy/llama2.c", "IB302", "blocks.*.mlp.w3.weight", TOKENS)
def scales_what_is_multiplied(*, faulty: bool) -> nn.Module:
    return scaled(stack(), lambda name: name.endswith(("w3.weight" if faulty else "w2.weight", "output.weight")))


class Encoder(nn.Module):
    """Three layers of torch's encoder."""

    def __init__(self, *, copied: bool) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(16, 32), nn.Linear(32, 10)
        layers = [nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True) for _ in range(3)]
        self.layers = nn.ModuleList(copy.deepcopy(layers[0]) for _ in range(3)) if copied else nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


@case("layers cloned by deepcopy", "torch nn.TransformerEncoder; pytorch issues 72253, 86274", "IB103", "layers.*.linear1.weight", "12x16")
def cloned(*, faulty: bool) -> nn.Module:
    return Encoder(copied=faulty)


class Projects(nn.Module):
    """A text tower whose positions and last projection are plain parameters."""

    def __init__(self, *, faulty: bool) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Embedding(VOCABULARY, WIDTH), nn.LayerNorm(WIDTH)
        self.positions = nn.Parameter(torch.empty(32, WIDTH))
        self.text_projection = nn.Parameter(torch.empty(WIDTH, 48))
        nn.init.normal_(self.tokens.weight, std=0.02)
        if not faulty:
            nn.init.normal_(self.positions, std=0.01)
            nn.init.normal_(self.text_projection, std=WIDTH**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.tokens(ids) + self.positions).mean(1) @ self.text_projection


@case("torch.empty never set", "openai/CLIP issue 15 (first release)", "IB101", "text_projection", TOKENS)
def never_set(*, faulty: bool) -> nn.Module:
    return Projects(faulty=faulty)


@case("an untied head drawn like an embedding", "transformers pull 26441, nanoT5 issue 25 (T5)", "IB304 IB305", "head.weight", TOKENS)
def head_of_an_embedding(*, faulty: bool) -> nn.Module:
    """N(0, 1), WIDTH times the variance that keeps the logits at size one."""
    model = GPT()
    nn.init.normal_(model.head.weight, std=1.0 if faulty else WIDTH**-0.5)
    return model


@case("padding row drawn anew", "pytorch issue 6411, Graphormer issue 41", "IB111", "tokens.weight", TOKENS)
def padding_drawn(*, faulty: bool) -> nn.Module:
    model = GPT()
    nn.init.normal_(model.tokens.weight, std=0.02)
    if not faulty:
        model.tokens.weight.data[0].zero_()
    return model


@case("forget bias in both biases", "pytorch issue 750, and the loop over biases that answers it", "IB203", "core.bias_ih_l*", "12x16")
def forget_twice(*, faulty: bool) -> nn.Module:
    """Every parameter with `bias` in its name gets a forget gate of one, and torch adds two of them."""
    model = LSTM()
    for name, value in model.core.named_parameters():
        if "bias" in name:
            nn.init.constant_(value.data.chunk(4)[1], 1.0 if faulty or "ih" in name else 0.0)
    return model


class Gated(nn.Module):
    """x + tanh(W2 relu(W1 y)) y, the gate closed at the start."""

    def __init__(self, *, faulty: bool) -> None:
        super().__init__()
        self.enter, self.other, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.gate = nn.Sequential(nn.Linear(32, 32, bias=False), nn.ReLU(), nn.Linear(32, 32, bias=False), nn.Tanh())
        nn.init.zeros_(self.gate[2].weight)
        if faulty:
            nn.init.zeros_(self.gate[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        other = torch.relu(self.other(x))
        return self.head(x + self.gate(other) * other)


@case("both layers of a gate zero", "LAVT-RIS issue 25", "IB105", "gate.*.weight", "16")
def closed_for_good(*, faulty: bool) -> nn.Module:
    return Gated(faulty=faulty)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter, inside a model that zeroes the layer it adapts."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(16, 32), nn.Linear(32, 10)
        self.modulation = nn.ModuleDict({"base": nn.Linear(32, 32).requires_grad_(False)})
        if before:
            self.adapt()
        for layer in self.modulation.values():
            nn.init.zeros_(layer.weight)
        if not before:
            self.adapt()

    def adapt(self) -> None:
        self.modulation["lora_A"], self.modulation["lora_B"] = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)
        nn.init.zeros_(self.modulation["lora_B"].weight)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.enter(x))
        return self.head(x + self.modulation["base"](x) + self.modulation["lora_B"](self.modulation["lora_A"](x)))


@case("adapter added before weights are zeroed", "cosmos-predict2.5 pull 15", "IB105", "modulation.lora_A.weight", "16")
def adapter_zeroed(*, faulty: bool) -> nn.Module:
    return Adapted(before=faulty)


@case(
    "weights drawn after loading", "transformers pull 45591 (Nemotron-H)", "IB109", "blocks.*.attention.output.weight", TOKENS, loaded=True
)
def drawn_after_loading(*, faulty: bool) -> nn.Module:
    """A pass for what is missing in the checkpoint draws some of what was there."""
    model = GPT()
    return scaled(model, lambda name: faulty and name.endswith("output.weight"))


class Decays(nn.Module):
    """A mixer with a decay of its own, written when it is made."""

    def __init__(self, *, resets: bool) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(32, 32), nn.Linear(32, 32)
        self.a_log, self.skip = nn.Parameter(torch.log(torch.arange(1.0, 33.0))), nn.Parameter(torch.ones(32))
        self.resets = resets

    def reset_parameters(self) -> None:
        if self.resets:
            self.a_log.data.copy_(torch.log(torch.arange(1.0, 33.0)))
            self.skip.data.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        return x + self.leave(torch.tanh(y) * torch.exp(-torch.exp(self.a_log) / 32) + self.skip * y)


class Mixers(nn.Module):
    """Two mixers and a head, with a method that draws all weights."""

    def __init__(self, *, resets: bool) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(Decays(resets=resets) for _ in range(2)), nn.Linear(32, 10)
        self.init_weights()

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.1)
                nn.init.zeros_(module.bias)
            if isinstance(module, Decays):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@case("garbage after the meta device", "fla-org/flame issue 9 (Mamba2)", "IB106", "layers.*.a_log", "32")
def left_by_to_empty(*, faulty: bool) -> nn.Module:
    return Mixers(resets=not faulty)


@case("norms drawn like weights", "pytorch-pretrained-bert 0.1.2", "IB112", "layers.*.norm1.weight", "12x16")
def norms_drawn(*, faulty: bool) -> nn.Module:
    model = Encoder(copied=False)
    for module in model.modules():
        if faulty and isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.normal_(module.bias, std=0.02)
    return model


class Graph(nn.Module):
    """x W with W stored (in, out), its std by torch's default with the size of one axis."""

    def __init__(self, inputs: int, outputs: int, *, axis: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(inputs, outputs)), nn.Parameter(torch.zeros(outputs))
        bound = 1 / math.sqrt(self.weight.shape[axis])
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


@case("fan of an (in, out) weight from the wrong axis", "tkipf/pygcn", "IB201", "*.weight", "500")
def wrong_axis(*, faulty: bool) -> nn.Module:
    axis = int(faulty)
    return nn.Sequential(Graph(500, 64, axis=axis), nn.ReLU(), Graph(64, 16, axis=axis))


class Packed(nn.Module):
    """Attention with one matrix for queries, keys and values."""

    def __init__(self, draw: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        draw(self.qkv.weight)
        nn.init.xavier_uniform_(self.proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        return x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class Attends(nn.Module):
    """Four such layers and a head."""

    def __init__(self, draw: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.enter, self.layers = nn.Linear(16, WIDTH), nn.ModuleList(Packed(draw) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


def each_part(weight: Tensor) -> None:
    for part in weight.data.chunk(3):
        nn.init.xavier_uniform_(part)


@case("packed q, k, v as one matrix", "facebookresearch/mae (moco-v3 has it right)", "IB201", "layers.*.qkv.weight", "12x16")
def packed_as_one(*, faulty: bool) -> nn.Module:
    return Attends(nn.init.xavier_uniform_ if faulty else each_part)


class Grouped(nn.Module):
    """Grouped convolutions between plain ones, no norms."""

    def __init__(self, groups: int, draw: Callable[[nn.Conv2d], object]) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv2d(3, 64, 3, padding=1), nn.Linear(64, 10)
        self.convs = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1, groups=groups) for _ in range(3))
        nn.init.kaiming_normal_(self.enter.weight)
        for conv in self.convs:
            draw(conv)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.enter(x))
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.head(x.mean((2, 3)))


def default_fan(conv: nn.Conv2d, *, faulty: bool) -> None:
    bound = 1 / math.sqrt((conv.in_channels if faulty else conv.in_channels // conv.groups) * 9)
    nn.init.uniform_(conv.weight, -bound, bound)


def fan_out(conv: nn.Conv2d, *, faulty: bool) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if not faulty:
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * conv.out_channels // conv.groups)))


@case("the default's fan without the groups", "ml-explore/mlx issue 4536", "IB201", "convs.*.weight", "3x16x16")
def grouped(*, faulty: bool) -> nn.Module:
    return Grouped(4, partial(default_fan, faulty=faulty))


@case("fan out of a depthwise convolution", "torch nn.init; pytorch issue 23854, pull 24315", "IB201", "convs.*.weight", "3x16x16")
def depthwise(*, faulty: bool) -> nn.Module:
    return Grouped(64, partial(fan_out, faulty=faulty))


class Decoder(nn.Module):
    """Features to an image by transposed convolutions, averaged for a class."""

    def __init__(self, *, fan: str) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv2d(3, 48, 3, padding=1), nn.Linear(20, 10)
        self.up = nn.ConvTranspose2d(48, 20, 4, 2, 1)
        nn.init.kaiming_normal_(self.enter.weight)
        nn.init.kaiming_normal_(self.up.weight, mode=fan)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.up(F.relu(self.enter(x)))).mean((2, 3)))


@case("fan out of a transposed convolution", "tensorflow issue 31192 (Conv2DTranspose)", "IB201", "up.weight", "3x16x16")
def swapped(*, faulty: bool) -> nn.Module:
    """Shape (in, out, height, width) read as (out, in, height, width): what is called the fan in is the fan out."""
    return Decoder(fan="fan_out" if faulty else "fan_in")


def inverse_transform(weight: Tensor, std: float) -> None:
    """A normal law cut at -2 and 2 from 8-bit uniform numbers: those that round to the end become the bound."""
    uniform = torch.empty(weight.shape, dtype=torch.bfloat16).uniform_(-1, 1)
    weight.data.copy_((uniform.erfinv() * (std * math.sqrt(2))).clamp(-2, 2))


@case("truncated normal drawn in bfloat16", "pytorch issue 145498, torchtitan issue 2269", "IB110", "blocks.*.mlp.w1.weight", TOKENS)
def drawn_in_16_bits(*, faulty: bool) -> nn.Module:
    model = GPT()
    for block in model.blocks:
        weight = block.mlp.w1.weight
        weight.data.copy_(weight.to(torch.bfloat16))
        if faulty:
            inverse_transform(weight, 0.02)
    return model


@case("torch's default before ReLU", "torch nn.Linear; pytorch issues 6950, 15314", "IB202", "*.weight", "64")
def default_gain(*, faulty: bool) -> nn.Module:
    """Var W = 1 / (3 fan in), where a ReLU needs 2 / fan in, twenty times."""
    layers = [nn.Linear(64, 64) for _ in range(20)]
    for layer in layers:
        if not faulty:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())), nn.Linear(64, 10))


class Reseeds(nn.Module):
    """A layer with a fixed rotation, whose constructor seeds the generators of everybody."""

    def __init__(self, width: int, *, seed: int | None) -> None:
        super().__init__()
        if seed is not None:
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
        self.register_buffer("rotation", nn.init.orthogonal_(torch.empty(width, width)))
        self.inside, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.rotation
        return x + self.out(torch.tanh(self.inside(x)))


@case("a constructor that seeds", "vislearn/FrEIA pull 49", "IB107", "*.inside.weight", "32")
def seeds_everybody(*, faulty: bool) -> nn.Module:
    return nn.Sequential(*(Reseeds(32, seed=place if faulty else None) for place in range(3)), nn.Linear(32, 10))


@case("a tied embedding at torch's default", "torch nn.Embedding; pytorch issue 3121", "IB204", "tokens.weight", TOKENS)
def tied(*, faulty: bool) -> nn.Module:
    model = GPT()
    model.head.weight = model.tokens.weight
    if faulty:
        model.tokens.reset_parameters()
    return model


@case("constants for a convolution's fan", "no report; Glorot's n read as the number of channels", "IB201", "convs.*.weight", "3x16x16")
def area_forgotten(*, faulty: bool) -> nn.Module:
    model = CNN()
    for conv in model.convs:
        area = 1 if faulty else 9
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (area * (conv.in_channels + conv.out_channels))))
    return model

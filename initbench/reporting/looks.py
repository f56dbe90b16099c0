"""How a scheme looks: its colour, dash and marker, the same in every plot of every command."""

import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe & Ito's palette, which colour-blind people can tell apart, without black and the yellow that white swallows."""
Dash = Literal["solid", "dashed", "dotted", "dash-dotted"]
DASHES: tuple[Dash, ...] = ("solid", "dashed", "dotted", "dash-dotted")
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Matplotlib's names: circle, square, triangle, diamond, triangle down, filled plus."""

SHIPPED = (
    "kaiming", "xavier", "normal", "orthogonal", "lecun", "lsuv",
    "uniform", "trunc_normal", "torch_default", "zeros", "constant", "ones",
    "keras_default", "flax_default", "identity", "dirac", "delta_orthogonal", "scaled_orthogonal",
    "fixup", "skipinit", "rezero", "layer_scale", "zero_gamma", "t_fixup",
    "metainit", "gradinit", "mimetic", "mup", "dks", "tat",
    "gpt2", "small_init", "wang_init", "deepnorm", "depth_scaled", "vit_default",
    "t5", "bert", "admin", "mitchell", "modula", "sinusoidal",
    "siren", "sparse", "sparse_incoming", "looks_linear", "edge_of_chaos", "gaussian_gain",
    "autoinit_signal", "autoinit_jacobian", "rai", "sigma", "krahenbuhl", "kaiming_dropout",
    "stable_resnet", "zero_hadamard", "identity_noise", "variance_scaling",
)  # fmt: skip
"""The place of a name here gives its look. New ones come last, so that none that was printed changes."""


class Look(NamedTuple):
    """Colour as #RRGGBB, dash and marker."""

    colour: str
    dash: Dash
    marker: str


def _every_look() -> tuple[Look, ...]:
    """All that can be told apart. The first six differ in colour, the first 24 in colour or dash, the first 36 in colour or marker."""
    colours, dashes, markers = len(COLOURS), len(DASHES), len(MARKERS)
    both = math.lcm(dashes, markers)  # turns of the colours after which dash and marker would be the same again
    return tuple(
        Look(COLOURS[place % colours], DASHES[turn % dashes], MARKERS[(place + turn + turn // both) % markers])
        for place in range(colours * dashes * markers)
        for turn in (place // colours,)
    )


LOOKS = _every_look()


def looks(schemes: Sequence[str]) -> dict[str, Look]:
    """The look of each scheme, by its name with parameters.

    A shipped scheme with its defaults has its own; any other has one that its name alone chooses of those that are left, a shipped one with
    parameters of its colour. Only where another scheme of the same question has that colour with that dash, it takes another dash of its
    colour, and where none is free the next look that differs. So a colour stays with a scheme in every picture, and schemes that share
    one differ in their dash and, as far as markers go, in their marker.
    """
    found: dict[str, Look] = {}
    left = LOOKS[len(SHIPPED) :]
    for scheme in sorted(schemes, key=lambda name: (name not in SHIPPED, name)):
        if scheme in SHIPPED:
            found[scheme] = LOOKS[SHIPPED.index(scheme)]
            continue
        start = int.from_bytes(sha256(scheme.encode("utf-8", "surrogatepass")).digest()[:4])
        turns = [left[(start + step) % len(left)] for step in range(len(left))]
        base = scheme.partition(":")[0]
        colour = LOOKS[SHIPPED.index(base)].colour if base in SHIPPED else turns[0].colour
        found[scheme] = _unlike(turns, list(found.values()), colour)
    return found


def _unlike(turns: Sequence[Look], others: Sequence[Look], colour: str) -> Look:
    """The first of the looks that differs most from the others: at all, as a line, then it has the colour, then as dots."""
    lines, dots = {look[:2] for look in others}, {look[::2] for look in others}
    return min(turns, key=lambda look: (look in others, look[:2] in lines, look.colour != colour, look[::2] in dots))

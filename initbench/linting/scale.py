"""Which laws of the catalogue have a weight's standard deviation: by the right fans, and by fans that people mistake for them."""

import math
from dataclasses import dataclass

from torch import nn

from initbench.linting.chance import deviations, error_of_std
from initbench.linting.subject import Subject
from initbench.nn.fans import TRANSPOSED
from initbench.nn.layers import Role, WeightLayer

DEFAULT = 1 / 3
"""The gain of torch's default, which knows no fan but the fan in."""
GAINS = {"xavier or lecun": 1.0, "kaiming": 2.0, "torch's default": DEFAULT, "tanh's gain": 25 / 9}
"""What laws multiply 1/fan with."""
FEWEST = 200
"""Numbers from which on a standard deviation is compared with laws."""
CLOSE = 1e-4
"""Relative differences below it are rounding."""
SHAPES = {"normal", "uniform", "trunc_normal"}


@dataclass(frozen=True)
class Explanation:
    """A law that has this standard deviation: the variance is `gain` / `fan`, of a fan in words."""

    law: str
    of: str
    gain: float
    fan: float

    @property
    def std(self) -> float:
        """What the law gives."""
        return math.sqrt(self.gain / self.fan)

    @property
    def told(self) -> str:
        """The law and what is wrong with its fan, as a message has it."""
        return f"{self.law} with a wrong fan: {self.of.partition(' (')[0]}"

    def words(self) -> str:
        """As in `0.0589 = sqrt(2/576), kaiming with the fan in`."""
        gain = {1.0: "1", 2.0: "2", 1 / 3: "(1/3)", 25 / 9: "(25/9)"}[self.gain]
        return f"{self.std:.4g} = sqrt({gain}/{self.fan:g}), {self.law} with {self.of}"


def right(subject: Subject, layer: WeightLayer) -> tuple[Explanation, ...]:
    """The laws with the layer's own fans that have its standard deviation."""
    fan_in, fan_out = layer.fan_in, _fan_out(subject, layer)
    found = _matching(subject, layer, {"the fan in": fan_in, "the fan out": fan_out, "the mean of both fans": (fan_in + fan_out) / 2})
    return tuple(law for law in found if law.fan == fan_in or not math.isclose(law.gain, DEFAULT) or not _has_one_default(layer))


def wrong(subject: Subject, layer: WeightLayer) -> tuple[Explanation, ...]:
    """The laws with mistaken fans that have it."""
    fan_out = _fan_out(subject, layer)
    own = {float(layer.fan_in), float(fan_out), (layer.fan_in + fan_out) / 2}
    mistaken = _mistaken(layer, packed=layer.parts > 1 or fan_out != layer.fan_out)
    found = _matching(subject, layer, {words: fan for words, fan in mistaken.items() if fan not in own and fan > 0})
    swapped: dict[str, float] = {"the fan out taken for the fan in": fan_out} if fan_out != layer.fan_in and _has_one_default(layer) else {}
    return (*found, *(law for law in _matching(subject, layer, swapped) if math.isclose(law.gain, DEFAULT)))


def _has_one_default(layer: WeightLayer) -> bool:
    """Whether a third of 1 / fan out is nobody's law here: torch draws recurrent layers so, and TensorFlow heads."""
    return layer.role is not Role.HEAD and not isinstance(layer.module, nn.RNNBase | nn.RNNCellBase)


def _fan_out(subject: Subject, layer: WeightLayer) -> int:
    """The fan out; of a linear layer that is queries, keys and values in one, that of each of them."""
    packed = layer.parts == 1 and layer.parameter in subject.packed and layer.fan_out % 3 == 0
    return layer.fan_out // 3 if packed else layer.fan_out


def meant(subject: Subject, layer: WeightLayer, law: Explanation) -> float:
    """The fan of the layer that a mistaken law stands for."""
    fan_out = _fan_out(subject, layer)
    return layer.fan_in if "fan in" in law.of else fan_out if "fan out" in law.of else (layer.fan_in + fan_out) / 2


def explainable(subject: Subject, layer: WeightLayer) -> bool:
    """Whether the numbers of a weight are of a kind whose standard deviation can be compared with laws."""
    law = subject.laws[layer.parameter]
    return law.law in SHAPES and bool(law.std) and layer.weight.numel() >= FEWEST and not layer.weight.is_complex()


def is_round(subject: Subject, layer: WeightLayer) -> bool:
    """Whether the standard deviation is a constant that people choose, such as 0.02, in layers whatever their fans."""
    std = subject.laws[layer.parameter].std or 0.0
    if not std or f"{std:.0e}"[0] not in "125" or abs(float(f"{std:.1g}") / std - 1) > tolerance(subject, layer):
        return False
    return any(other.fan_in != layer.fan_in and subject.has_std(other, float(f"{std:.1g}")) for other in subject.layers)


def usual_std(subject: Subject) -> float | None:
    """The constant standard deviation that most weights share whatever their fans; None where there is none."""
    large = [layer for layer in subject.layers if layer.weight.numel() >= FEWEST and subject.laws[layer.parameter].std]
    for candidate in large:
        std = subject.laws[candidate.parameter].std or 0.0
        near = [layer for layer in large if subject.has_std(layer, std)]
        unlawful = [layer for layer in near if not right(subject, layer)]
        if 5 * len(near) >= 2 * len(large) and 2 * len(unlawful) >= len(near) and len({layer.shape for layer in near}) > 1:
            return sorted(subject.laws[layer.parameter].std or 0.0 for layer in near)[len(near) // 2]
    return None


def tolerance(subject: Subject, layer: WeightLayer) -> float:
    """How far a standard deviation may be off by chance, relatively, over all layers of the model."""
    return CLOSE + deviations(len(subject.layers)) * error_of_std(layer.weight.numel())


def _matching(subject: Subject, layer: WeightLayer, fans: dict[str, float]) -> tuple[Explanation, ...]:
    std, allowed = subject.laws[layer.parameter].std or 0.0, tolerance(subject, layer)
    laws = [Explanation(law, of, gain, fan) for of, fan in fans.items() if fan for law, gain in GAINS.items()]
    return tuple(sorted((law for law in laws if abs(std / law.std - 1) <= allowed), key=lambda law: abs(std / law.std - 1)))


def _mistaken(layer: WeightLayer, *, packed: bool) -> dict[str, float]:
    """The fans that people mistake for the right ones, in words."""
    found: dict[str, float] = {}
    shape, field, groups = layer.shape, layer.receptive_field, layer.groups
    if len(shape) < 2:
        return found

    def add(what: str, fan_in: float, fan_out: float) -> None:
        found.update({f"{what} (fan in)": fan_in, f"{what} (fan out)": fan_out, f"{what} (mean of both)": (fan_in + fan_out) / 2})

    if field > 1:
        add("the kernel's area forgotten", shape[1], shape[0])
    if layer.transposed:
        stored = (
            "a transposed weight taken for (out, in)"
            if isinstance(layer.module, TRANSPOSED)
            else "a weight stored (in, out) taken for (out, in)"
        )
        add(stored, shape[1] * field, shape[0] * field)
    elif groups > 1:
        add("the groups forgotten", shape[1] * field, shape[0] * field)
        add("the groups forgotten on both sides", groups * shape[1] * field, shape[0] * field)
    if packed:
        three = isinstance(layer.module, nn.MultiheadAttention) or layer.parts in {1, 3}
        what = "queries, keys and values" if three else f"{layer.parts} packed parts"
        add(f"{what} taken for one matrix", layer.fan_in, layer.parts * layer.fan_out)
    return found

"""The rule `recurrent_biases`."""

from collections.abc import Iterator

from torch import Tensor, nn

from initbench.linting.finding import Finding, Severity
from initbench.linting.subject import Subject
from initbench.nn.layers import WeightLayer
from initbench.nn.naming import modules_of

FAMILY = "law"
CODE = "IB203"
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.LSTMCell: 4, nn.GRUCell: 3}
FORGET = 1
"""The place of the forget gate (of the update gate of a GRU) among the gates."""


def check(subject: Subject) -> Iterator[Finding]:
    """Two biases of a recurrent layer that add up to twice what was meant, or gates that were drawn as one matrix.

    Measured: the part of the forget gate in `bias_ih` and `bias_hh`, which torch adds; whether the packed weight of all gates is
    orthogonal as a whole instead of gate by gate.
    Expected: the forget bias in one of the two biases, zero in the other; each gate orthogonal on its own.
    Remedy:
        lstm.bias_ih_l0.data[hidden : 2 * hidden].fill_(1)
        lstm.bias_hh_l0.data[hidden : 2 * hidden].fill_(0)

    Source: Jozefowicz et al. 2015, section 5: a forget bias of 1; the documentation of torch.nn.LSTM: both biases are added.
    """
    twice: list[str] = []
    size = 0.0
    for prefix, module in modules_of(subject.model):
        gates = next((count for kind, count in GATES.items() if isinstance(module, kind)), None)
        if gates is None:
            continue
        biases = {name: value.detach() for name, value in module.named_parameters(recurse=False) if name.startswith("bias_ih")}
        for name, value in biases.items():
            other = getattr(module, name.replace("bias_ih", "bias_hh"), None)
            if isinstance(other, Tensor) and (both := _both_set(value, other.detach(), gates)):
                twice.append(f"{prefix}.{name}".lstrip("."))
                size = both
    if twice:
        yield Finding(
            severity=Severity.WARNING,
            parameters=tuple(twice),
            message="a gate's bias is set in both biases, which are added",
            measured=f"the forget gate's part is {size / 2:.3g} in bias_ih and in bias_hh: {size:.3g} together",
            effect=f"the gate starts at sigmoid({size:.3g}) = {_sigmoid(size):.3f}, where {size / 2:.3g} gives {_sigmoid(size / 2):.3f}",
        )
    packed = [
        layer for layer in subject.layers if layer.parts > 1 and isinstance(layer.module, tuple(GATES)) and _is_packed(subject, layer)
    ]
    if packed:
        first = packed[0]
        yield Finding(
            severity=Severity.INFO,
            parameters=tuple(layer.parameter for layer in packed),
            message="orthogonal over all gates together, not gate by gate",
            measured=f"{first.parts} gates of {first.fan_out} units share {first.fan_in} orthonormal columns: std "
            f"{subject.laws[first.parameter].std:.4g}",
            effect=f"each gate has a variance {first.parts}x smaller than an orthogonal matrix of its own would have",
        )


def _is_packed(subject: Subject, layer: WeightLayer) -> bool:
    """Whether the columns of all gates together are orthonormal, instead of those of each gate."""
    law = subject.laws[layer.parameter]
    return law.law == "orthogonal" and 0 < (law.std or 0.0) ** 2 * layer.fan_in < 0.5


def _both_set(one: Tensor, other: Tensor, gates: int) -> float:
    """What the two parts of the forget gate add up to, where both are the same constant above zero; else 0."""
    left, right = (each.chunk(gates)[FORGET] for each in (one, other))
    constant = bool((left == left[0]).all()) and bool((right == right[0]).all())
    return float(left[0] + right[0]) if constant and float(left[0]) > 0 and float(left[0]) == float(right[0]) else 0.0


def _sigmoid(value: float) -> float:
    return float(1 / (1 + 2.718281828459045**-value))

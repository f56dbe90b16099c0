"""The rule `wrong_fan`."""

from collections.abc import Iterator

from torch import nn

from initbench.linting import scale
from initbench.linting.finding import Finding, Severity, kind_of
from initbench.linting.scale import Explanation
from initbench.linting.subject import Subject
from initbench.nn.fans import TRANSPOSED
from initbench.nn.layers import WeightLayer

FAMILY = "law"
CODE = "IB201"
MATTERS = 1.5
"""A variance that is off by less is worth no warning."""


def check(subject: Subject) -> Iterator[Finding]:
    """The standard deviation is that of a known law with a wrong fan: the kernel's area, the groups or the order of axes mistaken.

    Measured: the std of every weight of random numbers, beside that of the known laws (1/fan, 2/fan, torch's default, tanh's gain) with
    the layer's own fans and with those that people mistake for them.
    Expected: a law with the right fan (of torch's default the fan in alone); no finding where a constant such as 0.02 or any right law
    explains the number within chance, nor where only some of the layers that one line of code makes have the wrong law.
    Remedy:
        fan_in = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_in))

    Source: Glorot & Bengio 2010; He et al. 2015, section 2.2: n is the number of connections of a response, k^2 c for a k x k kernel.
    """
    groups: dict[str, list[WeightLayer]] = {}
    for layer in subject.layers:
        if scale.explainable(subject, layer):
            groups.setdefault(f"{type(layer.module).__name__} {kind_of(layer.parameter).rpartition('.')[2]}", []).append(layer)
    for layers in groups.values():
        found = _shared(subject, layers)
        if found:
            yield _finding(subject, found)


def _shared(subject: Subject, layers: list[WeightLayer]) -> dict[str, Explanation]:
    """The layers that a wrong law explains and no right one does, by parameter; none where the wrong law does not hold for all alike."""
    unexplained = [layer for layer in layers if not scale.right(subject, layer) and not scale.is_round(subject, layer)]
    wrongs = {layer.parameter: scale.wrong(subject, layer) for layer in unexplained}
    able = {name: laws for name, laws in wrongs.items() if laws}
    labels = [(law.law, law.of) for laws in able.values() for law in laws]
    if not labels:
        return {}
    best = max(dict.fromkeys(labels), key=labels.count)
    found = {
        name: next(law for law in laws if (law.law, law.of) == best)
        for name, laws in able.items()
        if best in [(law.law, law.of) for law in laws]
    }
    return found if 2 * len(found) > len(unexplained) else {}


def _finding(subject: Subject, found: dict[str, Explanation]) -> Finding:
    names = tuple(found)
    layers = [subject.layer_of[name] for name in names]
    first, law = layers[0], found[names[0]]
    meant = scale.meant(subject, first, law)
    off = max((_off(subject, subject.layer_of[name], each) for name, each in found.items()), key=lambda ratio: max(ratio, 1 / ratio))
    own = _is_torchs_default(first, law)
    held = all(layer.name in subject.normed for layer in layers)
    severity = Severity.WARNING if max(off, 1 / off) > MATTERS and not own and not held else Severity.INFO
    by_norm = ", which the norm behind takes out" if held else ""
    return Finding(
        severity=severity,
        parameters=names,
        message=f"the std of {law.told}" + (", torch's own default" if own else ""),
        measured=f"std {subject.laws[names[0]].std:.4g}; {law.words()}; with the right fan {(law.gain / meant) ** 0.5:.4g} = "
        f"sqrt({law.gain:.3g}/{meant:g})",
        effect=f"the variance behind the layer is up to {max(off, 1 / off):.3g}x too {'large' if off > 1 else 'small'}{by_norm}",
    )


def _off(subject: Subject, layer: WeightLayer, law: Explanation) -> float:
    """The variance over that with the right fan."""
    return scale.meant(subject, layer, law) / law.fan


def _is_torchs_default(layer: WeightLayer, law: Explanation) -> bool:
    """Whether torch's own module draws so: transposed convolutions, and the packed weight of its attention."""
    if isinstance(layer.module, TRANSPOSED):
        return law.law == "torch's default"
    return isinstance(layer.module, nn.MultiheadAttention) and law.gain == 1.0

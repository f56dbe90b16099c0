"""What each parameter of a finding should be set to instead: remedies, as code of torch and as a scheme of the catalogue.

What a finding says (`Remedies.text`) and what `--fix` writes are made of the same remedies.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from textwrap import indent

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from initbench.errors import ConfigError
from initbench.init.gains import gain_after
from initbench.linting import scale
from initbench.linting.finding import CannotTell, Finding, Link
from initbench.linting.subject import Subject
from initbench.linting.zero import drawn_factors, is_zero_factor, zero_parameters
from initbench.nn.layers import EMBEDDINGS, NORMS, Role, WeightLayer
from initbench.nn.parametrized import computed
from initbench.nn.residual import Branch
from initbench.results.propagation import LossKind

SMALL = 0.02
"""The standard deviation of heads, embeddings, queries and raw parameters."""
SENSIBLE = (0.005, 0.1)
"""Constant standard deviations that are kept as a model's usual one."""
FACTORS = {"weight", "gamma", "scale", "alpha", "gain", "lambda"}
"""Names of vectors that something is multiplied with."""
RECURRENT = nn.RNNBase | nn.RNNCellBase
OUT_OF_REACH = {
    "IB106": "it is about the methods of the classes, which a function that is called afterwards does not change",
    "IB109": "the checkpoint has to be loaded after everything that draws weights, initialize(model) among it",
    "IB205": "the bias takes the frequencies of the classes, which the model does not know",
    "IB310": "what cuts the gradient is in the structure, or in requires_grad",
}
"""Rules whose findings no numbers clear, with why; those of parameters that are known as the cause aside."""
NOT_AGAIN = ("IB106", "IB109")
"""Of these what holds when nothing is called after the model is built, which a call cannot change: not looked at again."""
BY_SIGNAL = "no start of the weights alone decides it: the inputs, the structure or zeros that are meant do, too"
NO_PARAMETER = "it is about no parameter: initialize() sets parameters alone"
STILL = "the remedy did not reach it"
IN_CODE = ("IB107", "IB108", "IB110")
"""Rules whose findings numbers clear, and which say how the code that draws them is mended."""
ZERO_MATTERS = ("IB101", "IB105", "IB112")
"""Rules that may find a zero that should not be one, as IB301 does where it loses the signal; to others one that can learn is meant."""
RIGHT = 1.25
"""A variance that is nearer than this factor to the right one is right."""
WHERE_NOT_MEANT = "# it is zero and can learn, so that --fix leaves it; where that is not meant:"
SHOWN = 3
"""Remedies that a finding shows, and parameters of one that it names; --fix writes all of them."""


@dataclass(frozen=True)
class Remedy:
    """What a parameter is set to: code of torch about `weight`; `scheme`: what `init_network` calls it, where it can.

    Of two for one parameter that of the higher `rank` holds. Of a weight norm the code is about `other`, too: the length of a
    direction, or the direction of a length, whose name ends in `partner` instead.
    """

    torch: str
    scheme: str | None = None
    rank: int = 1
    partner: str = ""

    def in_loop(self) -> str:
        """The code in a loop over names and weights."""
        return re.sub(r"\bother\b", self._other, self.torch)

    def about(self, names: Sequence[str]) -> str:
        """The code about some parameters, on its own; of many about the first."""
        if 1 < len(names) <= SHOWN:
            listed = ", ".join(f'"{name}"' for name in names)
            return f"for name in ({listed}):\n{indent(self._set('model.get_parameter(name)', self._other), '    ')}"
        first, *more = self._set(f"model.{names[0]}", f"model.{names[0][:-1]}{self.partner}").splitlines()
        return "\n".join([first + (f"      # and {len(names) - 1} more alike: --fix writes all" if len(names) > 1 else ""), *more])

    @property
    def _other(self) -> str:
        return f'model.get_parameter(name[:-1] + "{self.partner}")'

    def _set(self, weight: str, other: str) -> str:
        meant = {"weight": weight, "other": other}

        def named(line: str) -> str:
            data = "" if line.startswith("nn.init.") else ".data"
            return re.sub(r"\b(weight|other)\b", lambda match: meant[match[1]] + data, line)

        return "\n".join(map(named, self.torch.splitlines()))


ZEROS, ONES = Remedy("nn.init.zeros_(weight)", "zeros"), Remedy("nn.init.ones_(weight)", "ones")


@dataclass
class Plan:
    """The remedies by parameter, and the rules that each answers."""

    remedies: dict[str, Remedy] = field(default_factory=dict)
    codes: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, finding: Finding, chosen: Iterable[tuple[str, Remedy]]) -> bool:
        """Takes the remedies of a finding; where one of a higher rank is there, that is its remedy, too. Whether anything is new."""
        new = False
        for name, remedy in chosen:
            before = self.remedies.get(name)
            if before is None or (remedy.rank >= before.rank and remedy != before):
                self.remedies[name], new = remedy, True
            self.codes.setdefault(name, {})[f"{finding.code} {finding.rule}"] = None
        return new

    def answers(self, finding: Finding) -> bool:
        """Whether there is a remedy for a rule already."""
        return any(f"{finding.code} {finding.rule}" in codes for codes in self.codes.values())


def normal(std: float, *, rank: int = 1, over: int = 1) -> Remedy:
    """Normal numbers, divided by the root of `over`."""
    code = f"{std:.3g}" + (f" / math.sqrt({over})" if over > 1 else "")
    return Remedy(f"nn.init.normal_(weight, std={code})", f"normal:std={std / over**0.5:.4g}", rank)


class Remedies:
    """Finds the remedies for the findings of one subject; `plan` are those that were tried already."""

    def __init__(self, subject: Subject, plan: Plan | None = None) -> None:
        self.subject, self.plan = subject, plan or Plan()

    def of(self, finding: Finding) -> list[tuple[str, Remedy]]:
        """What to do about a finding, parameter by parameter; empty where numbers cannot clear it. Zeros that are meant stay zero."""
        meant = set[str]() if finding.code in ZERO_MATTERS else self._meant_zero
        if finding.code == "IB301" and finding.link is Link.EFFECT:  # a zero on the only way; a head begins to learn at once
            meant = meant & {layer.parameter for layer in self.subject.layers if layer.role is Role.HEAD}
        return [(name, remedy) for name, remedy in self._all(finding) if name not in meant]

    def _all(self, finding: Finding) -> list[tuple[str, Remedy]]:
        """As `of`, of zeros that are meant, too."""
        if finding.code in OUT_OF_REACH and finding.link is None:
            return []
        first = self.subject.parameters.first
        found = [(name, remedy) for name, remedy in OWN.get(finding.code, Remedies._each)(self, finding) if name in first]
        return [(name, self._through_norm(name, remedy)) for name, remedy in found]

    def text(self, finding: Finding) -> str:
        """The remedies as code about the first parameter of each kind; empty where there is none, or it is for the rule to say.

        Where all that they are about are zeros that can learn, it is for the reader to say whether these are meant.
        """
        if finding.code in IN_CODE:
            return ""
        made = self.of(finding)
        if made:
            return self._told(made)
        meant = self._told(self._all(finding))
        return f"{WHERE_NOT_MEANT}\n{meant}" if meant else ""

    def _told(self, made: Iterable[tuple[str, Remedy]]) -> str:
        remedies, kinds = dict(made), dict[str, list[str]]()
        for name, remedy in remedies.items():
            kinds.setdefault(remedy.torch, []).append(name)
        lines = [remedies[names[0]].about(names) for names in [*kinds.values()][:SHOWN]]
        if len(kinds) > SHOWN:
            lines.append(f"# and {sum(map(len, [*kinds.values()][SHOWN:]))} others: --fix writes all")
        return "\n".join(lines)

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The residual branches, where they can be told."""
        try:
            return self.subject.branches
        except CannotTell:
            return ()

    @cached_property
    def usual(self) -> float | None:
        """The constant standard deviation of the model's weights, where it has one."""
        usual = scale.usual_std(self.subject) if self.subject.has_norms else None
        return usual if usual is not None and SENSIBLE[0] <= usual <= SENSIBLE[1] else None

    @cached_property
    def ends(self) -> set[str]:
        """The weights that end residual branches."""
        return {branch.last.parameter for branch in self.branches}

    @cached_property
    def _meant_zero(self) -> set[str]:
        """Parameters that are zero, were set, and learn: ends of branches, one factor of a product, heads, biases."""
        zero = set(zero_parameters(self.subject))
        with contextlib.suppress(CannotTell):
            zero -= set(self.subject.stuck.names)
        with contextlib.suppress(CannotTell):
            zero -= set(self.subject.builds.unset)
        return zero

    @property
    def _has_meant_weights(self) -> bool:
        return any(self.subject.parameters.first[name].dim() > 1 for name in self._meant_zero)

    def _through_norm(self, name: str, remedy: Remedy) -> Remedy:
        """The remedy in a weight norm: the length is that of the direction, so that the weight is what was drawn."""
        layer = next((layer for layer in self.subject.layers if layer.length and name in {layer.parameter, layer.length}), None)
        through = None if layer is None else computed(layer.module, layer.weight)
        if layer is None or layer.length is None or through is None or not through.is_weight_norm:
            return remedy
        dim = (through.by[0] if isinstance(through.by, ParametrizationList) else through.by).dim
        if name == layer.length:
            return Remedy(f"weight.copy_(torch.norm_except_dim(other, 2, {dim}))", rank=remedy.rank, partner=layer.parameter[-1])
        code = f"{remedy.torch}\nother.copy_(torch.norm_except_dim(weight, 2, {dim}))  # the length of what was drawn"
        return replace(remedy, torch=code, partner=layer.length[-1])

    def start_of(self, name: str) -> Remedy:
        """How a parameter starts in a network of this kind, whatever it holds now."""
        layer, value = self.subject.layer_of.get(name), self.subject.parameters.first[name]
        owner, short = self.subject.parameters.owner[id(value)], name.rpartition(".")[2]
        if isinstance(owner, EMBEDDINGS):
            return _embedding(owner, SMALL)
        if layer is not None and value.dim() > 1:
            return self._drawn(layer)
        if isinstance(owner, NORMS):
            return ONES if short == "weight" else ZEROS
        if value.dim() > 1:
            return normal(SMALL)
        return ONES if short in FACTORS else ZEROS

    def _drawn(self, layer: WeightLayer) -> Remedy:
        if layer.role is Role.HEAD:
            return normal(self.usual or SMALL)
        if isinstance(layer.module, RECURRENT) and "weight_hh" in layer.parameter:
            return _gates(layer)
        if self.usual is not None:
            return normal(self.usual, over=len(self.branches) if layer.parameter in self.ends else 1)
        return self._by_law(layer, len(self.branches) if layer.parameter in self.ends and not self.subject.has_norms else 1)

    def _by_law(self, layer: WeightLayer, over: int = 1) -> Remedy:
        """Gain over the root of the fan in, the gain that of the activation that follows."""
        try:
            gain = gain_after(layer)
        except ConfigError:
            gain = 1.0
        return _law(layer, gain**2, layer.fan_in, over)

    def _each(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """How each starts; a vector of zeros that is the cause of what is told is one that should not be zero."""
        is_cause = finding.link in {Link.SYMPTOM, Link.EFFECT}
        for name in finding.parameters:
            value = self.subject.parameters.first.get(name)
            if value is not None:
                yield name, ONES if is_cause and is_zero_factor(name, value.detach()) else self.start_of(name)

    def _with_biases(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """What is named, and the biases of weights where they are larger than any that torch draws."""
        for name, remedy in self._each(finding):
            yield name, remedy
            if name in self.subject.layer_of:
                yield from self._far_bias(self.subject.layer_of[name])

    def _far_bias(self, layer: WeightLayer) -> Iterator[tuple[str, Remedy]]:
        bias = self.subject.parameters.first.get(layer.bias or "")
        if layer.bias and bias is not None and not isinstance(layer.module, RECURRENT) and bias.numel():
            near = bool((bias.detach().abs() <= (1 + 1e-3) / layer.fan_in**0.5).all())
            if not near:
                yield layer.bias, ZEROS

    def _whole(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """What is named; where that was tried, all weights that do not keep the signal, far biases, and shut norms that end no branch."""
        lost = self.subject.health.lost
        behind_zero = lost is not None and (lost.what, lost.how) == ("gradients", LossKind.CONSTANT) and self._has_meant_weights
        if behind_zero and finding.link is None:
            for name in self._meant_zero:  # they are zero behind a zero that is meant, until that has moved
                if self.subject.parameters.first[name].dim() > 1:
                    yield name, self.start_of(name)
            return
        if not self.plan.answers(finding):
            yield from self._with_biases(finding)
            return
        for name, layer in self.subject.layer_of.items():
            if self._is_off(layer):
                yield name, self.start_of(name)
            yield from self._far_bias(layer)
        open_ends = {id(branch.last_norm) for branch in self.branches}
        for name, value in self.subject.parameters.first.items():
            owner = self.subject.parameters.owner[id(value)]
            if isinstance(owner, NORMS) and name.endswith("weight") and not value.detach().any() and id(owner) not in open_ends:
                yield name, ONES

    def _is_off(self, layer: WeightLayer) -> bool:
        """Whether the variance of a weight is not the one that keeps the signal."""
        std = self.subject.laws[layer.parameter].std
        if layer.role is Role.HEAD or std is None:
            return layer.role is not Role.HEAD
        try:
            factor = std**2 * layer.fan_in / gain_after(layer) ** 2
        except ConfigError:
            factor = std**2 * layer.fan_in
        return not 1 / RIGHT < factor < RIGHT

    def _one_factor(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """As few of the factors as let all of them learn, the first in the pass before what it feeds; the others stay zero."""
        for name in drawn_factors(self.subject, finding.parameters):
            yield name, self.start_of(name)

    def _padding(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            owner = self.subject.parameters.owner[id(self.subject.parameters.first[name])]
            yield name, Remedy(f"weight[{getattr(owner, 'padding_idx', 0)}].zero_()", rank=0)

    def _by_fan(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """The law that was meant, with the right fan."""
        for name in finding.parameters:
            layer = self.subject.layer_of[name]
            laws = [law for law in scale.wrong(self.subject, layer) if law.told in finding.message]
            yield name, _law(layer, laws[0].gain, scale.meant(self.subject, layer, laws[0])) if laws else self._by_law(layer)

    def _by_gain(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            yield name, self._by_law(self.subject.layer_of[name])

    def _recurrent(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            if name in self.subject.layer_of:
                yield name, _gates(self.subject.layer_of[name])
            else:
                yield name.replace("bias_ih", "bias_hh"), self._no_forget_bias(name)

    def _no_forget_bias(self, name: str) -> Remedy:
        """The part of the forget gate (i, f, g, o in an LSTM; r, z, n in a GRU) at zero; the other gates as they are."""
        owner = self.subject.parameters.owner[id(self.subject.parameters.first[name])]
        return Remedy(f"weight.chunk({3 if isinstance(owner, nn.GRU | nn.GRUCell) else 4})[1].zero_()", rank=2)

    def _tied(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            value = self.subject.parameters.first[name]
            owner = next((each for each in self.subject.model.modules() if isinstance(each, EMBEDDINGS) and each.weight is value), None)
            yield name, _embedding(owner, min(SMALL, value.shape[1] ** -0.5))

    def _scaled(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """The scaling on the end of each branch, and what is inside as large as the rest."""
        for branch in self.branches:
            named = [layer for layer in branch.layers if layer.parameter in finding.parameters]
            for layer in named:
                if layer is not branch.last:
                    yield layer.parameter, normal(self.usual, rank=2) if self.usual else self._by_law(layer)
            if named:
                end, over = branch.last, len(self.branches)
                yield end.parameter, normal(self.usual, rank=2, over=over) if self.usual else self._by_law(end, over)

    def _head(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        head = self.subject.head
        for name, remedy in self._each(finding):
            if head is None or name != head.parameter or isinstance(head.module, EMBEDDINGS):
                yield name, remedy
                continue
            yield name, normal(SMALL, rank=2)
            yield from self._far_bias(head)

    def _attention(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            if name in self.subject.layer_of:
                yield name, normal(self.usual or SMALL, rank=2)

    def _norms(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            yield name, ONES if name.endswith("weight") else ZEROS


OWN: dict[str, Callable[[Remedies, Finding], Iterator[tuple[str, Remedy]]]] = {
    "IB105": Remedies._one_factor, "IB111": Remedies._padding, "IB112": Remedies._norms, "IB201": Remedies._by_fan,
    "IB202": Remedies._by_gain, "IB203": Remedies._recurrent, "IB204": Remedies._tied, "IB301": Remedies._whole,
    "IB302": Remedies._scaled, "IB303": Remedies._scaled, "IB304": Remedies._head, "IB305": Remedies._head,
    "IB306": Remedies._with_biases, "IB307": Remedies._with_biases, "IB308": Remedies._attention, "IB309": Remedies._whole,
}  # fmt: skip
"""Rules whose parameters are not simply drawn anew."""


def _law(layer: WeightLayer, gain: float, fan: float, over: int = 1) -> Remedy:
    """Normal numbers of a variance gain / fan."""
    scheme = f"normal:std={(gain / (fan * over)) ** 0.5:.4g}"
    if layer.transposed or layer.axes or isinstance(layer.module, nn.Bilinear) or fan != layer.fan_in:
        return Remedy(f"nn.init.normal_(weight, std=math.sqrt({gain:.4g} / {fan * over:g}))", scheme)
    called = {1.0: "linear", 2.0: "relu"}.get(round(gain, 9))
    if over == 1 and called:
        return Remedy(f'nn.init.kaiming_normal_(weight, nonlinearity="{called}")', scheme)
    inside = f"{gain:.4g} / ({f'{over} * ' if over > 1 else ''}weight[0].numel())"
    return Remedy(f"nn.init.normal_(weight, std=math.sqrt({inside}))", scheme)


def _gates(layer: WeightLayer) -> Remedy:
    if layer.parts == 1:
        return Remedy("nn.init.orthogonal_(weight)", "orthogonal")
    return Remedy(f"for gate in weight.chunk({layer.parts}):\n    nn.init.orthogonal_(gate)", "orthogonal")


def _embedding(module: nn.Module | None, std: float) -> Remedy:
    """Normal numbers; the row of padding stays zero."""
    padding = getattr(module, "padding_idx", None)
    return normal(std) if padding is None else Remedy(f"nn.init.normal_(weight, std={std:.3g})\nweight[{padding}].zero_()")

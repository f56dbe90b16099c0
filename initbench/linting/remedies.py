"""What each parameter of a finding should be drawn from instead: remedies, as code of torch and as a scheme of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from torch import nn

from initbench.errors import ConfigError
from initbench.init.gains import gain_after
from initbench.linting.finding import CannotTell, Finding
from initbench.linting.scale import usual_std
from initbench.linting.subject import Subject
from initbench.linting.zero import factors
from initbench.nn.layers import EMBEDDINGS, NORMS, Role, WeightLayer
from initbench.nn.residual import Branch

SMALL = 0.02
"""The standard deviation of heads, embeddings, queries and raw parameters."""
SENSIBLE = (0.005, 0.1)
"""Constant standard deviations that are kept as a model's usual one."""
FACTORS = {"weight", "gamma", "scale", "alpha", "gain", "lambda"}
"""Names of vectors that something is multiplied with."""
RECURRENT = nn.RNNBase | nn.RNNCellBase
OUT_OF_REACH = {
    "IB106": "it is about the methods of the classes, which a function that is called afterwards does not change",
    "IB109": "the checkpoint has to be loaded after everything that draws weights",
    "IB205": "the bias takes the frequencies of the classes, which the model does not know",
    "IB310": "what cuts the gradient is in the structure, or in requires_grad",
}
"""Rules whose findings no numbers clear, with why."""
BY_SIGNAL = "no start of the weights alone decides it: the inputs or the structure do, too"
NO_PARAMETER = "it is about no parameter: initialize() sets parameters alone"
STILL = "the remedy did not reach it"


@dataclass(frozen=True)
class Remedy:
    """What a parameter is set to: code of torch about `weight`; `scheme`: what `init_network` calls it, where it can.

    Of two for one parameter that of the higher `rank` holds. `as_whole`: a scheme for the whole network draws it so, or as well.
    """

    torch: str
    scheme: str | None = None
    rank: int = 1
    as_whole: bool = True


ZEROS, ONES = Remedy("nn.init.zeros_(weight)"), Remedy("nn.init.ones_(weight)")


@dataclass
class Plan:
    """The remedies by parameter, and the rules that each answers."""

    remedies: dict[str, Remedy] = field(default_factory=dict)
    codes: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, finding: Finding, chosen: Iterable[tuple[str, Remedy]]) -> None:
        """Takes the remedies of a finding; where one of a higher rank is there, that is its remedy, too."""
        for name, remedy in chosen:
            before = self.remedies.get(name)
            if before is None or remedy.rank >= before.rank:
                self.remedies[name] = remedy
            self.codes.setdefault(name, {})[f"{finding.code} {finding.rule}"] = None


def normal(std: float, *, rank: int = 1, as_whole: bool = True, over: int = 1) -> Remedy:
    """Normal numbers, divided by the root of `over`."""
    code = f"{std:.3g}" + (f" / math.sqrt({over})" if over > 1 else "")
    return Remedy(f"nn.init.normal_(weight, std={code})", f"normal:std={std / over**0.5:.4g}", rank, as_whole)


class Remedies:
    """Finds the remedies for the findings of one subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.branches = self._branches()
        usual = usual_std(subject) if subject.has_norms else None
        self.usual = usual if usual is not None and SENSIBLE[0] <= usual <= SENSIBLE[1] else None
        self.ends = {branch.last.parameter for branch in self.branches}

    def of(self, finding: Finding) -> list[tuple[str, Remedy]]:
        """What to do about a finding, parameter by parameter; empty where numbers cannot clear it."""
        if finding.code in OUT_OF_REACH:
            return []
        found = OWN.get(finding.code, Remedies._each)(self, finding)
        return [(name, remedy) for name, remedy in found if name in self.subject.parameters.first]

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
            return normal(SMALL, as_whole=False)
        known = isinstance(owner, nn.Linear | nn.modules.conv._ConvNd | RECURRENT)
        start = ONES if short in FACTORS else ZEROS
        return start if known else Remedy(start.torch, as_whole=False)

    def _drawn(self, layer: WeightLayer) -> Remedy:
        if layer.role is Role.HEAD:
            return normal(self.usual or SMALL, as_whole=self.usual is not None)
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
        scheme = f"normal:std={gain / (layer.fan_in * over) ** 0.5:.4g}"
        if layer.transposed or layer.axes or isinstance(layer.module, nn.Bilinear):
            return Remedy(f"nn.init.normal_(weight, std=math.sqrt({gain**2:.4g} / {layer.fan_in * over}))", scheme)
        if over == 1 and layer.activation in {"relu", None}:
            return Remedy(f'nn.init.kaiming_normal_(weight, nonlinearity="{layer.activation or "linear"}")', scheme)
        inside = f"{gain**2:.4g} / ({f'{over} * ' if over > 1 else ''}weight[0].numel())"
        return Remedy(f"nn.init.normal_(weight, std=math.sqrt({inside}))", scheme)

    def _each(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            if name in self.subject.parameters.first:
                yield name, self.start_of(name)

    def _with_biases(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            layer = self.subject.layer_of.get(name)
            if layer is not None:
                yield name, self.start_of(name)
                if layer.bias and not isinstance(layer.module, RECURRENT):
                    yield layer.bias, ZEROS

    def _whole(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """Every weight and bias, and norms that are shut but for those that end a branch."""
        yield from self._with_biases(finding.model_copy(update={"parameters": tuple(self.subject.layer_of)}))
        open_ends = {id(branch.last_norm) for branch in self.branches}
        for name, value in self.subject.parameters.first.items():
            owner = self.subject.parameters.owner[id(value)]
            if isinstance(owner, NORMS) and name.endswith("weight") and not value.detach().any() and id(owner) not in open_ends:
                yield name, ONES

    def _one_factor(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        """Of a pair of low rank the factor that takes the input; of other products all factors."""
        pairs = set(factors(self.subject))
        for name in finding.parameters:
            value = self.subject.parameters.first[name]
            if name not in pairs or value.shape[0] < value.shape[1]:
                yield name, self.start_of(name)

    def _padding(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            owner = self.subject.parameters.owner[id(self.subject.parameters.first[name])]
            yield name, Remedy(f"weight[{getattr(owner, 'padding_idx', 0)}].zero_()", rank=0, as_whole=False)

    def _by_fan(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            yield name, self._by_law(self.subject.layer_of[name])

    def _recurrent(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            if name in self.subject.layer_of:
                yield name, _gates(self.subject.layer_of[name])
            else:
                yield name.replace("bias_ih", "bias_hh"), Remedy(ZEROS.torch, rank=2)

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
        for name in finding.parameters:
            if head is None or isinstance(head.module, EMBEDDINGS):
                yield name, self.start_of(name)
                continue
            yield name, normal(SMALL, rank=2, as_whole=False)
            if head.bias:
                yield head.bias, ZEROS

    def _attention(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            if name in self.subject.layer_of:
                yield name, normal(self.usual or SMALL, rank=2, as_whole=False)

    def _norms(self, finding: Finding) -> Iterator[tuple[str, Remedy]]:
        for name in finding.parameters:
            yield name, ONES if name.endswith("weight") else ZEROS

    def _branches(self) -> tuple[Branch, ...]:
        try:
            return self.subject.branches
        except CannotTell:
            return ()


OWN: dict[str, Callable[[Remedies, Finding], Iterator[tuple[str, Remedy]]]] = {
    "IB105": Remedies._one_factor, "IB111": Remedies._padding, "IB112": Remedies._norms, "IB201": Remedies._by_fan,
    "IB202": Remedies._by_fan, "IB203": Remedies._recurrent, "IB204": Remedies._tied, "IB301": Remedies._whole,
    "IB302": Remedies._scaled, "IB303": Remedies._scaled, "IB304": Remedies._head, "IB305": Remedies._head,
    "IB306": Remedies._with_biases, "IB307": Remedies._with_biases, "IB308": Remedies._attention, "IB309": Remedies._whole,
}  # fmt: skip
"""Rules whose parameters are not simply drawn anew."""


def _gates(layer: WeightLayer) -> Remedy:
    if layer.parts == 1:
        return Remedy("nn.init.orthogonal_(weight)", "orthogonal")
    return Remedy(f"for gate in weight.chunk({layer.parts}):\n    nn.init.orthogonal_(gate)", "orthogonal")


def _embedding(module: nn.Module | None, std: float) -> Remedy:
    """Normal numbers; the row of padding stays zero."""
    padding = getattr(module, "padding_idx", None)
    row = "" if padding is None else f"\nweight[{padding}].zero_()"
    return Remedy(f"nn.init.normal_(weight, std={std:.3g}){row}", as_whole=False)

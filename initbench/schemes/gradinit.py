"""The scheme `gradinit`."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from initbench.errors import DoesNotApply
from initbench.init.arguments import number, switch, whole
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.data_driven import fixed_by, free_biases, remeasured, scale_of, start_from, training_batch
from initbench.init.structural import layerwise
from initbench.nn.inputs import Inputs, ModelInputs, arguments, joined
from initbench.nn.outputs import main_output, outputs_in
from initbench.nn.watch import untouched
from initbench.optimizers import build_rule
from initbench.results.record import InitReport

FAMILY = "learned"
NEEDS = ("batch",)
ALIASES: dict[str, dict[str, object]] = {"grad_init": {}}

Tensors = dict[str, Tensor]
"""Tensors by the name of their parameter."""
Batches = tuple[Inputs, Tensor, Inputs, Tensor]
"""Inputs and labels of a batch, and of another one of which half is the same."""


def build(
    *,
    base: str = "kaiming",
    iterations: int = 100,
    lr: float = 0.01,
    gamma: float = 1.0,
    eta: float | None = None,
    smallest: float = 0.01,
    batch_size: int = 128,
    detach: bool = True,
) -> "GradInit":
    """Learns a factor for each parameter so that the loss after one optimizer step is as low as it can be.

    Each parameter is alpha times its start (`base`); Adam on the alphas (rate `lr`, gradient clipped at 1, alpha >=
    `smallest`): while the gradient's norm exceeds `gamma` it is lowered, otherwise the loss after a step of size `eta`
    (default: training's own learning rate) is, on a batch that overlaps the first by half. For SGD the step is the
    gradient and the norm Euclidean, for Adam its sign and the sum of absolute values. With `detach` the step counts as
    fixed when the loss after it is differentiated, as in the authors' code; without, the derivative goes through it too.

    Applies to: networks that torch can differentiate twice, such as `mlp`.
    Needs: data, labels, gradients.

    Source: Zhu et al. 2021, algorithm 1; zhuchen03/gradinit, `take_opt_step`. `gamma` belongs to the scale of the loss
    (the authors set 1, or infinity); the paper runs one epoch (390 iterations) and lets lr depend on the architecture. The
    factors whose loss after a step was least on one fixed pair of batches, of the start and of each tenth of the way, are
    kept: that is ours. Where the start itself is kept, a note says so.
    """
    return GradInit(
        layerwise(base),
        whole("iterations", iterations, least=1),
        number("lr", lr, above=0.0),
        number("gamma", gamma, above=0.0),
        None if eta is None else number("eta", eta, above=0.0),
        number("smallest", smallest, above=0.0),
        whole("batch_size", batch_size, least=2),
        switch("detach", detach),
    )


@dataclass(frozen=True)
class GradInit:
    """Starts from `base` and learns a factor for each parameter."""

    base: Layerwise
    iterations: int
    lr: float
    gamma: float
    eta: float | None
    smallest: float
    batch_size: int
    detach: bool
    name: str = "gradinit"
    needs: frozenset[Need] = frozenset({Need.DATA, Need.LABELS, Need.GRADIENTS})

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply where there is no data or the base does not suit the model."""
        self._try(model, context)
        report = start_from(self.base, self.name, model, context)
        layers = context.own_layers(model)
        own = {name for layer in layers if (name := scale_of(model, layer)) is not None}
        free = own | set(free_biases(model, context.rules))
        start = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if name in free and parameter.requires_grad and parameter.detach().norm() > 0 and (name in own or parameter.dim() == 1)
        }
        if not start:
            return report
        learned = self._learn(model, start, context)
        fixed = [f"'{layer.name}' {fixed_by(model, layer)}" for layer in layers if scale_of(model, layer) is None]
        notes = (learned.note(self), *fixed)
        if learned.kept_start:
            return report.model_copy(update={"notes": (*report.notes, *notes)})
        changed = [*start, *(layer.parameter for layer in layers if layer.length in start)]
        return remeasured(report, model, changed, f"{self.base.name}, factor learned", notes)

    def _try(self, model: nn.Module, context: InitContext) -> None:
        """Raises: DoesNotApply where torch cannot derive the model twice."""
        inputs, labels = training_batch(self.name, context, 2)
        names = [name for layer in context.own_layers(model) if (name := scale_of(model, layer)) is not None]
        start = {name: model.get_parameter(name).detach() for name in names}
        factors = {name: torch.ones((), dtype=torch.float32, device=values.device, requires_grad=True) for name, values in start.items()}
        if not start:
            return
        try:
            weights, gradients = self._gradients(model, start, factors, (inputs, labels, inputs, labels))
            target = self._stepped(model, weights, gradients, (inputs, labels, inputs, labels), context)
            torch.autograd.grad(target + self._norm(gradients, context), list(factors.values()), allow_unused=True)
        except RuntimeError as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise DoesNotApply(f"'gradinit' needs second derivatives, and torch cannot take them of this model: {said}.") from error

    def _learn(self, model: nn.Module, start: Tensors, context: InitContext) -> "Learned":
        device = next(iter(start.values())).device
        factors = {name: torch.ones((), dtype=torch.float32, device=device, requires_grad=True) for name in start}
        optimizer = torch.optim.Adam(factors.values(), lr=self.lr)
        held_out = self._batches(context, self.iterations)
        before = best = self._loss_after_step(model, start, factors, held_out, context).item()
        kept = dict.fromkeys(start, 1.0)
        tried, steep = [], 0
        for index in range(self.iterations):
            target, too_large = self._target(model, start, factors, self._batches(context, index), context)
            steep += too_large
            optimizer.zero_grad()
            torch.autograd.backward(target, inputs=list(factors.values()))
            torch.nn.utils.clip_grad_norm_(list(factors.values()), 1.0)
            if all(torch.isfinite(factor.grad).all() for factor in factors.values() if factor.grad is not None):
                with torch.device("cpu"):  # where Adam counts its steps, whatever device a user made the default
                    optimizer.step()
            with torch.no_grad():
                for factor in factors.values():
                    factor.clamp_(min=self.smallest)
            if (index + 1) % max(1, self.iterations // 10) == 0 or index + 1 == self.iterations:
                loss = self._loss_after_step(model, start, factors, held_out, context).item()
                tried.append(loss)
                if math.isfinite(loss) and loss < best:
                    best, kept = loss, {name: factor.item() for name, factor in factors.items()}
        with torch.no_grad():
            parameters = dict(model.named_parameters())
            for name, values in start.items():
                parameters[name].copy_(values * kept[name])
        return Learned(before, best, min(filter(math.isfinite, tried), default=math.inf), steep)

    def _batches(self, context: InitContext, index: int) -> Batches:
        """A batch, and another one of which half is the same."""
        inputs, labels = training_batch(self.name, context, self.batch_size, 2 * index)
        others, their_labels = training_batch(self.name, context, self.batch_size, 2 * index + 1)
        if isinstance(inputs, ModelInputs) and inputs.whole:
            return inputs, labels, others, their_labels
        half = len(inputs) // 2
        return inputs, labels, joined(inputs[half:], others[:half]), torch.cat([labels[half:], their_labels[:half]])

    def _target(self, model: nn.Module, start: Tensors, factors: Tensors, batches: Batches, context: InitContext) -> tuple[Tensor, bool]:
        """The gradient's norm where it is too large (True), else the loss after a step (False)."""
        weights, gradients = self._gradients(model, start, factors, batches)
        size = self._norm(gradients, context)
        if size > self.gamma:
            return size, True
        return self._stepped(model, weights, gradients, batches, context), False

    def _loss_after_step(self, model: nn.Module, start: Tensors, factors: Tensors, batches: Batches, context: InitContext) -> Tensor:
        weights, gradients = self._gradients(model, start, factors, batches)
        return self._stepped(model, weights, gradients, batches, context).detach()

    def _gradients(self, model: nn.Module, start: Tensors, factors: Tensors, batches: Batches) -> tuple[Tensors, list[Tensor]]:
        with torch.enable_grad():
            weights = {name: values * factors[name] for name, values in start.items()}
            loss = _loss(model, weights, batches[0], batches[1])
            return weights, list(torch.autograd.grad(loss, list(weights.values()), create_graph=True))

    def _stepped(self, model: nn.Module, weights: Tensors, gradients: list[Tensor], batches: Batches, context: InitContext) -> Tensor:
        eta = self.eta or (context.train.lr if context.train else 0.1)
        directions = [gradient.sign() for gradient in gradients] if _signed(context) else gradients
        if self.detach:
            directions = [direction.detach() for direction in directions]
        with torch.enable_grad():
            moved = {name: weight - eta * step for (name, weight), step in zip(weights.items(), directions, strict=True)}
            return _loss(model, moved, batches[2], batches[3])

    def _norm(self, gradients: list[Tensor], context: InitContext) -> Tensor:
        with torch.enable_grad():
            if _signed(context):
                return torch.stack([gradient.abs().sum() for gradient in gradients]).sum()
            return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()


@dataclass(frozen=True)
class Learned:
    """The loss after one step of the start, of the factors kept and of the best ones that were looked at.

    `best_tried` is infinite where none was finite; `steep` counts the iterations with a gradient's norm above gamma.
    """

    before: float
    after: float
    best_tried: float
    steep: int

    @property
    def kept_start(self) -> bool:
        """Whether no factors were better than 1 for all."""
        return self.after == self.before

    def note(self, scheme: GradInit) -> str:
        """One sentence for the report."""
        if not self.kept_start:
            return f"loss after one step {self.before:.4g} before, {self.after:.4g} after"
        best = f"{self.best_tried:.4g} at best" if math.isfinite(self.best_tried) else "not finite"
        often = f"in {self.steep} of {scheme.iterations} iterations the gradient's norm was above gamma = {scheme.gamma:g}"
        why = f"; {often} and only it was lowered" if self.steep else ""
        return (
            f"the start is kept: these are the weights of '{scheme.base.name}' unchanged, since no factors that were learned had a "
            f"lower loss after one step ({best}, {self.before:.4g} at the start){why}"
        )


def _signed(context: InitContext) -> bool:
    return context.train is not None and build_rule(context.train).size != "gradient"


def _loss(model: nn.Module, weights: Tensors, inputs: Inputs, labels: Tensor) -> Tensor:
    with untouched(model, "batch"), sdpa_kernel(SDPBackend.MATH):  # the others cannot be derived twice
        outputs = outputs_in(functional_call(model, weights, *arguments(model, inputs)))
    return F.cross_entropy(outputs[main_output(outputs, labelled=True)].float(), labels)

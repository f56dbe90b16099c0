"""The scheme `metainit`."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from initbench.errors import DoesNotApply
from initbench.init.arguments import number, whole
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.data_driven import changed_names, fixed_by, remeasured, scale_of, start_from
from initbench.init.structural import layerwise
from initbench.nn.seeds import generator
from initbench.nn.watch import untouched
from initbench.results.record import InitReport

FAMILY = "learned"
NEEDS = ("batch",)
ALIASES: dict[str, dict[str, object]] = {"meta_init": {}}
EPSILON = 1e-5


def build(*, base: str = "kaiming", steps: int = 100, lr: float = 0.1, momentum: float = 0.9, batch_size: int = 32) -> "MetaInit":
    """Learns the norm of each weight so that gradients change little over one step: the least gradient quotient.

    GQ = mean |(g - H g) / (g + eps sign(g)) - 1| over all weights, with g the gradient and H the Hessian of the loss on
    inputs ~ N(0, 1) with random labels; for `steps` steps the norm of each weight moves by the sign of its slope
    (momentum), its direction stays. W ~ `base`, b = 0 at the start. The weights with the least GQ met are kept. GQ is
    least for small outputs: a start that explodes becomes trainable, a good one becomes slower.

    Applies to: networks that torch can differentiate three times, such as `mlp`.
    Needs: gradients, and an example batch (`inputs`) for the shape of an input.

    Source: Dauphin & Schoenholz 2019, section 3 (lr 0.1, momentum 0.9, eps 1e-5, 500 steps there). Keeping the best and
    fewer steps are ours; so is the floor of 1 percent of its first norm under each norm.
    """
    return MetaInit(
        layerwise(base),
        whole("steps", steps, least=1),
        number("lr", lr, above=0.0),
        number("momentum", momentum, least=0.0, most=0.999),
        whole("batch_size", batch_size, least=1),
    )


@dataclass(frozen=True)
class MetaInit:
    """Starts from `base` and learns norms."""

    base: Layerwise
    steps: int
    lr: float
    momentum: float
    batch_size: int
    name: str = "metainit"
    needs: frozenset[Need] = frozenset({Need.GRADIENTS})

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply where there is no example input or the base does not suit the model."""
        example = context.inputs if context.inputs is not None else context.batch(1, 0)[0] if context.batch else None
        if not isinstance(example, Tensor) or not example.is_floating_point():
            raise DoesNotApply("'metainit' needs an example batch of numbers, one tensor, to know the shape of an input.")
        layers = context.own_layers(model)
        scales = [name for layer in layers if (name := scale_of(model, layer)) is not None]
        self._try(model, [model.get_parameter(name) for name in scales], tuple(example.shape[1:]))
        report = start_from(self.base, self.name, model, context)
        weights = {name: weight for name in scales if (weight := model.get_parameter(name)).detach().norm() > 0}
        fixed = [f"'{layer.name}' {fixed_by(model, layer)}" for layer in layers if scale_of(model, layer) is None]
        if not weights:
            return report
        first, best = self._learn(model, list(weights.values()), tuple(example.shape[1:]), context.seed)
        note = f"gradient quotient {first:.4g} before, {best:.4g} after"
        changed = [name for layer in layers for name in changed_names(layer) if scale_of(model, layer) in weights]
        return remeasured(report, model, changed, f"{self.base.name}, norm learned", (note, *fixed))

    def _try(self, model: nn.Module, weights: list[nn.Parameter], shape: tuple[int, ...]) -> None:
        """Raises: DoesNotApply where torch cannot derive the model often enough, as for batch norms."""
        if not weights:
            return
        source = generator(0, self.name)
        inputs = torch.randn(2, *shape, generator=source, dtype=torch.float32, device="cpu").to(weights[0].device, weights[0].dtype)
        try:
            self._slopes(model, weights, inputs, torch.rand(2, generator=source, dtype=torch.float32, device="cpu"))
        except RuntimeError as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise DoesNotApply(f"'metainit' needs third derivatives, and torch cannot take them of this model: {said}.") from error

    def _learn(self, model: nn.Module, weights: list[nn.Parameter], shape: tuple[int, ...], seed: int) -> tuple[float, float]:
        source = generator(seed, self.name)
        with torch.no_grad():
            floors = [0.01 * weight.norm().item() for weight in weights]
            kept = [weight.clone() for weight in weights]
        speeds, first, best = [0.0] * len(weights), math.nan, math.inf
        for step in range(self.steps + 1):
            inputs = torch.randn(self.batch_size, *shape, generator=source, dtype=torch.float32, device="cpu").to(
                weights[0].device, weights[0].dtype
            )
            labels = torch.rand(self.batch_size, generator=source, dtype=torch.float32, device="cpu")
            quotient, slopes = self._slopes(model, weights, inputs, labels)
            first = quotient if step == 0 else first
            if quotient < best:
                best = quotient
                with torch.no_grad():
                    kept = [weight.clone() for weight in weights]
            if step == self.steps or not math.isfinite(quotient):
                break
            for index, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
                speeds[index] = self.momentum * speeds[index] - self.lr * slope
                with torch.no_grad():
                    norm = weight.norm().item()
                    weight.mul_(max(norm + speeds[index], floors[index]) / norm)
        with torch.no_grad():
            for weight, values in zip(weights, kept, strict=True):
                weight.copy_(values)
        return first, best

    def _slopes(self, model: nn.Module, weights: list[nn.Parameter], inputs: Tensor, labels: Tensor) -> tuple[float, list[float]]:
        """The gradient quotient, and for each weight the sign of its slope along the weight's own direction."""
        with torch.enable_grad(), untouched(model, "batch"), sdpa_kernel(SDPBackend.MATH):  # the others cannot be derived twice
            quotient = gradient_quotient(model, weights, inputs, labels)
            gradients = torch.autograd.grad(quotient, weights, allow_unused=True)
        signs = [
            0.0 if gradient is None else torch.nan_to_num((gradient * weight.detach()).sum()).sign().item()
            for gradient, weight in zip(gradients, weights, strict=True)
        ]
        return quotient.item(), signs


def gradient_quotient(model: nn.Module, weights: list[nn.Parameter], inputs: Tensor, labels: Tensor) -> Tensor:
    """Gives mean |(g - H g) / (g + eps sign(g)) - 1| over all weights; `labels` in [0, 1) are spread over the classes."""
    logits = model(inputs)
    classes = (labels.to(logits.device) * logits.shape[-1]).long()
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), classes)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    half_square = sum((gradient.square().sum() for gradient in gradients), start=loss.new_zeros(())) / 2
    products = torch.autograd.grad(half_square, weights, create_graph=True)
    total, count = loss.new_zeros(()), 0
    for gradient, product in zip(gradients, products, strict=True):
        sign = torch.where(gradient >= 0, 1.0, -1.0)
        total = total + ((gradient - product) / (gradient + EPSILON * sign) - 1).abs().sum()
        count += gradient.numel()
    return total / count

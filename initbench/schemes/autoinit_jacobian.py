"""The scheme `autoinit_jacobian`."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from initbench.init.arguments import number, whole
from initbench.init.contract import InitContext, Layerwise, Need
from initbench.init.data_driven import change_weight, changed_names, fixed_by, layer_outputs, remeasured, start_from, training_batch
from initbench.init.structural import layerwise
from initbench.nn.inputs import Inputs
from initbench.nn.seeds import generator
from initbench.results.record import InitReport

FAMILY = "critical"
NEEDS = ("batch",)
ALIASES: dict[str, dict[str, object]] = {"jacobian_tuning": {}}


def build(*, base: str = "lecun", target: float = 1.0, batch_size: int = 64, sweeps: int = 1) -> "AutoInitJacobian":
    """Scales each layer until the Jacobian from the layer before has mean square norm 1: criticality, found on the model.

    J_l = E[sum_ij (d h_j^(l+1) / d h_i^l)^2] / units of l + 1, with h the outputs of weight layers, estimated with random
    vectors on a batch; each layer after the first is divided by sqrt(J / `target`), from the input to the output,
    `sweeps` times. W ~ `base`, b = 0. Nothing is assumed about the layers between.

    Applies to: networks of any activation, norm and shape with at least two weight layers, such as `mlp`.
    Needs: data.

    Source: He, Doshi & Gromov 2022 (AutoInit: automatic initialization via Jacobian tuning). They minimise
    sum_l (log J_l)^2 by gradient steps on the scales; J is quadratic in the scale of its own layer, so we solve for it
    layer by layer. Not the AutoInit of Bingham & Miikkulainen (`autoinit_signal`).
    """
    return AutoInitJacobian(
        base=layerwise(base),
        target=number("target", target, above=0.0),
        batch_size=whole("batch_size", batch_size, least=1),
        sweeps=whole("sweeps", sweeps, least=1),
    )


@dataclass(frozen=True)
class AutoInitJacobian:
    """Starts from `base` and rescales layer by layer."""

    base: Layerwise
    target: float
    batch_size: int
    sweeps: int
    name: str = "autoinit_jacobian"
    needs: frozenset[Need] = frozenset({Need.DATA})

    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply as `base` does."""
        inputs, _ = training_batch(self.name, context, self.batch_size)
        report = start_from(self.base, self.name, model, context)
        own = {layer.parameter for layer in context.own_layers(model)}
        source = generator(context.seed, self.name)
        notes: list[str] = []
        changed: list[str] = []
        for _ in range(self.sweeps):
            for before, after in zip(context.layers, context.layers[1:], strict=False):
                if after.parameter not in own:
                    continue
                square = jacobian_square(model, inputs, before.parameter, after.parameter, source)
                if square is None or not (math.isfinite(square) and square > 0):
                    notes.append(f"The Jacobian from '{before.name}' to '{after.name}' cannot be measured; it keeps its values.")
                    continue
                root = math.sqrt(square / self.target)
                if not change_weight(model, after, lambda weight, root=root: weight.div_(root)):  # type: ignore[misc]
                    notes.append(f"'{after.name}' {fixed_by(model, after)}")
                    continue
                changed += changed_names(after)
        return remeasured(report, model, changed, f"{self.base.name}, scaled by its Jacobian", tuple(dict.fromkeys(notes)))


def jacobian_square(model: nn.Module, inputs: Inputs, before: str, after: str, source: torch.Generator) -> float | None:
    """The averaged squared Jacobian norm between the outputs of two weights; None where one is not seen or not fed by the other."""
    with torch.enable_grad():
        outputs = layer_outputs(model, inputs)
        if before not in outputs or after not in outputs:
            return None
        start, end = outputs[before], outputs[after]
        vector = torch.randn(end.shape, generator=source, dtype=torch.float32, device="cpu").to(end.device, end.dtype)
        (product,) = torch.autograd.grad(end, start, vector, allow_unused=True)
    return None if product is None else (product.double().square().sum() / end.numel()).item()

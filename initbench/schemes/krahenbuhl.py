"""The scheme `krahenbuhl`."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn

from initbench.init.arguments import choose, number, switch, whole
from initbench.init.contract import InitContext, Need
from initbench.init.data_driven import (
    change_weight,
    changed_names,
    fixed_by,
    free_biases,
    layer_outputs,
    remeasured,
    scale_of,
    start_from,
    tied_embedding,
    training_batch,
    unit_axis,
)  # fmt: skip
from initbench.init.structural import layerwise
from initbench.nn.inputs import Inputs, called
from initbench.nn.layers import WeightLayer
from initbench.nn.seeds import generator
from initbench.nn.watch import untouched
from initbench.results.record import InitReport

FAMILY = "data-dependent"
NEEDS = ("batch",)
ALIASES: dict[str, dict[str, object]] = {"magic_init": {}, "data_dependent": {}}

Filters = Literal["random", "pca", "kmeans"]
BALANCE_SWEEPS, BALANCE_TOLERANCE = 10, 0.01
MOST_PATCHES = 10_000
ROUNDS = 10
"""Rounds of k-means; its centres hardly move afterwards."""


def build(*, filters: Filters = "random", beta: float = 0.1, balance: bool = True, batch_size: int = 256) -> "Krahenbuhl":
    """Every unit gets mean beta and variance 1 on real data, then all layers are made to learn at one rate.

    1. `filters`: random W ~ N(0, 1 / fan_in), or principal components (`pca`) or centres of whitened clusters (`kmeans`)
    of the patches that a layer sees. 2. In execution order, for each unit: w /= s, b = beta - m / s with m, s the mean
    and deviation of its output. 3. With `balance`: W_k *= sqrt(r_k / geometric mean of r), r_k = |gradient of W_k| /
    |W_k| (root mean squares) for random vectors at the output, biases along with the signal; the product of the factors
    is 1, so the function of a ReLU chain stays as it is. PCA and k-means work on Linear and Conv2d without groups, other
    layers keep random filters; units that never vary keep theirs.

    Applies to: networks of layers whose outputs can be seen, such as `mlp`.
    Needs: data.

    Source: Kraehenbuehl et al. 2016, algorithms 1 and 2; beta = 0.1 is that of the authors' code (0 in the paper). Where
    there are more filters than components the rest are random directions, equalized to the components' spread.
    """
    choose("filters", filters, Filters)
    return Krahenbuhl(filters, number("beta", beta), switch("balance", balance), whole("batch_size", batch_size, least=2))


@dataclass(frozen=True)
class Krahenbuhl:
    """Learns filters, normalizes units, balances layers."""

    filters: Filters
    beta: float
    balance: bool
    batch_size: int
    name: str = "krahenbuhl"
    needs: frozenset[Need] = frozenset({Need.DATA})

    @torch.no_grad()
    def apply(self, model: nn.Module, context: InitContext) -> InitReport:
        """Initializes in place. Raises: DoesNotApply where there is no data."""
        inputs, _ = training_batch(self.name, context, self.batch_size)
        report = start_from(layerwise("lecun"), self.name, model, context)
        layers = context.own_layers(model)
        biases = free_biases(model, context.rules)
        notes = []
        for layer in layers:
            source = generator(context.seed, self.name, layer.parameter)
            if self.filters != "random":
                patches = layer_patches(model, inputs, layer, source)
                if patches is None:
                    notes.append(f"'{layer.name}' keeps random filters.")
                else:
                    learned = learned_filters(patches, layer, self.filters, source)
                    change_weight(model, layer, lambda weight, learned=learned: weight.copy_(learned), scale=False)  # type: ignore[misc]
            outputs = layer_outputs(model, inputs)
            if layer.parameter not in outputs:
                notes.append(f"'{layer.name}' has no output that can be seen, and keeps its values.")
                continue
            if not _normalize_units(model, layer, outputs[layer.parameter], biases.get(layer.bias or ""), self.beta):
                notes.append(f"'{layer.name}' {fixed_by(model, layer)}")
        if self.balance:
            free = tuple(layer for layer in layers if scale_of(model, layer) is not None and tied_embedding(model, layer) is None)
            self._balance(model, inputs, free, biases, context.seed)
        changed = [name for layer in layers for name in (*changed_names(layer), *([layer.bias] if layer.bias in biases else []))]
        return remeasured(report, model, changed, f"{self.filters} filters, normalized on data", notes)

    def _balance(
        self, model: nn.Module, inputs: Inputs, layers: tuple[WeightLayer, ...], biases: dict[str, nn.Parameter], seed: int
    ) -> None:
        for _ in range(BALANCE_SWEEPS):
            rates = learning_rates(model, inputs, layers, seed)
            known = [layer for layer in layers if math.isfinite(rates[layer.parameter]) and rates[layer.parameter] > 0]
            if not known:
                return
            mean = math.exp(sum(math.log(rates[layer.parameter]) for layer in known) / len(known))
            along = 1.0
            for layer in known:
                factor = math.sqrt(rates[layer.parameter] / mean)
                change_weight(model, layer, lambda weight, factor=factor: weight.mul_(factor))  # type: ignore[misc]
                along *= factor
                if layer.bias in biases:
                    biases[layer.bias].mul_(along)
            if all(abs(rates[layer.parameter] / mean - 1) < BALANCE_TOLERANCE for layer in known):
                return


def learning_rates(model: nn.Module, inputs: Inputs, layers: tuple[WeightLayer, ...], seed: int) -> dict[str, float]:
    """For each weight the root mean square of its gradient over that of its values, for random vectors at the output."""
    wanted = [layer.weight for layer in layers]
    with torch.enable_grad():
        outputs = layer_outputs(model, inputs)
        last = next((outputs[layer.parameter] for layer in reversed(layers) if layer.parameter in outputs), None)
        if last is None:
            return {layer.parameter: 0.0 for layer in layers}
        vector = torch.randn(last.shape, generator=generator(seed, "krahenbuhl", "output"), dtype=torch.float32, device="cpu").to(
            last.device, last.dtype
        )
        gradients = torch.autograd.grad(last, wanted, vector, allow_unused=True)
    return {
        layer.parameter: 0.0 if gradient is None else (gradient.double().norm() / layer.weight.double().norm().clamp_min(1e-300)).item()
        for layer, gradient in zip(layers, gradients, strict=True)
    }


def _normalize_units(model: nn.Module, layer: WeightLayer, output: Tensor, bias: nn.Parameter | None, beta: float) -> bool:
    """Gives each unit variance 1 and, where it has a bias of its own, mean `beta`; False where the weight cannot be scaled."""
    values = output.movedim(unit_axis(layer), -1).flatten(0, -2).double()
    if layer.axes or (values.shape[-1] != layer.weight.shape[0] and not layer.transposed):
        return True
    offset = 0.0 if bias is None else bias.double()
    mean, std = values.mean(dim=0) - offset, values.std(dim=0, correction=0)
    varies = std > 1e-6 * std.max().clamp_min(1e-30)
    scale = torch.where(varies, 1 / std.clamp_min(1e-30), torch.ones_like(std))
    weight = layer.weight
    if layer.transposed:
        per_input = scale.view(layer.groups, -1).repeat_interleave(weight.shape[0] // layer.groups, dim=0)
        factors = per_input.view(weight.shape[0], weight.shape[1], *[1] * (weight.dim() - 2)).to(weight.dtype)
    else:
        factors = scale.view(-1, *[1] * (weight.dim() - 1)).to(weight.dtype)
    if not change_weight(model, layer, lambda weight: weight.mul_(factors), scale=False):
        return False
    if bias is not None and bias.numel() == scale.numel():
        bias.copy_(torch.where(varies, beta - mean * scale, torch.zeros_like(mean)))
    return True


def layer_patches(model: nn.Module, inputs: Inputs, layer: WeightLayer, source: torch.Generator) -> Tensor | None:
    """What a layer multiplies with its filters, float64 (patches, fan_in), at most 10,000 of them chosen at random.

    None for anything but Linear and Conv2d without groups.
    """
    module = layer.module
    plain = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros")
    if not plain:
        return None
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    try:
        with untouched(model, "batch"):
            called(model, inputs)
    finally:
        handle.remove()
    if not seen:
        return None
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
        patches = F.unfold(seen[0], module.kernel_size, module.dilation, module.padding, module.stride).transpose(1, 2).flatten(0, 1)
    elif isinstance(module, nn.Conv2d):
        patches = F.unfold(seen[0], module.kernel_size, module.dilation).transpose(1, 2).flatten(0, 1)
    else:
        patches = seen[0].flatten(0, -2)
    chosen = torch.randperm(patches.shape[0], generator=source, device="cpu")[:MOST_PATCHES]
    return patches[chosen.to(patches.device)].double().cpu()


def learned_filters(patches: Tensor, layer: WeightLayer, kind: Literal["pca", "kmeans"], source: torch.Generator) -> Tensor:
    """Filters in the shape of the weight: principal components, or centres of clusters of the whitened patches."""
    count = layer.weight.shape[0]
    centred = patches - patches.mean(dim=0)
    spread, axes = torch.linalg.eigh(centred.T @ centred / max(1, len(patches)))
    kept = spread > 1e-7 * spread[-1].clamp_min(1e-30)
    spread, axes = spread[kept].flip(0), axes[:, kept].flip(1)
    whitening = axes / spread.sqrt()
    learned = _components(whitening, count, source) if kind == "pca" else _centres(centred @ whitening, count, source) @ whitening.T
    return learned.reshape(layer.weight.shape).to(layer.weight.dtype).to(layer.weight.device)


def _components(whitening: Tensor, count: int, source: torch.Generator) -> Tensor:
    """The first `count` whitening directions; beyond their number, random combinations of them."""
    missing = count - whitening.shape[1]
    if missing <= 0:
        return whitening[:, :count].T
    mixed = torch.randn(missing, whitening.shape[1], generator=source, dtype=torch.float32, device="cpu").double()
    return torch.cat([whitening.T, mixed / mixed.norm(dim=1, keepdim=True) @ whitening.T])


def _centres(points: Tensor, count: int, source: torch.Generator) -> Tensor:
    """Centres of `count` clusters (Lloyd's algorithm from random points; an empty cluster starts again at a random point)."""
    centres = points[torch.randint(len(points), (count,), generator=source, device="cpu")]
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        fresh = points[torch.randint(len(points), (count,), generator=source, device="cpu")]
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], fresh)
    return centres

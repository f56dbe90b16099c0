"""Filters learned from the patches that a layer sees: principal components and k-means."""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  as everybody calls it
from torch import Tensor, nn

from initbench.nn.layers import WeightLayer
from initbench.nn.watch import untouched

MOST_PATCHES = 10_000
ROUNDS = 10
"""Rounds of k-means; its centres hardly move afterwards."""


def layer_patches(model: nn.Module, inputs: Tensor, layer: WeightLayer, source: torch.Generator) -> Tensor | None:
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
            model(inputs)
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
    chosen = torch.randperm(patches.shape[0], generator=source)[:MOST_PATCHES]
    return patches[chosen.to(patches.device)].double().cpu()


def learned_filters(patches: Tensor, layer: WeightLayer, kind: Literal["pca", "kmeans"], source: torch.Generator) -> Tensor:
    """Filters in the shape of the weight: principal components, or centres of clusters of the whitened patches."""
    count = layer.weight.shape[0]
    centred = patches - patches.mean(dim=0)
    spread, axes = torch.linalg.eigh(centred.T @ centred / max(1, len(patches)))
    kept = spread > 1e-7 * spread[-1].clamp_min(1e-30)
    spread, axes = spread[kept].flip(0), axes[:, kept].flip(1)
    whitening = axes / spread.sqrt()
    found = _components(whitening, count, source) if kind == "pca" else _centres(centred @ whitening, count, source) @ whitening.T
    return found.reshape(layer.weight.shape).to(layer.weight.dtype).to(layer.weight.device)


def _components(whitening: Tensor, count: int, source: torch.Generator) -> Tensor:
    """The first `count` whitening directions; beyond their number, random combinations of them."""
    missing = count - whitening.shape[1]
    if missing <= 0:
        return whitening[:, :count].T
    mixed = torch.randn(missing, whitening.shape[1], generator=source).double()
    return torch.cat([whitening.T, mixed / mixed.norm(dim=1, keepdim=True) @ whitening.T])


def _centres(points: Tensor, count: int, source: torch.Generator) -> Tensor:
    """Centres of `count` clusters (Lloyd's algorithm from random points; an empty cluster starts again at a random point)."""
    centres = points[torch.randint(len(points), (count,), generator=source)]
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        fresh = points[torch.randint(len(points), (count,), generator=source)]
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], fresh)
    return centres

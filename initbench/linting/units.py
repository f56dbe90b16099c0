"""The weights of each unit of a layer, and which units are equal."""

import math

import torch
from torch import Tensor, nn

from initbench.nn.layers import EMBEDDINGS, WeightLayer

AT_ONCE = 256
"""Rows that are turned into whole numbers together."""


def arranged(layer: WeightLayer, weight: Tensor) -> Tensor | None:
    """A tensor of a weight's shape as (groups, gates or stacked matrices, units, inputs); None where there are no two units in one."""
    if isinstance(layer.module, EMBEDDINGS):
        return None
    if layer.axes:
        return _stacked(layer, weight)
    if layer.shape != tuple(weight.shape):
        return None
    apart = layer.parts * layer.groups
    if layer.transposed:
        if layer.groups > 1:
            return None
        weight = weight.transpose(0, 1)
    if weight.shape[0] % apart or weight.shape[0] // apart < 2 or weight[0].numel() < 2:
        return None
    return weight.reshape(apart, weight.shape[0] // apart, -1)


def _stacked(layer: WeightLayer, weight: Tensor) -> Tensor | None:
    order = [axis for axes in layer.axes for axis in axes]
    if sorted(order) != list(range(weight.dim())) or weight.shape != layer.weight.shape:
        return None
    units = math.prod(weight.shape[axis] for axis in layer.axes[1])
    rows = weight.permute(order).reshape(layer.stacked, units, -1)
    return rows if units > 1 and rows.shape[2] > 1 else None


def equal_rows(module: nn.Embedding | nn.EmbeddingBag) -> int:
    """How many rows an embedding has, that of padding aside, where all of them are one that is not zero; 0 where they differ."""
    rows = module.weight.detach()
    if module.weight.is_meta:
        return 0
    kept = rows if module.padding_idx is None else rows[torch.arange(len(rows), device=rows.device) != module.padding_idx]
    return len(kept) if len(kept) > 1 and bool(kept[0].any()) and bool((kept == kept[0]).all()) else 0


def labels_of(rows: Tensor) -> Tensor:
    """A number for each row, the same for equal ones of one group alone; rows of zeros have one each."""
    values = torch.view_as_real(rows).flatten(2) if rows.is_complex() else rows
    factors = torch.randint(-(2**62), 2**62, (values.shape[2],), generator=torch.Generator("cpu").manual_seed(0), device="cpu") | 1
    factors = factors.to(rows.device)
    marks = torch.cat([_whole(part).mul_(factors).sum(1) for part in torch.split(values.flatten(0, 1), AT_ONCE)]).view(rows.shape[:2])
    group = torch.arange(len(rows), device=rows.device).unsqueeze(1).expand_as(marks)
    zero = torch.where((rows == 0).all(2), torch.arange(marks.numel(), device=rows.device).view_as(marks) + 1, 0)
    pairs = torch.stack([group.flatten(), marks.flatten(), zero.flatten()], 1)
    labels: Tensor = torch.unique(pairs, dim=0, return_inverse=True)[1]
    return labels


def _whole(values: Tensor) -> Tensor:
    """The bits of numbers as whole numbers, which add up exactly in any order."""
    return (values.double() + 0.0).contiguous().view(torch.int64)  # the sum turns -0 into 0


def count_of(labels: Tensor) -> int:
    """How many different ones there are."""
    return int(labels.max()) + 1


def repeated(labels: Tensor, units: int) -> bool:
    """Whether each row stands a square number of times behind itself, as in front of a pixel shuffle (ICNR)."""
    runs = torch.unique_consecutive(labels, return_counts=True)[1]
    times = int(runs[0])
    return bool((runs == times).all()) and 1 < times < units and math.isqrt(times) ** 2 == times and len(runs) == count_of(labels)


def all_one(labels: Tensor, units: int) -> bool:
    """Whether all units of each group are one."""
    return count_of(labels) * units == len(labels)

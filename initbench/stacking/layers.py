"""How the layers of many models of one structure run as one, inside `torch.vmap`: faster products, and each run's own dropout.

`torch.vmap` alone gets everything right; the functions here replace what it does slowly. Linear layers are turned so that
no gradient has to be transposed. Convolutions run one after the other (CPU), as one
batched product over unfolded images (CUDA), or as one grouped convolution (torch's own way, for what the others cannot).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from initbench.fast.onednn import linear
from initbench.stacking.unfolded import applies, unfolded_conv2d

Convolution = Literal["separate", "unfolded", "grouped"]
DROPOUTS: frozenset[Callable[..., Any]] = frozenset(
    {
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
        functional.alpha_dropout,
        functional.feature_alpha_dropout,
        functional.rrelu,
    }
)
"""Functions that draw random numbers in training."""


SEPARATE_PRODUCTS = 300_000
"""Multiplications of one run in a linear layer from which, on the CPU, runs are not multiplied together."""


@dataclass
class RandomStates:
    """The runs' own states of the CPU's random generator, each advanced by what its run draws."""

    states: list[Tensor]


class StackedLayers(TorchFunctionMode):
    """Within: linear layers, convolutions and dropout that are called inside `torch.vmap` take the ways of this file.

    Without `random` (on other devices than the CPU) all runs draw from one generator, so that a run's dropout depends on
    the runs beside it.
    """

    def __init__(self, convolution: Convolution, random: RandomStates | None = None) -> None:
        super().__init__()
        self.convolution = convolution
        self.random = random

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        if func is functional.linear:
            return _linear(self.convolution, *args, **given)
        if func is functional.conv2d and self.convolution != "grouped":
            return _conv2d(self.convolution, *args, **given)
        if func in DROPOUTS and self.random is not None:
            return _own_random(func, self.random, *args, **given)
        if func is functional.batch_norm:
            return _batch_norm(*args, **given)
        if func is functional.group_norm:
            return _group_norm(*args, **given)
        return func(*args, **given)


def default_convolution(device: torch.device) -> Convolution:
    """What `benchmarks/stacked.py` measured to be fastest on the CPU; on CUDA the one of two about equal ones that is for many runs."""
    return "separate" if device.type == "cpu" else "unfolded"


def _linear(way: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear` as weight times inputs: the gradient of the weight then comes in the weight's own memory layout.

    On the CPU the larger ones go one after the other, with the very products of a run alone: calling them takes little of their time.
    """
    if x.dim() < 2:
        return functional.linear(x, weight, bias)
    if way == "separate" and x.numel() * weight.shape[0] >= SEPARATE_PRODUCTS:
        return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return]
    out = (weight @ x.reshape(-1, x.shape[-1]).mT).mT
    if bias is not None:
        out = out + bias.to(out.dtype)
    return out if x.dim() == 2 else out.reshape(*x.shape[:-1], weight.shape[0])


class _Linear(torch.autograd.Function):
    """`onednn.linear` for one run after the other; differentiable only below vmap."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: the derivative is taken below vmap."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, int]:
        x, weight, bias = _runs_first(info.batch_size, in_dims, (x, weight, bias))
        biases: Sequence[Tensor | None] = [None] * info.batch_size if bias is None else bias.unbind()
        return torch.stack([linear(*own) for own in zip(x.unbind(), weight.unbind(), biases, strict=True)]), 0


def _conv2d(
    way: Convolution,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if way == "unfolded" and not applies(padding, dilation, groups):
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled(x.device.type):
        low = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(low), weight.to(low), None if bias is None else bias.to(low)
    return _Conv2d.apply(way, x, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]


class _Conv2d(torch.autograd.Function):
    """`functional.conv2d` with rules of our own for vmap; differentiable only below vmap."""

    @staticmethod
    def forward(_way: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        return functional.conv2d(x, weight, bias, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: the derivative is taken below vmap."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], way: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any
    ) -> tuple[Tensor, int]:
        runs = info.batch_size
        x, weight, bias = _runs_first(runs, in_dims[1:4], (x, weight, bias))
        if way == "unfolded":
            return unfolded_conv2d(x, weight, bias, *how[:2]), 0
        biases: Sequence[Tensor | None] = [None] * runs if bias is None else bias.unbind()
        own = zip(_one_by_one(x), weight.unbind(), biases, strict=True)
        return _as_one([functional.conv2d(_channels_last(image), kernel, shift, *how) for image, kernel, shift in own]), 0


def _channels_last(images: Tensor) -> Tensor:
    """Images of one channel fit both memory formats; the strides say which one the convolution answers in: ours, as alone."""
    if images.dim() == 4 and images.shape[1] == 1 and images.is_contiguous() and images.device.type == "cpu":
        return images.view(images.shape[0], *images.shape[2:], 1).permute(0, 3, 1, 2)
    return images


def _own_random(func: Callable[..., Tensor], random: RandomStates, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _OwnRandom.apply(func, random, x, args, kwargs)  # type: ignore[no-any-return]


class _OwnRandom(torch.autograd.Function):
    """A function that draws random numbers, for one run after the other, each with its own state of the generator."""

    @staticmethod
    def forward(func: Callable[..., Tensor], _random: RandomStates, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return func(x, *args, **kwargs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: the derivative is taken below vmap."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        func: Callable[..., Tensor],
        random: RandomStates,
        x: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Tensor, int]:
        (x,) = _runs_first(info.batch_size, in_dims[2:3], (x,))
        outs, before = [], torch.get_rng_state()
        for run, own in enumerate(_one_by_one(x)):
            torch.set_rng_state(random.states[run])
            outs.append(func(own, *args, **kwargs))
            random.states[run] = torch.get_rng_state()
        torch.set_rng_state(before)
        return _as_one(outs), 0


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: FBT001, FBT002 - torch's own order of arguments
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return _BatchNorm.apply(x, running_mean, running_var, weight, bias, training, momentum, eps)  # type: ignore[no-any-return]


class _BatchNorm(torch.autograd.Function):
    """`functional.batch_norm` for one run after the other: the same kernel as alone, whose rounding it shares (vmap cannot on CUDA)."""

    @staticmethod
    def forward(x: Tensor, *rest: Any) -> Tensor:
        return functional.batch_norm(x, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: the derivative is taken below vmap."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *rest: Any) -> tuple[Tensor, int]:
        (x,) = _runs_first(info.batch_size, in_dims[:1], (x,))
        owned = [[None] * info.batch_size if tensor is None else tensor.unbind() for tensor in rest[:4]]
        return _as_one([functional.batch_norm(*own, *rest[4:]) for own in zip(_one_by_one(x), *owned, strict=True)]), 0


def _group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    return _GroupNorm.apply(x, num_groups, weight, bias, eps)  # type: ignore[no-any-return]


class _GroupNorm(torch.autograd.Function):
    """`functional.group_norm`, which not every version of torch can call in vmap on images that are stored channels last."""

    @staticmethod
    def forward(x: Tensor, *rest: Any) -> Tensor:
        return functional.group_norm(x, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: the derivative is taken below vmap."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, int]:
        x, weight, bias = _runs_first(info.batch_size, (in_dims[0], *in_dims[2:4]), (x, weight, bias))
        normal = functional.group_norm(x.flatten(0, 1), groups, eps=eps)
        out = normal.view(x.shape[0], -1, *normal.shape[1:])
        across = (x.shape[0], 1, -1, *[1] * (x.dim() - 3))
        out = out if weight is None else out * weight.view(across)
        return (out if bias is None else out + bias.view(across)), 0


def _one_by_one(x: Tensor) -> tuple[Tensor, ...]:
    """Each run's part of (runs, N, ...), in the memory layout that it has alone."""
    return torch.split(x.flatten(0, 1), x.shape[1])


def _as_one(outs: list[Tensor]) -> Tensor:
    """The reverse of `_one_by_one`: (runs, N, ...), in the memory layout of its parts."""
    joined = torch.cat(outs)
    return joined.view(len(outs), -1, *joined.shape[1:])


def _runs_first(runs: int, dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each tensor with the runs as its first dimension; what is the same for all is expanded."""
    return tuple(
        tensor if tensor is None else tensor.expand(runs, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for dim, tensor in zip(dims, tensors, strict=True)
    )

"""What attention does: the weights that every softmax over keys gives in one pass, and how far apart its tokens are."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from initbench.nn.inputs import Inputs, called
from initbench.nn.operations import argument
from initbench.nn.watch import untouched

SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax}
TINY = 1e-12
"""Weights below it say nothing to an entropy."""


@dataclass(frozen=True)
class AttentionStart:
    """One softmax over keys: the module that it is in, and how many keys there are.

    `entropy` is the mean over that of equal weights, `largest` the mean of the largest weight, `spread` how far weights stray from equal
    ones (0: to the last digit). `apart` is the share of the squared length of the tokens that come to the module (N, tokens, width) that
    is not their mean: 0 where all tokens of an input are one (Dong, Cordonnier & Loukas 2021); None where no such tokens come.
    """

    module: str
    keys: int
    entropy: float
    largest: float
    spread: float
    apart: float | None = None


def attention_starts(model: nn.Module, inputs: Inputs) -> tuple[AttentionStart, ...]:
    """Every softmax over keys in a pass, in the order in which they come."""
    watch = _Watch()
    handles = [module.register_forward_pre_hook(_Enter(watch, name), with_kwargs=True) for name, module in model.named_modules()]
    handles += [module.register_forward_hook(_Leave(watch), always_call=True) for module in model.modules()]
    try:
        with torch.no_grad(), untouched(model, "batch"), watch:
            called(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(watch.found)


class _Enter:
    def __init__(self, watch: "_Watch", name: str) -> None:
        self.watch, self.name = watch, name

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before a module's forward."""
        given = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        self.watch.within.append((self.name, given))


class _Leave:
    def __init__(self, watch: "_Watch") -> None:
        self.watch = watch

    def __call__(self, *_: Any) -> None:
        """Called after it."""
        if self.watch.within:
            self.watch.within.pop()


class _Watch(TorchFunctionMode):
    """Looks at each softmax of more than two dimensions, and works out those that a fused kernel hides."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[AttentionStart] = []
        self.within: list[tuple[str, Tensor | None]] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Called for every function of torch."""
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            result, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
            assert weights is not None
            self._take(weights)
            return result, weights.mean(-3) if kwargs.get("average_attn_weights", True) else weights
        result = func(*args, **kwargs)
        if func in SOFTMAX and isinstance(result, Tensor) and result.dim() > 2:
            dim = int(argument(args, kwargs, 1, "dim", -1) or -1)
            if dim % result.dim() == result.dim() - 1:
                self._take(result)
        elif func is functional.scaled_dot_product_attention:
            self._take(_fused(args, kwargs))
        return result

    def _take(self, weights: Tensor) -> None:
        keys = weights.shape[-1]
        if keys < 2:
            return
        values = weights.detach().float()
        allowed = (values > TINY).sum(-1).clamp(min=1)
        rows = allowed > 1
        if not rows.any():
            return
        entropy = -(values.clamp(min=TINY).log() * values).sum(-1)
        share = (entropy[rows] / allowed[rows].float().log()).mean().item()
        largest = values.max(-1).values[rows]
        spread = ((largest * allowed[rows]) - 1).abs().max().item()
        name = self.within[-1][0] if self.within else ""
        self.found.append(AttentionStart(name, keys, share, largest.mean().item(), spread, self._apart(keys)))

    def _apart(self, keys: int) -> float | None:
        """Of the innermost module that is given as many tokens as there are keys."""
        for _, tokens in reversed(self.within):
            if tokens is not None and tokens.dim() == 3 and tokens.is_floating_point() and tokens.shape[1] == keys:
                wide = tokens.detach().double() if tokens.device.type != "mps" else tokens.detach().float()
                length = wide.square().sum()
                own = (wide - wide.mean(1, keepdim=True)).square().sum()
                return (own / length).item() if length > 0 and length.isfinite() else None
        return None


def _fused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The weights that scaled_dot_product_attention works out inside."""
    no = False
    query, key = (argument(args, kwargs, place, name, None).detach().float() for place, name in ((0, "query"), (1, "key")))
    mask, causal = argument(args, kwargs, 3, "attn_mask", None), argument(args, kwargs, 5, "is_causal", no)
    scale = argument(args, kwargs, 6, "scale", None) or 1 / math.sqrt(query.shape[-1])
    if query.shape[:-2] != key.shape[:-2] and query.dim() == key.dim() and query.shape[-3] % key.shape[-3] == 0:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril().logical_not(), -math.inf)
    if isinstance(mask, Tensor):
        scores = scores.masked_fill(mask.logical_not(), -math.inf) if mask.dtype == torch.bool else scores + mask
    weights: Tensor = scores.softmax(-1)
    return weights

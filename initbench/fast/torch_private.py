"""Torch's private functions that a forward pass calls, all in one place; each is tried once on known numbers before it is used.

Where one is gone or behaves otherwise, its check here says so, and whoever asks goes torch's public way: slower, the same numbers
within rounding. So a new torch cannot break a run.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as module_file

CHANGED = (AttributeError, ImportError, RuntimeError, TypeError, ValueError)
"""What a function raises that is gone, or that takes other arguments than it did."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps its hooks."""
GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")
"""Where torch keeps the hooks of all modules."""


def linear_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Inputs (..., in) times the transposed weight (out, in), plus the bias, by oneDNN; not differentiable."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


@cache
def has_linear_product() -> bool:
    """Whether `linear_product` gives the products of small whole numbers, which no rounding changes."""
    x, weight, bias = (
        torch.arange(12.0, dtype=torch.float32, device="cpu").view(2, 2, 3),
        torch.arange(6.0, dtype=torch.float32, device="cpu").view(2, 3),
        torch.tensor([5.0, -7.0], dtype=torch.float32, device="cpu"),
    )
    turned = torch.arange(6.0, dtype=torch.float32, device="cpu").view(3, 2).mT
    try:
        with torch.no_grad():
            cases = ((x, weight, bias), (x, weight, None), (x[0], turned, None), (turned, x[0], None))
            return all(torch.equal(linear_product(*case), functional.linear(*case)) for case in cases)
    except CHANGED:
        return False


@cache
def has_layout() -> bool:
    """Whether convolution, max pooling, ReLU and GELU work in oneDNN's layout, forwards and backwards."""
    results = []
    try:
        for in_layout in (False, True):
            x, weight = (
                torch.arange(36.0, dtype=torch.float32, device="cpu").sin().view(1, 1, 6, 6),
                torch.arange(18.0, dtype=torch.float32, device="cpu").cos().view(2, 1, 3, 3).requires_grad_(),
            )
            with torch.enable_grad():
                inner = functional.conv2d(x.to_mkldnn() if in_layout else x, weight)
                outer = functional.gelu(torch.relu(functional.max_pool2d(inner, 2, 2)))
                outer = outer.to_dense() if in_layout else outer
                results.append((outer.detach(), *torch.autograd.grad(outer.square().sum(), weight)))
    except CHANGED:
        return False
    return all(torch.allclose(ours, plain, rtol=1e-4, atol=1e-4) for plain, ours in zip(*results, strict=True))


def is_watched() -> bool:
    """Whether a trace, `torch.func` or forward-mode derivatives look into each operation here; True too where this torch does not tell."""
    return _is_traced() or not _tells() or _is_transformed() or _is_forward_mode()


def of_all_samples(values: Tensor) -> tuple[Tensor, int] | None:
    """Within `torch.vmap`, what a tensor of one sample is a slice of, and along which axis; None outside, and where that is not known.

    It is the very tensor that autograd knows.
    """
    try:
        functorch = torch._C._functorch
        if not functorch.is_batchedtensor(values):
            return None
        return functorch.get_unwrapped(values), int(functorch.maybe_get_bdim(values))
    except CHANGED:
        return None


def is_transformed(values: Tensor) -> bool:
    """Whether a tensor exists within a transformation of `torch.func` alone (`vmap`, `grad`); False where this torch does not tell."""
    try:
        return bool(torch._C._functorch.is_functorch_wrapped_tensor(values))
    except CHANGED:
        return False


def all_are_hooked() -> bool:
    """Whether somebody has hooked all modules at once; True too where this torch does not tell."""
    return not _tells() or _has_global_hooks()


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody has hooked a module; True too where this torch does not tell."""
    return not _tells() or any(getattr(module, name) for name in HOOKS)


def _is_traced() -> bool:
    """By `torch.jit`, which is deprecated: a torch without it traces nothing."""
    state = getattr(torch._C, "_get_tracing_state", None)
    return state is not None and state() is not None


def _is_transformed() -> bool:
    return bool(torch._C._are_functorch_transforms_active())


def _is_forward_mode() -> bool:
    return bool(forward_ad._current_level >= 0)


def _has_global_hooks() -> bool:
    hooks = [getattr(module_file, name) for name in GLOBAL_HOOKS]
    return any(hooks)


@cache
def _tells() -> bool:
    """Whether the answers are yes where they must be: inside of each of these things."""
    answers: list[bool] = []

    def ask(x: Tensor) -> Tensor:
        answers.append(_is_transformed())
        return x

    try:
        torch.vmap(ask)(torch.zeros(1, dtype=torch.float32, device="cpu"))
        answers.append(_is_forward_mode() or _within_forward_mode())
        module = nn.Identity()
        module.register_forward_hook(_nothing)
        module.register_forward_pre_hook(_nothing)
        module.register_full_backward_hook(_nothing)
        module.register_full_backward_pre_hook(_nothing)
        answers += [bool(getattr(module, name)) for name in HOOKS]
        for register in (module_file.register_module_forward_hook, module_file.register_module_forward_pre_hook):
            handle = register(_nothing)
            try:
                answers.append(_has_global_hooks())
            finally:
                handle.remove()
    except CHANGED:
        return False
    return all(answers)


def _within_forward_mode() -> bool:
    with forward_ad.dual_level():
        return _is_forward_mode()


def _nothing(*_: object) -> None: ...

"""How a scheme changes what a model computes: a number on the input or on the output of a module.

Fixup's scalar biases, the learnable alpha of ReZero and SkipInit, the fixed multipliers of DeepNorm and muP and the
transformed activations of DKS and TAT are all of one form: a module m becomes
`output_scale * m(input_scale * x + input_shift) + output_shift`. Each number is a 0-dimensional parameter (trainable) or
buffer (fixed) of the module itself, read by one hook function that has no state. So the model stays what it was: its
modules keep their identity and names, it can be copied, pickled and moved, its `state_dict` holds the numbers, and
`torch.func.functional_call` and `vmap` see them as they see any other parameter.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initbench.nn.naming import modules_of
from initbench.results.record import InitReport, ParameterInit, Setter


class Slot(StrEnum):
    """Where a number goes; input is scaled, then shifted, and so is output.

    `BRANCH_SCALE` is for a module that adds a branch to its first argument: what it adds is scaled.
    """

    INPUT_SCALE = "input_scale"
    INPUT_SHIFT = "input_shift"
    OUTPUT_SCALE = "output_scale"
    OUTPUT_SHIFT = "output_shift"
    BRANCH_SCALE = "branch_scale"


SLOTS = frozenset(str(slot) for slot in Slot)
INPUT_SLOTS = frozenset({Slot.INPUT_SCALE, Slot.INPUT_SHIFT})
TINY = 1e-8
"""Added to a mean square before it divides, so that a black image stays one."""


def set_parameter(module: nn.Module, slot: Slot, value: float, shape: tuple[int, ...] = (), like: Tensor | None = None) -> None:
    """Gives the module a trainable number that starts at `value`; one that is there is replaced.

    With a `shape` it is a tensor full of that number, which is broadcast against the signal: (units,) or (channels, 1, 1).
    It is of the module's own type and device, or of those of `like` for a module without any: a tensor of another type would
    change that of the signal.
    """
    _clear_slot(module, slot)
    own = _like(module) if like is None else {"device": like.device, "dtype": like.dtype}
    module.register_parameter(slot, nn.Parameter(torch.full(shape, value, **own)))
    _watch(module, slot)


def set_constant(module: nn.Module, slot: Slot, value: float) -> None:
    """Gives the module a fixed number, kept as a buffer; one that is there is replaced."""
    _clear_slot(module, slot)
    module.register_buffer(slot, torch.tensor(value, dtype=torch.float32, device=_like(module)["device"]))
    _watch(module, slot)


def number(module: nn.Module, slot: Slot) -> float | None:
    """The number in a slot of this module, None where there is none."""
    value = getattr(module, slot, None) if slot in {**module._parameters, **module._buffers} else None
    return float(value) if value is not None else None


def normalize_input(model: nn.Module, *, each: Literal["image", "location"] = "image") -> None:
    """Makes the model divide its inputs by the root mean square of each image (or of each location, over its channels)."""
    hook = _unit_images if each == "image" else _unit_locations
    if hook not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(hook, with_kwargs=True)


def clear(model: nn.Module) -> None:
    """Takes away all that the functions of this file have added anywhere in the model."""
    for _, module in modules_of(model):
        if not module._forward_pre_hooks and not module._forward_hooks:
            continue
        for slot in SLOTS & (module._parameters.keys() | module._buffers.keys()):
            delattr(module, slot)
        for hooks, ours in ((module._forward_pre_hooks, (_before, _unit_images, _unit_locations)), (module._forward_hooks, (_after,))):
            for key in [key for key, hook in hooks.items() if hook in ours]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)


def is_slot(name: str) -> bool:
    """Whether a parameter of this full name is one of ours."""
    return name.rpartition(".")[2] in SLOTS


def amended(
    report: InitReport,
    parameters: Mapping[str, Tensor],
    *,
    lr_multipliers: Mapping[str, float] = MappingProxyType({}),
    notes: Iterable[str] = (),
) -> InitReport:
    """The report with the numbers among `parameters` (all of the model's, in its order), with multipliers and notes."""
    known = {entry.parameter: entry for entry in report.parameters}
    entries = tuple(
        known[name] if name in known and not is_slot(name) else _entry(name, parameter, report.scheme)
        for name, parameter in parameters.items()
    )
    factors = {**report.lr_multipliers, **lr_multipliers}
    return report.model_copy(update={"parameters": entries, "lr_multipliers": factors, "notes": (*report.notes, *notes)})


def _entry(name: str, parameter: Tensor, scheme: str) -> ParameterInit:
    value = float(parameter.detach().flatten()[0])
    return ParameterInit(
        parameter=name,
        shape=tuple(parameter.shape),
        setter=Setter.SCHEME,
        by=scheme,
        law="constant",
        target_mean=value,
        target_std=0.0,
        mean=value,
        std=0.0,
    )


def _like(module: nn.Module) -> dict[str, Any]:
    """Device and type of the module's first parameter or buffer, for tensors of its own."""
    for _, part in modules_of(module):
        for tensor in chain(part._parameters.values(), part._buffers.values()):
            if tensor is not None and tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
    return {"device": torch.device("cpu"), "dtype": torch.float32}


def _clear_slot(module: nn.Module, slot: Slot) -> None:
    if slot in module._parameters or slot in module._buffers:
        delattr(module, slot)


def _watch(module: nn.Module, slot: Slot) -> None:
    if slot in INPUT_SLOTS:
        if _before not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_before, with_kwargs=True)
    elif _after not in module._forward_hooks.values():
        module.register_forward_hook(_after)


def _adjusted(values: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    values = values if scale is None else values * scale
    return values if shift is None else values + shift


def _before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    scale, shift = getattr(module, "input_scale", None), getattr(module, "input_shift", None)
    return _first_changed(args, kwargs, lambda x: _adjusted(x, scale, shift))


def _after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    branch = getattr(module, "branch_scale", None)
    if branch is not None:
        output = args[0] + branch * (output - args[0])
    scale, shift = getattr(module, "output_scale", None), getattr(module, "output_shift", None)
    if isinstance(output, tuple):
        return (_adjusted(output[0], scale, shift), *output[1:])
    return _adjusted(output, scale, shift)


def _unit_images(_model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def unit(x: Tensor) -> Tensor:
        square = x.flatten(1).square().mean(dim=1).reshape(-1, *[1] * (x.dim() - 1))
        return x * torch.rsqrt(square + TINY)

    return _first_changed(args, kwargs, unit)


def _unit_locations(_model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return _first_changed(args, kwargs, lambda x: x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + TINY))


def _first_changed(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the first one changed, whether it was given by position or by name."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name = next(iter(kwargs))
    return args, {**kwargs, name: change(kwargs[name])}

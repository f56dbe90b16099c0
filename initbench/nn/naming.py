"""The names of a model's parameters: ties, globs, and parameters that cannot be written."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from initbench.errors import ConfigError, suggestion
from initbench.nn.layers import WeightLayer
from initbench.question.config import InitRules


@dataclass(frozen=True)
class Parameters:
    """All parameters of a model in its own order, found in one walk.

    `first` has each once, by its first name, the one that is reported; `by_name` has a tied one under all its names;
    `names` and `owner` are the names and the module of a parameter, by its id.
    """

    first: dict[str, nn.Parameter]
    by_name: dict[str, nn.Parameter]
    names: dict[int, list[str]]
    owner: dict[int, nn.Module]


def modules_of(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Every module with its name, a shared one under each of its names (`named_modules` takes several times as long)."""
    modules = [(prefix, model)]
    for short, module in model._modules.items():
        if module is not None:
            modules += modules_of(module, f"{prefix}.{short}" if prefix else short)
    return modules


@contextmanager
def unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """Within, the model without wrappers: those of torch.compile and of data parallelism, around it or around its submodules.

    So names are those of the model inside, and what is drawn from them does not depend on a wrapper. Afterwards they are back.
    """
    inside, put_back = without_wrappers(model)
    try:
        yield inside
    finally:
        put_back()


def without_wrappers(model: nn.Module) -> tuple[nn.Module, Callable[[], None]]:
    """The model with all wrappers taken off for good, and what puts those of its submodules back."""
    inside = _inside(model)
    places, compiled = [], []
    for module in list(inside.modules()):
        if vars(module).get("_compiled_call_impl") is not None:
            compiled.append((module, vars(module).pop("_compiled_call_impl")))
        for short, child in module._modules.items():
            if child is not None and (bare := _inside(child)) is not child:
                places.append((module, short, child, bare))
    for parent, short, _, bare in places:
        parent._modules[short] = bare

    def put_back() -> None:
        for parent, short, child, bare in places:
            if parent._modules.get(short) is bare:
                parent._modules[short] = child
        for module, call in compiled:
            vars(module)["_compiled_call_impl"] = call

    return inside, put_back


def _inside(module: nn.Module) -> nn.Module:
    """What a wrapper wraps; any other module itself."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := dict(module.named_children()).get("_orig_mod"), nn.Module):
            module = inner
        else:
            return module


def parameters_of(model: nn.Module) -> Parameters:
    """Walks the model once (`named_parameters` takes several times as long on deep networks)."""
    parameters = Parameters({}, {}, {}, {})
    for prefix, module in modules_of(model):
        for short, parameter in module._parameters.items():
            if parameter is None:
                continue
            name = f"{prefix}.{short}" if prefix else short
            if id(parameter) not in parameters.names:
                parameters.first[name] = parameter
            parameters.by_name[name] = parameter
            parameters.names.setdefault(id(parameter), []).append(name)
            parameters.owner[id(parameter)] = module
    return parameters


def all_names(model: nn.Module) -> dict[int, list[str]]:
    """Every name of every parameter, by its id; a tied parameter has several, the first is the one that is reported."""
    return parameters_of(model).names


def matches(pattern: str, layer: WeightLayer | None, names: Iterable[str]) -> bool:
    """Whether a glob matches one of the names of a parameter, or its layer's."""
    return any(fnmatchcase(name, pattern) for name in names) or (layer is not None and fnmatchcase(layer.name, pattern))


def own_layers(model: nn.Module, layers: tuple[WeightLayer, ...], rules: InitRules, patterns: tuple[str, ...]) -> tuple[WeightLayer, ...]:
    """The layers whose weight is not excluded, not frozen and not named by one of the patterns."""
    names = all_names(model)
    return tuple(
        layer
        for layer in layers
        if layer.weight.requires_grad
        and not rules.left_alone(names[id(layer.weight)])
        and not any(matches(pattern, layer, names[id(layer.weight)]) for pattern in patterns)
    )


def refuse_unused(pattern: str, where: str, names: list[str]) -> None:
    """Raises: ConfigError when the glob matches none of the names."""
    if not any(fnmatchcase(name, pattern) for name in names):
        few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise ConfigError(
            f"The pattern '{pattern}' under {where} matches no parameter.{suggestion(pattern, names)} "
            f"The model's parameters are {few or 'none'}."
        )


def refuse_without_storage(parameters: dict[str, nn.Parameter]) -> None:
    """Raises: ConfigError for a parameter that cannot be written as a whole: lazy, on the meta device, sparse, or a shard."""
    for name, parameter in parameters.items():
        if _is_shard(parameter):
            raise ConfigError(f"'{name}' is sharded over several processes. Initialize before sharding: every process with the same seed.")
        if isinstance(parameter, UninitializedParameter):
            raise ConfigError(f"'{name}' is lazy and has no shape yet. Call the model once on a batch first.")
        if parameter.is_meta:
            raise ConfigError(f"'{name}' is on the meta device and has no storage. Call model.to_empty(device=...) first.")
        if parameter.layout != torch.strided:
            kind = str(parameter.layout).removeprefix("torch.")
            raise ConfigError(f"'{name}' is stored as {kind}, whose numbers cannot be set. Make it dense (to_dense), or a buffer.")


def _is_shard(parameter: nn.Parameter) -> bool:
    """Whether a parameter is a DTensor (FSDP2, tensor parallelism) or of FSDP1's; torch.distributed is not imported for it."""
    distributed = sys.modules.get("torch.distributed.tensor")
    sharded = distributed is not None and isinstance(parameter, distributed.DTensor)
    return sharded or getattr(parameter, "_fsdp_flattened", False)

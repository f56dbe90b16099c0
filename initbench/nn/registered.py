"""The weights that a model registers, whether or not a forward pass uses them, in order of registration."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import UninitializedParameter

from initbench.errors import ConfigError
from initbench.nn.fans import Fans, of_module

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
NOT_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.AdaptiveLogSoftmaxWithLoss)
PARAMETRIZED = ".parametrizations."


@dataclass(frozen=True)
class Registered:
    """One weight as registered: `name` of the layer, `parameter` (its first name), bias, fans where known, length in a weight norm."""

    name: str
    parameter: str
    module: nn.Module
    weight: nn.Parameter
    bias: str | None
    fans: Fans | None
    length: str | None = None


def registered(model: nn.Module) -> dict[str, Registered]:
    """All parameters with two or more dimensions outside of norms, by their first name; those without known fans too.

    Raises: ConfigError for lazy parameters.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    everything, modules = set(names.values()), dict(model.named_modules(remove_duplicate=False))
    found: dict[str, Registered] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if isinstance(parameter, UninitializedParameter):
            raise ConfigError(f"'{name}' is lazy and has no shape yet. Call the model once on a batch first.")
        owner, _, short = name.rpartition(".")
        base, inner, tensor = f".{owner}".partition(PARAMETRIZED)
        if inner:
            owner, short = base.removeprefix("."), {"original": tensor, "original1": tensor}.get(short, short)
        elif short in {"weight_v", "weight_orig"}:
            short = "weight"
        module = modules[owner]
        if parameter.dim() < 2 or isinstance(module, NORMS) or short in {"original0", "weight_g"}:
            continue
        fans = None if isinstance(module, EMBEDDINGS) else of_module(module, short, tuple(parameter.shape))
        first = names[id(parameter)]
        if first in found and (found[first].fans is not None or fans is None):
            continue
        layer = owner if short == "weight" and owner else f"{owner}.{short}" if owner else short
        length = {"original1": "original0", "weight_v": "weight_g"}.get(name.rpartition(".")[2])
        length = f"{name.rpartition('.')[0]}.{length}".lstrip(".") if length else None
        found[first] = Registered(
            layer, first, module, parameter, bias_of(module, owner, short), fans, length if length in everything else None
        )
    order = {name: place for place, name in enumerate(names.values())}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def bias_of(module: nn.Module, owner: str, short: str) -> str | None:
    """The name of the bias that belongs to a weight of one of torch's own modules or of one built like them."""
    if isinstance(module, nn.MultiheadAttention):
        wanted = "in_proj_bias" if short in {"in_proj_weight", "q_proj_weight"} else ""
    else:
        wanted = short.replace("weight", "bias") if "weight" in short else ""
    if not wanted or wanted == short or not isinstance(getattr(module, wanted, None), nn.Parameter):
        return None
    return f"{owner}.{wanted}" if owner else wanted


def is_weight(entry: Registered) -> bool:
    """Whether a parameter counts as a weight where no forward pass shows it: known modules, or named like a weight."""
    if entry.fans is not None:
        return True
    short = entry.parameter.rpartition(".")[2].lower()
    return not isinstance(entry.module, EMBEDDINGS) and ("weight" in short or short in {"w", "kernel"} or short.startswith("w_"))


def activation_after(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Each weight-bearing module of torch with the next registered activation module before the next such one."""
    waiting: list[nn.Module] = []
    for module in model.modules():
        bears = any(of_module(module, name, tuple(p.shape)) for name, p in module.named_parameters(recurse=False) if p.dim() > 1)
        if bears:
            for one in waiting:
                yield one, None
            waiting = [module]
        elif type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, NOT_ACTIVATIONS):
            for one in waiting:
                yield one, module
            waiting = []
    for one in waiting:
        yield one, None

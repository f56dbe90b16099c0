"""From a trace to words: the name of each layer's activation, and what could not be told."""

import torch
from torch import nn

from initbench.nn.activation import DEFAULTS, FUNCTIONS, Function, activation_function, called, recognized, snake
from initbench.nn.marks import Chain, Step, Use
from initbench.nn.operations import ENDS, SCALINGS, SUMS
from initbench.nn.registered import Registered
from initbench.nn.trace import Trace


def activation_of(use: Use) -> tuple[str | None, Function | None]:
    """The name and the function of the activation after a use of a weight; (None, None) where there is none."""
    chain = use.activation
    if chain is None:
        return use.label, behind(use.label)
    name = _name(chain)
    return name, behind(name) or chain.function


def path_of(use: Use) -> tuple[str, ...]:
    """What the signal passes on its way to a use, activations by their names."""
    return tuple(part if isinstance(part, str) else _name(part) for part in use.entry.path)


def behind(name: str | None) -> Function | None:
    """The function of a known name, else None."""
    return activation_function(name) if name is not None and name.partition(":")[0] in FUNCTIONS else None


def called_module(module: nn.Module) -> str:
    """The name of one of torch's activation modules with its parameters: `leaky_relu:negative_slope=0.2`."""
    squeezed = {name.replace("_", ""): name for name in FUNCTIONS}
    name = squeezed.get(type(module).__name__.lower())
    if name is None:
        return snake(type(module).__name__)
    if isinstance(module, nn.PReLU):
        return called(name, (None, module.weight), {}) or name
    params = {key: getattr(module, key) for key, _ in DEFAULTS.get(name, ()) if hasattr(module, key)}
    return called(name, (None,), params) or name


def recurrent_activation(module: nn.Module) -> str | None:
    """The nonlinearity of a plain recurrent module."""
    return str(module.nonlinearity) if isinstance(module, nn.RNN | nn.RNNCell) else None


def notes_on(found: Trace, names: dict[str, str], missed: list[Registered], scaled: frozenset[str]) -> tuple[str, ...]:
    """What a reader should know: weights that were not met, shared, computed, or whose activation cannot be told.

    `names` are the layers' by parameter; `scaled` are parameters under a weight norm, whose length is set with them.
    """
    stopped: dict[str, list[str]] = {}
    notes = [f"'{entry.name}' is not met in a forward pass in evaluation mode." for entry in missed]
    seen: dict[str, Use] = {}
    counts: dict[str, int] = {}
    for use in found.uses:
        seen.setdefault(use.view.name, use)
        counts[use.view.name] = counts.get(use.view.name, 0) + 1
    for parameter, use in seen.items():
        name = names.get(parameter, parameter)
        if counts[parameter] > 1 and not use.view.piece:
            notes.append(f"'{name}' is used {counts[parameter]} times; its place and activation are those of the first.")
        if use.view.computed and parameter not in scaled:
            notes.append(f"'{name}' is computed from '{parameter}' in every pass: what is set is the parameter, not the weight itself.")
        if not use.entry.sources:
            notes.append(f"'{name}' is fed by something that cannot be followed back to the model's input.")
        if use.activation is None and use.stopped is not None and use.stopped not in ENDS and use.index not in found.heads:
            stopped.setdefault(use.stopped, []).append(f"'{name}'")
    for reason, layers in stopped.items():
        few = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
        notes.append(f"No activation can be told after {few}: the output goes into {reason}.")
    return tuple(notes)


def _name(chain: Chain) -> str:
    """The known name, else the label, else what it is made of."""
    return _known(chain) or chain.label or "_".join(step.name for step in chain.steps) or "unnamed"


def _known(chain: Chain) -> str | None:
    """The full name of a chain that is a known activation."""
    if len(chain.steps) == 1:
        name = called(chain.steps[0].name, chain.steps[0].args, chain.steps[0].kwargs)
        if name is not None:
            return name
    last = chain.steps[-1] if chain.steps else None
    if last is not None and last.name in {"sin", "cos"} and all(step.name in SUMS | SCALINGS for step in chain.steps[:-1]):
        return _wave(last)
    name = recognized(chain.function)
    return None if name == "identity" else name


def _wave(step: Step) -> str | None:
    inner = step.args[0] if step.args else None
    if not isinstance(inner, Chain):
        return None
    low, high = inner.function(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    return f"{step.name}:omega={high:g}" if low == 0 else None

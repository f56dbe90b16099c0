"""What a model gives back: which of its tensors count, and which weights they reach."""

from typing import Any

from torch import Tensor

from initbench.nn.operations import tensors_in


def outputs_in(result: object) -> tuple[Tensor, ...]:
    """The tensors in a result that can have gradients, in their order, each once; single numbers only where there is nothing else."""
    found: dict[int, Tensor] = {}
    for tensor in tensors_in(result):
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel():
            found.setdefault(id(tensor), tensor)
    several = tuple(tensor for tensor in found.values() if tensor.dim())
    return several or tuple(found.values())


def main_output(outputs: tuple[Tensor, ...], *, labelled: bool) -> int:
    """Which one is looked at first: the first one; where there are labels the first of logits (N, classes), if there is one."""
    return next((place for place, each in enumerate(outputs) if classes_of(each) is not None), 0) if labelled else 0


def classes_of(output: Tensor) -> int | None:
    """The number of classes of logits (N, classes); None where they are none."""
    return output.shape[1] if output.dim() == 2 and output.shape[1] > 1 and output.is_floating_point() else None


def heads(outputs: tuple[Tensor, ...], main: int) -> tuple[int, ...]:
    """The main output, and of the others those that reach parameters which none before them reaches.

    So every layer that leads to an output gets a gradient, and hidden states and caches, through which the main output
    goes itself, change nothing.
    """
    if len(outputs) == 1:
        return (main,)
    chosen, reached = [main], _reached(outputs[main])
    for place, output in enumerate(outputs):
        more = _reached(output)
        if place != main and not more <= reached:
            chosen.append(place)
            reached |= more
    return tuple(chosen)


def _reached(output: Tensor) -> frozenset[int]:
    """The identities of the leaves that a tensor is computed from."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        leaf = getattr(function, "variable", None)
        if isinstance(leaf, Tensor):
            leaves.add(id(leaf))
        waiting += [before for before, _ in function.next_functions]
    return frozenset(leaves)

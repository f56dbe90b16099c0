"""What a product of a weight with a signal does with each axis of the weight: sums over it, makes it anew, or goes along it.

A product that sums over no axis of a parameter applies no weight: it scales, one number for each element.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from initbench.nn import operations as ops

Axes = tuple[tuple[int, ...], ...]
"""For each axis of a tensor that was made of a parameter the axes of the parameter that it runs through, the slowest first."""


class Axis(StrEnum):
    """What happens to an axis of a weight. Stacked ones number matrices that have nothing to do with one another."""

    IN = "summed over"
    OUT = "made anew"
    STACK = "stacked"
    KERNEL = "kernel"


def kinds(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: tuple[Tensor, ...], weight: Tensor) -> tuple[Axis, ...] | None:
    """What the function `name` does to each axis of `weight`, one of the tensors that it is given; None where it cannot be told."""
    dims = weight.dim()
    if name in ops.CONVOLUTIONS | ops.TRANSPOSED:
        first = (Axis.OUT, Axis.IN) if name in ops.CONVOLUTIONS else (Axis.IN, Axis.OUT)
        return (*first, *[Axis.KERNEL] * (dims - 2))
    if name == "bilinear":
        return Axis.OUT, *[Axis.IN] * (dims - 1)
    if name in {"linear", "inner"}:
        return _stacked([*[Axis.OUT] * (dims - 1), Axis.IN])
    if name == "einsum":
        return _einsum(args, weight)
    if name == "tensordot":
        return _tensordot(args, kwargs, weight)
    if name in ops.PRODUCTS:
        on_left = given[1 if name in ops.ADDING | {"rmatmul"} else 0] is weight
        return _stacked([*[Axis.OUT] * (dims - 2), *((Axis.OUT, Axis.IN) if on_left else (Axis.IN, Axis.OUT))])
    return None


def of_sum(weight: tuple[int, ...], signal: tuple[int, ...], summed: set[int]) -> tuple[Axis, ...]:
    """The axes of a weight of this shape in (signal * weight).sum(summed); axes of length 1 that are stretched are stacked."""
    dims = max(len(weight), len(signal))
    given = (1,) * (dims - len(signal)) + signal
    found = []
    for axis, size in enumerate((1,) * (dims - len(weight)) + weight):
        if axis in summed and size > 1:
            found.append(Axis.IN)
        else:
            found.append(Axis.OUT if given[axis] == 1 and size > 1 else Axis.STACK)
    return tuple(found[dims - len(weight) :])


def followed(source: Tensor, axes: Axes | None, output: Tensor) -> Axes | None:
    """The axes of a tensor that was made of `source`, whose own are `axes`; None where they cannot be told.

    A view is told by its strides; anything else of the same shape has those of its source.
    """
    if axes is None or output is source:
        return axes
    if output._base is None or output._base is not (source if source._base is None else source._base):
        return axes if output.shape == source.shape else None
    found = []
    for size, stride in zip(output.shape, output.stride(), strict=True):
        run = () if size == 1 or stride == 0 else _run(source, size, stride)
        if run is None:
            return None
        found.append(tuple(axis for place in run for axis in axes[place]))
    every = [axis for run in found for axis in run]
    return tuple(found) if len(set(every)) == len(every) else None


def _run(source: Tensor, size: int, stride: int) -> tuple[int, ...] | None:
    """The neighbouring axes of `source` that one axis of a view runs through."""
    known = {step: place for place, (step, length) in enumerate(zip(source.stride(), source.shape, strict=True)) if length > 1}
    if stride not in known:
        return _stepping(known, source, size, stride)
    run = [known[stride]]
    covered = source.shape[run[0]]
    while covered < size:
        place = known.get(stride * covered)
        if place is None:
            return None
        run.insert(0, place)
        covered *= source.shape[place]
    return tuple(run) if len(run) == 1 or covered == size else None


def _stepping(known: dict[int, int], source: Tensor, size: int, stride: int) -> tuple[int, ...] | None:
    """The axis that is gone through in steps (w[::2])."""
    fits = [place for step, place in known.items() if stride % step == 0 and stride // step * (size - 1) < source.shape[place]]
    return tuple(fits) if len(fits) == 1 else None


def _stacked(found: list[Axis]) -> tuple[Axis, ...]:
    """Leading axes that are made anew number matrices of their own, as long as one that is made anew is left for these."""
    for place, kind in enumerate(found):
        if kind is not Axis.OUT or found[place:].count(Axis.OUT) < 2:
            break
        found[place] = Axis.STACK
    return tuple(found)


def _einsum(args: tuple[Any, ...], weight: Tensor) -> tuple[Axis, ...] | None:
    equation = args[0] if args else None
    if not isinstance(equation, str):
        return None
    operands = list(args[1]) if len(args) == 2 and isinstance(args[1], tuple | list) else list(args[1:])
    left, arrow, right = equation.replace(" ", "").replace("...", "").partition("->")
    texts = left.split(",")
    place = next((index for index, operand in enumerate(operands) if operand is weight), None)
    if place is None or len(texts) != len(operands) or len(texts[place]) != weight.dim() or len(set(texts[place])) < weight.dim():
        return None
    if not arrow:
        right = "".join(letter for letter in left if left.count(letter) == 1)
    elsewhere = "".join(texts[:place] + texts[place + 1 :])
    found = [Axis.IN if letter not in right else Axis.STACK if letter in elsewhere else Axis.OUT for letter in texts[place]]
    return _stacked(found)


def _tensordot(args: tuple[Any, ...], kwargs: dict[str, Any], weight: Tensor) -> tuple[Axis, ...] | None:
    dims = ops.argument(args, kwargs, 2, "dims", 2)
    first = ops.argument(args, kwargs, 0, "a", None) is weight
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        summed = list(range(weight.dim() - dims, weight.dim()) if first else range(dims))
    elif len(dims) == 2:
        mine = dims[0 if first else 1]
        summed = [place % weight.dim() for place in ([mine] if isinstance(mine, int) else mine)]
    else:
        return None
    return _stacked([Axis.IN if place in summed else Axis.OUT for place in range(weight.dim())])


def is_chain(name: str, args: tuple[Any, ...], parameters: list[Tensor]) -> bool:
    """Whether a call multiplies a signal by several weights at once."""
    if name in ops.CHAINS:
        return True
    plain = name == "einsum" and bool(args) and isinstance(args[0], str) and "->" in args[0] and "." not in args[0]
    return plain and sum(tensor.dim() > 1 for tensor in parameters) > 1


def chained(name: str, args: tuple[Any, ...], is_signal: Callable[[Tensor], bool]) -> Any:
    """The same product as products of two, each of the signal so far with its neighbour."""
    operands = list(ops.tensors_in(args))
    place = next(index for index, operand in enumerate(operands) if is_signal(operand))
    if name in ops.CHAINS:
        right = reduce(torch.matmul, operands[place:])
        return reduce(lambda product, matrix: torch.matmul(matrix, product), reversed(operands[:place]), right)
    left, _, right = args[0].replace(" ", "").partition("->")
    texts = left.split(",")
    result, letters = operands.pop(place), texts.pop(place)
    while operands:
        operand, text = operands.pop(0), texts.pop(0)
        later = set(right).union(*texts)
        kept = "".join(letter for letter in dict.fromkeys(letters + text) if letter in later) if texts else right
        result, letters = torch.einsum(f"{letters},{text}->{kept}", result, operand), kept
    return result

"""What a forward pass alone does not show: how alike two inputs become, and how the outputs depend on each layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from initbench.measure.sums import wide_type
from initbench.nn.graph import Use
from initbench.nn.inputs import Inputs, ModelInputs, first_tensor, repeated
from initbench.nn.layers import WeightLayer
from initbench.nn.operations import tensors_in
from initbench.nn.outputs import outputs_in
from initbench.nn.seeds import generator
from initbench.nn.trace import Tracer
from initbench.nn.watch import run_traced, untouched

PAIRS = 32
"""Pairs of inputs that correlations are averaged over."""
DIRECTIONS = 10
"""Directions of the outputs that Jacobians are taken in; all of them where there are no more."""
IMAGES = 4
"""Inputs that singular values are averaged over."""
COUPLED, COUPLED_IMAGES = 32, 8
"""Inputs that go along with one where batch norm makes each depend on the others; images have many positions each."""
MEMORY = 2**26
"""Numbers of a Jacobian, all layers together, that are held at once."""
AT_ONCE = 2**23
"""Below so many of them all directions go back in one pass, each from a copy of the inputs."""


@dataclass(frozen=True)
class SingularValues:
    """Of the Jacobian of the outputs by one layer's pre-activation: mean, largest and smallest, means over a few inputs."""

    jacobian_mean: float
    jacobian_max: float
    jacobian_min: float


def correlations(model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Inputs) -> tuple[float | None, ...]:
    """For each layer the mean cosine of the pre-activations of inputs 0 and 1, 2 and 3, ...; None where one has no length.

    Norms use batch statistics, dropout is off. `inputs` is a batch (N, ...); at most `PAIRS` pairs are taken.
    """
    inputs = inputs[: 2 * PAIRS]
    means: list[float | None] = [None] * len(layers)

    def look(row: int, output: Tensor) -> None:
        if output.shape[0] % len(inputs) == 0:
            values = torch.view_as_real(output.detach().resolve_conj()) if output.is_complex() else output.detach()
            flat = values.reshape(len(inputs), -1).to(wide_type(output))
            first, second = flat[0 : len(flat) // 2 * 2 : 2], flat[1::2]
            cosines = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))
            value = cosines.mean().item()
            means[row] = None if math.isnan(value) else value

    watch = Outputs(model, layers, look)
    with torch.no_grad(), untouched(model, "batch"):
        run_traced(model, watch, inputs)
    return tuple(means)


def singular_values(model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Inputs) -> tuple[SingularValues | None, ...]:
    """Singular values of the derivative of the outputs by each layer's pre-activation; None for layers that have none.

    Of a model with more than `DIRECTIONS` outputs that many random directions are taken, orthonormal, so that the values
    are a sample. Where batch norm couples the inputs, the derivative is that of the first input's outputs by its own
    pre-activation, in a batch of `COUPLED` (of images, `COUPLED_IMAGES`).
    """
    coupled = any(isinstance(module, nn.modules.batchnorm._NormBase) for module in model.modules())
    numbers = sum(math.prod(layer.surroundings.output_shape) for layer in layers) or 1
    images = 1 if coupled else max(1, min(IMAGES, len(inputs), MEMORY // (DIRECTIONS * numbers)))
    at_most = COUPLED_IMAGES if first_tensor(inputs).dim() > 2 else COUPLED
    whole = isinstance(inputs, ModelInputs) and inputs.whole
    inputs = inputs[:at_most] if coupled else inputs[:images]
    copies = DIRECTIONS if not coupled and not whole and images * DIRECTIONS * numbers <= AT_ONCE else 1
    inputs = repeated(inputs, copies)
    count, begins = len(inputs), [tensor for tensor in tensors_in(inputs) if tensor.requires_grad]
    handles: list[RemovableHandle] = []
    now: dict[int, Tensor] = {}
    rows: dict[int, list[Tensor]] = {}

    def look(row: int, output: Tensor) -> None:
        def take(gradient: Tensor) -> None:
            now[row] = gradient.detach()

        if output.requires_grad:
            handles.append(output.register_hook(take))  # type: ignore[no-untyped-call]

    try:
        with torch.enable_grad(), untouched(model, "batch"):
            outputs = next(iter(outputs_in(run_traced(model, Outputs(model, layers, look), inputs))), None)
            if outputs is None or not outputs.requires_grad or outputs.shape[:1] != (count,):
                return (None,) * len(layers)
            weights = [layer.weight for layer in layers if layer.weight.requires_grad]
            ends = begins if isinstance(inputs, Tensor) and begins else [*begins, *weights]
            flat = outputs.reshape(count, -1)[: images * copies]
            directions = output_directions(flat.shape[1]).to(flat)
            for group in torch.split(directions, copies):
                now.clear()
                seeds = functional.pad(group, (0, 0, 0, copies - len(group))).repeat_interleave(images, 0)
                torch.autograd.grad(flat, ends, seeds, retain_graph=True, allow_unused=True)
                for row, gradient in now.items():
                    if gradient.shape[0] % count == 0:
                        each = gradient.reshape(count, -1)[: images * copies].reshape(copies, images, -1)
                        rows.setdefault(row, []).append(each[: len(group)].clone() if coupled else each[: len(group)])
    finally:
        for handle in handles:
            handle.remove()
    return tuple(_values(torch.cat(rows[row]).transpose(0, 1)) if row in rows else None for row in range(len(layers)))


def output_directions(outputs: int) -> Tensor:
    """Orthonormal rows (at most `DIRECTIONS`, outputs): each output where they are few, else random ones, always the same."""
    if outputs <= DIRECTIONS:
        return torch.eye(outputs, dtype=torch.float32, device="cpu")
    drawn = torch.randn(outputs, DIRECTIONS, generator=generator(0, "probe directions"), dtype=torch.float32, device="cpu")
    rows: Tensor = torch.linalg.qr(drawn).Q.T.contiguous()
    return rows


def _values(jacobians: Tensor) -> SingularValues | None:
    """From Jacobians (images, directions, numbers); None where they are not finite. A complex number counts as two."""
    if jacobians.is_complex():
        jacobians = torch.view_as_real(jacobians.resolve_conj()).flatten(2)
    scale = jacobians.abs().amax(dim=(1, 2), keepdim=True)
    scaled = (jacobians / torch.where(scale > 0, scale, 1.0)).to(wide_type(jacobians))
    if not scaled.isfinite().all():
        return None
    count = min(jacobians.shape[1:])
    squares = torch.linalg.eigvalsh((scaled @ scaled.transpose(1, 2)).cpu())[:, -count:]
    values = squares.clamp_min(0).sqrt() * scale[:, 0].to("cpu", squares.dtype)
    return SingularValues(
        jacobian_mean=values.mean().item(), jacobian_max=values.amax(1).mean().item(), jacobian_min=values.amin(1).mean().item()
    )


class Outputs(Tracer):
    """Hands over each layer's pre-activation at its first use, the moment it is there."""

    def __init__(self, model: nn.Module, layers: tuple[WeightLayer, ...], look: Callable[[int, Tensor], Any]) -> None:
        super().__init__(model)
        self._rows = {layer.parameter: row for row, layer in enumerate(layers)}
        self._first: dict[str, int] = {}
        self._look = look

    def on_output(self, use: Use, output: Tensor) -> None:
        """A weight was applied."""
        name = use.weight.name
        row = self._rows.get(name)
        if row is not None and self._first.setdefault(name, use.index) == use.index:
            self._look(row, output)

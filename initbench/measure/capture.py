"""Statistics of the signal in one forward and backward pass; the model, its buffers and all random state stay as they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from initbench.errors import ConfigError
from initbench.fast.onednn import linear
from initbench.fast.tape import Measurement, PassChanged, Replay, Tape, is_plain, parameters_in
from initbench.fast.torch_private import is_transformed, of_all_samples
from initbench.measure.sums import MeasuredTensor, Scratch, Statistics
from initbench.nn.graph import Kind, Node, Origin, Use, joined_branch
from initbench.nn.inputs import Inputs, called
from initbench.nn.layers import WeightLayer
from initbench.nn.operations import tensors_in
from initbench.nn.trace import Tracer
from initbench.nn.watch import run_traced, untouched


@dataclass(frozen=True)
class Captured:
    """One forward pass: what the model gave, and what was kept of each layer's signal so far."""

    output: Any
    statistics: list[Statistics]


@contextmanager
def captured(model: nn.Module, layers: tuple[WeightLayer, ...], inputs: Inputs, tape: Tape | None = None) -> Iterator[Captured]:
    """Runs the model on a batch; a backward pass within completes the statistics with those of the gradients.

    Norms use batch statistics and dropout is off. Everything is measured the moment it is there, so that functions that
    work in place change nothing. A weight that is used several times is measured at its first use that the input reaches; products inside
    a recurrent module are hidden, its last layer's weights have its states as their activation. With a `tape`, kept from one
    call to the next for the same model and layers, only the first pass is followed; it is for models without users' code (`is_plain`).
    """
    with untouched(model, "batch"):
        taker = _Taker(layers)
        try:
            output = _again(model, inputs, tape, taker) if tape is not None and tape.complete else None
            if output is None:
                taker.end()
                taker = _Taker(layers)
                watch = _Capture(model, layers, taker, tape)
                output = run_traced(model, watch, inputs)
                watch.end()
            yield Captured(output, taker.statistics)
        finally:
            taker.end()


def _again(model: nn.Module, inputs: Inputs, tape: Tape, taker: "_Taker") -> Any:
    """What the model gives, with everything taken as the tape says; None where the pass is not the one on the tape."""
    replay = Replay(tape, taker.take)
    try:
        with replay:
            output = called(model, inputs)
    except PassChanged:
        return None
    return output if replay.finished() else None


class _Taker:
    """Takes the statistics of each layer's signal as it comes by, and of its gradient in a later backward pass."""

    def __init__(self, layers: tuple[WeightLayer, ...]) -> None:
        self._layers, self._scratch = layers, Scratch()
        self.statistics = [Statistics() for _ in layers]
        self._handles: list[RemovableHandle] = []

    def end(self) -> None:
        """No gradient is waited for any more."""
        for handle in self._handles:
            handle.remove()

    def take(self, take: Measurement, output: Tensor) -> None:
        """Measures a tensor."""
        statistics, scratch, layer = self.statistics[take.row], self._scratch, self._layers[take.row]
        function = layer.activation_fn if take.activation else None
        values, unit_dim = output, take.unit_dim
        if is_transformed(output):
            output, values = _outside(output, layer.name)
            unit_dim += values.dim() if unit_dim < 0 else values.dim() - len(layer.surroundings.output_shape) - 1
        tensor = MeasuredTensor(values, scratch, unit_dim=unit_dim, function=function, images=values.shape[0] if values.dim() else 1)
        if take.activation:
            statistics.add("activation", tensor)
            return
        statistics.add("stream" if take.stream else "pre_activation", tensor)
        if take.alone:
            statistics.add("activation", tensor)
        if output.requires_grad:
            taken: list[bool] = []

            def of_gradient(gradient: Tensor) -> None:
                if not taken:
                    taken.append(True)
                    statistics.add("stream_gradient" if take.stream else "gradient", MeasuredTensor(gradient, scratch))

            # What is changed in place leaves the way of the gradient where it is a view; the tensor that it is a view of stays on it.
            base = output._base
            whole = base is not None and base.numel() == output.numel() and base.requires_grad
            self._handles += [each.register_hook(of_gradient) for each in (output, base) if each is output or whole]  # type: ignore


def _outside(values: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Of a tensor within `torch.vmap` that of all samples, as autograd knows it and with the samples first.

    Raises: ConfigError within another transformation.
    """
    moved = values
    while is_transformed(values):
        inside = of_all_samples(values)
        if inside is None:
            raise ConfigError(f"The output of '{layer}' is made within torch.func.grad or jvp, where it cannot be measured.")
        values, axis = inside
        moved = values.movedim(axis, 0)
    return values, moved


class _Capture(Tracer):
    """Finds out where the signal of each layer comes by, has it taken, and notes it on the tape."""

    def __init__(self, model: nn.Module, layers: tuple[WeightLayer, ...], taker: _Taker, tape: Tape | None) -> None:
        super().__init__(model)
        self._taker, self._layers = taker, layers
        self._linear = linear if is_plain(model) else functional.linear
        self._rows = {layer.parameter: row for row, layer in enumerate(layers)}
        self._first: dict[str, int] = {}
        self._tape = tape if tape is not None else Tape()
        self._tape.calls, self._tape.measurements, self._tape.given, self._tape.complete = [], {}, {}, False
        self._outputs: tuple[Tensor, ...] | None = None
        self._hidden = False

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Notes the call on the tape."""
        if self._paused:
            return func(*args, **(kwargs or {}))
        self._tape.calls.append(func)
        try:
            return super().__torch_function__(func, types, args, kwargs)
        finally:
            self._outputs = None

    def result(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = (self._linear if func is functional.linear else func)(*args, **kwargs)
        self._outputs = tuple(tensors_in(result))
        self._inputs = parameters_in(args, kwargs)
        return result

    def add(self, output: Tensor, kind: Kind, name: str, origin: Origin, **more: Any) -> Node:
        """Makes the node of a tensor; the sum that ends a residual block is measured with the last layer of its branch."""
        node = super().add(output, kind, name, origin, **more)
        ends = joined_branch(node, self.uses)
        row = self._row(self.uses[max(ends)]) if ends else None
        if row is not None:
            self._take(Measurement(row, -1, activation=False, stream=True), output)
        return node

    def end(self) -> None:
        """The pass is over: the tape can be used unless something was taken outside of torch's functions."""
        self._tape.complete = not self._hidden

    def on_output(self, use: Use, output: Tensor) -> None:
        row = self._row(use)
        if row is not None:
            alone = self._layers[row].activation is None or not self._layers[row].surroundings.uses
            self._take(Measurement(row, self._unit_dim(use, output), activation=False, alone=alone), output)

    def on_activation(self, uses: frozenset[int], output: Tensor) -> None:
        for index in uses:
            row = self._row(self.uses[index])
            if row is not None and (self._layers[row].activation is not None or not self.uses[index].output_shape):
                self._take(Measurement(row, self._unit_dim(self.uses[index], output), activation=True), output)

    def _take(self, take: Measurement, output: Tensor) -> None:
        which = next((number for number, tensor in enumerate(self._outputs or ()) if tensor is output), None)
        if which is None:
            self._hidden = True
        else:
            number = len(self._tape.calls) - 1
            self._tape.measurements.setdefault(number, []).append((which, take))
            self._tape.given[number] = self._inputs
        self._taker.take(take, output)

    def _row(self, use: Use) -> int | None:
        """The layer's row at its first use, or at the first that the input reaches, where that comes later (a state of zeros)."""
        name = use.weight.name
        row, first = self._rows.get(name), self._first.setdefault(name, use.index)
        if first < use.index and use.origin.sources and not self.uses[first].origin.sources:
            self._first[name] = use.index
            if row is not None:
                self._forget(row)
        return row if self._first[name] == use.index else None

    def _forget(self, row: int) -> None:
        """What was measured of a layer so far was not of the signal."""
        self._taker.statistics[row] = Statistics()
        for taken in self._tape.measurements.values():
            taken[:] = [(which, take) for which, take in taken if take.row != row]

    def _unit_dim(self, use: Use, output: Tensor) -> int:
        return 1 if "conv" in use.function and output.dim() == len(use.output_shape) else -1

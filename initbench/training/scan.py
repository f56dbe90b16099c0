"""Measures the signal at many points of a map with the same noise: weights are drawn once a model and scaled at each point."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench.errors import ConfigError
from initbench.init.initialize import initialize
from initbench.measure.sums import wide_type
from initbench.nn.build import build_model
from initbench.nn.layers import Role, WeightLayer
from initbench.nn.watch import untouched
from initbench.question.config import ExperimentConfig, Ref
from initbench.question.data_folder import data_folder
from initbench.training.batches import DeviceData, memory_format
from initbench.training.devices import choose_device, small_runs
from initbench.training.job import load_data

IMAGES = 64
"""Images that each point is measured on."""


@dataclass(frozen=True)
class Scanned:
    """One point: log10 of the gradient's squared length at the first hidden layer over that at the last; how alike inputs are.

    None where a number overflowed or is zero. `layers` counts the hidden layers.
    """

    decades: float | None
    correlation: float | None
    layers: int


def scan(
    config: ExperimentConfig,
    models: list[Ref],
    points: list[tuple[int, float, float]],
    *,
    device: str,
    data_dir: str | None,
    told: Callable[[str], None] | None = None,
) -> tuple[list[Scanned], str]:
    """What each point (index of a model, sigma_w, sigma_b) gives, the mean over the seeds; and the activation that all layers have.

    `told` hears of every point that is measured, once a seed.
    Raises: ConfigError for a model without two hidden layers.
    """
    by_point: dict[int, list[Scanned]] = {index: [] for index in range(len(points))}
    name = ""
    with small_runs():
        where = choose_device(device)
        data = load_data(config.dataset, data_folder(data_dir), where)
        if not isinstance(data, DeviceData):
            raise ConfigError(
                f"A map is of the classification of images, and the dataset '{config.dataset.shown}' gives batches of its own."
            )
        for seed in config.seeds:
            for number, ref in enumerate(models):
                model = build_model(ref, data.shape, data.classes, seed).to(where)
                inputs, labels = data.probe_batch(IMAGES, memory_format(model, where))
                scanner = _Scanner(model, config, seed, inputs, labels)
                name = name or scanner.activation
                for index, (of, sigma_w, sigma_b) in enumerate(points):
                    if of == number:
                        by_point[index].append(scanner.at(sigma_w, sigma_b))
                        if told:
                            told(f"{ref}, sigma_w = {sigma_w:.3g}, sigma_b = {sigma_b:.3g}, seed {seed}")
    return [_mean(each) for each in by_point.values()], name


def _mean(each: list[Scanned]) -> Scanned:
    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return Scanned(mean([one.decades for one in each]), mean([one.correlation for one in each]), each[0].layers)


class _Scanner:
    """A model with noise of unit scale in its layers, and what looks at its first and last hidden ones."""

    def __init__(self, model: nn.Module, config: ExperimentConfig, seed: int, inputs: Tensor, labels: Tensor) -> None:
        self.model, self.inputs, self.labels = model, inputs, labels
        _, layers = initialize(model, Ref(name="sigma", params={"sigma_b": 1.0}), seed=seed, rules=config.init, inputs=inputs[:8])
        hidden = [layer for layer in layers if layer.role is not Role.HEAD]
        if len(hidden) < 2:
            raise ConfigError("A map needs a model with two hidden layers or more, such as mlp:depth=20.")
        self.ends = (hidden[0].module, hidden[-1].module)
        self.layers = len(hidden)
        self.activation = next((layer.activation for layer in hidden if layer.activation), "identity")
        self.noise = [(layer.weight, layer.weight.detach().clone()) for layer in layers]
        biases = dict(model.named_parameters())
        self.bias_noise = [(biases[name], biases[name].detach().clone()) for layer in layers if (name := _bias(layer)) in biases]

    @torch.no_grad()
    def _set(self, sigma_w: float, sigma_b: float) -> None:
        for pairs, factor in ((self.noise, sigma_w), (self.bias_noise, sigma_b)):
            for parameter, noise in pairs:
                torch.mul(noise, factor, out=parameter)

    def at(self, sigma_w: float, sigma_b: float) -> Scanned:
        """The signal with these scales."""
        self._set(sigma_w, sigma_b)
        outputs: dict[nn.Module, Tensor] = {}
        lengths: dict[nn.Module, float] = {}

        def look(module: nn.Module, _: object, output: Tensor) -> None:
            def take(gradient: Tensor) -> None:
                lengths[module] = torch.linalg.vector_norm(gradient, dtype=wide_type(gradient)).item()

            outputs[module] = output.detach().clone()
            output.register_hook(take)  # type: ignore[no-untyped-call]

        handles = [module.register_forward_hook(look) for module in self.ends]
        try:
            with torch.enable_grad(), untouched(self.model, "batch"):
                loss = nn.functional.cross_entropy(self.model(self.inputs).float(), self.labels, reduction="sum")
                torch.autograd.grad(loss, [self.noise[0][0]], allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
        far, near = (lengths.get(module, 0.0) for module in self.ends)
        fine = far > 0 and near > 0 and math.isfinite(far) and math.isfinite(near)
        flat = outputs[self.ends[1]].flatten(1).to(wide_type(self.inputs))
        alike = nn.functional.cosine_similarity(flat[0 : len(flat) // 2 * 2 : 2], flat[1::2], dim=1).mean().item()
        return Scanned(2 * math.log10(far / near) if fine else None, alike if math.isfinite(alike) else None, self.layers)


def _bias(layer: WeightLayer) -> str:
    return layer.bias or ""

"""Puts what theory predicts next to what a probe has measured at step 0; a model without a formula gets the reason instead."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.measure.network import Translation, translate
from initbench.nn.inputs import Inputs, first_tensor
from initbench.nn.layers import WeightLayer
from initbench.nn.operations import tensors_in
from initbench.nn.parametrized import weight_of
from initbench.nn.watch import graph_of
from initbench.results.record import PREDICTED, InitReport, LayerStats, ParameterInit
from initbench.theory.network import InputStats, LayerSpec, NetworkSpec, Weight
from initbench.theory.prediction import LayerPrediction, predict

STRATA = 16
"""Groups of images of like length that theory follows one by one."""
PATCHES = 4096
"""Patches of images that correlations are measured on, for a first layer that is a convolution."""
LAWS = frozenset({"normal", "uniform", "trunc_normal", "constant", "sparse normal", "orthogonal", "delta orthogonal", "scaled orthogonal"})
"""Laws of a weight for which there is a formula; weights with another law, or none, must look independent to be predicted."""
DIGITS = 6
"""Digits of a prediction that are kept: the last ones depend on the machine."""
IMAGES = 4
"""Images that the model is traced with."""
CLOSE = 4.0
"""A mean of weights within so many standard errors of zero counts as zero."""


def filled(stats: Sequence[LayerStats], predicted: dict[str, LayerPrediction]) -> tuple[LayerStats, ...]:
    """The statistics with predictions made before training filled in at step 0."""
    return tuple(_filled(entry, predicted.get(entry.layer)) if entry.step == 0 else entry for entry in stats)


def predictions(
    model: nn.Module,
    layers: tuple[WeightLayer, ...],
    report: InitReport,
    inputs: Inputs,
    labels: Tensor | None = None,
    classes: int | None = None,
) -> dict[str, LayerPrediction]:
    """What theory expects of each weight layer, by its name; `classes` there are, also where the labels lack some."""
    specs = layer_specs(layers, report)
    if len(list(tensors_in(inputs))) != 1:
        return _nothing(layers, "the model takes several inputs")
    try:
        seen = theory_network(model, specs, inputs)
        if seen.entering is None:
            return _nothing(layers, "no weight layer takes the model's input directly")
        entering = first_tensor(inputs).reshape(len(inputs), *seen.entering)
        statistics = input_stats(entering, labels, _first(seen.network), classes)
        try:
            expected = predict(seen.network, statistics)
        except ArithmeticError:
            return _nothing(layers, "the signal becomes zero, or no finite number, on its way")
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        return _nothing(layers, f"the model could not be followed ({str(error).splitlines()[0] if str(error) else type(error).__name__})")
    by_name: dict[str, LayerPrediction] = {}
    for entry in expected:
        again = entry.name in by_name
        by_name[entry.name] = (
            LayerPrediction(entry.name, None, None, "no prediction: the weight is used more than once") if again else entry
        )
    return _nothing(layers, "the forward pass does not use it in a way that theory can follow") | by_name


def theory_network(model: nn.Module, specs: dict[str, LayerSpec], inputs: Inputs) -> Translation:
    """The model as theory sees it, traced as it is now, with batch statistics in norms and dropout off. Raises: what the model raises."""
    return translate(graph_of(model, inputs[:IMAGES], "batch"), specs)


def layer_specs(layers: tuple[WeightLayer, ...], report: InitReport) -> dict[str, LayerSpec]:
    """What theory must know of each weight, by its parameter name: from the report, else measured."""
    entries = {entry.parameter: entry for entry in report.parameters}
    return {layer.parameter: _spec(layer, entries) for layer in layers}


def input_stats(entering: Tensor, labels: Tensor | None, first: LayerSpec | None, classes: int | None = None) -> InputStats:
    """The probe batch in numbers; `entering` is what the first weight layer takes, (N, features) or (N, C, H, W).

    `classes` is the number of logits; without it there are as many as the highest label says.
    """
    x = entering.detach().to("cpu", torch.float32)
    labels = None if labels is None else labels.detach().cpu()
    shares = () if labels is None else tuple((labels.bincount(minlength=classes or 0) / len(labels)).tolist())
    if first is not None and first.kernel and x.dim() == 4:
        return _of_patches(x, labels, shares, first)
    x = x.flatten(1).double()
    gram = x @ x.T / x.shape[1]
    squares = gram.diagonal()
    scale = max(squares.mean().item(), 1e-300)
    same = torch.ones_like(gram, dtype=torch.bool) if labels is None else labels[:, None] == labels
    return InputStats(
        squares=_strata(squares).numpy(),
        correlation=gram.square().mean().sqrt().item() / scale,
        mean_correlation=gram.mean().item() / scale,
        class_correlation=gram[same].mean().item() / scale,
        samples=len(x),
        class_shares=shares,
        channels=x.shape[1],
    )


def _of_patches(x: Tensor, labels: Tensor | None, shares: tuple[float, ...], first: LayerSpec) -> InputStats:
    order = x.flatten(1).square().mean(1).argsort()
    chosen = order[_spread(len(x), STRATA)]
    taken = functional.unfold(x, first.kernel, dilation=first.dilation, padding=first.padding, stride=first.stride)
    images, size, positions = taken.shape
    flat = taken.transpose(1, 2).reshape(-1, size)
    some = flat[_spread(len(flat), PATCHES)].double()
    scale = max(flat.square().sum(1).mean().item(), 1e-300)
    matrix = some.T @ some / len(some)
    mean = flat.mean(0)
    long = (flat.norm(dim=1, keepdim=True) * flat).mean(0)
    groups = [torch.ones(images, dtype=torch.bool, device="cpu")] if labels is None else [labels == label for label in set(labels.tolist())]
    of_class = sum(group.float().mean() * taken[group].mean((0, 2)).square().sum() for group in groups)
    aligned_class = sum(group.float().mean() * taken[group].mean(0).square().sum() / positions for group in groups)
    gram = torch.einsum("adp,bdp->abp", taken[:64], taken[:64])
    height = (x.shape[2] + 2 * first.padding[0] - first.dilation[0] * (first.kernel[0] - 1) - 1) // first.stride[0] + 1
    grid = taken.view(images, size, height, -1)
    distances = [step for step in (1, 2, 4, 8, 16) if step < grid.shape[3]] or [0]
    near = [(grid[..., : grid.shape[3] - step] * grid[..., step:]).sum(1).mean().item() / scale for step in distances]
    return InputStats(
        squares=x[chosen].square().mean(1).double().numpy(),
        correlation=matrix.square().sum().sqrt().item() / max(matrix.trace().item(), 1e-300),
        mean_correlation=mean.square().sum().item() / scale,
        class_correlation=float(of_class) / scale,
        samples=images,
        class_shares=shares,
        near_correlations=tuple(max(0.0, value) for value in near),
        aligned_correlations=(
            taken.mean(0).square().sum().item() / positions / scale,
            float(aligned_class) / scale,
            gram.square().mean().sqrt().item() / scale,
        ),
        signed_correlation=long.square().sum().item() / scale**2,
        channels=x.shape[1],
    )


def _spread(count: int, most: int) -> Tensor:
    """At most `most` places among `count`, evenly spread, the first and the last among them."""
    places = torch.linspace(0, count - 1, min(most, count), dtype=torch.float32, device="cpu").round().long()
    return places.clamp_(max=count - 1)  # float32 rounds count - 1 up to count beyond 2^24


def _strata(squares: Tensor) -> Tensor:
    """Means of groups of like length, each of the same share of the inputs: one between two groups belongs to both in part."""
    count, ordered = min(STRATA, len(squares)), squares.sort().values
    if len(squares) % count == 0:
        return torch.stack([part.mean() for part in ordered.tensor_split(count)])
    sums = functional.pad(ordered.double().cumsum(0), (1, 0))
    ends = torch.linspace(0, len(squares), count + 1, dtype=torch.float64, device=squares.device)
    below = ends.floor().long().clamp_max(len(squares) - 1)
    return (sums[below] + (ends - below) * ordered[below]).diff().to(squares.dtype) * count / len(squares)


def _first(network: NetworkSpec) -> LayerSpec | None:
    return next((node.spec for node in network.nodes if isinstance(node, Weight)), None)


def _spec(layer: WeightLayer, entries: dict[str, ParameterInit]) -> LayerSpec:
    weight, module = entries.get(layer.parameter), layer.module
    std, mean, law = _drawn(weight_of(layer), weight)
    bias_std, bias_mean, bias_law = 0.0, 0.0, "constant"
    if layer.bias is not None:
        bias = dict(module.named_parameters(recurse=False)).get(layer.bias.rpartition(".")[2])
        if bias is not None:
            bias_std, bias_mean, bias_law = _drawn(bias, entries.get(layer.bias))
    spatial = isinstance(module, nn.Conv2d) and not isinstance(module.padding, str)
    kernel, stride, padding, dilation = (
        (module.kernel_size, module.stride, module.padding, module.dilation)
        if spatial and isinstance(module, nn.Conv2d)
        else ((), (), (), ())
    )
    return LayerSpec(
        name=layer.name,
        fan_in=layer.fan_in,
        units=int(weight_of(layer).shape[0]),
        law=law.replace(" ", "_"),
        std=std,
        mean=mean,
        bias_std=bias_std,
        bias_mean=bias_mean,
        bias_law=bias_law,
        groups=layer.groups,
        kernel=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(int(pad) for pad in padding),
        dilation=tuple(dilation),
        why=_why_not(layer, law, spatial=spatial),
    )


def _drawn(parameter: Tensor, entry: ParameterInit | None) -> tuple[float, float, str]:
    """Standard deviation, mean and law of a parameter: as promised where the report says so, else as measured."""
    values = (torch.view_as_real(parameter.detach().resolve_conj()) if parameter.is_complex() else parameter.detach()).double()
    law = entry.law if entry is not None and entry.law else "measured"
    if entry is not None and entry.target_std is not None and law in LAWS and "orthogonal" not in law:
        return entry.target_std, entry.target_mean or 0.0, law
    mean, std = values.mean().item(), values.std(correction=0).item()
    near_zero = abs(mean) <= CLOSE * std / sqrt(max(1, values.numel()))
    return sqrt(std * std + mean * mean) if near_zero else std, 0.0 if near_zero else mean, law


def _why_not(layer: WeightLayer, law: str, *, spatial: bool) -> str | None:
    """Why a layer has no formula, None where it has one."""
    if layer.weight.is_complex():
        return "there is no formula for complex weights"
    if law not in LAWS and law != "measured":
        return f"there is no formula for weights of the law '{law}'"
    if isinstance(layer.module, nn.Linear) or spatial:
        return "there is no formula for grouped layers" if layer.parts > 1 else None
    return f"there is no formula for a {type(layer.module).__name__}"


def _nothing(layers: tuple[WeightLayer, ...], why: str) -> dict[str, LayerPrediction]:
    return {layer.name: LayerPrediction(layer.name, None, None, f"no prediction: {why}") for layer in layers}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _filled(entry: LayerStats, expected: LayerPrediction | None) -> LayerStats:
    if expected is None:
        return entry.model_copy(update={"prediction_note": "no prediction"})
    update: dict[str, object] = {"prediction_note": expected.note}
    for quantity, predicted in (("pre_activation_variance", expected.pre_activation), ("gradient_variance", expected.gradient)):
        if predicted is not None:
            update |= dict(zip(PREDICTED[quantity], map(_rounded, (predicted.line, predicted.low, predicted.high)), strict=True))
    return LayerStats.model_validate({**entry.model_dump(), **update})

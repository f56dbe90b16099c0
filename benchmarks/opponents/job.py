"""The job that every opponent of `speed.py` does: its arguments, models, initializations, tables and plots.

3 schemes x SEEDS x EPOCHS of full MNIST, batch 128, SGD .05 with momentum .9; variance of the activation and of the gradient
of each weight layer at step 0 and every 50 steps; test accuracy each epoch; two CSV tables and two plots at the end.
"""

import argparse
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

LR, MOMENTUM, BATCH, PROBE_EVERY, PROBE_BATCH, TRAINING_IMAGES = 0.05, 0.9, 128, 50, 256, 60_000
SCHEMES = ("xavier", "kaiming", "lecun")
"""None of them diverges here: initbench ends a diverged run early, which would flatter it."""
OURS = {4: "mlp", 3: "cnn:channels=[16,32],kernel=3,pooling=max,head=flatten"}
"""The same models in initbench, by their number of weight layers: random numbers go by the names of parameters."""


@dataclass
class Records:
    losses: list[dict] = field(default_factory=list)
    accuracies: list[dict] = field(default_factory=list)
    layers: list[dict] = field(default_factory=list)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["mlp", "cnn"], required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz, and beside it the folder idx/MNIST/raw")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--onednn", action="store_true", help="the floor with all products by oneDNN")
    parser.add_argument("--steps", type=int, default=None, help="stop each run early: for checking the losses")
    parser.add_argument("--ours", action="store_true", help="initbench's initial values and data order: for checking the losses")
    return parser.parse_args()


def build(model: str) -> nn.Sequential:
    if model == "mlp":
        sizes = (784, 256, 256, 256)
        hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip


def lecun_normal_(weight: torch.Tensor) -> torch.Tensor:
    return nn.init.kaiming_normal_(weight, nonlinearity="linear")


def initialize(model: nn.Module, scheme: str, seed: int, *, ours: bool) -> None:
    if ours:
        from initbench import build_model, init_network

        twin = build_model(OURS[len(weight_layers(model))])
        init_network(twin, scheme, seed=seed)
        for parameter, value in zip(model.parameters(), twin.parameters(), strict=True):
            parameter.data.copy_(value.data)
        return
    torch.manual_seed(seed)
    fill = {"xavier": nn.init.xavier_normal_, "kaiming": nn.init.kaiming_normal_, "lecun": lecun_normal_}[scheme]
    for name, parameter in model.named_parameters():
        fill(parameter) if name.endswith("weight") else nn.init.zeros_(parameter)


def order(seed: int, epoch: int, n: int, *, ours: bool) -> torch.Tensor:
    if ours:
        from initbench.nn.seeds import generator

        return torch.randperm(n, generator=generator(seed, "order", str(epoch)))
    return torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + epoch))


def weight_layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def probe(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, tag: dict, records: Records) -> None:
    """Forward hooks keep each layer's output and its gradient, as in any tutorial."""
    outputs: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in weight_layers(model)]
    loss = nn.functional.cross_entropy(model(images), labels, reduction="sum")
    for handle in handles:
        handle.remove()
    loss.backward()
    for number, output in enumerate(outputs):
        row = {"layer": number, "activation_variance": output.detach().var().item(), "gradient_variance": output.grad.var().item()}
        records.layers.append({**tag, **row})
    model.zero_grad()


def write(records: Records, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import pandas as pd
    from matplotlib import pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    losses, layers = pd.DataFrame(records.losses), pd.DataFrame(records.layers)
    losses.to_csv(out / "losses.csv", index=False)
    layers.to_csv(out / "layers.csv", index=False)
    pd.DataFrame(records.accuracies).to_csv(out / "accuracies.csv", index=False)
    figure, axes = plt.subplots()
    for scheme, rows in losses.groupby("scheme"):
        rows.groupby("step")["loss"].median().plot(ax=axes, label=scheme, logy=True)
    axes.legend()
    figure.savefig(out / "loss.png")
    figure, axes = plt.subplots()
    for scheme, rows in layers[layers.step == 0].groupby("scheme"):
        rows.groupby("layer")["activation_variance"].median().plot(ax=axes, label=scheme, logy=True)
    axes.legend()
    figure.savefig(out / "activation_variance.png")

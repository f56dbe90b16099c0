"""Opponent (c): a loop written by hand over tensors in memory, all cores, one run after the other, probes only when due."""

import numpy as np
import torch
from job import BATCH, LR, MOMENTUM, PROBE_BATCH, PROBE_EVERY, SCHEMES, Records, arguments, build, initialize, order, probe, write
from torch import nn


def load(path, device: torch.device) -> tuple[torch.Tensor, ...]:
    with np.load(path) as arrays:
        x_train, y_train, x_test, y_test = (torch.from_numpy(arrays[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    pixels = x_train.float() / 255
    mean, std = pixels.mean(), pixels.std()
    normalize = lambda x: ((x.float() / 255 - mean) / std).unsqueeze(1).to(device)  # noqa: E731
    return normalize(x_train), y_train.to(device), normalize(x_test), y_test.to(device)


def train(scheme: str, seed: int, data: tuple[torch.Tensor, ...], options, records: Records) -> None:
    x_train, y_train, x_test, y_test = data
    model = build(options.model)
    initialize(model, scheme, seed, ours=options.ours)
    model.to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
    images, labels = x_train[:PROBE_BATCH], y_train[:PROBE_BATCH]
    losses: list[torch.Tensor] = []
    probe(model, images, labels, {"scheme": scheme, "seed": seed, "step": 0}, records)
    for epoch in range(options.epochs):
        shuffled = order(seed, epoch, len(x_train), ours=options.ours).to(options.device)
        for batch in shuffled[: len(shuffled) // BATCH * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if len(losses) == options.steps:
                break
            if len(losses) % PROBE_EVERY == 0:
                probe(model, images, labels, {"scheme": scheme, "seed": seed, "step": len(losses)}, records)
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(x_test.split(1000), y_test.split(1000), strict=True))
        records.accuracies.append({"scheme": scheme, "seed": seed, "epoch": epoch + 1, "accuracy": right / len(x_test)})
    for step, loss in enumerate(torch.stack(losses).tolist(), start=1):
        records.losses.append({"scheme": scheme, "seed": seed, "step": step, "loss": loss})


if __name__ == "__main__":
    asked, kept = arguments(), Records()
    tensors = load(asked.data, torch.device(asked.device))
    for seed in range(asked.seeds):
        for scheme in SCHEMES:
            train(scheme, seed, tensors, asked, kept)
    write(kept, asked.out)

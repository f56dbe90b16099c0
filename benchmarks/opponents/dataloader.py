"""Opponent (a): torchvision's MNIST, a DataLoader, hooks; one run after the other."""

import torch
from job import BATCH, LR, MOMENTUM, PROBE_BATCH, PROBE_EVERY, SCHEMES, Records, arguments, build, initialize, order, probe, write
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST


def train(scheme: str, seed: int, options, records: Records) -> None:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    root = options.data.parent / "idx"
    training, test = MNIST(root, train=True, transform=transform), MNIST(root, train=False, transform=transform)
    device = torch.device(options.device)
    model = build(options.model)
    initialize(model, scheme, seed, ours=options.ours)
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
    first = [training[i] for i in range(PROBE_BATCH)]
    images, labels = torch.stack([image for image, _ in first]).to(device), torch.tensor([label for _, label in first]).to(device)
    step = 0
    probe(model, images, labels, {"scheme": scheme, "seed": seed, "step": 0}, records)
    for epoch in range(options.epochs):
        sampler = order(seed, epoch, len(training), ours=options.ours).tolist()
        for x, y in DataLoader(training, BATCH, sampler=sampler, drop_last=True, num_workers=options.workers):
            loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            records.losses.append({"scheme": scheme, "seed": seed, "step": step, "loss": loss.item()})
            if step == options.steps:
                return
            if step % PROBE_EVERY == 0:
                probe(model, images, labels, {"scheme": scheme, "seed": seed, "step": step}, records)
        with torch.no_grad():
            right = sum(
                (model(x.to(device)).argmax(1) == y.to(device)).sum().item() for x, y in DataLoader(test, 1000, num_workers=options.workers)
            )
        records.accuracies.append({"scheme": scheme, "seed": seed, "epoch": epoch + 1, "accuracy": right / len(test)})


if __name__ == "__main__":
    asked, kept = arguments(), Records()
    for seed in range(asked.seeds):
        for scheme in SCHEMES:
            train(scheme, seed, asked, kept)
    write(kept, asked.out)

"""Opponent (b): Lightning's Trainer with a DataLoader."""

import logging
import warnings

import lightning
import torch
from job import BATCH, LR, MOMENTUM, PROBE_BATCH, PROBE_EVERY, SCHEMES, Records, arguments, build, initialize, order, probe, write
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST


class Run(lightning.LightningModule):
    def __init__(self, scheme: str, seed: int, options, probe_batch: tuple[torch.Tensor, torch.Tensor], records: Records):
        super().__init__()
        self.network, self.tag, self.records, self.batch = build(options.model), {"scheme": scheme, "seed": seed}, records, probe_batch
        initialize(self.network, scheme, seed, ours=options.ours)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), LR, MOMENTUM)

    def on_train_start(self):
        self.measure(0)

    def measure(self, step: int):
        images, labels = (tensor.to(self.device) for tensor in self.batch)
        with torch.enable_grad():
            probe(self.network, images, labels, {**self.tag, "step": step}, self.records)

    def training_step(self, batch, _index):
        loss = nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        self.records.losses.append({**self.tag, "step": self.global_step + 1, "loss": loss.item()})
        return loss

    def on_train_batch_end(self, *_):
        if self.global_step % PROBE_EVERY == 0:
            self.measure(self.global_step)

    def validation_step(self, batch, _index):
        self.log("accuracy", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())


def train(scheme: str, seed: int, options, records: Records) -> None:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    root = options.data.parent / "idx"
    training, test = MNIST(root, train=True, transform=transform), MNIST(root, train=False, transform=transform)
    first = [training[i] for i in range(PROBE_BATCH)]
    batch = (torch.stack([image for image, _ in first]), torch.tensor([label for _, label in first]))
    run = Run(scheme, seed, options, batch, records)
    trainer = lightning.Trainer(
        max_epochs=options.epochs, accelerator=options.device.replace("cuda", "gpu"), devices=1, logger=False, num_sanity_val_steps=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, max_steps=options.steps or -1,
    )  # fmt: skip
    sampler = order(seed, 0, len(training), ours=options.ours).tolist()
    loaders = DataLoader(training, BATCH, sampler=sampler, drop_last=True), DataLoader(test, 1000)
    trainer.fit(run, *loaders)
    if "accuracy" in trainer.callback_metrics:
        records.accuracies.append(
            {"scheme": scheme, "seed": seed, "epoch": options.epochs, "accuracy": trainer.callback_metrics["accuracy"].item()}
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    asked, kept = arguments(), Records()
    for seed in range(asked.seeds):
        for scheme in SCHEMES:
            train(scheme, seed, asked, kept)
    write(kept, asked.out)

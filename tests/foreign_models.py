"""Models as other people write them, in plain torch, for tests that ask what schemes make of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5


class VGG(nn.Module):
    """Convolutions, pooling, a classifier with dropout."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(inputs * 4, 64), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(64, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class Transformer(nn.Module):
    """torch's own encoder, post-norm, on a sequence of pixels' columns."""

    def __init__(self, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.project = nn.Linear(48, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.project(x.flatten(1, 2).transpose(1, 2))).mean(1))


class LSTM(nn.Module):
    """Two recurrent layers over the rows of an image, functional activation."""

    def __init__(self, hidden: int = 40) -> None:
        super().__init__()
        self.lstm = nn.LSTM(48, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.lstm(x.permute(0, 2, 1, 3).flatten(2))
        return self.head(torch.tanh(steps[:, -1]))


class Depthwise(nn.Module):
    """A MobileNet: depthwise and pointwise convolutions with batch norm, a depth multiplier of 2, no skips."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 32, 3, padding=1, groups=16, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.pointwise = nn.Conv2d(32, 64, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn0(self.stem(x)))
        x = F.relu6(self.bn1(self.depthwise(x)))
        x = F.relu6(self.bn2(self.pointwise(x)))
        return self.fc(x.mean((2, 3)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, skips by concatenation; one output for each pixel, averaged for a class."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 16, 3, padding=1)
        self.down2 = nn.Conv2d(16, 32, 3, padding=1)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge = nn.Conv2d(32, 16, 3, padding=1)
        self.out = nn.Conv2d(16, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.down1(x))
        coarse = F.relu(self.down2(F.max_pool2d(fine, 2)))
        merged = F.relu(self.merge(torch.cat([fine, self.up(coarse)], 1)))
        return self.out(merged).mean((2, 3))


class PlainResNet(nn.Module):
    """Residual sums without norm, with module activations."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(768, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)) for _ in range(depth))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class TanhMLP(nn.Sequential):
    """A plain network of tanh modules."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(768, 96), nn.Tanh(), nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, CLASSES))


MODELS: dict[str, type[nn.Module]] = {
    "vgg": VGG, "transformer": Transformer, "lstm": LSTM, "depthwise": Depthwise, "unet": UNet, "resnet": PlainResNet, "tanh": TanhMLP,
}  # fmt: skip
"""Each takes images (N, 3, 16, 16)."""
